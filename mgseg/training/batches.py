"""Training clips of every step: source and random numbers, drawn ahead by worker processes.

A clip depends on (seed, step, its position in the global batch) alone: not on the number of processes or of
workers, and a resumed run goes on with the very batch that it would have had.
"""

import signal
from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from mgseg.data.clips import Clips, Videos
from mgseg.data.scene import ClipBatch, ClipRequest, Scene, render
from mgseg.data.stills import Stills
from mgseg.distributed import Processes
from mgseg.errors import MgsegError
from mgseg.training.stages import StageConfig

Source = Stills | Clips


@dataclass(frozen=True)
class StepPlan:
    """One step, as the schedules have it.

    Attributes:
        step: its number from 0.
        progress: progress of the run, 0..1.
        batch_size: over all processes.
        request: what every clip of the step looks like.
        clip_share: share of real clips.
    """

    step: int
    progress: float
    batch_size: int
    request: ClipRequest
    clip_share: float


def plan_step(config: StageConfig, seed: int, step: int, progress: float) -> StepPlan:
    """Read the schedules at `progress` and draw the number of objects."""
    counts, weights = zip(*config.object_weights, strict=True)
    rng = np.random.default_rng((seed, step, 0))
    num_objects = int(rng.choice(counts, p=np.array(weights) / sum(weights)))
    request = ClipRequest(
        num_frames=round(config.num_frames.at(progress)),
        num_objects=num_objects,
        size=16 * round(config.size.at(progress) / 16),
        max_skip=round(config.max_skip.at(progress)),
    )
    batch_size = round(config.batch_size.at(progress))
    return StepPlan(step, progress, batch_size, request, config.clip_share.at(progress))


@dataclass
class Step:
    """A step's clips on this process.

    Attributes:
        plan: what was asked for.
        clips: drawn, or rendered already.
        problems: pictures found unusable, others stand in their place.
    """

    plan: StepPlan
    clips: list[Scene] | ClipBatch
    problems: list[str]

    def render(self, device: torch.device) -> ClipBatch:
        """The clips as tensors on the device."""
        return self.clips if isinstance(self.clips, ClipBatch) else render(self.clips, device)


class Drawing(Dataset[Step | MgsegError]):
    """Draws the clips of a plan; runs in the workers.

    Args:
        stills: sources of still pictures.
        clips: sources of real clips; at least one of both.
        seed: seed of the run.
        processes: processes of which this one draws its part of each batch.
        render: also render, on the CPU.
    """

    def __init__(
        self,
        stills: Sequence[Stills],
        clips: Sequence[Clips],
        seed: int,
        processes: Processes,
        render: bool,
    ) -> None:
        self.stills, self.clips = list(stills), list(clips)
        self.seed = seed
        self.rank, self.world_size = processes.rank, processes.world_size
        self.render = render
        self._known: set[str] = set()

    def __getitem__(self, plan: StepPlan) -> Step | MgsegError:
        """Draw this process's part of a step; an error is handed back, to be raised where it is shown."""
        part = plan.batch_size // self.world_size
        try:
            scenes = [self._draw(plan, self.rank * part + index) for index in range(part)]
        except MgsegError as error:
            return error
        return Step(
            plan,
            render(scenes, "cpu") if self.render else scenes,
            new_problems([*self.stills, *self.clips], self._known),
        )

    def _draw(self, plan: StepPlan, position: int) -> Scene:
        rng = np.random.default_rng((self.seed, plan.step, 1 + position))  # 0: the plan's own
        real = not self.stills or (bool(self.clips) and rng.random() < plan.clip_share)
        sources: Sequence[Source] = self.clips if real else self.stills
        sizes = np.array([len(source) for source in sources])
        source = sources[int(rng.choice(len(sources), p=sizes / sizes.sum()))]
        return source.draw(rng, plan.request)


def new_problems(sources: Iterable[Source | Videos], known: set[str]) -> list[str]:
    """Return files that the sources could not use and that are not in `known`, with reasons; adds them to it."""
    problems = {f"{source.name}/{name}": reason for source in sources for name, reason in source.problems.items()}
    new = [f"{name}: {reason}" for name, reason in problems.items() if name not in known]
    known.update(problems)
    return new


def steps_of(drawing: Drawing, plans: Iterable[StepPlan], num_workers: int) -> Generator[Step, None, None]:
    """Yield the steps in order, drawn ahead by `num_workers` processes (0: in this one), until it is closed.

    Raises:
        DatasetError: hardly any picture of a source can be used.
    """
    loader = DataLoader(
        drawing,
        batch_size=None,
        sampler=plans,
        num_workers=num_workers,
        collate_fn=_as_it_is,
        worker_init_fn=_leave_signals_to_main,
        generator=torch.Generator(),  # otherwise it would draw from the generator that the step was seeded for
        multiprocessing_context="spawn" if num_workers else None,
        prefetch_factor=2 if num_workers else None,
    )
    for item in loader:
        if isinstance(item, MgsegError):
            raise item
        yield item


def _as_it_is(item: Any) -> Any:
    return item


def _leave_signals_to_main(_: int) -> None:
    """A signal to the whole group ends the run after its step; workers end when their queue does."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
