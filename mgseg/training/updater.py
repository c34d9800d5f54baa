"""Optimiser, gradient scaling, clipping and the moving average of the weights: one update at a time."""

from collections.abc import Mapping
from copy import deepcopy
from typing import Any, Literal

import torch
from torch import Tensor, nn

from mgseg.device import PRECISIONS
from mgseg.distributed import Processes
from mgseg.errors import MgsegError
from mgseg.model.network import MotionGuidedSTM
from mgseg.training.schedule import rate_factor
from mgseg.training.stages import StageConfig

Precision = Literal["float32", "bfloat16", "float16"]
_PATIENCE = 20  # updates in a row without finite gradients: then the run has diverged


class Updater:
    """Turns losses into updates of a model.

    Args:
        model: on its device.
        config: the stage: optimiser, rates, clipping, moving average.
        processes: over which gradients are averaged.
        precision: precision of the forward pass; weights and optimiser stay in float32.
    """

    def __init__(
        self, model: MotionGuidedSTM, config: StageConfig, processes: Processes, precision: Precision = "float32"
    ) -> None:
        self.model = model
        self.config = config
        self.processes = processes
        self.average = deepcopy(model).eval().requires_grad_(False) if config.ema else model
        self.optimizer = _optimizer(model, config)
        self._dtype = PRECISIONS[precision]
        # It grows by itself; torch's 65536 would lose the first steps to overflow.
        self._scaler = torch.amp.GradScaler(processes.device.type, 1024.0, enabled=precision == "float16")
        self._scaler.scale(torch.zeros((), device=processes.device))  # or it fails where no loss comes before an update
        self._failures = 0

    def autocast(self) -> torch.autocast:
        """The context of the forward pass."""
        return torch.autocast(
            self.processes.device.type, self._dtype, enabled=self._dtype is not torch.float32, cache_enabled=True
        )

    def backward(self, loss: Tensor) -> None:
        """Add the gradient of a scalar loss."""
        self._scaler.scale(loss).backward()

    def update(self, step: int, progress: float) -> float:
        """Take one step of the optimiser and of the moving average; gradients are gone afterwards.

        Gradients that are not finite are dropped.

        Args:
            step: number of the step, for warm-up.
            progress: progress of the run, 0..1, for the cosine.

        Returns:
            the length of the gradient before clipping.

        Raises:
            MgsegError: too many updates in a row had no finite gradient.
        """
        parameters = list(self.model.parameters())
        self.processes.average_gradients(parameters)
        self._scaler.unscale_(self.optimizer)
        limit = self.config.clip_norm or float("inf")
        norm = float(nn.utils.clip_grad_norm_(parameters, limit, foreach=True))
        self._count_failure(norm)
        factor = rate_factor(progress, step, self.config.warmup_steps, self.config.cosine)
        for group in self.optimizer.param_groups:
            group["lr"] = self.config.rate * group["multiple"] * factor
        if self._failures == 0:
            self._scaler.step(self.optimizer)
            self._follow(step)
        self._scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        return norm

    def state(self) -> dict[str, Any]:
        """State that `load` needs, beside the average, to continue exactly."""
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self._scaler.state_dict(),
        }

    def load(self, state: Mapping[str, Any], average: Mapping[str, Tensor]) -> None:
        """Take over what `state` returned, and the state dict of the average."""
        self.average.load_state_dict(average)
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        for parameter, moments in self.optimizer.state.items():
            for name, moment in moments.items():
                if moment.shape == parameter.shape:  # in the parameter's memory format, as the fused update wants it
                    moments[name] = torch.empty_like(parameter).copy_(moment)
        if state["scaler"]:  # empty from a run in another precision
            self._scaler.load_state_dict(state["scaler"])

    @torch.no_grad()
    def _follow(self, step: int) -> None:
        if not self.config.ema:
            return
        decay = min(self.config.ema, (1 + step) / (10 + step))  # at first the average forgets quickly
        torch._foreach_lerp_(list(self.average.parameters()), list(self.model.parameters()), 1 - decay)

    def _count_failure(self, norm: float) -> None:
        finite = norm == norm and norm != float("inf")
        self._failures = 0 if finite else self._failures + 1
        if self._failures >= _PATIENCE:
            raise MgsegError(
                f"the last {_PATIENCE} updates had no finite gradient", "use a lower --rate, or --precision float32"
            )


def _optimizer(model: MotionGuidedSTM, config: StageConfig) -> torch.optim.Optimizer:
    """Adam or AdamW over four groups: trunks and new layers, kernels (which decay) and vectors (which do not)."""
    groups = []
    for parameters, multiple in (
        (list(model.trunk_parameters()), config.trunk_rate),
        (list(model.new_parameters()), 1.0),
    ):
        kernels = [parameter for parameter in parameters if parameter.ndim > 1]
        vectors = [parameter for parameter in parameters if parameter.ndim <= 1]
        groups.append({"params": kernels, "multiple": multiple, "weight_decay": config.weight_decay})
        groups.append({"params": vectors, "multiple": multiple, "weight_decay": 0.0})
    kind = torch.optim.AdamW if config.optimizer == "adamw" else torch.optim.Adam
    return kind(groups, lr=config.rate, fused=True)
