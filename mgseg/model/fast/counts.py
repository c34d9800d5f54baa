"""Operation counts of the fast convolutions, for torch's FLOP counter."""

from collections.abc import Callable
from typing import Any

import torch
from torch.utils.flop_counter import conv_flop_count

from mgseg.model.fast.convolve import fused_operations


def operation_counts() -> dict[Any, Callable[..., int]]:
    """Return what counts each operation, as `FlopCounterMode` takes it; a multiplication and its addition are two."""
    counts: dict[Any, Callable[..., int]] = dict(zip(fused_operations(), (_fused, _fused_onto), strict=False))
    if hasattr(torch.ops.onednn, "qconv2d_pointwise"):
        counts[torch.ops.onednn.qconv2d_pointwise] = _int8
    return counts


def _fused(x: Any, weight: Any, *_: Any, out_shape: Any, **__: Any) -> int:
    return conv_flop_count(x, weight, out_shape)


def _fused_onto(_onto: Any, x: Any, weight: Any, *_: Any, out_shape: Any, **__: Any) -> int:
    return conv_flop_count(x, weight, out_shape)


def _int8(x: Any, _scale: Any, _zero: Any, weight: Any, *_: Any, out_shape: Any, **__: Any) -> int:
    return conv_flop_count(x, weight, out_shape)
