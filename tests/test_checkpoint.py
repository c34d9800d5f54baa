"""Checkpoints of a run: which one is taken, which are dropped, what is refused."""

from pathlib import Path

import pytest
import torch

from mgseg.errors import WeightsError
from mgseg.model.network import MotionGuidedSTM
from mgseg.training.checkpoint import checkpoint_path, drop_old, find_checkpoint, load_checkpoint
from mgseg.weights import load_network, save_weights


def test_the_newest_checkpoint_is_found_and_older_ones_are_dropped(tmp_path: Path) -> None:
    assert find_checkpoint(tmp_path) is None
    for step in (900, 20, 1000):
        checkpoint_path(tmp_path, step).touch()
    (tmp_path / "checkpoint-00002000.pth.part").touch()  # of a save that was cut off
    assert find_checkpoint(tmp_path) == checkpoint_path(tmp_path, 1000)
    drop_old(tmp_path, 2)
    assert sorted(tmp_path.glob("*.pth")) == [checkpoint_path(tmp_path, step) for step in (900, 1000)]


def test_a_checkpoint_is_a_weights_file_as_well(tmp_path: Path, tiny_model: MotionGuidedSTM) -> None:
    path = checkpoint_path(tmp_path, 7)
    save_weights(path, tiny_model.config, tiny_model.state_dict(), extra={"training": {"step": 7}})
    assert load_checkpoint(path)["training"] == {"step": 7}
    loaded = load_network(path).state_dict()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in tiny_model.state_dict().items())


def test_weights_alone_and_damaged_files_are_refused(tmp_path: Path, tiny_weights: Path) -> None:
    with pytest.raises(WeightsError, match="no training state"):
        load_checkpoint(tiny_weights)
    damaged = tmp_path / "damaged.pth"
    damaged.write_bytes(tiny_weights.read_bytes()[:5000])
    with pytest.raises(WeightsError):
        load_checkpoint(damaged)
