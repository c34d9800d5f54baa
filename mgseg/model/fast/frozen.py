"""Training through a convolution and a frozen batch norm as one step on a CPU: the norm is folded into the kernel.

A batch norm in evaluation mode is a factor and an offset for each channel. Folded into the convolution, with
gradients for all of its parameters, it costs nothing: no map of its own is made, kept, or gone back through. A relu
is gone back through by its result, and a 1x1 convolution is one matrix product over channels, where torch with one
thread would copy the map first. Equal to the separate steps up to rounding.

In bfloat16 the norm is folded in float32, then kernel and maps are rounded. MobileNetV2's masks become less exact by
this, but its gradients hardly change: their cosine with the gradients in float32 is 0.999.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def is_frozen(x: Tensor, conv: nn.Module, norm: nn.Module) -> bool:
    """Whether `convolve_frozen` computes this: on a CPU, with gradients, the norm in evaluation mode."""
    fixed = isinstance(norm, nn.BatchNorm2d) and not norm.training and norm.track_running_stats and norm.affine
    plain = type(conv) is nn.Conv2d and conv.bias is None and conv.padding_mode == "zeros"
    on_cpu = torch.is_grad_enabled() and x.device.type == "cpu"
    return fixed and plain and on_cpu and _precision(x) in (torch.float32, torch.bfloat16)


def convolve_frozen(x: Tensor, conv: nn.Conv2d, norm: nn.BatchNorm2d, limit: float | None) -> Tensor:
    """Convolve and normalise, where `is_frozen` says so.

    Args:
        x: float32 or bfloat16 (B, C, H, W).
        limit: of the result, which is clamped to [0, limit]: 6 for a relu6, infinity for a relu; None: it is not.

    Returns:
        (B, D, H', W'), in bfloat16 under its autocast, otherwise of the type of `x`.
    """
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
    weight = conv.weight * scale.view(-1, 1, 1, 1)
    bias = norm.bias - norm.running_mean * scale
    x, weight, bias = (tensor.to(_precision(x)) for tensor in (x, weight, bias))  # rounded only after the product
    pointwise = conv.kernel_size == (1, 1) and conv.groups == 1 and conv.padding == (0, 0)
    if pointwise:
        rows, columns = conv.stride
        y: Tensor = _Pointwise.apply(x[:, :, ::rows, ::columns], weight, bias, limit)
    else:
        y = _Convolution.apply(x, weight, bias, limit, conv.stride, conv.padding, conv.dilation, conv.groups)
    return y


def _precision(x: Tensor) -> torch.dtype:
    return torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else x.dtype


def _rectify(y: Tensor, limit: float | None) -> Tensor:
    return y if limit is None else F.hardtanh_(y, 0, limit)


def _through_relu(grad: Tensor, y: Tensor | None, limit: float | None) -> Tensor:
    """The gradient before the relu that made `y`; it passes where the result lies between the limits."""
    return grad if y is None else torch.ops.aten.hardtanh_backward(grad, y, 0, limit)


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, limit: float | None, *shape: Any) -> Tensor:
        y = _rectify(F.conv2d(x, weight, bias, *shape), limit)
        ctx.save_for_backward(x, weight, None if limit is None else y)
        ctx.shape, ctx.limit = shape, limit
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, y = ctx.saved_tensors
        stride, padding, dilation, groups = ctx.shape
        grad = _through_relu(grad, y, ctx.limit)
        of_x, of_weight, of_bias, *_ = ctx.needs_input_grad
        depthwise = of_x and x.dtype == torch.bfloat16 and groups == x.shape[1] == len(weight)
        gradients = torch.ops.aten.convolution_backward(
            grad,
            x,
            weight,
            [len(weight)],
            stride,
            padding,
            dilation,
            False,
            [0, 0],
            groups,
            [of_x and not depthwise, of_weight, of_bias],
        )
        if depthwise:
            gradients = (_through_depthwise(grad, weight, x.shape, *ctx.shape[:3]), *gradients[1:])
        return (*gradients, *[None] * 5)


def _through_depthwise(
    grad: Tensor,
    weight: Tensor,
    size: torch.Size,
    stride: tuple[int, int],
    padding: tuple[int, int],
    dilation: tuple[int, int],
) -> Tensor:
    """The gradient before a depthwise convolution, which is a depthwise convolution with the flipped kernel.

    oneDNN's own in bfloat16 takes twice as long, and with a stride 15 times as long.
    """
    reach = [d * (k - 1) for d, k in zip(dilation, weight.shape[2:], strict=True)]
    upsampled = grad
    if max(stride) > 1:  # with zeros between its pixels
        sides = [n + 2 * p - r for n, p, r in zip(size[2:], padding, reach, strict=True)]
        upsampled = torch.empty(*size[:2], *sides, dtype=grad.dtype, memory_format=torch.channels_last).zero_()
        upsampled[:, :, :: stride[0], :: stride[1]] = grad
    around = [r - p for r, p in zip(reach, padding, strict=True)]
    return F.conv2d(upsampled, weight.flip(2, 3), None, 1, around, dilation, len(weight))


class _Pointwise(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, limit: float | None) -> Tensor:
        rows = _rows(x)  # (B * H * W, C)
        y = _rectify(torch.addmm(bias, rows, weight.flatten(1).T), limit)
        ctx.save_for_backward(rows, weight, None if limit is None else y)
        ctx.size, ctx.limit = x.shape, limit
        return _maps(y, x.shape)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        rows, weight, y = ctx.saved_tensors
        of_rows = _through_relu(_rows(grad), y, ctx.limit)
        of_x, of_weight, of_bias, _ = ctx.needs_input_grad
        return (
            _maps(of_rows @ weight.flatten(1), ctx.size) if of_x else None,
            (of_rows.T @ rows).view_as(weight) if of_weight else None,
            of_rows.sum(0) if of_bias else None,
            None,
        )


def _rows(x: Tensor) -> Tensor:
    """(B, C, H, W) as (B * H * W, C), without a copy where it is channels last."""
    return x.permute(0, 2, 3, 1).reshape(-1, x.shape[1])


def _maps(rows: Tensor, size: torch.Size) -> Tensor:
    """Rows as maps (B, D, H, W), channels last; `size` is that of maps of as many pixels."""
    batch, _, height, width = size
    return rows.view(batch, height, width, -1).permute(0, 3, 1, 2)
