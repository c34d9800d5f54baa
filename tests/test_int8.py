"""Convolutions in 8-bit integers are those of the rounded numbers, and a network of them keeps its masks."""

import json
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from typer.testing import CliRunner

import mgseg
import mgseg.files.masks
from mgseg.cli import app
from mgseg.device import find_precision, has_int8
from mgseg.errors import DeviceError, InputError
from mgseg.model.fast.int8 import Int8Conv2d
from mgseg.model.fast.prepare import prepare_for_inference
from mgseg.model.network import ModelConfig, MotionGuidedSTM
from mgseg.model.trunks import TRUNKS
from mgseg.weights import load_network, weights_folder

pytestmark = pytest.mark.numeric

needs_int8 = pytest.mark.skipif(not has_int8(), reason="this CPU does not multiply 8-bit integers faster than floats")
CONVS = [
    {"kernel_size": 1},
    {"kernel_size": 3, "padding": 1},
    {"kernel_size": 3, "padding": 1, "stride": 2, "bias": False},
]


def rounded(x: torch.Tensor, low: float, high: float) -> torch.Tensor:
    """`x` in 256 steps from low to high, as float64; 0 is on a step, and (almost) halves go up."""
    scale = (high - low) / 255
    zero = round(-low / scale)
    return ((x.double() / scale + zero + 0.499).floor().clamp(0, 255) - zero) * scale


def rounded_weight(conv: nn.Conv2d) -> torch.Tensor:
    scale = conv.weight.detach().double().abs().amax((1, 2, 3), keepdim=True) / 127
    return (conv.weight.detach().double() / scale).round() * scale


def convolve(x: torch.Tensor, conv: nn.Conv2d) -> torch.Tensor:
    bias = None if conv.bias is None else conv.bias.detach().double()
    return F.conv2d(x, rounded_weight(conv), bias, conv.stride, conv.padding, 1, conv.groups)


def relative_error(found: torch.Tensor, exact: torch.Tensor) -> float:
    return ((found.double() - exact).norm() / exact.norm()).item()


@needs_int8
@pytest.mark.parametrize("low", [-3.0, 0.0])
@pytest.mark.parametrize("settings", CONVS)
def test_the_convolution_is_that_of_the_rounded_numbers_whatever_size_came_before(settings: Any, low: float) -> None:
    torch.manual_seed(0)
    conv = nn.Conv2d(32, 32, **settings)
    ours = Int8Conv2d(conv)
    for size in ((1, 32, 20, 28), (2, 32, 12, 36)):
        x = (torch.rand(size) * (8 - low) + low).to(memory_format=torch.channels_last)
        exact = convolve(rounded(x, min(float(x.min()), 0.0), float(x.max())), conv)
        with torch.inference_mode():
            assert relative_error(ours(x), exact) < 2e-4  # a number at a half may go to either step


@needs_int8
def test_a_map_of_zeros_gives_the_bias() -> None:
    conv = nn.Conv2d(8, 16, 1)
    assert conv.bias is not None
    with torch.inference_mode():
        y = Int8Conv2d(conv)(torch.zeros(1, 8, 6, 6))
    torch.testing.assert_close(y, conv.bias.detach().view(1, -1, 1, 1).expand_as(y))


@needs_int8
@pytest.mark.parametrize("wild", [float("nan"), float("inf"), -float("inf")])
def test_numbers_that_are_not_finite_end_no_run(wild: float) -> None:
    x = torch.rand(1, 8, 6, 6)
    x[0, 0, 0, 0] = wild
    with torch.inference_mode():
        assert Int8Conv2d(nn.Conv2d(8, 16, 1))(x).shape == (1, 16, 6, 6)


