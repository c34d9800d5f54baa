"""Reading and writing clips: every frame, in order, at its time, upright; and what is wrong is told."""

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

import mgseg.pictures
import mgseg.video
import mgseg.video_writer
from mgseg.errors import InputError, OutputError
from mgseg.video import Frame, probe, read_backward, read_frames
from mgseg.video_writer import AnimationWriter, VideoWriter

Maker = Callable[..., Any]

CODECS: dict[str, dict[str, Any]] = {
    "h264.mp4": {"codec": "libx264"},
    "open_gop.mkv": {"codec": "libx264"},
    "444.mp4": {"codec": "libx264", "pix_fmt": "yuv444p", "size": (63, 95)},
    "10bit.mkv": {"codec": "libx265", "pix_fmt": "yuv420p10le"},
    "mpeg4.avi": {"codec": "mpeg4"},
    "vp9.webm": {"codec": "libvpx-vp9"},
    "av1.mkv": {"codec": "libsvtav1"},
    "transport.ts": {"codec": "libx264"},
    "prores.mov": {"codec": "prores", "pix_fmt": "yuv422p10le"},
    "lossless.mkv": {"codec": "ffv1", "pix_fmt": "yuva420p"},
}


def collect(clip: Path) -> tuple[list[Frame], InputError | None]:
    frames: list[Frame] = []
    try:
        for frame in read_frames(clip):
            frames.append(frame)
    except InputError as error:
        return frames, error
    return frames, None


@pytest.mark.parametrize("name", CODECS)
def test_every_frame_comes_in_order_and_in_its_colours(make_clip: Maker, tmp_path: Path, name: str) -> None:
    codec = CODECS[name]["codec"]
    if codec not in av.codecs_available:
        pytest.skip(f"this build of FFmpeg has no {codec}")
    made = make_clip(tmp_path / name, **CODECS[name])
    info = probe(made.path)
    assert (info.height, info.width) == made.frames.shape[1:3]
    frames = list(read_frames(made.path))
    assert [frame.index for frame in frames] == list(range(8))
    for frame, drawn in zip(frames, made.frames, strict=True):
        assert abs(frame.time - frame.index * Fraction(1001, 30000)) < Fraction(1, 1000)
        assert abs(frame.image.astype(int) - drawn).mean() < 8
    errors = [[abs(f.image.astype(int) - d).mean() for d in made.frames] for f in frames]
    assert np.argmin(errors, axis=1).tolist() == list(range(8))


def test_variable_frame_times_are_kept(make_clip: Maker, tmp_path: Path) -> None:
    times = [0, 10, 50, 90, 200, 240, 300, 400]
    made = make_clip(tmp_path / "v.mkv", times=times)
    assert [frame.time * 1000 for frame in read_frames(made.path)] == times


