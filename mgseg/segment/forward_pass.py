"""The forward pass over a clip, stretch by stretch; reuses the masks of an earlier run."""

from contextlib import ExitStack
from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import NDArray

from mgseg.files.masks import VOID
from mgseg.files.video import Clip, Frame, open_clip
from mgseg.outputs.writer import Segmented
from mgseg.segment.backward_pass import BackwardPass
from mgseg.segment.resume import Found
from mgseg.segment.stretches import Stretch

if TYPE_CHECKING:
    from mgseg.segment.run import Run

Mask = NDArray[np.uint8]


class ForwardPass:
    """The forward pass, stretch by stretch. A context manager, which closes the second reader of the clip."""

    def __init__(self, run: "Run") -> None:
        self._run = run
        self._coming = run.stretches()
        self._stretch: Stretch | None = None
        self._found: Found | None = None
        self._is_kept = False  # the whole stretch is found, and nothing later depends on the segmenter's state
        self._backward: BackwardPass | None = None
        self._exits = ExitStack()
        self._again: Clip | None = None

    @property
    def has_begun(self) -> bool:
        """Whether there was a given mask."""
        return self._stretch is not None

    def follow(self, frame: Frame, given: Mask | None, cut: int | None) -> Segmented:
        """Segment a frame, or reuse the mask of an earlier run."""
        run, segmenter = self._run, self._run.segmenter
        if self._begins(frame):
            return self._begin(frame, given, cut)
        assert self._found
        known = self._found.take(frame.name)
        if known is not None:
            if not self._is_kept:
                segmenter.recall(frame.image, known, given)
            return run.taken_up(frame, known, self._found, cut)
        mask = segmenter.step(frame.image, given, zero_is_background=run.given.zero_is_background)
        confidence = None
        if self._backward and given is None:
            mask, confidence = self._backward.join(frame.index, mask, segmenter)
        return run.segmented(frame, mask, self._found.note, cut, confidence)

    def _begins(self, frame: Frame) -> bool:
        """Whether a stretch begins with a frame."""
        return bool(self._coming) and self._coming[0].start in (None, frame.index)

    def _begin(self, frame: Frame, given: Mask | None, cut: int | None) -> Segmented:
        """Begin a stretch at a frame with a mask."""
        run, segmenter, is_fresh = self._run, self._run.segmenter, self._is_kept or self._stretch is None
        assert given is not None
        if self._stretch is None:
            run.adapt(frame.image, given)
        stretch = self._coming.pop(0)
        goes_on = stretch.end is None and self._stretch is not None
        self._stretch = stretch
        found = self._found = run.found_masks(stretch)
        known = found.take(frame.name)
        is_whole = stretch.end is not None and found.holds(stretch.end - frame.index)
        self._is_kept = is_whole and run.given.zero_is_background and len(self._coming) > 1
        if known is not None:
            mask, item = known, run.taken_up(frame, known, found, cut)
            if goes_on:
                segmenter.recall(frame.image, known, given)
        else:
            if is_fresh:
                mask = segmenter.start(frame.image, given, adapt=False)
            else:
                mask = segmenter.step(frame.image, given, zero_is_background=run.given.zero_is_background)
            item = run.segmented(frame, mask, found.note, cut)
        self._backward = None
        if goes_on:
            segmenter.forget()  # it has this frame twice: as the end of the stretch before it, and now as given
        elif not self._is_kept:
            self._prepare(stretch, frame, mask, go_back=not is_whole)
        return item

    def _prepare(self, stretch: Stretch, frame: Frame, mask: Mask, *, go_back: bool) -> None:
        """Segment the stretch backward, if it has a mask at its end, and put its references into memory."""
        segmenter, first, end = self._run.segmenter, self._run.given.first, stretch.end
        others = {n: self._read(n) for n in (first, end) if n is not None and n != frame.index}
        if end is not None and go_back:
            image, known = others[end]
            segmenter.start(image, np.where(np.isin(known, stretch.known), known, np.uint8(0)), adapt=False)
            segmenter.remember(frame.image, mask)
            if first in others:
                segmenter.remember(*others[first])
            self._backward = self._go_back(frame.index, end)
        segmenter.start(frame.image, mask, adapt=False)
        for reference in others.values():
            segmenter.remember(*reference)

    def _go_back(self, start: int, end: int) -> BackwardPass:
        """Segment from one mask down to another one."""
        run, segmenter = self._run, self._run.segmenter
        backward = BackwardPass(self._exits, (start, end))
        for frame in self._clip_again().backward(start + 1, end):
            inner = run.given.read(frame.index, frame.image) if frame.index in run.given.objects else None
            if inner is not None:
                inner = np.where(np.isin(inner, (*segmenter.object_ids, VOID)), inner, np.uint8(0))
            segmenter.step(frame.image, inner, zero_is_background=run.given.zero_is_background)
            backward.put(frame.index, segmenter)
            if inner is not None:  # objects that this mask is the first to state are not there before it
                segmenter.remove(set(segmenter.object_ids) - run.given.known_before(frame.index))
        return backward

    def _read(self, number: int) -> tuple[NDArray[np.uint8], Mask]:
        """Read a frame with its given mask."""
        frame = next(self._clip_again().frames(number, number + 1), None)
        if frame is None:
            raise self._run.without_frame([number])
        return frame.image, self._run.given.read(number, frame.image)

    def _clip_again(self) -> Clip:
        """Open the clip a second time, because the forward pass is still reading it."""
        if self._again is None:
            self._again = self._exits.enter_context(open_clip(self._run.info.path))
        return self._again

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._exits.close()
