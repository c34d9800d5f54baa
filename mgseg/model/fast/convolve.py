"""`convolve`: convolution, norm, sum and relu as one step. The network uses the fast implementations only through it.

On a CPU in inference it is oneDNN's fused operation, which torch carries for its compiler, in one pass over memory and
equal to the separate steps to the bit; in training see `frozen`. The separate steps are taken everywhere else: on other
devices, in other precisions, by convolutions of another kind.
"""

from math import inf
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mgseg.model.fast.frozen import convolve_frozen, is_frozen

# Activation -> what does it, in place; oneDNN's name of it and the numbers that go with it.
_ACTIVATIONS: dict[str, tuple[Any, str, list[float]]] = {
    "none": (lambda x: x, "none", []),
    "relu": (F.relu_, "relu", []),
    "relu6": (lambda x: F.hardtanh_(x, 0, 6), "hardtanh", [0, 6]),
}
_LIMITS = {"none": None, "relu": inf, "relu6": 6.0}
_NO_NORM = nn.Identity()


def convolve(
    x: Tensor, conv: nn.Module, norm: nn.Module = _NO_NORM, activation: str = "none", onto: Tensor | None = None
) -> Tensor:
    """Convolve, normalise, add and rectify.

    Args:
        x: float (B, C, H, W).
        conv: the convolution.
        norm: the batch norm, or an Identity once it is folded into the convolution.
        activation: "none", "relu" or "relu6", after the sum.
        onto: (B, D, H', W') to add; in inference it may serve as the result's storage.

    Returns:
        (B, D, H', W').
    """
    separate, name, numbers = _ACTIVATIONS[activation]
    has_name = onto is None or activation != "relu6"  # oneDNN knows no relu6 after a sum
    if is_frozen(x, conv, norm):
        limit = _LIMITS[activation] if onto is None else None
        y = convolve_frozen(x, conv, norm, limit)  # type: ignore[arg-type]
        return y if onto is None else separate(y + onto)
    if not (has_name and isinstance(norm, nn.Identity) and type(conv) is nn.Conv2d and _is_fusible(x)):
        y = norm(conv(x))
        return separate(y if onto is None else y.add_(onto))
    shape = (conv.weight, conv.bias, conv.padding, conv.stride, conv.dilation, conv.groups)
    if onto is None:
        return torch.ops.mkldnn._convolution_pointwise(x, *shape, name, numbers, "")
    after = (None if name == "none" else name, numbers, "")
    return torch.ops.mkldnn._convolution_pointwise_(onto, x, *shape, "add", 1.0, *after)


def fused_operations() -> list[Any]:
    """The operations of torch that `convolve` may use, where it has them; they begin with the arguments of `shape`."""
    names = ("_convolution_pointwise", "_convolution_pointwise_")
    return [getattr(torch.ops.mkldnn, name) for name in names if hasattr(torch.ops.mkldnn, name)]


def _is_fusible(x: Tensor) -> bool:
    dense = x.device.type == "cpu" and x.dtype == torch.float32 and x.is_contiguous(memory_format=torch.channels_last)
    separate = torch.is_grad_enabled() or torch.is_autocast_enabled("cpu") or not torch.backends.mkldnn.enabled
    return dense and not separate and hasattr(torch.ops.mkldnn, "_convolution_pointwise_")
