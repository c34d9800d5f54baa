"""The loop over the frames of one clip: reading, segmenting and writing overlap in threads.

Between two given masks a frame is segmented from both sides. The backward pass comes first and
is kept on disk; the forward pass joins its probabilities with its own.
"""

import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from fractions import Fraction
from math import ceil
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mgseg.errors import DeviceError, InputError, MgsegError
from mgseg.files.masks import write_mask
from mgseg.files.names import reads_once
from mgseg.files.threads import WriteBehind, read_ahead
from mgseg.files.video import Clip, ClipInfo, Frame
from mgseg.files.whole_file import make_folder
from mgseg.outputs.results import Results
from mgseg.outputs.timeline import Timeline
from mgseg.outputs.writer import Segmented
from mgseg.segment.cuts import CutDetector
from mgseg.segment.forward_pass import ForwardPass
from mgseg.segment.given_masks import GivenMasks
from mgseg.segment.resume import Found, Settings
from mgseg.segment.segmenter import Segmenter
from mgseg.segment.stretches import Stretch, plan_stretches

Mask = NDArray[np.uint8]
OnMask = Callable[[int, Mask], None]
Progress = Callable[[int, int | None], None]


@dataclass(frozen=True)
class Span:
    """The part of a clip to segment, and in which directions.

    Args:
        start: first frame, as a frame number (int) or in seconds (Fraction).
        end: first frame that is left out, likewise; None for the clip's end.
        both_ways: go backward from the first mask too, down to `start`.
    """

    start: int | Fraction = 0
    end: int | Fraction | None = None
    both_ways: bool = False

    def count(self, info: ClipInfo, first: int | None) -> int | None:
        """How many frames will have a mask, as far as can be told; `first` is the first frame with a given one."""
        if info.num_frames is None:
            return None
        start, end = (x if isinstance(x, int | None) else ceil(x * info.rate) for x in (self.start, self.end))
        end = info.num_frames if end is None else min(end, info.num_frames)
        begin = start if self.both_ways or first is None else first
        return max(0, end - (begin or 0))


