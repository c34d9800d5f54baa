"""Training steps over clips (`ClipWork`) and videos (`VideoWork`): data, forward, backward, update."""

import time
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
from torch import Tensor

from mgseg.data.clips import VOID_HINT, Videos
from mgseg.errors import DatasetError
from mgseg.training.batches import Drawing, Step, StepPlan, new_problems, steps_of
from mgseg.training.objective import Outcome, VideoFrame, VideoPass, clip_outcome, shows_object
from mgseg.training.pictures import Picture
from mgseg.training.updater import Updater


@dataclass(frozen=True)
class StepResult:
    """Result of one step on this process.

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
        updater: updater of the model.
        drawing: drawing of the clips.
        plans: plans of the steps, in order.
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
        updater: updater of the model.
        datasets: datasets of videos; each video comes once in every pass over all of them, in random order.
        plans: plans of the steps, in order.
        seed: seed of the order.
    """

    def __init__(self, updater: Updater, datasets: Sequence[Videos], plans: Iterator[StepPlan], seed: int) -> None:
        self.updater = updater
        self._datasets = datasets
        self._videos = [(dataset, index) for dataset in datasets for index in range(len(dataset))]
        self._unused = 0  # videos in a row that gave no frame to train on
        self._plans = plans
        self._seed = seed
        self._newest: tuple[VideoFrame, VideoFrame, Tensor] | None = None
        self._known_problems: set[str] = set()

    def close(self) -> None:
        """Do nothing: there are no workers."""

    def step(self) -> StepResult:
        """Train on one round of videos.

        Raises:
            DatasetError: none of the videos can be used.
        """
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
        if self.updater.processes.furthest(len(losses))[0]:
            self._unused = 0
        else:
            self._unused += plan.batch_size
            self._check_usable()
        problems = new_problems(self._datasets, self._known_problems)
        return StepResult(plan, values | {"step_seconds": time.monotonic() - began}, problems, self._picture())

    def _frames(self, plan: StepPlan) -> Iterator[tuple[float, float]]:
        """Yield loss and IoU of each predicted frame of this process's videos, its gradient added, its graph gone."""
        updater, config = self.updater, self.updater.config
        part = plan.batch_size // updater.processes.world_size
        for number in range(part):
            position = plan.step * plan.batch_size + updater.processes.rank * part + number
            dataset, index, frames = self.choose(position)
            share = 1 / (config.step_every or part * max(1, len(frames) - 1))
            for outcome in self._pass(dataset, index, frames, config.keep.at(plan.progress)):
                updater.backward(outcome.loss * share)
                yield float(outcome.loss.detach()), float(outcome.iou)

    def _pass(self, dataset: Videos, index: int, frames: range, keep: float) -> Iterator[Outcome]:
        """Yield the outcome of each frame after the first that shows an object."""
        updater, video = self.updater, dataset.stretch(index, frames.start, frames.stop)
        start = next((pair for pair in video if shows_object(pair[1])), None)
        if start is None:
            dataset.problems[dataset.names[index]] = f"no mask shows an object ({VOID_HINT})"
            return
        video_pass = VideoPass(updater.model, *start, updater.processes.device, keep, updater.config.jaccard)
        for pair in video:
            with updater.autocast():
                outcome = video_pass.step(*pair)
            yield outcome
            self._newest = start, pair, outcome.prediction

    def choose(self, position: int) -> tuple[Videos, int, range]:
        """The video at a position in the endless row of passes: its dataset, its index, the frames to train on."""
        epoch, rank = divmod(position, len(self._videos))
        order = np.random.default_rng((self._seed, epoch)).permutation(len(self._videos))
        dataset, index = self._videos[order[rank]]
        length, limit = dataset.num_frames(index), self.updater.config.max_frames
        if not limit or limit >= length:
            return dataset, index, range(length)
        start = int(np.random.default_rng((self._seed, position, 1)).integers(length - limit + 1))
        return dataset, index, range(start, start + limit)

    def _check_usable(self) -> None:
        """Raise a DatasetError if a whole pass over the videos gave nothing to train on."""
        if self._unused >= len(self._videos):
            found = [f"{name}: {reason}" for dataset in self._datasets for name, reason in dataset.problems.items()]
            what = f"none of the {len(self._videos)} videos can be used for training"
            raise DatasetError(f"{what}; {found[-1]}" if found else f"{what}: none has two frames with a mask")

    def _picture(self) -> Picture | None:
        """First and last frame of the newest video; a slot has the colour of its number, an id of its own."""
        if self._newest is None:
            return None
        *pairs, prediction = self._newest
        frames, masks = (torch.from_numpy(np.stack(arrays)).unsqueeze(0) for arrays in zip(*pairs, strict=True))
        return Picture(frames.permute(0, 1, 4, 2, 3) / 255, masks, prediction)
