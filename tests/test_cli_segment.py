"""mgseg segment as a user meets it: what goes to stdout and stderr, exit codes, how options are understood."""

import json
import signal
import subprocess
import sys
import time
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

import mgseg
import mgseg.segment.clip
from mgseg import Alpha, CutOuts, Matte, Outputs
from mgseg.cli import app
from mgseg.cli import segment as command
from mgseg.errors import InputError
from mgseg.files.masks import write_mask
from mgseg.files.video import read_frames
from mgseg.files.video_file import VideoFile
from mgseg.segment.clip import Span, segment_clip
from mgseg.segment.given_masks import MaskReading
from mgseg.segment.mask_sources import FileSource
from mgseg.segment.options import SegmenterOptions

runner = CliRunner()


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def call(place: Path, clip: Any, tiny_weights: Path) -> Any:
    write_mask(place / "first.png", clip.masks[0])

    def segment(*arguments: object, of: Path = clip.path) -> Any:
        words = ["segment", str(of), "--weights", str(tiny_weights), "--device", "cpu", *map(str, arguments)]
        return runner.invoke(app, words)

    return segment


def test_masks_go_to_a_folder_named_after_the_clip_and_paths_to_stdout(call: Any, place: Path) -> None:
    result = call("--mask", "first.png", "--overlay", "o.mp4")
    assert result.exit_code == 0, result.stderr
    assert result.stdout.splitlines() == ["shapes_masks", "o.mp4"]
    assert "8 frames, 2 objects" in result.stderr
    assert len(list((place / "shapes_masks").iterdir())) == 8
    assert len(list(read_frames(place / "o.mp4"))) == 8


def test_json_is_all_that_goes_to_stdout(call: Any) -> None:
    result = call("-m", "first.png", "-o", "out", "--end", "3", "--json", "--flip", "--memory-every", "2")
    told = json.loads(result.stdout)
    assert (told["masks"], told["num_frames"], told["object_ids"], told["problem"]) == ("out", 3, [1, 2], None)
    assert told["overlay"] is None


