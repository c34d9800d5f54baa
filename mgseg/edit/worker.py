"""The one thread in which the network runs, so that painting never waits for it."""

import queue
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mgseg.edit.frames import FrameStore
from mgseg.edit.plan import Stretch
from mgseg.edit.project import Project
from mgseg.errors import InputError, MgsegError
from mgseg.files.masks import object_ids
from mgseg.files.threads import read_ahead
from mgseg.files.video import Frame, read_backward, read_frames
from mgseg.segment.segmenter import Segmenter

Notify = Callable[[str, dict[str, Any]], None]
_SAVE_EVERY = 5.0  # seconds between two savings of the project during a run


@dataclass(frozen=True)
class Job:
    """What one press of "run" asks for."""

    clip_id: str
    project: Project
    store: FrameStore
    stretches: list[Stretch]


class Worker:
    """Segments what it is asked for, one job after another.

    Args:
        make_segmenter: makes the Segmenter, at the first job; loading weights takes seconds.
        notify: called from the worker's thread with a clip's id and what happened:
            {"type": "mask", "frame", "version", "confidence"} or
            {"type": "run", "state": "running" | "done" | "stopped" | "failed", "done", "total", "error", "hint"}.
    """

    def __init__(self, make_segmenter: Callable[[], Segmenter], notify: Notify) -> None:
        self._make, self._notify = make_segmenter, notify
        self._segmenter: Segmenter | None = None
        self._jobs: queue.Queue[Job | None] = queue.Queue()
        self._stop = threading.Event()
        self.running: str | None = None  # id of the clip
        self._thread = threading.Thread(target=self._work, name="network", daemon=True)
        self._thread.start()

    def submit(self, job: Job) -> None:
        """Start a job; one that runs is stopped first."""
        self.stop()
        self._jobs.put(job)

    def stop(self) -> None:
        """End the job that runs, after the frame in hand."""
        if self.running is not None or not self._jobs.empty():
            self._stop.set()

    def close(self) -> None:
        """End the thread, after the frame in hand."""
        self.stop()
        self._jobs.put(None)
        self._thread.join()

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            if not self._jobs.empty():
                continue  # a newer one waits
            self._stop.clear()
            self.running = job.clip_id
            try:
                self._run(job)
            finally:
                job.project.save()
                self.running = None

    def _run(self, job: Job) -> None:
        todo = [s for s in job.stretches if not _is_done(job.project, s)]
        total, done, saved = sum(len(s.frames) for s in todo), 0, time.monotonic()
        report = {"type": "run", "done": 0, "total": total}
        self._notify(job.clip_id, report | {"state": "running"})
        try:
            for stretch in todo:
                for _ in self._segment(job, stretch):
                    done += 1
                    self._notify(job.clip_id, report | {"state": "running", "done": done})
                    if time.monotonic() - saved > _SAVE_EVERY:
                        job.project.save()
                        saved = time.monotonic()
                    if self._stop.is_set():
                        self._notify(job.clip_id, report | {"state": "stopped", "done": done})
                        return
        except MgsegError as error:
            problem = {"error": str(error), "hint": error.hint}
            self._notify(job.clip_id, report | problem | {"state": "failed", "done": done})
            return
        self._notify(job.clip_id, report | {"state": "done", "done": done})

    def _segment(self, job: Job, stretch: Stretch) -> Iterator[int]:
        """Segment a stretch, frame by frame; masks that an interrupted run made from the same given masks are kept."""
        project, basis = job.project, basis_of(job.project, stretch)
        given = project.mask(stretch.origin)
        if not object_ids(given):
            for number in stretch.frames:
                self._keep(job, number, np.zeros_like(given), basis)
                yield number
            return
        if self._segmenter is None:
            self._segmenter = self._make()
        segmenter = self._segmenter
        segmenter.start(job.store.image(stretch.origin), given)
        frames = read_ahead(_frames(job, stretch))
        try:
            for frame in frames:
                known = project.predicted(frame.index, basis)
                if known is None:
                    self._keep(job, frame.index, segmenter.step(frame.image), basis)
                else:
                    segmenter.recall(frame.image, known)
                yield frame.index
        finally:
            frames.close()

    def _keep(self, job: Job, number: int, mask: NDArray[np.uint8], basis: str) -> None:
        job.project.predict(number, mask, basis)
        self._notify(job.clip_id, {"type": "mask", "frame": number})


def basis_of(project: Project, stretch: Stretch) -> str:
    """Name the given masks that decide a stretch; equal names mean equal masks."""
    return f"{project.given_hash(stretch.origin)} {project.given_hash(stretch.other)}"


def _is_done(project: Project, stretch: Stretch) -> bool:
    basis = basis_of(project, stretch)
    return all(project.is_predicted(number, basis) for number in stretch.frames)


def _frames(job: Job, stretch: Stretch) -> Iterator[Frame]:
    clip = job.store.info.path
    if stretch.step < 0:
        return read_backward(clip, stretch.last, stretch.origin)
    return read_frames(clip, stretch.origin + 1, stretch.last + 1)


def check_runnable(given: set[int]) -> None:
    """Refuse a run without a given mask."""
    if not given:
        raise InputError("there is no mask to start from", "paint an object on any frame first")
