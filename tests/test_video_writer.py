"""Writing clips: times, colours, sound, odd sizes; a file appears whole or not at all."""

import sys
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

import mgseg.files.encodings
import mgseg.files.video_writer
from mgseg.errors import OutputError
from mgseg.files.encodings import ALPHA, GREY, OPAQUE, Encoding
from mgseg.files.video import Frame, probe, read_frames
from mgseg.files.video_writer import AnimationWriter, VideoWriter, check_suffix

Maker = Callable[..., Any]


@pytest.mark.parametrize("name", ["a b.mp4", "-i.mp4", "http:x.mp4", "новый [1] %03d.mp4", "line\nbreak.mp4"])
def test_odd_names_are_names(make_clip: Maker, clip: Any, tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(clip.path.read_bytes())
    info = probe(tmp_path / name)
    with VideoWriter(tmp_path / f"out {name}", (64, 96), info.rate, info.time_base) as writer:
        for frame in read_frames(tmp_path / name):
            writer.write(frame.image, frame.time)
    assert len(list(read_frames(tmp_path / f"out {name}"))) == 8


def copy(source: Path, target: Path, start: int = 0, size: tuple[int, int] | None = None) -> list[Frame]:
    info = probe(source)
    frames = list(read_frames(source, start))
    size = size or (info.height, info.width)
    begin = frames[0].time
    sound = source if info.has_audio else None
    with VideoWriter(
        target, size, info.rate, info.time_base, sound=sound, sound_from=info.first_time + begin
    ) as writer:
        for frame in frames:
            writer.write(frame.image[: size[0], : size[1]], frame.time - begin)
    return frames


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".webm"])
def test_written_frames_keep_their_times_and_colours(make_clip: Maker, tmp_path: Path, suffix: str) -> None:
    made = make_clip(tmp_path / "v.mkv", times=[0, 10, 50, 90, 200, 240, 300, 400])
    frames = copy(made.path, tmp_path / f"o{suffix}")
    written = list(read_frames(tmp_path / f"o{suffix}"))
    assert [frame.time for frame in written] == [frame.time for frame in frames]
    for ours, theirs in zip(written, frames, strict=True):
        assert abs(ours.image.astype(int) - theirs.image).mean() < 5


def test_odd_sizes_grow_by_a_repeated_line(make_clip: Maker, tmp_path: Path) -> None:
    made = make_clip(tmp_path / "a.mp4")
    copy(made.path, tmp_path / "o.mp4", size=(63, 95))
    info = probe(tmp_path / "o.mp4")
    assert (info.height, info.width) == (64, 96)


def sound_of(path: Path) -> tuple[str, float, float]:
    with av.open(str(path)) as container:
        stream = container.streams.audio[0]
        packets: list[Any] = [packet for packet in container.demux(stream) if packet.pts is not None]
        first, last = packets[0], packets[-1]
        return (
            stream.codec_context.name,
            float(first.pts * first.time_base),
            float((last.pts + last.duration) * last.time_base),
        )


@pytest.mark.parametrize(
    ("source", "audio", "target", "expected"),
    [
        ("a.mp4", "aac", "o.mp4", "aac"),
        ("a.mp4", "aac", "o.mkv", "aac"),
        ("a.mp4", "aac", "o.webm", "opus"),
        ("a.webm", "libopus", "o.webm", "opus"),
        ("a.mkv", "pcm_s16le", "o.mp4", "aac"),
        ("a.mp4", "libmp3lame", "o.mp4", "mp3float"),
    ],
)
def test_sound_is_copied_or_converted_in_step(
    make_clip: Maker, tmp_path: Path, source: str, audio: str, target: str, expected: str
) -> None:
    codec = "libvpx-vp9" if source.endswith("webm") else "libx264"
    made = make_clip(tmp_path / source, num_frames=60, audio=audio, codec=codec)
    copy(made.path, tmp_path / target, start=15)
    name, first, last = sound_of(tmp_path / target)
    assert name == expected
    assert abs(first) < 0.03
    assert abs(last - 45 * 1001 / 30000) < 0.06


def test_damaged_sound_costs_its_packets_and_not_the_clip(make_clip: Maker, tmp_path: Path) -> None:
    made = make_clip(tmp_path / "a.mkv", num_frames=60, audio="aac")
    data = bytearray(made.path.read_bytes())
    with av.open(str(made.path)) as container:
        packets = [bytes(packet) for packet in container.demux(container.streams.audio[0]) if packet.size]
    for packet in packets[20:23]:
        at = data.index(packet)
        data[at : at + len(packet)] = b"\xff" * len(packet)
    made.path.write_bytes(data)
    copy(made.path, tmp_path / "o.webm")
    _, first, last = sound_of(tmp_path / "o.webm")
    assert abs(first) < 0.03
    assert abs(last - 60 * 1001 / 30000) < 0.06


