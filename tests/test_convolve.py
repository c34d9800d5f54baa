"""A fused convolution, norm, sum and rectifier equals the separate steps; where it does not apply, they are taken."""

import copy
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from mgseg.model.fast.convolve import convolve, fused_operations
from mgseg.model.fast.prepare import prepare_for_inference
from mgseg.model.network import ModelConfig, MotionGuidedSTM
from mgseg.model.trunks import TRUNKS

pytestmark = pytest.mark.numeric

SEPARATE = {"none": lambda x: x, "relu": F.relu, "relu6": F.relu6}
CONVS = {
    "pointwise": {"kernel_size": 1},
    "strided": {"kernel_size": 3, "stride": 2, "padding": 1},
    "of each channel": {"kernel_size": 3, "padding": 1, "groups": 16},
}
needs_fusion = pytest.mark.skipif(not fused_operations(), reason="this torch has no fused convolutions")


class Operations(TorchDispatchMode):
    """Counts the fused convolutions among the operations that torch runs."""

    fused = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.fused += function.overloadpacket in fused_operations()
        return function(*args, **(kwargs or {}))


@needs_fusion
@pytest.mark.parametrize("activation", SEPARATE)
@pytest.mark.parametrize("kind", CONVS)
@pytest.mark.parametrize("summed", [False, True])
def test_equals_the_separate_steps(activation: str, kind: str, summed: bool) -> None:
    torch.manual_seed(0)
    conv = nn.Conv2d(16, 32, **CONVS[kind]).to(memory_format=torch.channels_last)  # type: ignore[arg-type]
    x = (4 * torch.randn(2, 16, 13, 18)).to(memory_format=torch.channels_last)
    with torch.inference_mode():
        y = conv(x)
        onto = torch.randn_like(y) if summed else None
        total = y if onto is None else y + onto
        exact = SEPARATE[activation](total)
        assert (exact == total).all() == (activation == "none")  # there is something to rectify
        limit = _rounding(conv, x, onto)
        before = x.clone()
        with Operations() as operations:
            found = convolve(x, conv, nn.Identity(), activation, onto)
    assert ((found - exact).abs() <= limit).all()
    assert found.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(x, before, rtol=0, atol=0)
    assert operations.fused == (0 if summed and activation == "relu6" else 1)


def _rounding(conv: nn.Conv2d, x: torch.Tensor, onto: torch.Tensor | None) -> torch.Tensor:
    """By how much two float32 sums of the same terms, in any order, may differ: steps * epsilon * sum of |terms|."""
    assert conv.bias is not None
    terms = F.conv2d(x.abs(), conv.weight.abs(), conv.bias.abs(), conv.stride, conv.padding, groups=conv.groups)
    steps = conv.weight[0].numel() + 2
    return steps * torch.finfo(torch.float32).eps * (terms if onto is None else terms + onto.abs())


def test_separate_in_training_and_in_other_precisions_and_orders() -> None:
    torch.manual_seed(0)
    conv, norm = nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4).eval()
    x, onto = torch.randn(1, 4, 5, 5).to(memory_format=torch.channels_last), torch.randn(1, 4, 5, 5)
    with Operations() as operations:
        found = convolve(x, conv, norm, "relu", onto)
        torch.testing.assert_close(found, F.relu(norm(conv(x)) + onto))
        assert found.requires_grad
        found = convolve(x, conv, activation="relu", onto=onto)
        torch.testing.assert_close(found, F.relu(conv(x) + onto))
        assert found.requires_grad
        with torch.inference_mode():
            convolve(x, conv, norm)
            convolve(x.contiguous(), conv)
            convolve(x.double(), conv.double())
            conv.float()
            with torch.autocast("cpu", torch.bfloat16):
                assert convolve(x, conv, activation="relu").dtype == torch.bfloat16
    assert operations.fused == 0


@needs_fusion
@pytest.mark.parametrize("trunk", TRUNKS)
def test_trunks_made_ready_fuse_and_keep_the_maps_that_they_return(trunk: str) -> None:
    torch.manual_seed(0)
    config = ModelConfig(trunk=trunk, key_dim=8, value_dim=8, decoder_dim=8)
    model = MotionGuidedSTM(config).eval()
    ready = prepare_for_inference(copy.deepcopy(model))
    image = torch.randn(1, 3, 64, 96).to(memory_format=torch.channels_last)
    with torch.inference_mode(), Operations() as operations:
        expected = model.query_encoder(image)
        assert operations.fused == 0
        found = ready.query_encoder(image)
    assert operations.fused > 5
    for ours, theirs in zip(found, expected, strict=True):  # a map that a later block had written into would differ
        scale = theirs.abs().max()
        torch.testing.assert_close(ours / scale, theirs / scale, rtol=0, atol=1e-5)
