"""3x3 convolutions with a quarter of the multiplications, for CPUs, where no library does this for wide layers.

A tile of 4x4 outputs depends on 6x6 inputs. In a suitable basis the convolution is one product for each of those 36
positions (instead of 16 * 9 = 144), so it becomes 36 matrix products over channels, between changes of basis. Same
function as torch's convolution up to rounding: about three times its error in float32. The gradients are exact for it.
Source: Lavin and Gray, Fast Algorithms for Convolutional Neural Networks (2016), F(4x4, 3x3); the points of
interpolation after Barabasz et al., Error Analysis and Improving the Accuracy of Winograd Convolution (2020).
"""

from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mgseg.model.decoder import JoiningConv2d, ResidualBlock

_OUT, _IN, _KERNEL = 4, 6, 3  # sides of a tile of the output, of the input it depends on, of the kernel
_POINTS = (0.0, 0.75, -0.75, 1.5, -1.5)  # and infinity
_TILES = 108  # worked on at a time, so that they stay in the cache
_MIN_CHANNELS = 128  # with fewer channels the transforms take as long as the faster products save
_CHANNELS = 256  # of the input and of the output that are worked on at a time
_KERNELS = 2  # of such pieces that are kept, in the other basis, for all tiles; where there are more, each is made anew


def use_winograd(module: nn.Module) -> None:
    """Let every wide 3x3 convolution of stride 1 inside `module`, in place, compute this way where that is faster.

    Parameters, their names and everything else about the convolutions stay.
    """
    for name, child in list(module.named_children()):
        if type(child) is nn.Conv2d and _is_wide_3x3(child):
            setattr(module, name, WinogradConv2d(child))
        elif type(child) is JoiningConv2d:
            setattr(module, name, WinogradJoiningConv2d(child))
        else:
            use_winograd(child)
            if type(child) is ResidualBlock and isinstance(child.conv1, WinogradConv2d):
                setattr(module, name, WinogradResidualBlock(child))


def order_kernels(module: nn.Module) -> None:
    """Store the kernels of wide convolutions inside `module`, in place, as (3, 3, C, D), as `conv3x3` reads them.

    Torch's own convolution would have to order them anew at each call, so this is for inference on a CPU in float32.
    """
    for child in module.modules():
        if isinstance(child, nn.Conv2d) and _is_wide_3x3(child):
            child.weight.data = child.weight.permute(2, 3, 1, 0).contiguous().permute(3, 2, 0, 1)


def conv3x3(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, *, rectify: bool = False, onto: Tensor | None = None
) -> Tensor:
    """Convolve with a 3x3 kernel, stride 1, zero-padded by 1: on a CPU in float32 by tiles, otherwise as torch does.

    Args:
        x: float (B, C, H, W).
        weight: (D, C, 3, 3).
        bias: (D,).
        rectify: convolve relu(x) instead, in inference without a map for it.
        onto: (B, D, H, W) to which the result is added; it may serve as the result's storage.

    Returns:
        (B, D, H, W); channels last where it was computed by tiles.
    """
    plain = x.dtype != torch.float32 or x.device.type != "cpu" or torch.is_autocast_enabled("cpu")
    if not plain and not torch.is_grad_enabled():
        return _convolve(x, weight, bias, rectify, onto)
    x = F.relu(x) if rectify else x
    y: Tensor = F.conv2d(x, weight, bias, padding=1) if plain else _Winograd.apply(x, weight, bias)
    return y if onto is None else y.add_(onto)


class WinogradConv2d(nn.Conv2d):
    """A 3x3 convolution that takes over the parameters of another one and computes by `conv3x3`."""

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__(conv.in_channels, conv.out_channels, 3, padding=1, bias=False, device="meta")
        self.weight, self.bias = conv.weight, conv.bias
        self.train(conv.training)

    def forward(self, x: Tensor, rectify: bool = False, onto: Tensor | None = None) -> Tensor:
        """Convolve (B, C, H, W) to (B, D, H, W); see `conv3x3`."""
        return conv3x3(x, self.weight, self.bias, rectify=rectify, onto=onto)


class WinogradResidualBlock(ResidualBlock):
    """A residual block of wide convolutions: neither relu makes a map of its own."""

    def __init__(self, block: ResidualBlock) -> None:
        nn.Module.__init__(self)
        self.conv1, self.conv2 = block.conv1, block.conv2
        self.train(block.training)

    def forward(self, x: Tensor) -> Tensor:
        """As `ResidualBlock`."""
        return self.conv2(self.conv1(x, rectify=True), rectify=True, onto=x)