@needs_int8
@pytest.mark.parametrize("trunk", TRUNKS)
def test_both_networks_change_by_rounding_alone(trunk: str) -> None:
    torch.manual_seed(0)
    config = ModelConfig(trunk=trunk, key_dim=16, value_dim=32, decoder_dim=32)
    plain, ours = MotionGuidedSTM(config).eval(), MotionGuidedSTM(config).eval()
    ours.load_state_dict(plain.state_dict())
    prepare_for_inference(plain)
    prepare_for_inference(ours, int8=True)
    taken = [module for module in ours.modules() if isinstance(module, Int8Conv2d)]
    assert len(taken) > (10 if TRUNKS[trunk].in_float32 else 20)
    image, masks = torch.rand(1, 3, 64, 96), torch.zeros(1, 2, 64, 96)
    masks[:, 0, 10:40, 10:40] = masks[:, 1, 20:60, 50:90] = 1
    with torch.inference_mode():
        (key, value), (exact_key, exact_value) = (model.encode_memory(image, masks) for model in (ours, plain))
        assert 0 < relative_error(value, exact_value.double()) < 0.1
        assert relative_error(key, exact_key.double()) < 0.1
        assert key.equal(exact_key) == ours.memory_encoder.trunk.spec.in_float32  # what keys see may be rounded
        query, exact_query = ours.encode_query(image), plain.encode_query(image)
        readout = torch.randn(1, 2, 32, 4, 6)
        found, exact = ours.decode(query, readout), plain.decode(exact_query, readout)
    assert 0 < relative_error(found, exact.double()) < 0.1


@needs_int8
@pytest.mark.skipif(not (weights_folder() / "mgseg-lite.pth").is_file(), reason="needs the released weights")
def test_the_released_light_network_gives_the_same_masks_but_for_edges(clip: Any) -> None:
    frames = [np.kron(frame, np.ones((3, 3, 1), np.uint8)) for frame in clip.frames]
    first = np.kron(clip.masks[0], np.ones((3, 3), np.uint8))
    results = []
    for precision in ("float32", "int8"):
        segmenter = mgseg.Segmenter(mgseg.Network("lite", "cpu", precision))
        results.append([segmenter.start(frames[0], first), *(segmenter.step(frame) for frame in frames[1:])])
    plain, ours = map(np.stack, results)
    assert (plain[1:] > 0).any()
    different = (plain != ours)[plain + ours > 0].mean()
    assert 0 < different < 0.01


@needs_int8
def test_a_model_in_memory_has_nothing_to_round(tiny_model: Any) -> None:
    with pytest.raises(InputError, match="cannot run in int8") as caught:
        mgseg.Network.from_model(tiny_model, "int8")
    assert "save_weights" in str(caught.value.hint)


@needs_int8
def test_the_commands_run_in_it(clip: Any, tiny_weights: Any, tmp_path: Any) -> None:
    mgseg.files.masks.write_mask(tmp_path / "first.png", clip.masks[0])
    common = ["--weights", str(tiny_weights), "--device", "cpu", "--precision", "int8"]
    arguments = ["segment", str(clip.path), "-m", str(tmp_path / "first.png"), "-o", str(tmp_path / "out"), *common]
    found = CliRunner().invoke(app, arguments)
    assert found.exit_code == 0, found.stderr
    assert len(list((tmp_path / "out").iterdir())) == len(clip.frames)
    bench = ["bench", "--size", "32x64", "--repeats", "1", "--json", *common]
    found = CliRunner().invoke(app, bench)
    report = json.loads(found.stdout)
    assert found.exit_code == 0  # masks may differ from the plain form's
    assert report["options"]["precision"] == "int8"
    whole = json.loads(CliRunner().invoke(app, [*bench[:-1], "float32"]).stdout)
    # The same work; Winograd's part is counted as it is.
    assert report["gflops"] == pytest.approx(whole["gflops"], rel=0.05)
    assert report["parameters"] == sum(p.numel() for p in load_network(tiny_weights).parameters())


@pytest.mark.parametrize("device", ["cuda", "mps", "cpu"])
def test_devices_without_it_are_named(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mgseg.device.has_int8", lambda: device != "cpu")
    with pytest.raises(DeviceError, match=f"int8 needs an x86 CPU with VNNI and does not run on this {device}"):
        find_precision("int8", torch.device(device))
