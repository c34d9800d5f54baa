"""Clips that can be read once only: the standard input, named pipes."""

import io
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mgseg.errors import InputError
from mgseg.files.names import masks_folder
from mgseg.files.video import open_clip, read_frames
from mgseg.outputs.table import Outputs
from mgseg.segment.clip import Span, segment_clip

Maker = Callable[..., Any]
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="no named pipes in the file system")
STDIN = Path("-")


@contextmanager
def fifo(path: Path, data: bytes) -> Iterator[Path]:
    """A named pipe into which data is written as soon as somebody reads."""
    os.mkfifo(path)

    def write() -> None:
        with suppress(BrokenPipeError):  # the reader has seen enough
            path.write_bytes(data)

    writer = threading.Thread(target=write, daemon=True)
    writer.start()
    yield path
    writer.join(10)
    assert not writer.is_alive()


@pytest.fixture(name="stdin")
def _stdin(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Callable[[bytes], None]]:
    with ExitStack() as exits:

        def give(data: bytes) -> None:
            pipe = exits.enter_context(fifo(tmp_path / f"stdin {len(data)}", data))
            file = exits.enter_context(io.TextIOWrapper(pipe.open("rb")))
            monkeypatch.setattr(sys, "stdin", file)

        yield give


@pytest.fixture(name="long", scope="module")
def _long(tmp_path_factory: pytest.TempPathFactory, make_clip: Maker) -> Any:
    """A clip that is larger than what FFmpeg reads ahead to find out what it is."""
    path = tmp_path_factory.mktemp("long") / "long.mkv"
    made = make_clip(path, num_frames=60, size=(256, 384), codec="rawvideo")
    assert path.stat().st_size > 8_000_000
    return made


def test_every_frame_comes_from_a_pipe(stdin: Any, long: Any) -> None:
    stdin(long.path.read_bytes())
    with open_clip(STDIN) as clip:
        assert clip.info.reads_once
        piped = list(clip.frames())
        with pytest.raises(InputError, match="the standard input can be read only once"):
            list(clip.frames())
    for ours, theirs in zip(piped, read_frames(long.path), strict=True):
        assert (ours.index, ours.time) == (theirs.index, theirs.time)
        assert np.array_equal(ours.image, theirs.image)


@pytest.mark.parametrize("name", ["a.ts", "a.mkv", "a.avi", "a.mp4"])
def test_a_named_pipe_is_read_in_one_pass(make_clip: Maker, tmp_path: Path, tiny_network: Any, name: str) -> None:
    options = {"movflags": "frag_keyframe+empty_moov"} if name == "a.mp4" else {}
    audio = "mp2" if name == "a.ts" else None
    made = make_clip(tmp_path / name, options=options, audio=audio)
    with fifo(tmp_path / f"pipe_{name}", made.path.read_bytes()) as pipe:
        outputs = Outputs(tmp_path / "masks", tmp_path / "o.mp4")
        result = segment_clip(pipe, made.masks[0], outputs, tiny_network)
    assert (result.num_frames, result.problem) == (8, None)
    assert len(list(read_frames(tmp_path / "o.mp4"))) == 8
    assert [("has no sound" in text) for text in result.warnings] == [True] * bool(audio)


def test_a_part_of_a_pipe_is_segmented(stdin: Any, long: Any, tmp_path: Path, tiny_network: Any) -> None:
    stdin(long.path.read_bytes())
    small = np.zeros((256, 384), np.uint8)
    small[80:120, 60:120] = 1
    outputs = Outputs(tmp_path / "masks")
    result = segment_clip("-", small, outputs, tiny_network, span=Span(3, Fraction(1, 5)))
    assert [path.name for path in sorted((tmp_path / "masks").iterdir())] == ["00003.png", "00004.png", "00005.png"]
    assert result.num_frames == 3


def test_later_masks_of_a_pipe_count_from_their_frames_on_and_that_is_told(
    stdin: Any, make_clip: Maker, tmp_path: Path, tiny_network: Any
) -> None:
    made = make_clip(tmp_path / "a.ts")
    stdin(made.path.read_bytes())
    result = segment_clip("-", {0: made.masks[0], 5: made.masks[5]}, Outputs(tmp_path / "masks"), tiny_network)
    assert result.num_frames == 8
    assert [("later masks" in text) for text in result.warnings] == [True]


def test_what_needs_a_second_pass_is_refused_before_anything_is_read(tmp_path: Path, clip: Any) -> None:
    os.mkfifo(tmp_path / "pipe")  # nobody writes: reading would wait forever
    with pytest.raises(InputError, match=r"pipe can be read only once, but --both-ways"):
        segment_clip(tmp_path / "pipe", {3: clip.masks[3]}, span=Span(both_ways=True))


def test_what_a_pipe_cannot_give_is_told(stdin: Any, make_clip: Maker, tmp_path: Path) -> None:
    index_last = make_clip(tmp_path / "a.mov", num_frames=20, size=(256, 384), codec="rawvideo", pix_fmt="uyvy422")
    cases = {
        b"": ("standard input is empty", "-f matroska"),
        b"no video " * 1000: ("standard input is empty, or not a video", "-f matroska"),
        index_last.path.read_bytes(): ("standard input contains no frame", "-f matroska"),
    }
    for data, (text, hint) in cases.items():
        stdin(data)
        with pytest.raises(InputError, match=text) as caught, open_clip(STDIN):
            pass
        assert hint in str(caught.value.hint)


def test_a_pipe_among_pictures_is_no_picture(make_clip: Maker, tmp_path: Path) -> None:
    folder = make_clip(tmp_path / "frames", num_frames=2).path
    os.mkfifo(folder / "00002.png")
    (folder / "00003.png").symlink_to(folder)
    assert len(list(read_frames(folder))) == 2


def test_a_mask_is_no_pipe(clip: Any, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "mask.png")  # nobody writes: reading would wait forever
    with pytest.raises(InputError, match="can be read only once, but a mask is read again"):
        segment_clip(clip.path, tmp_path / "mask.png")


def test_the_masks_of_a_pipe_have_a_folder_with_a_name(tmp_path: Path) -> None:
    assert masks_folder(STDIN) == masks_folder(Path("/dev/stdin")) == Path("stdin_masks")
    os.mkfifo(tmp_path / "camera.ts")
    assert masks_folder(tmp_path / "camera.ts") == Path("camera_masks")


def test_the_command_reads_the_standard_input(clip: Any, tmp_path: Path, make_clip: Maker, tiny_weights: Path) -> None:
    made = make_clip(tmp_path / "a.ts")
    Image.fromarray(made.masks[0]).save(tmp_path / "first.png")
    command = [sys.executable, "-m", "mgseg", "segment", "-", "--mask", "first.png", "--weights", str(tiny_weights)]
    with made.path.open("rb") as file, subprocess.Popen(["cat"], stdin=file, stdout=subprocess.PIPE) as cat:
        done = subprocess.run(
            [*command, "--device", "cpu"], stdin=cat.stdout, cwd=tmp_path, capture_output=True, text=True, timeout=120
        )
    assert (done.returncode, done.stdout) == (0, "stdin_masks\n")
    assert len(list((tmp_path / "stdin_masks").iterdir())) == 8