class WinogradJoiningConv2d(JoiningConv2d):
    """A joining convolution that takes over the parameters of another one and computes by `conv3x3`."""

    def __init__(self, conv: JoiningConv2d) -> None:
        nn.Conv2d.__init__(self, conv.in_channels, conv.out_channels, 3, padding=1, bias=False, device="meta")
        self.weight, self.bias = conv.weight, conv.bias
        self.train(conv.training)

    def of_first(self, x: Tensor) -> Tensor:
        """As `JoiningConv2d`."""
        return conv3x3(x, self.weight[:, : x.shape[1]])

    def of_second(self, x: Tensor) -> Tensor:
        """As `JoiningConv2d`."""
        return conv3x3(x, self.weight[:, -x.shape[1] :], self.bias)


def _is_wide_3x3(conv: nn.Conv2d) -> bool:
    same = conv.kernel_size == (3, 3) and conv.padding == (1, 1) and conv.padding_mode == "zeros"
    dense = conv.stride == (1, 1) and conv.dilation == (1, 1) and conv.groups == 1
    return same and dense and min(conv.in_channels, conv.out_channels) >= _MIN_CHANNELS


class _Winograd(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        return _convolve(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        of_x, of_weight, of_bias = ctx.needs_input_grad
        return (
            _convolve(grad, weight.flip(2, 3).transpose(0, 1)) if of_x else None,
            _weight_gradient(x, grad) if of_weight else None,
            grad.sum((0, 2, 3)) if of_bias else None,
        )


def _convolve(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, rectify: bool = False, onto: Tensor | None = None
) -> Tensor:
    batch, channels, height, width = x.shape
    rows, columns = _tile_grid(x)
    size = (batch, len(weight), rows * _OUT, columns * _OUT)
    if onto is not None and onto.shape == size and onto.is_contiguous(memory_format=torch.channels_last):
        y = onto
    else:
        y = torch.empty(size, dtype=x.dtype, memory_format=torch.channels_last)
    tiled = y.permute(0, 2, 3, 1).view(batch, rows, _OUT, columns, _OUT, -1)
    inputs, outputs = _pieces(channels), _pieces(len(weight))
    blocks = _blocks(batch, rows, columns)
    most = max((maps.stop - maps.start) * (lines.stop - lines.start) for maps, lines in blocks) * columns * _IN**2
    room = x.new_empty(most * min(channels, _CHANNELS))
    sums = x.new_empty(len(outputs), most * min(len(weight), _CHANNELS))
    kernels: dict[tuple[int, int], Tensor] = {}
    for block in blocks:
        for i, of_input in enumerate(inputs):
            changed = _change_basis(_OF_INPUT, _tiles(x[:, of_input], block, 1, rectify), room)
            for j, of_output in enumerate(outputs):
                kernel = kernels.get((i, j))
                if kernel is None:
                    kernel = _change_kernel(weight[of_output, of_input])
                if len(inputs) * len(outputs) <= _KERNELS:
                    kernels[i, j] = kernel
                products = _use(sums[j], (*changed.shape[:2], kernel.shape[2]))
                torch.baddbmm(products, changed, kernel, beta=min(i, 1), out=products)
                del kernel  # before the next one, as large, is made
        for j, of_output in enumerate(outputs):
            target, shift = tiled[block][..., of_output], 0 if bias is None else bias[of_output]
            lead = (*target.shape[:2], columns)
            products = _use(sums[j], (_IN**2, prod(lead) * target.shape[-1]))
            part = (_TO_OUTPUT @ products).view(_OUT, _OUT, *lead, -1).permute(2, 3, 0, 4, 1, 5)
            if y is onto:
                target.add_(part).add_(shift)
            else:
                torch.add(part, shift, out=target)
    if y.shape[2:] != x.shape[2:]:
        y = y[:, :, :height, :width].clone(memory_format=torch.channels_last)
    return y if onto is None or y is onto else y.add_(onto)


def _pieces(channels: int) -> list[slice]:
    return [slice(first, min(first + _CHANNELS, channels)) for first in range(0, channels, _CHANNELS)]


def _change_kernel(weight: Tensor) -> Tensor:
    """Map kernels (D, C, 3, 3) to (36, C, D)."""
    changed: Tensor = _OF_KERNEL @ weight.permute(2, 3, 1, 0).reshape(_KERNEL**2, -1)
    return changed.view(_IN**2, weight.shape[1], -1)


def _weight_gradient(x: Tensor, grad: Tensor) -> Tensor:
    """The adjoint of `_convolve` in the kernel."""
    of_kernel = x.new_zeros(_IN**2, x.shape[1], grad.shape[1])
    for block in _blocks(len(x), *_tile_grid(x)):
        of_products = _change_basis(_TO_OUTPUT.T, _tiles(grad, block, 0))
        of_kernel.baddbmm_(_change_basis(_OF_INPUT, _tiles(x, block, 1)).transpose(1, 2), of_products)
    of_weight = (_OF_KERNEL.T @ of_kernel.flatten(1)).view(_KERNEL, _KERNEL, x.shape[1], -1)
    return of_weight.permute(3, 2, 0, 1)


def _tile_grid(x: Tensor) -> tuple[int, int]:
    """Rows and columns of tiles that cover (.., .., H, W)."""
    return -(-x.shape[2] // _OUT), -(-x.shape[3] // _OUT)


def _blocks(batch: int, rows: int, columns: int) -> list[tuple[slice, slice]]:
    """Split maps of tiles into blocks of about `_TILES`: whole maps where they are small, otherwise some rows."""
    maps, lines = max(1, round(_TILES / (rows * columns))), max(1, round(_TILES / columns))
    return [
        (slice(i, min(i + maps, batch)), slice(j, min(j + lines, rows)))
        for i in range(0, batch, maps)
        for j in range(0, rows, lines)
    ]


def _tiles(x: Tensor, block: tuple[slice, slice], border: int, rectify: bool = False) -> Tensor:
    """Cut a block out of (B, C, H, W), of its relu if `rectify`, with zeros beyond the edges.

    Returns:
        (maps, rows, columns, C, s, s), s = 4 + 2 * border.
    """
    maps, rows = block
    width = x.shape[3]
    first, last = rows.start * _OUT - border, rows.stop * _OUT + border
    inside = x[maps, :, max(first, 0) : last].permute(0, 2, 3, 1)
    top, end = max(-first, 0), border + width
    lines = x.new_empty(len(inside), last - first, end + border + -width % _OUT, inside.shape[-1])
    for beyond in (lines[:, :top], lines[:, top + inside.shape[1] :], lines[:, :, :border], lines[:, :, end:]):
        beyond.zero_()
    to = lines[:, top : top + inside.shape[1], border:end]
    torch.clamp_min(inside, 0, out=to) if rectify else to.copy_(inside)
    side = _OUT + 2 * border
    return lines.unfold(1, side, _OUT).unfold(2, side, _OUT)


def _change_basis(matrix: Tensor, tiles: Tensor, room: Tensor | None = None) -> Tensor:
    """Map tiles (.., .., .., C, s, s) to (36, number of tiles, C) by a matrix (36, s * s), in `room` where given."""
    channels, side = tiles.shape[3:5]
    flat = tiles.permute(4, 5, 0, 1, 2, 3).reshape(side**2, -1)
    room = flat.new_empty(len(matrix) * flat.shape[1]) if room is None else room
    return torch.mm(matrix, flat, out=_use(room, (len(matrix), flat.shape[1]))).view(len(matrix), -1, channels)


def _use(room: Tensor, shape: tuple[int, ...]) -> Tensor:
    return room[: prod(shape)].view(shape)


def _transforms() -> tuple[Tensor, Tensor, Tensor]:
    """The matrices that act on flattened tiles: of the input (36, 36), of the kernel (36, 9), to the output (16, 36).

    Toom and Cook: both factors are evaluated at the points, multiplied, and the product's polynomial interpolated;
    a correlation is the transpose of that.
    """
    of_input, of_kernel, to_output = (torch.zeros(_IN, side, dtype=torch.float64) for side in (_IN, _KERNEL, _OUT))
    for i, point in enumerate(_POINTS):
        others = [p for p in _POINTS if p != point]
        of_input[i, : _IN - 1] = _with_roots(others)
        of_kernel[i] = torch.tensor([point**k for k in range(_KERNEL)]) / prod(point - p for p in others)
        to_output[i] = torch.tensor([point**k for k in range(_OUT)])
    of_input[-1] = _with_roots(list(_POINTS))
    of_kernel[-1, -1] = to_output[-1, -1] = 1
    kron = [torch.kron(matrix, matrix).float() for matrix in (of_input, of_kernel, to_output)]
    return kron[0], kron[1], kron[2].T.contiguous()


def _with_roots(roots: list[float]) -> Tensor:
    """Coefficients, the constant first, of the polynomial with these roots and a leading 1."""
    coefficients = torch.ones(1, dtype=torch.float64)
    for root in roots:
        coefficients = F.pad(coefficients, (1, 0)) - root * F.pad(coefficients, (0, 1))
    return coefficients


_OF_INPUT, _OF_KERNEL, _TO_OUTPUT = _transforms()
