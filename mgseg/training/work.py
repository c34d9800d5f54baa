"""One step of training, of clips (`ClipWork`) and of videos (`VideoWork`): data, forward, backward, update."""

import time
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
from torch import Tensor

from mgseg.data.clips import Sequences
from mgseg.training.batches import Drawing, Step, StepPlan, steps_of
from mgseg.training.objective import Outcome, VideoFrame, VideoPass, clip_outcome, shows_object
from mgseg.training.pictures import Picture
from mgseg.training.updater import Updater


@dataclass(frozen=True)
class StepResult:
    """What one step was and found, on this process.

    Attributes:
        plan: the schedules' values.
        values: "loss", "iou", "norm" (of the gradient), "step_seconds", of clips "waiting" (seconds for data).
        problems: pictures found unusable.
        picture: what can be looked at of the step.
    """

    plan: StepPlan
    values: dict[str, float]
    problems: list[str]
    picture: Picture | None


class ClipWork:
    """Steps over short clips (stages static and clips).

    Args:
        updater: of the model.
        drawing: of the clips.
        plans: of the steps, in order.
        num_workers: processes that draw.
    """

    def __init__(self, updater: Updater, drawing: Drawing, plans: Iterator[StepPlan], num_workers: int) -> None:
        self.updater = updater
        self._steps: Generator[Step, None, None] = steps_of(drawing, plans, num_workers)

    def close(self) -> None:
        """End the workers."""
        self._steps.close()

    def step(self) -> StepResult:
        """Take the next step."""
        updater, config = self.updater, self.updater.config
        began = time.monotonic()
        step = next(self._steps)
        plan = step.plan
        batch = step.render(updater.processes.device)
        waiting = time.monotonic() - began
        with updater.autocast():
            outcome = clip_outcome(updater.model, batch, config.keep.at(plan.progress), config.jaccard)
        updater.backward(outcome.loss)
        norm = updater.update(plan.step, plan.progress)
        values = {
            "loss": float(outcome.loss.detach()),
            "iou": float(outcome.iou),
            "norm": norm,
            "waiting": waiting,
            "step_seconds": time.monotonic() - began,
        }
        return StepResult(plan, values, step.problems, Picture(batch.images, batch.masks, outcome.prediction))


class VideoWork:
    """Steps over whole videos (stage sequence): the loss of each frame is gone back through by itself.

    The paper does not say when the optimiser steps: once after each round of videos, or every `step_every` frames.

    Args:
        updater: of the model.
        datasets: of videos; each video comes once in every pass over all of them, in random order.
        plans: of the steps, in order.
        seed: of the order.
    """

    def __init__(self, updater: Updater, datasets: Sequence[Sequences], plans: Iterator[StepPlan], seed: int) -> None:
        self.updater = updater
        self._videos = [(dataset, index) for dataset in datasets for index in range(len(dataset))]
        self._plans = plans
        self._seed = seed
        self._newest: tuple[VideoFrame, VideoFrame, Tensor] | None = None
        self._problems: list[str] = []

    def close(self) -> None:
        """Nothing to end."""

    def step(self) -> StepResult:
        """Train on one round of videos."""
        updater = self.updater
        began = time.monotonic()
        plan = next(self._plans)
        frames = self._frames(plan)
        losses, ious, norms = [], [], []
        while True:
            found = list(islice(frames, updater.config.step_every or None))
            if not updater.processes.furthest(len(found))[0]:  # no process has a frame left
                break
            losses += [loss for loss, _ in found]
            ious += [iou for _, iou in found]
            norms.append(updater.update(plan.step, plan.progress))
        lists = {"loss": losses, "iou": ious, "norm": norms}
        values = {name: float(np.mean(numbers)) for name, numbers in lists.items() if numbers}
        problems, self._problems = self._problems, []
        return StepResult(plan, values | {"step_seconds": time.monotonic() - began}, problems, self._picture())

    def _frames(self, plan: StepPlan) -> Iterator[tuple[float, float]]:
        """Yield loss and IoU of each predicted frame of this process's videos, its gradient added, its graph gone."""
        updater, config = self.updater, self.updater.config
        part = plan.batch_size // updater.processes.world_size
        for place in range(part):
            position = plan.step * plan.batch_size + updater.processes.rank * part + place
            name, video, num_frames = self.open(position)
            share = 1 / (config.step_every or part * max(1, num_frames - 1))
            for outcome in self._pass(name, video, config.keep.at(plan.progress)):
                updater.backward(outcome.loss * share)
                yield float(outcome.loss.detach()), float(outcome.iou)

    def _pass(self, name: str, video: Iterator[VideoFrame], keep: float) -> Iterator[Outcome]:
        """Yield the outcome of each frame after the first that shows an object."""
        updater = self.updater
        start = next((pair for pair in video if shows_object(pair[1])), None)
        if start is None:
            self._problems.append(f"{name}: its masks show no object")
            return
        video_pass = VideoPass(updater.model, *start, updater.processes.device, keep, updater.config.jaccard)
        for pair in video:
            with updater.autocast():
                outcome = video_pass.step(*pair)
            yield outcome
            self._newest = start, pair, outcome.prediction

    def open(self, position: int) -> tuple[str, Iterator[VideoFrame], int]:
        """Name, frames and their number of the video, or stretch, at a place in the endless row of passes."""
        epoch, place = divmod(position, len(self._videos))
        order = np.random.default_rng((self._seed, epoch)).permutation(len(self._videos))
        dataset, index = self._videos[order[place]]
        name, length = dataset.videos[index].name, len(dataset.videos[index].frames)
        limit = self.updater.config.max_frames
        if not limit or limit >= length:
            return name, dataset.read(index), length
        start = int(np.random.default_rng((self._seed, position, 1)).integers(length - limit + 1))
        return name, islice(dataset.read(index), start, start + limit), limit

    def _picture(self) -> Picture | None:
        """First and last frame of the newest video; a slot has the colour of its number, an id of its own."""
        if self._newest is None:
            return None
        *pairs, prediction = self._newest
        frames, masks = (torch.from_numpy(np.stack(arrays)).unsqueeze(0) for arrays in zip(*pairs, strict=True))
        return Picture(frames.permute(0, 1, 4, 2, 3) / 255, masks, prediction)
