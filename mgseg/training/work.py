"""One step of training, of clips (`ClipWork`) and of videos (`VideoWork`): data, forward, backward, update."""

import time
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np
import torch

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
        self._picture: Picture | None = None

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
            outcomes = list(islice(frames, updater.config.step_every or None))
            if not updater.processes.furthest(len(outcomes))[0]:  # no process has a frame left
                break
            losses += [float(outcome.loss) for outcome in outcomes]
            ious += [float(outcome.iou) for outcome in outcomes]
            norms.append(updater.update(plan.step, plan.progress))
        values = {
            "loss": float(np.mean(losses)),
            "iou": float(np.mean(ious)),
            "norm": float(np.mean(norms)),
            "step_seconds": time.monotonic() - began,
        }
        return StepResult(plan, values, [], self._picture)

    def _frames(self, plan: StepPlan) -> Iterator[Outcome]:
        """Yield each predicted frame of this process's videos, its gradient added, its graph gone."""
        updater, config = self.updater, self.updater.config
        part = plan.batch_size // updater.processes.world_size
        for place in range(part):
            position = plan.step * plan.batch_size + updater.processes.rank * part + place
            video, num_frames = self._open(position)
            share = 1 / (config.step_every or part * max(1, num_frames - 1))
            for outcome in self._pass(video, config.keep.at(plan.progress)):
                updater.backward(outcome.loss * share)
                yield replace(outcome, loss=outcome.loss.detach())

    def _pass(self, video: Iterator[VideoFrame], keep: float) -> Iterator[Outcome]:
        """Yield the outcome of each frame after the first that shows an object."""
        updater = self.updater
        start = next((pair for pair in video if shows_object(pair[1])), None)
        if start is None:
            return
        video_pass = VideoPass(updater.model, *start, updater.processes.device, keep, updater.config.jaccard)
        for frame, mask in video:
            with updater.autocast():
                outcome = video_pass.step(frame, mask)
            yield outcome
            self._picture = _picture_of([start, (frame, mask)], outcome)

    def _open(self, position: int) -> tuple[Iterator[VideoFrame], int]:
        """The video for a place in the endless row of passes over the data, or a stretch of it, and its length."""
        epoch, place = divmod(position, len(self._videos))
        order = np.random.default_rng((self._seed, epoch)).permutation(len(self._videos))
        dataset, index = self._videos[order[place]]
        length = len(dataset.videos[index].frames)
        limit = self.updater.config.max_frames
        if not limit or limit >= length:
            return dataset.read(index), length
        start = int(np.random.default_rng((self._seed, position, 1)).integers(length - limit + 1))
        return islice(dataset.read(index), start, start + limit), limit


def _picture_of(pairs: Sequence[VideoFrame], outcome: Outcome) -> Picture:
    images, masks = (torch.from_numpy(np.stack(arrays)).unsqueeze(0) for arrays in zip(*pairs, strict=True))
    return Picture(images.permute(0, 1, 4, 2, 3) / 255, masks, outcome.prediction)
