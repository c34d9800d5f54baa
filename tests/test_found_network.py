"""`Network`: what is checked at once, what waits for the weights, and what it knows of them."""

import hashlib
from copy import deepcopy
from dataclasses import FrozenInstanceError
from pathlib import Path
from typing import Any

import pytest
import torch

from mgseg.errors import DeviceError, WeightsError
from mgseg.model.network import MotionGuidedSTM
from mgseg.network import Network
from mgseg.segment.segmenter import Segmenter
from mgseg.weights import save_weights


@pytest.mark.parametrize(
    ("kind", "text", "arguments"),
    [
        (WeightsError, "no weights 'nowhere'", {"weights": "nowhere"}),
        (DeviceError, "unknown device 'abacus'", {"device": "abacus"}),
        (DeviceError, "unknown precision 'int4'", {"precision": "int4"}),
    ],
)
def test_what_does_not_exist_is_named_at_once(
    tiny_weights: Path, kind: type[Exception], text: str, arguments: dict[str, str]
) -> None:
    with pytest.raises(kind, match=text):
        Network(**{"weights": tiny_weights, "device": "cpu", **arguments})


def test_the_file_is_read_when_the_model_is_needed(tmp_path: Path) -> None:
    file = tmp_path / "damaged.pth"
    file.write_bytes(b"no weights")
    network = Network(file, "cpu")
    assert (network.name, network.path, network.precision) == ("damaged.pth", file, "float32")
    assert network.sha256 == hashlib.sha256(b"no weights").hexdigest()
    with pytest.raises(WeightsError, match="cannot be read as weights"):
        Segmenter(network)


def test_it_is_loaded_once_and_cannot_be_changed(tiny_weights: Path, tiny_model: MotionGuidedSTM) -> None:
    network: Any = Network(tiny_weights, "cpu", "bfloat16")
    assert Segmenter(network).model is Segmenter(network).model
    assert network.config == tiny_model.config
    assert network.dtype == torch.bfloat16
    with pytest.raises(FrozenInstanceError):
        network.precision = "float32"


def test_entries_beside_the_weights_are_at_hand_but_no_training_state(
    tmp_path: Path, tiny_model: MotionGuidedSTM
) -> None:
    extra = {"training": {"step": 3}, "confidence": {"bias": -0.5, "slopes": [1.0, 2.0]}}
    save_weights(tmp_path / "w.pth", tiny_model.config, tiny_model.state_dict(), extra=extra)
    assert Network(tmp_path / "w.pth", "cpu").extra == {"confidence": extra["confidence"]}


def test_the_hash_of_a_model_in_memory_is_that_of_its_numbers(tiny_model: MotionGuidedSTM) -> None:
    same, other = deepcopy(tiny_model), deepcopy(tiny_model)
    with torch.no_grad():
        other.decoder.predict.bias[0] += 1e-6
    hashes = [Network.from_model(model).sha256 for model in (tiny_model, same, other)]
    assert hashes[0] == hashes[1] != hashes[2]