def test_options_reach_the_segmenter(call: Any, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (place / "b.png").touch()
    seen: dict[str, Any] = {}

    def segment_clip(*args: Any, **more: Any) -> None:
        seen.update(more, masks=args[1], outputs=args[2], network=args[3])
        raise InputError("enough")

    monkeypatch.setattr(mgseg.segment.clip, "segment_clip", segment_clip)
    call(
        *("--mask", "first.png", "--mask", "5=b.png", "--size", 0, "--memory-every", 3, "--memory-size", 7, "--flip"),
        *("--scales", "1,1.5", "--reference-weight", 4),
        *("--precision", "bfloat16", "--start", "0:00:01.5", "--end", "120", "--both-ways", "--clean-mask"),
        *("--resize-mask", "--zero-is-background", "--no-masks", "--scores", "s", "--cut-outs", "c", "--overwrite"),
    )
    options, outputs = seen["options"], seen["outputs"]
    assert seen["masks"] == {None: [FileSource(Path("first.png"))], 5: [FileSource(Path("b.png"))]}
    assert options == SegmenterOptions(0, 3, 7, True, (1.0, 1.5), 4.0)
    assert seen["span"] == Span(Fraction(3, 2), 120, both_ways=True)
    assert seen["network"].precision == "bfloat16"
    assert seen["reading"] == MaskReading(clean=True, resize=True)
    assert seen["zero_is_background"]
    assert (outputs.masks, outputs.scores, outputs.cut_outs.path) == (None, Path("s"), Path("c"))
    assert outputs.overwrite


def test_options_reach_mattes_and_cut_outs(call: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Outputs] = []

    def segment_clip(_: Any, __: Any, outputs: Outputs, *___: Any, **more: Any) -> None:
        seen.append(outputs)
        raise InputError("enough")

    monkeypatch.setattr(mgseg.segment.clip, "segment_clip", segment_clip)
    shape = ("--objects", "1,3", "--expand", "-2", "--feather", "4", "--invert")
    call("-m", "first.png", "--matte", "m.mov", "--matte-only", "--cut-outs", "c", "--hard", *shape)
    call("-m", "first.png", "--matte", "m.mp4", "--background", "#00b140", "--each-object", "e", "--name", "%04d.png")
    alpha = Alpha(objects=(1, 3), expand=-2, feather=4, invert=True)
    assert seen[0].matte == Matte("m.mov", alpha, only=True)
    assert seen[0].cut_outs == CutOuts("c", alpha, hard=True)
    assert seen[1].matte == Matte("m.mp4", background="#00b140")
    assert (seen[1].each_object, seen[1].name) == (Path("e"), "%04d.png")


def test_a_matte_is_written_and_its_place_is_told(call: Any, place: Path) -> None:
    result = call("-m", "first.png", "--no-masks", "--matte", "m.mkv", "--objects", "2", "--end", "2")
    assert result.exit_code == 0, result.stderr
    assert result.stdout == "m.mkv\n"
    assert len(list(read_frames(place / "m.mkv"))) == 2
    result = call("-m", "first.png", "--no-masks", "--matte", "n.mkv", "--objects", "5", "--end", "2")
    assert result.exit_code == 1
    assert "no mask contains object 5" in result.stderr
    assert "the masks contain 1, 2" in result.stderr


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("120", 120),
        ("4.5", Fraction(9, 2)),
        ("4s", Fraction(4)),
        ("1:02", Fraction(62)),
        ("1:00:00.5", Fraction(7201, 2)),
    ],
)
def test_positions_are_frames_or_times(text: str, expected: int | Fraction) -> None:
    position = command._parse_position(text)
    assert position == expected
    assert type(position) is type(expected)


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--mask", "first.png", "--start", "soon"],
        ["--mask", "first.png", "--end", "-1s"],
        ["--mask", "first.png", "--end", "1/0"],
        ["--mask", "first.png", "--start", "1:99"],
        ["--mask", "first.png", "--end", "1:60:00"],
        ["--mask", "first.png", "--end", "1e999999999"],
        ["--mask", "first.png", "--end", "9" * 5000],
        ["--mask", "2=box:1,2,3"],
        ["--mask", "poly:1,2,3,4"],
        ["--mask", "5="],
        ["--mask", "first.png", "--no-masks"],
        ["--mask", "first.png", "--size", "-1"],
        ["--mask", "first.png", "--precision", "float8"],
        ["--mask", "first.png", "--scales", "1,9"],
        ["--mask", "first.png", "--scales", "1;2"],
        ["--mask", "first.png", "--colour", "red"],
        ["--mask", "first.png", "--hard"],
        ["--mask", "first.png", "--matte-only"],
        ["--mask", "first.png", "--background", "blur", "--cut-outs", "c"],
        ["--mask", "first.png", "--feather", "2"],
        ["--mask", "first.png", "--invert"],
        ["--mask", "first.png", "--matte", "m.mov", "--objects", "1-3"],
        ["--mask", "first.png", "--matte", "m.mov", "--feather", "-1"],
    ],
    ids=" ".join,
)
def test_wrong_usage_exits_with_2(call: Any, arguments: list[str]) -> None:
    result = call(*arguments)
    assert result.exit_code == 2
    assert not result.stdout


def test_an_error_is_one_message_and_a_hint_without_a_traceback(call: Any, place: Path, clip: Any) -> None:
    grey = Image.fromarray((clip.masks[0] > 0).astype(np.uint8) * np.uint8(255))
    grey.resize((48, 32)).resize((96, 64)).save(place / "soft.png")
    result = call("--mask", "soft.png")
    assert result.exit_code == 1
    assert not result.stdout
    error, hint = result.stderr.splitlines()
    assert error.startswith("error: the mask soft.png has smooth edges or noise: ")
    assert hint.startswith(" hint: use --clean-mask")
    assert not (place / "shapes_masks").exists()
    assert call("--mask", "soft.png", "--clean-mask", "--end", 2).exit_code == 0


def test_a_second_run_needs_overwrite(call: Any, place: Path) -> None:
    assert call("--mask", "first.png", "--end", 2).exit_code == 0
    before = (place / "shapes_masks" / "00001.png").stat().st_mtime_ns
    refused = call("--mask", "first.png", "--end", 2)
    assert refused.exit_code == 1
    assert "--overwrite" in refused.stderr
    assert (place / "shapes_masks" / "00001.png").stat().st_mtime_ns == before
    assert call("--mask", "first.png", "--end", 2, "--overwrite").exit_code == 0


