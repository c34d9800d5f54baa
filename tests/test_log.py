"""The log of a run: TensorBoard gets the numbers where it is asked for, and is missed with a hint where it is not."""

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from mgseg.errors import MgsegError
from mgseg.training.log import RunLog


class Board:
    """Stands for TensorBoard's SummaryWriter."""

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self.pending: list[tuple[str, float, int]] = []
        self.written: list[tuple[str, float, int]] = []
        boards.append(self)

    def add_scalar(self, name: str, value: float, step: int) -> None:
        self.pending.append((name, value, step))

    def flush(self) -> None:
        self.written += self.pending
        self.pending.clear()


boards: list[Board] = []


def test_tensorboard_gets_the_numbers_of_each_record_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", SimpleNamespace(SummaryWriter=Board))
    log = RunLog()
    log.open(tmp_path, tensorboard=True)
    log.write("step", 20, loss=0.5, size=192)
    log.write("problem", 21, message="unreadable")
    log.write("validation", 40, score=0.7)
    (board,) = boards
    assert board.folder == str(tmp_path / "tensorboard")
    assert board.written == [("step/loss", 0.5, 20), ("validation/score", 0.7, 40)]


def test_without_tensorboard_a_hint_tells_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(MgsegError, match="not installed") as caught:
        RunLog().open(tmp_path, tensorboard=True)
    assert "[train]" in (caught.value.hint or "")
