"""Files appear whole or not at all: full disks, folders without permission, interruptions, and who goes round it."""

import os
import re
import stat
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import mgseg
from mgseg.data.catalog import Split, VideoSequence
from mgseg.errors import OutputError
from mgseg.evaluation import page, provenance, submission
from mgseg.evaluation.report import Report
from mgseg.files.masks import write_mask
from mgseg.files.pictures import write_png
from mgseg.files.whole_file import make_folder, whole_file, write_whole
from mgseg.training.log import RunLog
from mgseg.training.pictures import draw_curve
from mgseg.weights import save_weights

MASK = np.zeros((8, 8), np.uint8)


def _write_zip(path: Path) -> None:
    masks = path.parent.parent
    sequence = VideoSequence("a", (), {"00000": masks / "a" / "00000.png"}, ("00000",), frozenset({"00000"}), {})
    submission.write_submission(Split("d", "val", "davis17", masks, masks, (sequence,)), masks, path)


def _write_page(path: Path) -> None:
    report = Report({"dataset": "d", "split": "s", "protocol": "p"})
    page.write_page(report, Split("d", "s", "davis17", path, path, ()), path.parent, path)


def _writers(model: Any) -> dict[str, Callable[[Path], object]]:
    """Everything that writes a whole file, by the file's name."""
    return {
        "text.txt": lambda path: write_whole(path, "text"),
        "picture.png": lambda path: write_png(path, Image.fromarray(MASK)),
        "mask.png": lambda path: write_mask(path, MASK),
        "model.pth": lambda path: save_weights(path, model.config, model.state_dict()),
        "run.json": lambda path: provenance.write_run(path.parent, {"seconds": 1}),
        "log.jsonl": lambda path: RunLog().open(path.parent),
        "curve.png": lambda path: draw_curve([], path),
        "masks.zip": _write_zip,
        "page.html": _write_page,
    }


NAMES = list(_writers(None))


@pytest.fixture(name="write")
def _write(tiny_model: Any, tmp_path: Path, request: pytest.FixtureRequest) -> Callable[[Path], object]:
    write_mask(make_folder(tmp_path / "a") / "00000.png", MASK)
    return _writers(tiny_model)[request.param]


@pytest.fixture(name="target")
def _target(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    folder = tmp_path / "folder"
    folder.mkdir()
    path = folder / str(request.param)
    path.write_bytes(b"what was there before")
    return path


each_writer = pytest.mark.parametrize(("write", "target"), [(n, n) for n in NAMES], ids=NAMES, indirect=True)


@each_writer
def test_every_writer_replaces_a_file_and_leaves_no_part(write: Callable[[Path], object], target: Path) -> None:
    write(target)
    assert target.read_bytes() != b"what was there before"
    assert [path.name for path in target.parent.iterdir()] == [target.name]


@pytest.mark.skipif(sys.platform != "linux", reason="needs /dev/full")
@each_writer
def test_on_a_full_disk_what_was_there_stays_and_the_error_names_the_file(
    write: Callable[[Path], object], target: Path
) -> None:
    target.with_name(target.name + ".part").symlink_to("/dev/full")
    if target.name == "log.jsonl":
        pytest.skip("an empty log needs no room")
    with pytest.raises(OutputError, match=f"cannot write {re.escape(str(target))}"):
        write(target)
    assert [path.name for path in target.parent.iterdir()] == [target.name]
    assert target.read_bytes() == b"what was there before"


@contextmanager
def _without_permission(folder: Path) -> Iterator[None]:
    """Take away the right to write into a folder, from the superuser too."""
    user = os.geteuid()
    mode = stat.S_IMODE(folder.stat().st_mode)
    folder.chmod(0o555)
    if user == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(user)
        folder.chmod(mode)


@pytest.mark.skipif(sys.platform != "linux", reason="needs seteuid")
@pytest.mark.parametrize("name", NAMES)
def test_a_folder_without_permission_is_one_clear_error(name: str, tiny_model: Any) -> None:
    with tempfile.TemporaryDirectory() as root:  # pytest's own folder is closed to others
        Path(root).chmod(0o755)
        write_mask(make_folder(Path(root) / "a") / "00000.png", MASK)
        target = make_folder(Path(root) / "folder") / name
        write = _writers(tiny_model)[name]
        with _without_permission(target.parent), pytest.raises(OutputError, match=f"cannot write .*{name}"):
            write(target)
        assert not list(target.parent.iterdir())


@pytest.mark.parametrize("problem", [KeyboardInterrupt(), MemoryError(), ValueError("x"), OutputError("said already")])
def test_an_interruption_keeps_the_file_before_and_is_raised_as_it_is(tmp_path: Path, problem: BaseException) -> None:
    write_whole(tmp_path / "a.txt", "before")

    def write() -> None:
        with whole_file(tmp_path / "a.txt") as part:
            part.write_text("half")
            raise problem

    with pytest.raises(type(problem)) as caught:
        write()
    assert caught.value is problem
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]
    assert (tmp_path / "a.txt").read_text() == "before"


def test_a_durable_file_is_on_the_disk_before_its_name_and_its_name_before_the_block_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[str] = []
    flush, replace = os.fsync, Path.replace

    def fsync(descriptor: int) -> None:
        steps.append("folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file")
        flush(descriptor)

    def rename(self: Path, target: Path) -> Path:
        steps.append("rename")
        return replace(self, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(Path, "replace", rename)
    with whole_file(tmp_path / "a", durable=True) as part:
        part.write_text("x")
    assert steps == (["file", "rename", "folder"] if os.name == "posix" else ["file", "rename"])


def test_a_checkpoint_is_durable(tiny_model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flushed: list[int] = []
    monkeypatch.setattr(os, "fsync", flushed.append)
    save_weights(tmp_path / "checkpoint-00000001.pth", tiny_model.config, tiny_model.state_dict())
    assert flushed


def test_no_other_module_names_or_renames_unfinished_files() -> None:
    root = Path(mgseg.__file__).parent
    allowed = {"files/whole_file.py", "evaluation/inference.py"}  # the latter renames whole folders
    found = {
        path.relative_to(root).as_posix()
        for path in root.rglob("*.py")
        if re.search(r'"\.part"|os\.replace|part\.replace', path.read_text("utf-8"))
    }
    assert found <= allowed
