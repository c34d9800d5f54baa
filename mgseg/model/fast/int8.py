"""Convolutions in 8-bit integers, for CPUs that multiply them faster than floats (x86 with VNNI).

Weights are rounded to 127 steps each way, for each output channel by itself. A map is rounded to 256 steps between its
own least and largest number, found anew at every call, so nothing is calibrated and nothing remembered. Sums are exact,
everything else (sums with shortcuts, keys, the read, soft aggregation) is float32. The objects that go through the
network at once share the bounds of a map, so their number changes results by rounding.
Source: Jacob et al., Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference
(2018); the integer convolution is oneDNN's, which torch carries.
"""

import torch
from torch import Tensor, nn

from mgseg.model.decoder import JoiningConv2d
from mgseg.model.network import MotionGuidedSTM

_STEPS = 255
_MIN_PRODUCTS = 200  # products for each input value; with fewer, rounding takes as long as the faster products save


def use_int8(model: MotionGuidedSTM) -> None:
    """Let most convolutions of `model`, in place, compute in integers; their batch norms must have been folded.

    Not the stems, which see pictures and masks; nor the keys, whose products the read's softmax raises to powers; nor
    trunks that stay in float32.
    """
    for trunk in (model.query_encoder.trunk, model.memory_encoder.trunk):
        if not trunk.spec.in_float32:
            for stage in (trunk.stage4, trunk.stage8, trunk.stage16):
                _replace_convs(stage)
    for key_value in (model.query_key_value, model.memory_key_value):
        key_value.value = Int8Conv2d(key_value.value)  # type: ignore[assignment]
    model.decoder.compress = Int8JoiningConv2d(model.decoder.compress)  # type: ignore[assignment]
    for part in (model.decoder.block16, model.decoder.refine8, model.decoder.refine4):
        _replace_convs(part)


def is_int8(model: nn.Module) -> bool:
    """Whether `use_int8` changed the model."""
    return any(isinstance(module, Int8Conv2d) for module in model.modules())


class Int8Conv2d(nn.Module):
    """A convolution of 8-bit integers, float (B, C, H, W) to float (B, D, H', W'), of the rounded weights of `conv`."""

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        weight = conv.weight.detach().float()
        self._scale = (weight.flatten(1).abs().amax(1) / 127).clamp_min(torch.finfo(torch.float32).tiny)
        self._zero = torch.zeros(len(weight), dtype=torch.int32)
        self._bias = None if conv.bias is None else conv.bias.detach().float()
        self._shape = (list(conv.stride), list(conv.padding), list(conv.dilation), conv.groups)
        self._rounded = (weight / self._scale.view(-1, 1, 1, 1)).round().to(torch.int8)
        self._packed: tuple[torch.Size, Tensor] | None = None

    def forward(self, x: Tensor) -> Tensor:
        """Convolve."""
        x, scale, zero = _round(x)
        weight = (self._pack(x.shape), self._scale, self._zero, self._bias)
        y: Tensor = torch.ops.onednn.qconv2d_pointwise(
            x, scale, zero, *weight, *self._shape, 1.0, 0, torch.float32, "none", [], ""
        )
        return y

    def _pack(self, shape: torch.Size) -> Tensor:
        """Return the weights in oneDNN's order for maps of a shape; in that for another, it takes up to ten times."""
        if self._packed is None or self._packed[0] != shape:
            ordered = torch.ops.onednn.qconv_prepack(self._rounded, self._scale, 1.0, 0, *self._shape, list(shape))
            self._packed = (shape, ordered)
        return self._packed[1]


class Int8JoiningConv2d(nn.Module):
    """`JoiningConv2d` of 8-bit integers."""

    def __init__(self, conv: JoiningConv2d) -> None:
        super().__init__()
        dim = conv.in_channels // 2
        first, second = (nn.Conv2d(dim, conv.out_channels, 3, padding=1, bias=i == 1) for i in range(2))
        halves = conv.weight.detach().split(dim, dim=1)
        first.weight, second.weight = (nn.Parameter(half, requires_grad=False) for half in halves)
        second.bias = conv.bias
        self.of_first, self.of_second = Int8Conv2d(first), Int8Conv2d(second)


def _round(x: Tensor) -> tuple[Tensor, float, int]:
    """Return a map as uint8, what a step of it stands for, and which of its numbers is 0."""
    low, high = (float(bound.nan_to_num()) for bound in (x.amin().clamp(max=0), x.amax().clamp(min=0)))
    scale = max((high - low) / _STEPS, torch.finfo(torch.float32).tiny)
    zero = round(-low / scale)
    # Truncated to integers, so with nearly a half on top; with a whole one, rounding could lead beyond the last step.
    return torch.add(torch.tensor(zero + 0.499), x, alpha=1 / scale).to(torch.uint8), scale, zero


def _replace_convs(module: nn.Module) -> None:
    for name, child in list(module.named_children()):
        if isinstance(child, nn.Conv2d) and _products(child) >= _MIN_PRODUCTS:
            setattr(module, name, Int8Conv2d(child))
        else:
            _replace_convs(child)


def _products(conv: nn.Conv2d) -> float:
    """Products for each number of the input."""
    return conv.weight[:, 0].numel() / conv.groups / (conv.stride[0] * conv.stride[1])