@dataclass
class Run:
    """The state of a run; see `segment_clip` for what its parts mean."""

    clip: Clip
    given: GivenMasks
    results: Results
    span: Span
    segmenter: Segmenter
    settings: Settings
    found_in: Path | None
    on_mask: OnMask | None
    progress: Progress | None
    warnings: list[str]
    cut_to: Path | None  # folder for given masks that are cut out of frames
    done: int = 0
    seconds: float = 0
    is_adapted: bool = False
    redone: list[list[int]] = field(default_factory=list)  # first and last of frames that were not found
    timeline: Timeline = field(default_factory=Timeline)
    other_sizes: set[tuple[int, int]] = field(default_factory=set)

    def run(self) -> MgsegError | None:
        """Segment the clip. Returns the reason if the result is only partial, else None."""
        begin = time.perf_counter()
        problem: MgsegError | None = None
        interrupt: KeyboardInterrupt | None = None
        with self.results:
            try:
                if self.span.both_ways:  # first, so that the forward pass writes videos in order
                    self._backward()
                self._forward()
                problem = self._left_over()
            except (InputError, DeviceError) as error:
                problem = error
            except KeyboardInterrupt as error:  # what is finished stays, the overlay too
                interrupt = error
            if problem and not self.done:
                raise problem
        if interrupt:
            raise interrupt
        self.seconds += time.perf_counter() - begin
        return problem

    @property
    def info(self) -> ClipInfo:
        """Of the clip."""
        return self.clip.info

    def adapt(self, image: NDArray[np.uint8], mask: Mask) -> None:
        """Adapt the network to the clip's first mask, once. The time for it is not counted."""
        if not self.is_adapted:
            begin = time.perf_counter()
            self.segmenter.adapt(image, mask)
            self.is_adapted, self.seconds = True, begin - time.perf_counter()

    def stretches(self) -> list[Stretch]:
        """The stretches of the clip; of one that can be read only once there is one."""
        return plan_stretches(self.given, split=not reads_once(self.info.path))

    def _backward(self) -> None:
        """From the first mask to the start of the span."""
        first = self.given.first
        if first is None:
            return
        frame = next(self.clip.frames(first, self.span.end), None)
        if frame is None or (isinstance(self.span.start, Fraction) and frame.time < self.span.start):
            raise self.without_frame([first])
        mask = self._take(frame, is_first=False)
        assert mask is not None
        self.adapt(frame.image, mask)
        self.segmenter.start(frame.image, mask, adapt=False)
        cuts = CutDetector()
        cuts.is_cut(frame.image)
        found = self.found_masks(self.stretches()[0])
        with (
            WriteBehind() as sink,
            closing(read_ahead(map(self.results.outputs.named, self.clip.backward(self.span.start, first)))) as frames,
        ):
            for frame in frames:
                cut = frame.index + 1 if cuts.is_cut(frame.image) else None
                known = found.take(frame.name)
                if known is None:
                    item = self.segmented(frame, self.segmenter.step(frame.image), found.note, cut)
                else:
                    self.segmenter.recall(frame.image, known)
                    item = self.taken_up(frame, known, found, cut)
                sink.put(self.results.write_ahead, item)

    def _forward(self) -> None:
        first = self.given.first
        begin = self.span.start
        if first is not None and isinstance(begin, int) and not self.results.is_ordered:
            begin = first
        cuts = CutDetector()
        with (
            ExitStack() as exits,
            WriteBehind() as sink,
            closing(read_ahead(map(self.results.outputs.named, self.clip.frames(begin, self.span.end)))) as frames,
        ):
            forward = exits.enter_context(ForwardPass(self))
            for number, frame in enumerate(frames):
                self._tell_size(frame)
                given = self._take(frame, is_first=number == 0)
                if given is None and not forward.has_begun:
                    sink.put(self.results.write_before, frame)
                    continue
                cut = frame.index if cuts.is_cut(frame.image) else None
                sink.put(self.results.write, forward.follow(frame, given, cut))

    def _take(self, frame: Frame, is_first: bool) -> Mask | None:
        """Return the given mask of a frame. A mask found by GrabCut is also written, so that the user can check it."""
        mask = self.given.take(frame.index, frame.image, is_first)
        if mask is not None and self.cut_to and (frame.index in self.given.cut_out or is_first):
            path = self.cut_to / f"{frame.index:05d}.png"
            write_mask(make_folder(path.parent) / path.name, mask, self.given.palette)
            self.warnings.append(f"the mask of frame {frame.index} was found by GrabCut; check it: {path}")
        return mask

    def _tell_size(self, frame: Frame) -> None:
        """Warn of a size that is not the clip's, once, with the first frame that has it."""
        if frame.own_size and frame.own_size not in self.other_sizes:
            self.other_sizes.add(frame.own_size)
            height, width = frame.own_size
            wanted = f"they are scaled to {self.info.width}x{self.info.height}, the size of the first"
            self.warnings.append(f"from frame {frame.index} on, frames are {width}x{height}: {wanted}")

    def found_masks(self, stretch: Stretch) -> Found:
        return Found(self.found_in, self.settings | stretch.settings)

    def segmented(
        self, frame: Frame, mask: Mask, note: str, cut: int | None, confidence: dict[int, float] | None = None
    ) -> Segmented:
        """A frame that the segmenter has just done."""
        scores = self.segmenter.scores if self.results.needs_scores else None
        confidence = self.segmenter.confidence if confidence is None else confidence
        if self.redone and frame.index - self.redone[-1][1] == 1:
            self.redone[-1][1] = frame.index
        elif self.redone and frame.index - self.redone[-1][0] == -1:
            self.redone[-1][0] = frame.index
        else:
            self.redone.append([frame.index, frame.index])
        return self._count_in(Segmented(frame, mask, scores, note, confidence, cut))

    def taken_up(self, frame: Frame, mask: Mask, found: Found, cut: int | None) -> Segmented:
        """A frame whose mask an earlier run left."""
        item = self.results.found(frame, mask, found.note)
        return self._count_in(replace(item, confidence=found.confidence, cut=cut))

    def _count_in(self, item: Segmented) -> Segmented:
        self.done += 1
        self.timeline.add(item)
        if self.on_mask and item.mask is not None:
            self.on_mask(item.frame.index, item.mask)
        if self.progress:
            self.progress(self.done, self.span.count(self.info, self.given.first))
        return item

    def _left_over(self) -> InputError | None:
        """Masks for frames that never came, found out late when a clip does not tell its length."""
        if not self.done and self.given.first in (None, self.span.start):
            return InputError(f"{self.info.path} has no frame between --start and --end")
        return self.without_frame(self.given.unused) if self.given.unused else None

    def without_frame(self, unused: list[int]) -> InputError:
        frames = ", ".join(map(str, unused))
        if isinstance(self.span.start, Fraction) or isinstance(self.span.end, Fraction):
            outside = f"outside of --start and --end, or after the end of {self.info.path}"
            return InputError(f"the mask(s) for frame {frames} are {outside}")
        return InputError(f"{self.info.path} ended before the mask(s) for frame {frames}")
