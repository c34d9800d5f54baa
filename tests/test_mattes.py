"""Mattes as files: each kind is written by segment_clip, read by PyAV and by ffmpeg's own tools, and compared."""

import json
import shutil
import subprocess
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

import mgseg.files.encodings
from mgseg import Alpha, Matte, Network, Outputs, Span, segment_clip
from mgseg.errors import InputError, MgsegError, OutputError
from mgseg.files.conversion import ONE_THREAD
from mgseg.files.masks import write_mask
from mgseg.files.video import read_frames

Floats = NDArray[np.float64]
KINDS = [".mov", ".webm", ".mkv"]
LOSS = {".mov": 0.02, ".webm": 0.15, ".mkv": 0.003}  # the largest difference of alpha; VP9 is not lossless
SOFT = Alpha(feather=3)  # the tiny model on drawn shapes gives hard edges
needs_ffmpeg = pytest.mark.skipif(not shutil.which("ffmpeg"), reason="needs ffmpeg's own tools")


@pytest.fixture(name="run")
def _run(tiny_model: Any) -> Any:
    def segment(made: Any, outputs: Outputs, first: int = 0, **more: Any) -> Any:
        return segment_clip(made.path, {first: made.masks[first]}, outputs, Network.from_model(tiny_model), **more)

    return segment


def expected(made: Any, scores: Path, alpha: Alpha | None = None) -> Floats:
    """Alpha (T, H, W) in [0, 1] from the scores that were written in 8 bits."""
    planes = []
    for frame in read_frames(made.path):
        found = {
            int(folder.name): np.asarray(Image.open(folder / f"{frame.name}.png"), np.float32) / 255
            for folder in scores.iterdir()
            if (folder / f"{frame.name}.png").exists()
        }
        planes.append((alpha or Alpha()).draw(frame.image, {i: plane.astype(np.float32) for i, plane in found.items()}))
    return np.array(planes, np.float64)


def decode(path: Path, pixels: str) -> tuple[Floats, list[Fraction]]:
    """A video's frames in [0, 1] by PyAV, and their times."""
    frames: list[Any] = []
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        decoder: Any = stream.codec_context
        if decoder.name == "vp9":  # FFmpeg's own decoder passes alpha over
            decoder = av.CodecContext.create("libvpx-vp9", "r")
        for packet in container.demux(stream):
            frames += decoder.decode(packet)
        times = [frame.pts * Fraction(stream.time_base or 1) for frame in frames]
    deep = any(word in pixels for word in ("16", "48", "64"))
    arrays = [frame.reformat(format=pixels, src_colorspace="ITU709", **ONE_THREAD).to_ndarray() for frame in frames]
    return np.array(arrays) / (65535 if deep else 255), times


def decode_by_ffmpeg(path: Path, pixels: str, shape: tuple[int, ...]) -> Floats:
    """A video's frames in [0, 1] by the ffmpeg command."""
    vp9 = ["-c:v", "libvpx-vp9"] if path.suffix == ".webm" else []
    command = ["ffmpeg", "-v", "error", *vp9, "-i", str(path), "-fps_mode", "passthrough", "-f", "rawvideo"]
    raw = subprocess.run([*command, "-pix_fmt", pixels, "-"], capture_output=True, check=True, timeout=120).stdout
    deep = any(word in pixels for word in ("16", "48", "64"))
    return np.frombuffer(raw, np.uint16 if deep else np.uint8).reshape(-1, *shape) / (65535 if deep else 255)


@pytest.mark.parametrize("kind", KINDS)
def test_a_matte_holds_the_frame_and_the_alpha_that_the_scores_give(
    run: Any, clip: Any, tmp_path: Path, kind: str
) -> None:
    run(clip, Outputs(scores=tmp_path / "s", matte=Matte(tmp_path / f"m{kind}", SOFT)))
    wanted = expected(clip, tmp_path / "s", SOFT)
    assert ((wanted > 0.1) & (wanted < 0.9)).mean() > 0.01  # soft
    found, times = decode(tmp_path / f"m{kind}", "rgba" if kind == ".mkv" else "rgba64le")
    assert found.shape == (8, 64, 96, 4)
    difference = abs(found[..., 3] - wanted)
    assert difference.max() < LOSS[kind]
    assert difference.mean() < LOSS[kind] / 8
    frames = np.array([frame.image for frame in read_frames(clip.path)]) / 255
    assert abs(found[..., :3] - frames).mean() < (1e-9 if kind == ".mkv" else 0.03)
    ticks = 0 if kind == ".mov" else Fraction(1, 1000)  # the others count in milliseconds
    assert all(abs(ours - frame.time) <= ticks for ours, frame in zip(times, read_frames(clip.path), strict=True))