def test_a_part_is_kept_told_and_exits_with_1(call: Any, make_clip: Any, place: Path) -> None:
    made = make_clip(place / "whole.mkv", num_frames=20, codec="mjpeg", pix_fmt="yuvj420p")
    (place / "cut.mkv").write_bytes(made.path.read_bytes()[: made.path.stat().st_size // 2])
    result = call("--mask", "first.png", "--json", of=place / "cut.mkv")
    count = len(list((place / "cut_masks").iterdir()))
    assert result.exit_code == 1
    assert 0 < count < 20
    assert json.loads(result.stdout)["num_frames"] == count
    assert f"{count} of 20 frames could be read" in result.stderr
    assert "partial" in result.stderr


def test_ctrl_c_keeps_what_is_finished_and_exits_with_130(
    call: Any, place: Path, clip: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames = list(read_frames(clip.path))

    def read(*_: Any) -> Any:
        yield from frames[:4]
        raise KeyboardInterrupt

    monkeypatch.setattr(VideoFile, "frames", read)
    result = call("--mask", "first.png", "--overlay", "o.mp4")
    assert result.exit_code == 130
    assert "interrupted" in result.stderr
    assert sorted(path.name for path in (place / "shapes_masks").iterdir()) == [f"{i:05d}.png" for i in range(4)]
    monkeypatch.undo()
    assert len(list(read_frames(place / "o.mp4"))) == 4


def test_names_of_any_kind_work(call: Any, place: Path, clip: Any) -> None:
    name = "[bold] маска -1\n.mp4"
    (place / name).write_bytes(clip.path.read_bytes())
    result = call("--mask", "first.png", "--end", 1, of=place / name)
    assert result.exit_code == 0, result.stderr
    assert result.stdout == "[bold] маска -1\n_masks\n"


def test_no_weights_no_output(call: Any, place: Path) -> None:
    result = call("--mask", "first.png", "--weights", "nothing.pth")
    assert result.exit_code == 1
    assert "nothing.pth" in result.stderr


def test_importing_mgseg_does_not_load_torch_until_a_name_is_used() -> None:
    code = (
        "import sys, mgseg\n"
        "assert 'torch' not in sys.modules\n"
        "assert mgseg.MgsegError and mgseg.__version__ and 'segment_clip' in dir(mgseg)\n"
        "assert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
    assert [getattr(mgseg, name).__name__ for name in mgseg.__all__ if name != "__version__"]
    assert mgseg.segment_clip is segment_clip
    with pytest.raises(AttributeError, match="no attribute 'segment_clips'"):
        mgseg.segment_clips  # noqa: B018


def test_the_version_is_shown() -> None:
    result = runner.invoke(app, ["--version"])
    assert result.exit_code == 0
    assert result.stdout.startswith("mgseg ")


@pytest.mark.slow
@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_run_and_what_is_finished_stays(
    make_clip: Any, tiny_weights: Path, place: Path, kind: signal.Signals
) -> None:
    made = make_clip(place / "long.mkv", num_frames=400)
    write_mask(place / "first.png", made.masks[0])
    words = ["segment", "long.mkv", "-m", "first.png", "--overlay", "o.mkv", "--weights", str(tiny_weights)]
    run = subprocess.Popen([sys.executable, "-m", "mgseg", *words], stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while not (place / "long_masks" / "00005.png").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    run.send_signal(kind)
    _, told = run.communicate(timeout=60)
    assert run.returncode == 130
    assert told == "interrupted; finished results are kept\n"
    count = len(list((place / "long_masks").iterdir()))
    assert 6 <= count < 400
    assert len(list(read_frames(place / "o.mkv"))) == count
    assert not list(place.glob("*.part"))


def test_a_place_that_the_file_system_refuses_is_told_without_a_traceback(call: Any, place: Path) -> None:
    for arguments in (
        ["-m", "x" * 999],
        ["-m", "first.png", "-o", "y" * 999],
        ["-m", "first.png", "--scores", "z" * 999],
    ):
        result = call(*arguments)
        assert result.exit_code == 1
        assert "File name too long" in result.stderr
        assert len(result.stderr.splitlines()) <= 2
    assert "too long" in call("-m", "first.png", of=place / ("c" * 999)).stderr


def test_resume_tells_how_many_masks_were_found(call: Any) -> None:
    assert call("--mask", "first.png", "--end", 3).exit_code == 0
    result = call("--mask", "first.png", "--end", 6, "--resume")
    assert result.exit_code == 0
    assert "6 frames (3 of them found), 2 objects, " in result.stderr
    again = call("--mask", "first.png", "--end", 6, "--resume")
    assert "6 frames (6 of them found), 2 objects\n" in again.stderr
    assert "1 frame (1 of them found), 2 objects\n" in call("--mask", "first.png", "--end", 1, "--resume").stderr
    other = call("--mask", "first.png", "--resume", "--size", 32)
    assert other.exit_code == 1
    assert "size was 480, now 32" in other.stderr
