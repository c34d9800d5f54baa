"""Worker thread in which the network runs, so that painting never waits for it."""

import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from mgseg.edit.frames import FrameStore
from mgseg.edit.project import Project
from mgseg.errors import InputError, MgsegError, OutputError
from mgseg.network import Network
from mgseg.outputs.table import Outputs
from mgseg.segment.adaptation import OnStep
from mgseg.segment.clip import SegmentResult, segment_clip
from mgseg.segment.mask_sources import MaskSources
from mgseg.segment.options import SegmenterOptions
from mgseg.segment.run import Span

Notify = Callable[[str, dict[str, Any]], None]
Direction = Literal["both", "forward", "backward"]
DIRECTIONS: tuple[Direction, ...] = ("both", "forward", "backward")


@dataclass(frozen=True)
class Job:
    """One request to run, from the page.

    Attributes:
        clip_id, project, store: of the clip.
        direction: which way to go from the given masks.
        up_to: a frame: stop at the next given mask behind it. None: go to the clip's ends.
    """

    clip_id: str
    project: Project
    store: FrameStore
    direction: Direction = "both"
    up_to: int | None = None

    def span(self) -> Span:
        """Return the range of frames to segment."""
        given = sorted(self.project.given)
        if self.direction == "backward":
            return Span(0, given[0] + 1, both_ways=True)
        later = [frame for frame in given if self.up_to is not None and frame > self.up_to]
        return Span(0, later[0] + 1 if later else None, both_ways=self.direction == "both")


class Worker:
    """Runs `segment_clip` on a project's given masks, one job after another.

    Masks whose given masks did not change are kept, as with `mgseg segment --resume`.

    Args:
        network: what segments; its weights are loaded at the first job.
        options: options of the segmenter.
        notify: called from the worker's thread with a clip's id and what happened: {"type": "mask", "frame"} or
            {"type": "run", "done", "total", "state": "adapting" | "running" | "done" | "stopped" | "failed"} with
            "made", the number of masks that were not kept, or "error" and "hint". While adapting, steps are counted.

    Attributes:
        network, options: as given.
        running: id of the clip of the running job, or None.
    """

    def __init__(self, network: Network, options: SegmenterOptions, notify: Notify) -> None:
        self.network, self.options, self._notify = network, options, notify
        self._jobs: queue.Queue[Job | None] = queue.Queue()
        self._stop = threading.Event()
        self.running: str | None = None
        self._thread = threading.Thread(target=self._work, name="network", daemon=True)
        self._thread.start()

    def submit(self, job: Job) -> None:
        """Start a job; a running job is stopped first.

        Raises:
            InputError: there is no given mask.
        """
        if not job.project.given:
            raise InputError("there is no mask to start from", "paint an object on any frame first")
        self.stop()
        self._jobs.put(job)

    def stop(self) -> None:
        """Stop the running job after its current frame."""
        if self.running is not None or not self._jobs.empty():
            self._stop.set()

    def close(self) -> None:
        """End the thread after the current frame."""
        self.stop()
        self._jobs.put(None)
        self._thread.join()

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            if not self._jobs.empty():
                continue  # a newer one waits
            self._stop.clear()
            self.running = job.clip_id
            end = self._run(job)
            job.project.settle()
            self.running = None
            self._notify(job.clip_id, end)

    def _run(self, job: Job) -> dict[str, Any]:
        """Run a job; returns how it ended."""
        counts = {"done": 0, "total": 0}

        def take(frame: int, mask: NDArray[np.uint8]) -> None:
            job.project.take(frame, mask)
            self._notify(job.clip_id, {"type": "mask", "frame": frame})

        def report(state: str, done: int, total: int) -> None:
            self._notify(job.clip_id, {"type": "run", "state": state, "done": done, "total": total})
            if self._stop.is_set():
                raise KeyboardInterrupt  # like Ctrl-C in `mgseg segment`: finished masks are kept

        def progress(done: int, total: int | None) -> None:
            counts.update(done=done, total=total or job.store.num_frames)
            report("running", **counts)

        try:
            result = self._segment(job, take, progress, partial(report, "adapting"))
        except KeyboardInterrupt:
            return {"type": "run", "state": "stopped", **counts}
        except MgsegError as error:
            return {"type": "run", "state": "failed", **counts, "error": str(error), "hint": error.hint}
        made = result.num_frames - result.num_found
        if result.problem:
            problem = {"error": str(result.problem), "hint": result.problem.hint}
            return {"type": "run", "state": "failed", **counts, **problem}
        return {"type": "run", "state": "done", **counts, "made": made}

    def _segment(
        self,
        job: Job,
        take: Callable[[int, NDArray[np.uint8]], None],
        progress: Callable[[int, int | None], None],
        adapting: OnStep,
    ) -> SegmentResult:
        span = job.span()
        masks: dict[int | None, MaskSources] = {
            frame: mask for frame, mask in job.project.given_masks().items() if span.end is None or frame < span.end
        }

        def run(outputs: Outputs) -> SegmentResult:
            return segment_clip(
                job.store.info.path,
                masks,
                outputs,
                self.network,
                span=span,
                options=self.options,
                zero_is_background=True,
                on_mask=take,
                progress=progress,
                on_adapt=adapting,
            )

        folder = job.project.folder / "masks"
        try:
            return run(Outputs(masks=folder, resume=True))
        except OutputError:  # those there were made in another way, by other weights for instance
            return run(Outputs(masks=folder, overwrite=True))
