"""Resizing between the clip's size and the network's, and arg-max."""

import torch
from torch import Tensor
from torch.nn import functional as F


def network_size(clip_size: tuple[int, int], shorter_side: int) -> tuple[int, int]:
    """The (height, width) that the network sees of a clip; never larger than the clip, which is also what 0 means."""
    height, width = clip_size
    shorter = min(height, width)
    if not 0 < shorter_side < shorter:
        return height, width
    scale = shorter_side / shorter
    return max(1, round(height * scale)), max(1, round(width * scale))


def resize(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize (B, C, H, W) bilinearly, antialiased when it shrinks; the same tensor where nothing changes."""
    if tuple(x.shape[-2:]) == size:
        return x
    shrinks = x.shape[-2] > size[0]
    return F.interpolate(x, size=size, mode="bilinear", align_corners=False, antialias=shrinks)


def arg_max(prob: Tensor, size: tuple[int, int] | None = None) -> Tensor:
    """The arg-max over the planes, the first of equals.

    Plane by plane, which holds one of them at the other size; `Tensor.argmax` is also many times slower on a CPU.

    Args:
        prob: float (B, N + 1, h, w).
        size: (H, W) to which `prob` is resized first; its own size by default.

    Returns:
        uint8 (B, H, W).
    """
    size = size or (prob.shape[2], prob.shape[3])
    best = resize(prob[:, :1], size)[:, 0]
    index = torch.zeros_like(best, dtype=torch.uint8)
    for plane in range(1, prob.shape[1]):
        candidate = resize(prob[:, plane : plane + 1], size)[:, 0]
        index = torch.where(candidate > best, torch.full_like(index, plane), index)
        best = torch.maximum(candidate, best)
    return index