@pytest.mark.parametrize("turn", [90, 180, -90])
def test_rotation_is_applied(make_clip: Maker, tmp_path: Path, turn: int) -> None:
    made = make_clip(tmp_path / "r.mp4", rotation=turn)
    upright = np.rot90(made.frames[0], turn // 90)
    frame = next(read_frames(made.path)).image
    info = probe(made.path)
    assert (info.height, info.width) == frame.shape[:2] == upright.shape[:2]
    assert abs(frame.astype(int) - upright).mean() < 6


def test_pictures_come_in_natural_order_upright_and_alike(tmp_path: Path) -> None:
    for number in (10, 9, 1):
        Image.new("RGB", (6, 4), (number, 0, 0)).save(tmp_path / f"frame {number}.png")
    (tmp_path / "notes.txt").write_text("not a picture")
    frames = list(read_frames(tmp_path))
    assert [frame.name for frame in frames] == ["frame 1", "frame 9", "frame 10"]
    assert [int(frame.image[0, 0, 0]) for frame in frames] == [1, 9, 10]
    exif = Image.Exif()
    exif[274] = 6  # turn a quarter clockwise
    Image.new("RGB", (4, 6)).save(tmp_path / "frame 11.jpg", exif=exif)
    assert [frame.image.shape for frame in read_frames(tmp_path)] == [(4, 6, 3)] * 4
    Image.new("RGB", (4, 6)).save(tmp_path / "frame 12.png")
    with pytest.raises(InputError, match=r"frame 12\.png is 4x6, the first 6x4"):
        list(read_frames(tmp_path))


def test_sixteen_bit_pictures_are_scaled_not_clipped(tmp_path: Path) -> None:
    Image.fromarray(np.full((4, 6), 32768, np.uint16)).save(tmp_path / "0.png")
    assert (next(read_frames(tmp_path)).image == 128).all()


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.ts", "a.avi", "pictures"])
def test_reading_backward_gives_the_same_frames(
    make_clip: Maker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(mgseg.video, "BACKWARD_BYTES", 1)  # chunks of 8 frames
    made = make_clip(tmp_path / name, num_frames=22)
    forward = list(read_frames(made.path))
    backward = list(read_backward(made.path, 2, 21))
    assert [frame.index for frame in backward] == list(range(20, 1, -1))
    for frame in backward:
        assert frame.time == forward[frame.index].time
        assert frame.name == forward[frame.index].name
        assert np.array_equal(frame.image, forward[frame.index].image)


@pytest.mark.parametrize("name", ["a.mp4", "pictures"])
def test_a_range_is_given_in_frames_or_seconds(make_clip: Maker, tmp_path: Path, name: str) -> None:
    path = make_clip(tmp_path / name, rate=Fraction(24)).path
    assert [frame.index for frame in read_frames(path, 2, 5)] == [2, 3, 4]
    assert [frame.index for frame in read_frames(path, Fraction(2, 24), Fraction(9, 48))] == [2, 3, 4]
    assert [frame.index for frame in read_backward(path, Fraction(3, 48), 5)] == [4, 3, 2]
    assert not list(read_frames(path, 8))


@pytest.mark.parametrize("share", [0.6, 0.9])
@pytest.mark.parametrize(
    ("name", "options"), [("c.mp4", {"movflags": "faststart"}), ("c.mkv", {}), ("c.webm", {}), ("c.avi", {})]
)
def test_a_cut_video_yields_what_decodes_and_then_tells(
    make_clip: Maker, tmp_path: Path, name: str, options: dict[str, str], share: float
) -> None:
    codec = "libvpx-vp9" if name.endswith("webm") else "mpeg4"
    made = make_clip(tmp_path / name, num_frames=40, size=(128, 192), codec=codec, options=options)
    whole, error = collect(made.path)
    assert len(whole) == 40
    assert error is None
    cut = tmp_path / f"cut_{name}"
    cut.write_bytes(made.path.read_bytes()[: int(made.path.stat().st_size * share)])
    frames, error = collect(cut)
    assert 0 < len(frames) < 40
    assert f"{len(frames)} of 40 frames" in str(error)
    assert all(np.array_equal(a.image, b.image) for a, b in zip(frames, whole, strict=False))


def test_a_damaged_packet_costs_its_frames_only(make_clip: Maker, tmp_path: Path) -> None:
    made = make_clip(tmp_path / "d.mkv", num_frames=20, codec="ffv1")
    data = bytearray(made.path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 40] = bytes(40)
    made.path.write_bytes(data)
    frames, error = collect(made.path)
    assert len(frames) >= 18
    assert error is None or "cut or damaged" in str(error)


def test_what_is_no_clip_is_told_apart(make_clip: Maker, tmp_path: Path) -> None:
    whole = make_clip(tmp_path / "whole.mp4").path.read_bytes()
    cases = {
        "none.mp4": (None, "no such file"),
        "empty.mp4": (b"", "is empty"),
        "noise.mp4": (bytes(range(256)) * 20, "not a video"),
        "text.txt": (b"a shopping list\n" * 50, "not a video"),
        "cut.mp4": (whole[: len(whole) // 2], "cut MP4"),
        "list.m3u8": (b"#EXTM3U\n#EXTINF:1,\n/etc/passwd\n", "not a video"),
    }
    for name, (data, text) in cases.items():
        if data is not None:
            (tmp_path / name).write_bytes(data)
        with pytest.raises(InputError, match=text):
            probe(tmp_path / name)
    (tmp_path / "folder").mkdir()
    with pytest.raises(InputError, match="no pictures"):
        probe(tmp_path / "folder")


def test_sound_alone_is_no_clip(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "s.wav"), "w") as container:
        stream: Any = container.add_stream("pcm_s16le", rate=8000)
        stream.layout = "mono"
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
    with pytest.raises(InputError, match="no video stream"):
        probe(tmp_path / "s.wav")


def test_absurd_sizes_are_refused(make_clip: Maker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mgseg.pictures, "MAX_PIXELS", 1000)
    for name in ("big.mp4", "pictures"):
        with pytest.raises(InputError, match="claims frames of 96x64"):
            probe(make_clip(tmp_path / name).path)


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
    monkeypatch.setattr(mgseg.video_writer, "_ANIMATION_PIXELS", 64 * 96 * 2)

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


def test_what_cannot_be_written_is_told(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="kind is not known"):
        VideoWriter(tmp_path / "o.txt", (64, 96), Fraction(25), Fraction(1, 25))
    for writer in (
        lambda path: VideoWriter(path.with_suffix(".mp4"), (64, 96), Fraction(25), Fraction(1, 25)),
        lambda path: AnimationWriter(path.with_suffix(".gif"), Fraction(25)),
    ):
        with pytest.raises(OutputError, match="cannot write"):
            writer(tmp_path / "absent" / "o")