@pytest.mark.parametrize("target", ["o.mp4", "o.mkv"])
def test_sound_of_an_unknown_codec_is_left_out(make_clip: Maker, tmp_path: Path, target: str) -> None:
    made = make_clip(tmp_path / "a.mkv", audio="aac")
    data = made.path.read_bytes()
    assert data.count(b"A_AAC") == 1
    made.path.write_bytes(data.replace(b"A_AAC", b"A_XYZ"))
    assert not probe(made.path).has_audio
    copy(made.path, tmp_path / target)
    assert len(list(read_frames(tmp_path / target))) == 8


@pytest.mark.parametrize("suffix", [".gif", ".webp"])
def test_animations_keep_the_frames_times(clip: Any, tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"o{suffix}"
    with AnimationWriter(path, Fraction(10)) as writer:
        for frame, time in zip(clip.frames[:4], (0, 100, 130, 330), strict=True):
            writer.write(frame, Fraction(time, 1000))
    with Image.open(path) as animation:
        shown = []
        for number in range(animation.n_frames):  # type: ignore[attr-defined]
            animation.seek(number)
            animation.load()
            shown.append(animation.info["duration"])
    assert shown == [100, 30, 200, 100]


def test_an_animation_too_large_for_memory_is_refused(
    clip: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mgseg.files.video_writer, "_ANIMATION_PIXELS", 64 * 96 * 2)

    def write() -> None:
        with AnimationWriter(tmp_path / "o.gif", Fraction(10)) as writer:
            for number, frame in enumerate(clip.frames):
                writer.write(frame, Fraction(number, 10))

    with pytest.raises(OutputError, match="too large"):
        write()
    assert not list(tmp_path.iterdir())


def test_an_error_leaves_no_file_and_no_part(clip: Any, tmp_path: Path) -> None:
    def write() -> None:
        with VideoWriter(tmp_path / "o.mp4", (64, 96), Fraction(25), Fraction(1, 25)) as writer:
            writer.write(clip.frames[0], Fraction(0))
            assert [path.name for path in tmp_path.iterdir()] == ["o.mp4.part"]
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        write()
    assert not list(tmp_path.iterdir())


def test_an_encoder_that_this_build_lacks_is_told_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = {"h264", "vp9"}  # decoders of the same formats do not help
    monkeypatch.setattr(mgseg.files.encodings, "has_encoder", there.__contains__)
    with pytest.raises(OutputError, match=r"no encoder libx264 or libopenh264 or mpeg4") as error:
        check_suffix(tmp_path / "o.mp4")
    assert "av" in (error.value.hint or "")
    with pytest.raises(OutputError, match="no encoder libvpx-vp9"):
        VideoWriter(tmp_path / "o.webm", (64, 96), Fraction(25), Fraction(1, 25))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("encoding", [ALPHA[".mov"], GREY[".mov"], OPAQUE[".mov"]], ids=["alpha", "grey", "opaque"])
def test_a_picture_of_one_colour_is_stored_as_one_colour(tmp_path: Path, encoding: Encoding) -> None:
    path = tmp_path / "o.mov"
    rate = Fraction(25)
    channels = (4,) if encoding == ALPHA[".mov"] else () if encoding == GREY[".mov"] else (3,)
    image = np.zeros((480, 854, *channels), np.uint16 if channels != (3,) else np.uint8)
    with VideoWriter(path, (480, 854), rate, 1 / rate, encoding=encoding) as writer:
        for number in range(10):
            writer.write(image, number / rate)
    with av.open(str(path)) as container:
        for frame in container.decode(video=0):
            for plane in frame.planes:
                values = np.frombuffer(bytes(plane), np.uint16).reshape(plane.height, -1)[:, : plane.width]
                assert np.ptp(values) <= 16  # in 12 bits


def test_what_cannot_be_written_is_told(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="unknown kind of file"):
        VideoWriter(tmp_path / "o.txt", (64, 96), Fraction(25), Fraction(1, 25))
    for writer in (
        lambda path: VideoWriter(path.with_suffix(".mp4"), (64, 96), Fraction(25), Fraction(1, 25)),
        lambda path: AnimationWriter(path.with_suffix(".gif"), Fraction(25)),
    ):
        with pytest.raises(OutputError, match="cannot write"):
            writer(tmp_path / "absent" / "o")


@pytest.mark.skipif(sys.platform == "win32", reason="no limits on the size of files")
@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".webm", ".gif"])
def test_a_full_disk_is_told_and_leaves_nothing(tmp_path: Path, suffix: str) -> None:
    import resource

    noise = np.random.default_rng(0).integers(0, 256, (40, 64, 96, 3), np.uint8)

    def write() -> None:
        path = tmp_path / f"o{suffix}"
        video = suffix != ".gif"
        rate = Fraction(25)
        with VideoWriter(path, (64, 96), rate, 1 / rate) if video else AnimationWriter(path, rate) as writer:
            for number, frame in enumerate(noise):
                writer.write(frame, number / rate)

    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5000, limits[1]))
    try:
        with pytest.raises(OutputError, match=r"cannot write .*: File too large"):
            write()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not list(tmp_path.iterdir())
