"""`mgseg` with a network that computes in float64; a program, for tests that compare two ways to the same sum.

In float32 the order of a sum is a matter of the CPU, and it decides here and there: a ReLU at zero, the sign of a
gradient that is zero but for rounding, which Adam turns into a whole step. In float64 no such decision is that close.
Clips are drawn as ever.
"""

from typing import Any

import torch

from mgseg.cli import main
from mgseg.training import batches

_float, _render = torch.Tensor.float, batches.render


def _render_in_float32(*arguments: Any) -> Any:
    torch.Tensor.float = _float  # type: ignore[method-assign]
    try:
        return _render(*arguments)
    finally:
        torch.Tensor.float = torch.Tensor.double  # type: ignore[method-assign]


if __name__ == "__main__":
    torch.set_default_dtype(torch.float64)
    torch.Tensor.float = torch.Tensor.double  # type: ignore[method-assign]
    batches.render = _render_in_float32
    main()
