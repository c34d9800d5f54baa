"""Reading clips: every frame, in order, at its time, upright; and what is wrong is told."""

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

import mgseg.files.frame
import mgseg.files.pictures
from mgseg.errors import InputError
from mgseg.files.video import Frame, probe, read_backward, read_frames

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
    with pytest.raises(InputError, match=r"frame 12\.png is 4x6, the first is 6x4"):
        list(read_frames(tmp_path))


def test_two_pictures_of_one_name_are_refused(make_clip: Maker, tmp_path: Path) -> None:
    folder = make_clip(tmp_path / "pictures", num_frames=3).path
    Image.new("RGB", (96, 64)).save(folder / "00001.jpg")
    with pytest.raises(InputError, match="more than one picture named 00001"):
        probe(folder)


def test_sixteen_bit_pictures_are_scaled_not_clipped(tmp_path: Path) -> None:
    Image.fromarray(np.full((4, 6), 32768, np.uint16)).save(tmp_path / "0.png")
    assert (next(read_frames(tmp_path)).image == 128).all()


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.ts", "a.avi", "pictures"])
def test_reading_backward_gives_the_same_frames(
    make_clip: Maker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(mgseg.files.frame, "BACKWARD_BYTES", 1)  # chunks of 8 frames
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
        "cut.mp4": (whole[: len(whole) // 2], "incomplete MP4"),
        "codec.mp4": (whole.replace(b"avc1", b"nope"), "codec is unknown to this build of FFmpeg"),
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
    monkeypatch.setattr(mgseg.files.pictures, "MAX_PIXELS", 1000)
    for name in ("big.mp4", "pictures"):
        with pytest.raises(InputError, match="claims to have frames of 96x64"):
            probe(make_clip(tmp_path / name).path)