@needs_ffmpeg
@pytest.mark.parametrize("kind", KINDS)
def test_ffmpeg_reads_the_same_alpha(run: Any, clip: Any, tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"m{kind}"
    run(clip, Outputs(matte=path))
    ours, _ = decode(path, "rgba64le")
    theirs = decode_by_ffmpeg(path, "rgba64le", (64, 96, 4))
    assert theirs.shape == ours.shape
    assert abs(theirs[..., 3] - ours[..., 3]).max() < 0.002
    probe = ["ffprobe", "-v", "error", "-show_streams", "-show_format", "-of", "json", str(path)]
    told = json.loads(subprocess.run(probe, capture_output=True, check=True, timeout=60).stdout)
    stream = told["streams"][0]
    names = {".mov": ("prores", "yuva444p"), ".webm": ("vp9", "yuv"), ".mkv": ("ffv1", "bgra")}
    assert stream["codec_name"] == names[kind][0]
    assert stream["pix_fmt"].startswith(names[kind][1])
    if kind == ".mov":
        assert stream["codec_tag_string"] == "ap4h"
    if kind == ".webm":
        assert stream["tags"]["alpha_mode" if "alpha_mode" in stream["tags"] else "ALPHA_MODE"] == "1"


@needs_ffmpeg
@pytest.mark.parametrize(("kind", "limit"), [(".mov", 0.01), (".mp4", 0.1), (".webm", 0.08), (".mkv", 0.0005)])
def test_alpha_alone_is_a_grey_video(run: Any, clip: Any, tmp_path: Path, kind: str, limit: float) -> None:
    path = tmp_path / f"m{kind}"
    run(clip, Outputs(scores=tmp_path / "s", matte=Matte(path, SOFT, only=True)))
    wanted = expected(clip, tmp_path / "s", SOFT)
    grey, _ = decode(path, "gray16le")
    by_ffmpeg = decode_by_ffmpeg(path, "rgb48le", (64, 96, 3))
    assert abs(grey - wanted).max() < limit + 2 / 255  # the scores compared with have 8 bits
    assert abs(by_ffmpeg - wanted[..., None]).mean() < limit / 2 + 1 / 255
    assert np.ptp(by_ffmpeg, axis=-1).max() < 0.02  # grey


def test_pictures_hold_alpha_in_8_bits_or_alone_in_16_or_as_floats(run: Any, clip: Any, tmp_path: Path) -> None:
    run(clip, Outputs(scores=tmp_path / "s", matte=tmp_path / "rgba"))
    wanted = expected(clip, tmp_path / "s")
    names = [f"{number:05d}.png" for number in range(8)]
    assert sorted(path.name for path in (tmp_path / "rgba").iterdir()) == names
    for name, plane, frame in zip(names, wanted, read_frames(clip.path), strict=True):
        with Image.open(tmp_path / "rgba" / name) as picture:
            rgba = np.asarray(picture)
        assert abs(rgba[..., 3] / 255 - plane).max() < 0.01
        assert np.array_equal(rgba[..., :3], frame.image)  # straight: not multiplied, not cut
    run(clip, Outputs(matte=Matte(tmp_path / "grey" / "a%03d.png", only=True)))
    run(clip, Outputs(matte=Matte(tmp_path / "exr" / "a.%04d.exr", only=True)))
    for number, plane in enumerate(wanted):
        with Image.open(tmp_path / "grey" / f"a{number:03d}.png") as picture:
            assert picture.mode.startswith("I")
            grey = np.asarray(picture) / 65535
        with av.open(str(tmp_path / "exr" / f"a.{number:04d}.exr")) as container:
            floats = next(container.decode(video=0)).reformat(format="grayf32le", **ONE_THREAD).to_ndarray()
        assert abs(grey - plane).max() < 0.01
        assert abs(floats - grey).max() < 0.001


def test_a_folder_that_exists_is_one_whatever_its_name(run: Any, clip: Any, tmp_path: Path) -> None:
    for name in ("shot.v2", "shot.mov"):
        (tmp_path / name).mkdir()
        run(clip, Outputs(matte=tmp_path / name), span=Span(end=1))
        assert [path.name for path in (tmp_path / name).iterdir()] == ["00000.png"]


@needs_ffmpeg
def test_ffmpeg_reads_exr_pictures(run: Any, clip: Any, tmp_path: Path) -> None:
    run(clip, Outputs(matte=Matte(tmp_path / "grey", only=True)), span=Span(end=1))
    run(clip, Outputs(matte=Matte(tmp_path / "exr" / "%05d.exr", only=True)), span=Span(end=1))
    command = ["ffmpeg", "-v", "error", "-i", str(tmp_path / "exr" / "00000.exr"), "-f", "rawvideo"]
    raw = subprocess.run([*command, "-pix_fmt", "grayf32le", "-"], capture_output=True, check=True, timeout=60).stdout
    with Image.open(tmp_path / "grey" / "00000.png") as picture:
        grey = np.asarray(picture) / 65535
    assert abs(np.frombuffer(raw, np.float32).reshape(64, 96) - grey).max() < 0.001


@pytest.mark.parametrize("kind", [".mov", ".mp4", ".webm", ".mkv"])
def test_over_a_background_there_is_no_alpha(run: Any, clip: Any, tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"m{kind}"
    run(clip, Outputs(scores=tmp_path / "s", matte=Matte(path, background="#00ff00")))
    alpha = expected(clip, tmp_path / "s")
    found, _ = decode(path, "rgb24")
    frames = np.array([frame.image for frame in read_frames(clip.path)]) / 255
    assert abs(found[alpha < 0.001] - (0, 1, 0)).mean() < 0.02
    assert abs(found[alpha > 0.999] - frames[alpha > 0.999]).mean() < 0.04


def test_times_sound_rotation_and_odd_sizes_are_kept(run: Any, tiny_model: Any, make_clip: Any, tmp_path: Path) -> None:
    times = [0, 40, 100, 140, 260, 300]
    made = make_clip(tmp_path / "c.mp4", 6, times=times, rotation=90, audio="aac")
    turned = [np.rot90(mask).copy() for mask in made.masks]
    path = tmp_path / "m.mov"
    segment_clip(made.path, turned[0], Outputs(matte=path), Network.from_model(tiny_model))
    found, told = decode(path, "rgba64le")
    assert found.shape[1:3] == (96, 64)
    assert [round(time * 1000) for time in told] == times
    with av.open(str(path)) as container:
        assert container.streams.audio[0].codec_context.name == "aac"
    odd = make_clip(tmp_path / "odd", 2, size=(33, 47))
    for kind in KINDS:
        run(odd, Outputs(matte=tmp_path / f"odd{kind}"))
        height, width = decode(tmp_path / f"odd{kind}", "rgba")[0].shape[1:3]
        assert (height, width) == ((34, 48) if kind == ".webm" else (33, 47))


def test_both_ways_and_resume_make_the_same_matte(run: Any, clip: Any, tmp_path: Path) -> None:
    both = Span(both_ways=True)
    places = {"masks": tmp_path / "m", "scores": tmp_path / "s"}
    run(clip, Outputs(**places, matte=tmp_path / "whole.mkv"), first=4, span=both)
    for number in (0, 1, 7):
        (tmp_path / "m" / f"{number:05d}.png").unlink()
    run(clip, Outputs(**places, matte=tmp_path / "resumed.mkv", resume=True), first=4, span=both)
    whole, resumed = (decode(tmp_path / f"{name}.mkv", "rgba")[0] for name in ("whole", "resumed"))
    assert len(whole) == 8
    done = slice(2, 7)  # their scores were read again from 8 bits
    assert abs(whole[done] - resumed[done]).max() < 0.03
    assert whole[0, ..., 3].max() > 0.5


def test_frames_before_the_first_mask_are_transparent_in_a_video(run: Any, clip: Any, tmp_path: Path) -> None:
    run(clip, Outputs(matte=tmp_path / "m.mkv"), first=3)
    alpha = decode(tmp_path / "m.mkv", "rgba")[0][..., 3]
    assert [bool(plane.any()) for plane in alpha] == [False] * 3 + [True] * 5


def bad(folder: Path) -> dict[str, tuple[type[MgsegError], str, Any]]:
    return {
        "mp4": (OutputError, "MP4 has no alpha", folder / "m.mp4"),
        "unknown": (OutputError, "unknown kind of file", folder / "m.txt"),
        "gif": (OutputError, "unknown kind of file", folder / "m.gif"),
        "one picture": (OutputError, "unknown kind of file", folder / "m.png"),
        "pattern": (OutputError, "not a pattern for numbered", folder / "m" / "%s.png"),
        "exr": (OutputError, "EXR pictures can only store the alpha channel", folder / "m" / "%05d.exr"),
        "objects": (InputError, "no mask contains object 9", Matte(folder / "m.mov", Alpha(objects=(1, 9)))),
        "background": (InputError, "not an existing picture", Matte(folder / "m.mp4", background="nowhere.jpg")),
        "held": (OutputError, "already contains", folder / "full"),
        "no folder": (OutputError, "is not a folder", folder / "full" / "0.png" / "m.mov"),
    }


@pytest.mark.parametrize("case", list(bad(Path())))
def test_what_cannot_be_written_is_refused_before_weights_are_read(clip: Any, tmp_path: Path, case: str) -> None:
    (tmp_path / "full").mkdir()
    write_mask(tmp_path / "full" / "0.png", clip.masks[0])
    kind, text, matte = bad(tmp_path)[case]
    weights = tmp_path / "damaged.pth"
    weights.write_bytes(b"no weights")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(kind, match=text):
        segment_clip(clip.path, clip.masks[0], Outputs(matte=matte), Network(weights, "cpu"))
    assert sorted(tmp_path.rglob("*")) == before


def test_a_build_without_prores_is_told_before_the_run(
    run: Any, clip: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mgseg.files.encodings, "has_encoder", lambda name: name != "prores_ks")
    seen: list[int] = []
    with pytest.raises(OutputError, match="no encoder prores_ks") as error:
        run(clip, Outputs(matte=tmp_path / "m.mov"), on_mask=lambda number, _: seen.append(number))
    assert "another kind of file" in (error.value.hint or "")
    assert not seen
    run(clip, Outputs(matte=tmp_path / "m.mkv"))


def test_alpha_alone_over_a_background_makes_no_sense() -> None:
    with pytest.raises(InputError, match="has no background"):
        Matte("m.mov", only=True, background="blur")
