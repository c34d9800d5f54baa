"""`Network`: the network for segmentation, evaluation and benchmark, with its weights, device and precision."""

import hashlib
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import torch

from mgseg.device import INT8, PRECISIONS, denormals_as_zero, find_device, find_precision, keep_freed_memory
from mgseg.errors import InputError
from mgseg.model.fast.prepare import prepare_for_inference
from mgseg.model.network import ModelConfig, MotionGuidedSTM
from mgseg.weights import AUTO, build_model, choose_weights, extra_entries, find_weights, read_checkpoint, sha256_of


@dataclass(frozen=True, init=False, eq=False)
class Network:
    """A network for inference, on one device and in one precision.

    The constructor checks the device, the precision, the file and the hash of released weights. The weights are loaded
    when `model`, `config` or `extra` is first used; their batch norms are then folded into the convolutions.

    Args:
        weights: a released name, a file, or "auto": the lightest released network on a CPU, the most accurate on a GPU.
        device: "cpu", "cuda", "cuda:N", "mps", or "auto": the first available of cuda, mps and cpu.
        precision: "float32", "bfloat16", "float16", "int8", or "auto": float16 on CUDA, else float32.

    Attributes:
        name: the released name, or the name of the file.
        path: the file; None for a model that was built in memory.
        device: where it runs.
        precision: numeric precision, never "auto".

    Raises:
        DeviceError: unknown or missing device, unknown precision, or a device without int8.
        WeightsError: not found, or a released file of another hash; on first use: damaged or of another architecture.
    """

    name: str
    path: Path | None
    device: torch.device
    precision: str

    def __init__(
        self, weights: str | Path = AUTO, device: torch.device | str = "auto", precision: str = "auto"
    ) -> None:
        found_device = find_device(str(device))
        arithmetic = find_precision(precision, found_device)
        name = choose_weights(found_device.type) if weights == AUTO else str(weights)
        path = find_weights(name)
        self._set(name=path.name if path == Path(name) else name, path=path, device=found_device, precision=arithmetic)

    @classmethod
    def from_model(cls, model: MotionGuidedSTM, precision: str = "auto") -> Self:
        """Wrap a model that was built in memory, without moving it; sets it to evaluation mode.

        Raises:
            InputError: precision is int8, which needs weights from a file.
        """
        network = cls.__new__(cls)
        found_device = find_device(str(model.mean.device))
        arithmetic = find_precision(precision, found_device)
        if arithmetic == INT8:
            hint = 'save it with save_weights and load it with Network(FILE, precision="int8")'
            raise InputError("a model built in memory cannot run in int8", hint)
        network._set(name="a model in memory", path=None, device=found_device, precision=arithmetic)
        network._set(_loaded=(model.eval(), {}))
        return network

    @property
    def model(self) -> MotionGuidedSTM:
        """The module on its device, prepared for inference."""
        return self._loaded[0]

    @property
    def config(self) -> ModelConfig:
        """The shape of the network."""
        return self.model.config

    @property
    def extra(self) -> Mapping[str, Any]:
        """Further entries of the weights file by name (see `weights.save_weights`), without training state."""
        return self._loaded[1]

    @property
    def dtype(self) -> torch.dtype:
        """Floating-point type of the computation; float32 with int8, for the layers that stay in floating point."""
        return PRECISIONS[self.precision]

    def copy(self) -> MotionGuidedSTM:
        """Return a copy to train further: in float32, as it was trained."""
        return build_model(self.path, read_checkpoint(self.path)) if self.path else deepcopy(self.model)

    def prepare(self, model: MotionGuidedSTM) -> MotionGuidedSTM:
        """Prepare a model in evaluation mode, in place, for inference on this network's device in its precision."""
        return prepare_for_inference(model, self.device, self.dtype, int8=self.precision == INT8)

    @cached_property
    def sha256(self) -> str:
        """SHA-256 in hexadecimal: of the file, or of the tensors of a model that was built in memory."""
        if self.path:
            return sha256_of(self.path)
        found = hashlib.sha256()
        for name, tensor in sorted(self.model.state_dict().items()):
            found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            found.update(tensor.detach().cpu().flatten().view(torch.uint8).numpy())
        return found.hexdigest()

    @cached_property
    def _loaded(self) -> tuple[MotionGuidedSTM, dict[str, Any]]:
        assert self.path
        with denormals_as_zero():  # for the threads that torch may start here
            checkpoint = read_checkpoint(self.path)
            if self.device.type == "cpu":
                keep_freed_memory()
            return self.prepare(build_model(self.path, checkpoint)), extra_entries(checkpoint)

    def _set(self, **values: Any) -> None:
        vars(self).update(values)
