"""Processes of a torchrun run: rank, world size, exchange of values. Without torchrun there is one process.

Gradients are averaged by one all-reduce a step instead of a DistributedDataParallel wrapper: the loss of a
sequence has one backward pass a frame and each process another number of frames, and no prefix gets into a
checkpoint.
"""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import torch
from torch import distributed, nn

from mgseg.device import find_device

_PATIENCE = timedelta(days=2)  # for the process with the longest share of an evaluation
T = TypeVar("T")


@dataclass(frozen=True)
class Processes:
    """This process among those of the run.

    Attributes:
        rank: 0 for the process that writes files.
        world_size: how many there are.
        device: where this one computes.
    """

    rank: int
    world_size: int
    device: torch.device
    _cpu_group: distributed.ProcessGroup | None = None

    @property
    def is_main(self) -> bool:
        return self.rank == 0

    def from_main(self, value: T) -> T:
        """Return the first process's value on every process."""
        if self.world_size == 1:
            return value
        values = [value]
        distributed.broadcast_object_list(values, group=self._cpu_group)
        return values[0]

    def gather(self, value: T) -> list[T]:
        """Return the values of all processes, by rank, on every process."""
        if self.world_size == 1:
            return [value]
        values = [value] * self.world_size
        distributed.all_gather_object(values, value, group=self._cpu_group)
        return values

    def furthest(self, *values: float) -> list[float]:
        """Return the maximum of each value over the processes; computed on the CPU, so that no device is waited for."""
        if self.world_size == 1:
            return list(values)
        numbers = torch.tensor(values, dtype=torch.float64)
        distributed.all_reduce(numbers, distributed.ReduceOp.MAX, group=self._cpu_group)
        return [float(value) for value in numbers]

    def average_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Average the gradients over the processes, in place; a missing one counts as zero."""
        if self.world_size == 1:
            return
        gradients = []
        for parameter in parameters:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            gradients.append(parameter.grad)
        flat = torch.cat([gradient.flatten() for gradient in gradients]).div_(self.world_size)
        distributed.all_reduce(flat)
        parts = flat.split([gradient.numel() for gradient in gradients])
        for gradient, part in zip(gradients, parts, strict=True):
            gradient.copy_(part.view_as(gradient))


@contextmanager
def join(device: str = "auto") -> Iterator[Processes]:
    """Connect to the other processes of the run, which torchrun sets in the environment; disconnect at the end.

    Args:
        device: see `device.find_device`; for "auto" and "cuda" each of torchrun's processes gets its own CUDA device.

    Raises:
        DeviceError: it is absent.
    """
    world_size = int(os.environ.get("WORLD_SIZE", "1"))
    rank = int(os.environ.get("RANK", "0"))
    chosen = find_device(device)
    if chosen.type == "cuda":
        if ":" not in device:  # no particular one was asked for
            chosen = find_device(f"cuda:{os.environ.get('LOCAL_RANK', 0)}")
        torch.cuda.set_device(chosen)
    if world_size == 1:
        yield Processes(0, 1, chosen)
        return
    distributed.init_process_group("nccl" if chosen.type == "cuda" else "gloo", timeout=_PATIENCE)
    cpu_group = distributed.new_group(backend="gloo", timeout=_PATIENCE)
    assert isinstance(cpu_group, distributed.ProcessGroup)  # every process is in it
    try:
        yield Processes(rank, world_size, chosen, cpu_group)
    finally:
        distributed.destroy_process_group()
