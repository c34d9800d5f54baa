"""One clip on its way: read, segmented, written, overlapped by threads.

Between two given masks a frame is segmented from both sides. The way backward goes first and is kept on disk; on the
way forward its probabilities are joined with those that are found there.
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
from mgseg.files.masks import VOID, write_mask
from mgseg.files.names import reads_once
from mgseg.files.threads import WriteBehind, read_ahead
from mgseg.files.video import Clip, ClipInfo, Frame, open_clip
from mgseg.files.whole_file import make_folder
from mgseg.outputs.results import Results
from mgseg.outputs.timeline import Timeline
from mgseg.outputs.writer import Segmented
from mgseg.segment.cuts import CutDetector
from mgseg.segment.given_masks import GivenMasks
from mgseg.segment.resume import Found, Settings
from mgseg.segment.segmenter import Segmenter
from mgseg.segment.stretches import Stretch, plan_stretches
from mgseg.segment.way_back import WayBack

Mask = NDArray[np.uint8]
OnMask = Callable[[int, Mask], None]
Progress = Callable[[int, int | None], None]


@dataclass(frozen=True)
class Span:
    """Which part of a clip, and which way.

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
    redone: list[list[int]] = field(default_factory=list)  # first and last of frames that were not found
    timeline: Timeline = field(default_factory=Timeline)
    other_sizes: set[tuple[int, int]] = field(default_factory=set)

    def run(self) -> MgsegError | None:
        """Do it, and return why the result is only a part; None if it is whole."""
        begin = time.perf_counter()
        problem: MgsegError | None = None
        interrupt: KeyboardInterrupt | None = None
        with self.results:
            try:
                if self.span.both_ways:  # first, so that on the way forward videos are written in order
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
        self.seconds = time.perf_counter() - begin
        return problem

    @property
    def info(self) -> ClipInfo:
        """Of the clip."""
        return self.clip.info

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
            raise self._without_frame([first])
        mask = self._take(frame, is_first=False)
        assert mask is not None
        self.segmenter.start(frame.image, mask)
        cuts = CutDetector()
        cuts.is_cut(frame.image)
        found = self._found(self.stretches()[0])
        with (
            WriteBehind() as sink,
            closing(read_ahead(map(self.results.outputs.named, self.clip.backward(self.span.start, first)))) as frames,
        ):
            for frame in frames:
                cut = frame.index + 1 if cuts.is_cut(frame.image) else None
                known = found.take(frame.name)
                if known is None:
                    item = self._segmented(frame, self.segmenter.step(frame.image), found.note, cut)
                else:
                    self.segmenter.recall(frame.image, known)
                    item = self._taken_up(frame, known, found, cut)
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
            way = exits.enter_context(_Way(self))
            for number, frame in enumerate(frames):
                self._tell_size(frame)
                given = self._take(frame, is_first=number == 0)
                if given is None and not way.is_under_way:
                    sink.put(self.results.write_before, frame)
                    continue
                cut = frame.index if cuts.is_cut(frame.image) else None
                sink.put(self.results.write, way.follow(frame, given, cut))

    def _take(self, frame: Frame, is_first: bool) -> Mask | None:
        """The mask given for a frame; one that was cut out of it is written, to be looked at and painted over."""
        mask = self.given.take(frame.index, frame.image, is_first)
        if mask is not None and self.cut_to and (frame.index in self.given.cut_out or is_first):
            path = self.cut_to / f"{frame.index:05d}.png"
            write_mask(make_folder(path.parent) / path.name, mask, self.given.palette)
            self.warnings.append(f"the mask of frame {frame.index} was cut out by GrabCut; look at it: {path}")
        return mask

    def _tell_size(self, frame: Frame) -> None:
        """Warn of a size that is not the clip's, once, with the first frame that has it."""
        if frame.own_size and frame.own_size not in self.other_sizes:
            self.other_sizes.add(frame.own_size)
            height, width = frame.own_size
            wanted = f"they are scaled to {self.info.width}x{self.info.height}, the size of the first"
            self.warnings.append(f"from frame {frame.index} on, frames are {width}x{height}: {wanted}")

    def _found(self, stretch: Stretch) -> Found:
        return Found(self.found_in, self.settings | stretch.settings)

    def _segmented(
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

    def _taken_up(self, frame: Frame, mask: Mask, found: Found, cut: int | None) -> Segmented:
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
        return self._without_frame(self.given.unused) if self.given.unused else None

    def _without_frame(self, unused: list[int]) -> InputError:
        frames = ", ".join(map(str, unused))
        if isinstance(self.span.start, Fraction) or isinstance(self.span.end, Fraction):
            outside = f"outside of --start and --end, or after the end of {self.info.path}"
            return InputError(f"the mask(s) for frame {frames} are {outside}")
        return InputError(f"{self.info.path} ended before the mask(s) for frame {frames}")


class _Way:
    """The way forward, stretch by stretch. A context manager, which closes what it read of the clip once more."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._coming = run.stretches()
        self._stretch: Stretch | None = None
        self._found: Found | None = None
        self._is_kept = False  # the whole stretch is found, and nothing after it depends on the segmenter's state
        self._way_back: WayBack | None = None
        self._exits = ExitStack()
        self._again: Clip | None = None

    @property
    def is_under_way(self) -> bool:
        """Whether a mask was given."""
        return self._stretch is not None

    def follow(self, frame: Frame, given: Mask | None, cut: int | None) -> Segmented:
        """Segment a frame, or take up the mask that an earlier run left."""
        run, segmenter = self._run, self._run.segmenter
        if self._begins(frame):
            return self._begin(frame, given, cut)
        assert self._found
        known = self._found.take(frame.name)
        if known is not None:
            if not self._is_kept:
                segmenter.recall(frame.image, known, given)
            return run._taken_up(frame, known, self._found, cut)
        mask = segmenter.step(frame.image, given, zero_is_background=run.given.zero_is_background)
        confidence = None
        if self._way_back and given is None:
            mask, confidence = self._way_back.join(frame.index, mask, segmenter)
        return run._segmented(frame, mask, self._found.note, cut, confidence)

    def _begins(self, frame: Frame) -> bool:
        """Whether a stretch begins with a frame."""
        return bool(self._coming) and self._coming[0].start in (None, frame.index)

    def _begin(self, frame: Frame, given: Mask | None, cut: int | None) -> Segmented:
        """Begin a stretch at a frame with a mask."""
        run, segmenter, is_fresh = self._run, self._run.segmenter, self._is_kept or self._stretch is None
        assert given is not None
        stretch = self._stretch = self._coming.pop(0)
        found = self._found = run._found(stretch)
        known = found.take(frame.name)
        is_whole = stretch.end is not None and found.holds(stretch.end - frame.index)
        self._is_kept = is_whole and run.given.zero_is_background
        if known is not None:
            mask, item = known, run._taken_up(frame, known, found, cut)
        else:
            if is_fresh:
                mask = segmenter.start(frame.image, given)
            else:
                mask = segmenter.step(frame.image, given, zero_is_background=run.given.zero_is_background)
            item = run._segmented(frame, mask, found.note, cut)
        self._way_back = None
        if not self._is_kept:
            self._prepare(stretch, frame, mask, go_back=not is_whole)
        return item

    def _prepare(self, stretch: Stretch, frame: Frame, mask: Mask, *, go_back: bool) -> None:
        """Go the stretch backward, if it has a mask at its end, and put its references into memory."""
        segmenter, first, end = self._run.segmenter, self._run.given.first, stretch.end
        others = {n: self._read(n) for n in (first, end) if n is not None and n != frame.index}
        if end is not None and go_back:
            image, known = others[end]
            segmenter.start(image, np.where(np.isin(known, stretch.known), known, np.uint8(0)))
            segmenter.remember(frame.image, mask)
            if first in others:
                segmenter.remember(*others[first])
            self._way_back = self._go_back(frame.index, end)
        segmenter.start(frame.image, mask)
        for reference in others.values():
            segmenter.remember(*reference)

    def _go_back(self, start: int, end: int) -> WayBack:
        """Segment from one mask down to another one."""
        run, segmenter = self._run, self._run.segmenter
        way_back = WayBack(self._exits, (start, end))
        for frame in self._clip_again().backward(start + 1, end):
            inner = run.given.read(frame.index, frame.image) if frame.index in run.given.objects else None
            if inner is not None:
                inner = np.where(np.isin(inner, (*segmenter.object_ids, VOID)), inner, np.uint8(0))
            segmenter.step(frame.image, inner, zero_is_background=run.given.zero_is_background)
            way_back.put(frame.index, segmenter)
            if inner is not None:  # objects that this mask is the first to state are not there before it
                segmenter.remove(set(segmenter.object_ids) - run.given.known_before(frame.index))
        return way_back

    def _read(self, number: int) -> tuple[NDArray[np.uint8], Mask]:
        """Read a frame with its given mask."""
        frame = next(self._clip_again().frames(number, number + 1), None)
        if frame is None:
            raise self._run._without_frame([number])
        return frame.image, self._run.given.read(number, frame.image)

    def _clip_again(self) -> Clip:
        """The clip, opened once more: the way forward is still reading it."""
        if self._again is None:
            self._again = self._exits.enter_context(open_clip(self._run.info.path))
        return self._again

    def __enter__(self) -> "_Way":
        return self

    def __exit__(self, *error: object) -> None:
        self._exits.close()
