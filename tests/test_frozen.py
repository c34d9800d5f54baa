"""Training through a folded batch norm equals training through the separate steps, in results and gradients."""

import pytest
import torch
from torch import Tensor, nn

from mgseg.model.fast import convolve as fast
from mgseg.model.fast.convolve import convolve
from mgseg.model.fast.frozen import is_frozen

pytestmark = pytest.mark.numeric

CONVS = {
    "pointwise": {"kernel_size": 1},
    "pointwise with a stride": {"kernel_size": 1, "stride": 2},
    "strided": {"kernel_size": 3, "stride": 2, "padding": 1},
    "of each channel": {"kernel_size": 3, "padding": 1, "groups": 8},
    "of each channel, one result": {"kernel_size": (3, 5), "padding": (1, 0), "groups": 8, "out_channels": 8},
    "of each channel, strided": {"kernel_size": 3, "stride": 2, "padding": 1, "groups": 8, "out_channels": 8},
}


def _layer(kind: str) -> tuple[nn.Conv2d, nn.BatchNorm2d]:
    torch.manual_seed(0)
    conv = nn.Conv2d(8, **{"out_channels": 16, "bias": False, **CONVS[kind]})  # type: ignore[arg-type]
    norm = nn.BatchNorm2d(conv.out_channels)
    for tensor in (norm.weight, norm.bias, norm.running_mean, norm.running_var):
        assert tensor is not None
        nn.init.uniform_(tensor, 0.5, 2.0)
    return conv, norm.eval()


def _results(conv: nn.Conv2d, norm: nn.BatchNorm2d, x: Tensor, activation: str, onto: Tensor | None) -> list[Tensor]:
    """The result, then the gradients of everything that has one."""
    inputs = [tensor.clone().requires_grad_() for tensor in (x, onto) if tensor is not None]
    parameters = [*conv.parameters(), *norm.parameters()]
    y = convolve(inputs[0], conv, norm, activation, inputs[1] if len(inputs) > 1 else None)
    weights = torch.linspace(-1, 1, y.numel()).view_as(y)
    return [y.detach(), *torch.autograd.grad((y * weights).sum(), [*inputs, *parameters])]


@pytest.mark.parametrize("activation", ["none", "relu", "relu6"])
@pytest.mark.parametrize("kind", CONVS)
@pytest.mark.parametrize("summed", [False, True])
def test_equals_the_separate_steps(kind: str, activation: str, summed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    conv, norm = _layer(kind)
    x = (4 * torch.randn(2, 8, 9, 12)).to(memory_format=torch.channels_last)
    onto = torch.randn_like(conv(x)) if summed else None
    assert is_frozen(x, conv, norm)
    found = _results(conv, norm, x, activation, onto)
    monkeypatch.setattr(fast, "is_frozen", lambda *_: False)
    for ours, exact in zip(found, _results(conv, norm, x, activation, onto), strict=True):
        torch.testing.assert_close(ours, exact, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("activation", ["none", "relu", "relu6"])
@pytest.mark.parametrize("kind", CONVS)
@pytest.mark.parametrize("summed", [False, True])
def test_in_bfloat16_it_differs_by_rounding(kind: str, activation: str, summed: bool) -> None:
    conv, norm = _layer(kind)
    x = (4 * torch.randn(2, 8, 9, 12)).to(memory_format=torch.channels_last)
    onto = torch.randn_like(conv(x)) if summed else None
    with torch.autocast("cpu", torch.bfloat16):
        assert is_frozen(x, conv, norm)
        found = _results(conv, norm, x, activation, onto)
    assert found[0].dtype == (torch.float32 if summed else torch.bfloat16)
    for ours, exact in zip(found, _results(conv, norm, x, activation, onto), strict=True):
        assert (ours - exact).norm() < 0.3 * exact.norm()  # at a relu's corner rounding decides of a whole gradient


def test_only_a_norm_that_stands_still_is_folded() -> None:
    conv, norm = _layer("pointwise")
    x = torch.randn(1, 8, 4, 4)
    assert is_frozen(x, conv, norm)
    assert not is_frozen(x, conv, nn.Identity())
    assert not is_frozen(x, nn.Conv2d(8, 16, 1), norm)  # a bias of its own
    with torch.no_grad():
        assert not is_frozen(x, conv, norm)
    with torch.autocast("cpu", torch.float16):
        assert not is_frozen(x, conv, norm)
    assert not is_frozen(x.double(), conv, norm)
    assert not is_frozen(x, conv, norm.train())
