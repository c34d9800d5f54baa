"""A CUDA device that is not there: torch's fake tensors have a device, a shape and a type, but no numbers.

Code that runs on them finds a tensor left on the CPU as a GPU would. `Watch` counts where the program would wait for
the device: a blocking copy to the CPU, and a number asked for (`float(x)`, `if x`). What has a size that only the
device knows (`nonzero`, an index by a mask) is refused.

Where CUDA differs: nothing is computed, so ranges, rounding and time are not seen. Autocast's casts do happen, since
torch casts before it looks for the device; but that a kernel exists for a type, a memory format or a size is not seen,
nor is the memory that it takes. A copy to the device from ordinary memory waits there for what was begun before; here
it is only counted. `backward()` cannot be faked: torch's engine asks the driver for its devices.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

CUDA = torch.device("cuda")


class Watch(TorchDispatchMode):
    """Counts what passes between the CPU and the device.

    Attributes:
        fetched: shapes of the tensors copied to the CPU that the program waits for.
        sent: shapes of the tensors copied to the device.
        asked: how many numbers the program asked the device for; each is answered with 1.
    """

    def __init__(self) -> None:
        super().__init__()
        self.fetched: list[tuple[int, ...]] = []
        self.sent: list[tuple[int, ...]] = []
        self.asked = 0

    def reset(self) -> None:
        """Begin to count anew."""
        self.fetched, self.sent, self.asked = [], [], 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        tensors = [x for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
        if func in _QUESTIONS and isinstance(tensors[0], FakeTensor) and tensors[0].constant is None:
            self.asked += tensors[0].device.type == "cuda"
            return 1.0 if tensors[0].is_floating_point() else 1
        result = func(*args, **kwargs)
        if isinstance(result, Tensor) and func in _COPIES:
            source = tensors[-1] if func is torch.ops.aten.copy_.default else tensors[0]
            before, after = source.device.type, result.device.type
            if (before, after) == ("cpu", "cuda"):
                self.sent.append(tuple(source.shape))
            elif (before, after) == ("cuda", "cpu") and not kwargs.get("non_blocking"):
                self.fetched.append(tuple(source.shape))
        return result


_QUESTIONS = {getattr(torch.ops.aten, name).default for name in ("_local_scalar_dense", "item", "is_nonzero")}
_COPIES = {
    torch.ops.aten.copy_.default,
    torch.ops.aten._to_copy.default,
    *(getattr(torch.ops.aten.to, name) for name in torch.ops.aten.to.overloads()),  # in inference mode
}


@contextmanager
def fake_cuda(patch: pytest.MonkeyPatch) -> Iterator[Watch]:
    """Run what is inside as on a CUDA device; arrays that come from it are zeros."""
    patch.setattr("torch.cuda.amp.common.amp_definitely_not_available", lambda: False)
    patch.setattr("torch.cuda.is_bf16_supported", lambda: True)
    patch.setattr("torch.Tensor.numpy", _zeros)
    patch.setattr("torch.Tensor.__deepcopy__", _deepcopy)
    patch.setattr("torch.nn.Module._apply", _apply)
    patch.setattr("mgseg.network.find_device", torch.device)
    with FakeTensorMode(allow_non_fake_inputs=True), Watch() as watch:
        try:
            torch.nn.Parameter(torch.zeros(1).to(CUDA))
        except RuntimeError as error:  # torch 2.6
            pytest.skip(f"this torch fakes CUDA only where it is: {str(error).splitlines()[0]}")
        watch.reset()
        yield watch


def _zeros(tensor: Tensor) -> Any:
    assert tensor.device.type == "cpu"
    return np.zeros(tuple(tensor.shape), str(tensor.dtype).removeprefix("torch."))


def _deepcopy(tensor: Tensor, memo: dict[int, Any]) -> Tensor:
    """As torch's, which looks for the numbers."""
    copy = tensor.detach().clone()
    return torch.nn.Parameter(copy, tensor.requires_grad) if isinstance(tensor, torch.nn.Parameter) else copy


def _apply(module: torch.nn.Module, move: Any, recurse: bool = True) -> torch.nn.Module:
    """As torch's, which would exchange the tensors in place; fake ones cannot be."""
    for part in module.modules():
        for name, parameter in part._parameters.items():
            if parameter is not None:
                part._parameters[name] = torch.nn.Parameter(move(parameter.detach()), parameter.requires_grad)
        for name, buffer in part._buffers.items():
            if buffer is not None:
                part._buffers[name] = move(buffer)
    return module
