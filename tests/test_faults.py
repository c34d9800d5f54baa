"""What goes wrong while a clip is segmented: disks, folders, threads. Killed runs are in tests/drills."""

import os
import shutil
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import mgseg.files.video
import mgseg.segment.run
from mgseg.errors import OutputError
from mgseg.files.decoding import open_video
from mgseg.files.masks import read_index_map
from mgseg.files.threads import WriteBehind, read_ahead
from mgseg.outputs.table import Outputs
from mgseg.segment.clip import SegmentResult, segment_clip

Run = Callable[..., SegmentResult]
linux = pytest.mark.skipif(sys.platform != "linux", reason="needs /dev/full, seteuid")


@pytest.fixture
def run(tiny_network: Any, clip: Any) -> Run:
    def segment(outputs: Outputs, **more: Any) -> SegmentResult:
        return segment_clip(clip.path, clip.masks[0], outputs, tiny_network, **more)

    return segment


def fail_from(frame: int, act: Callable[[], object]) -> Callable[[int, Any], None]:
    """A callback that spoils something while a frame before the one that shall fail is on its way."""

    def on_mask(number: int, _: Any) -> None:
        if number == frame:
            act()

    return on_mask


@linux
@pytest.mark.parametrize("place", ["masks", "cut_outs", "scores/1"])
def test_a_full_disk_ends_the_run_and_what_is_written_stays(run: Run, tmp_path: Path, place: str) -> None:
    def fill() -> None:
        (tmp_path / place).mkdir(parents=True, exist_ok=True)
        (tmp_path / place / "00003.png.part").symlink_to("/dev/full")

    folders = {name: tmp_path / name for name in ("masks", "cut_outs", "scores")}
    outputs = Outputs(**folders, overlay=tmp_path / "o.mp4")
    with pytest.raises(OutputError, match=r"cannot write .*00003\.png: No space left on device"):
        run(outputs, on_mask=fail_from(0, fill))
    assert sorted(path.name for path in (tmp_path / "masks").iterdir()) == [f"{i:05d}.png" for i in range(3)]
    for path in (tmp_path / "masks").iterdir():
        assert read_index_map(path).shape == (64, 96)
    assert not list(tmp_path.rglob("*.part"))
    assert not (tmp_path / "o.mp4").exists()
    assert run(Outputs(**folders, resume=True)).num_frames == 8  # when there is room again


@contextmanager
def nobody(clip: Path) -> Iterator[Path]:
    """A folder with a copy of the clip, as somebody whom permissions bind."""
    root = Path(tempfile.mkdtemp())
    shutil.copy(clip, root / "clip.mp4").chmod(0o644)
    root.chmod(0o777)
    before = os.geteuid()
    if before == 0:
        os.seteuid(65534)
    try:
        yield root
    finally:
        os.seteuid(before)
        for folder in [root, *root.rglob("*")]:
            if folder.is_dir():
                folder.chmod(0o700)
        shutil.rmtree(root)


@linux
def test_a_folder_that_becomes_read_only_ends_the_run_and_what_is_written_stays(tiny_network: Any, clip: Any) -> None:
    with nobody(clip.path) as root:
        masks = root / "m"
        run = partial(segment_clip, root / "clip.mp4", clip.masks[0], network=tiny_network)
        with pytest.raises(OutputError, match=r"cannot write .*png: Permission denied"):
            run(Outputs(masks), on_mask=fail_from(3, lambda: masks.chmod(0o500)))
        names = sorted(path.name for path in masks.iterdir())
        assert 0 < len(names) < 8
        assert names == [f"{i:05d}.png" for i in range(len(names))]
        with pytest.raises(OutputError, match="cannot write"):
            run(Outputs(masks, resume=True))


def test_a_folder_that_vanishes_ends_the_run(run: Run, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="cannot write"):
        run(Outputs(tmp_path / "m"), on_mask=fail_from(2, lambda: (tmp_path / "m").rename(tmp_path / "away")))
    assert not (tmp_path / "m").exists()


def within(seconds: float, work: Callable[[], object]) -> BaseException | None:
    """What `work` raised; fails when it is not over in time."""
    caught: list[BaseException | None] = []

    def call() -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001 it is looked at below
            caught.append(error)
        else:
            caught.append(None)

    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    thread.join(seconds)
    assert caught, "it hangs"
    return caught[0]


@pytest.mark.parametrize("kind", [SystemExit, MemoryError, RecursionError, GeneratorExit, StopIteration])
@pytest.mark.parametrize("where", ["reader", "writer", "caller"])
def test_a_thread_that_dies_never_hangs_the_run(kind: type[BaseException], where: str) -> None:
    problem = kind()

    def read() -> Iterator[int]:
        for number in range(100):
            if where == "reader" and number == 30:
                raise problem
            yield number

    def write(number: int) -> None:
        if where == "writer" and number == 30:
            raise problem

    def work() -> None:
        with WriteBehind() as sink:
            for number in read_ahead(read()):
                if where == "caller" and number == 30:
                    raise problem
                sink.put(write, number)

    caught = within(30, work)
    if kind is StopIteration and where == "reader":  # Python turns it into a RuntimeError in generators
        assert isinstance(caught, RuntimeError)
    else:
        assert caught is problem


@pytest.mark.parametrize("depth", [1, 20])
@pytest.mark.parametrize("threads", [1, 3, 8])
def test_the_same_bytes_come_out_whatever_the_threads(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, threads: int, depth: int
) -> None:
    run(Outputs(tmp_path / "a", cut_outs=tmp_path / "ac", scores=tmp_path / "as"))

    @contextmanager
    def threaded(path: Path) -> Iterator[Any]:
        with open_video(path) as (container, stream):
            stream.codec_context.thread_count = threads
            yield container, stream

    monkeypatch.setattr(mgseg.files.video, "open_video", threaded)
    monkeypatch.setattr(mgseg.segment.run, "read_ahead", partial(read_ahead, depth=depth))
    monkeypatch.setattr(mgseg.segment.run, "WriteBehind", partial(WriteBehind, depth=depth))
    run(Outputs(tmp_path / "b", cut_outs=tmp_path / "bc", scores=tmp_path / "bs"))
    for ours, theirs in (("a", "b"), ("ac", "bc"), ("as", "bs")):
        files = sorted(path for path in (tmp_path / ours).rglob("*.png"))
        assert files
        for path in files:
            assert path.read_bytes() == (tmp_path / theirs / path.relative_to(tmp_path / ours)).read_bytes()
