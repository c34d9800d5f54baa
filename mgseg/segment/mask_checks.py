"""Checks of the given masks, one by one and together, before anything is computed."""

from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mgseg.errors import InputError
from mgseg.files.masks import VOID
from mgseg.files.pictures import PICTURES
from mgseg.files.video import ClipInfo
from mgseg.segment.mask_parts import Labels
from mgseg.segment.mask_sources import FileSource, MaskSource, MaskSources, Shape

Mask = NDArray[np.uint8]
Part = Mask | FileSource | Labels | Shape


def listed(masks: MaskSources | Mapping[int | None, MaskSources]) -> Iterator[tuple[int | None, MaskSource]]:
    """Yield the masks one by one, with the frame of each."""
    by_frame = masks if isinstance(masks, Mapping) else {None: masks}
    for number, sources in by_frame.items():
        if isinstance(sources, str | Path | np.ndarray | FileSource | Shape):
            yield number, sources
        else:
            yield from ((number, source) for source in sources)


def check_apart(first: Mask, second: Mask, number: int | None, name: str) -> None:
    """Raise an InputError if two masks of a frame have different objects at the same pixels."""
    both = (first > 0) & (second > 0) & (first != VOID) & (second != VOID) & (first != second)
    if both.any():
        y, x = np.argwhere(both)[0]
        frame = "the first frame" if number is None else f"frame {number}"
        found = f"objects {first[y, x]} and {second[y, x]} overlap on {both.sum()} pixels"
        raise InputError(f"{found} of {frame}, by {name}", "erase these pixels in one of the masks")


def check_place(path: Path, info: ClipInfo) -> None:
    """Raise an InputError for a mask that would be read as a frame of the clip."""
    if path.suffix.lower() in PICTURES and path.resolve().parent == info.path.resolve():
        taken = f"the mask {path} lies in the folder of the frames, {info.path}, and would be read as a frame"
        raise InputError(taken, "move it to another folder")


def check_frame(
    number: int | None, parts: Sequence[Part], info: ClipInfo, start: int | Fraction, end: int | Fraction | None
) -> None:
    if number is None:
        return
    source = parts[0].source if isinstance(parts[0], Labels) else parts[0]
    name = "the mask" if isinstance(source, np.ndarray) else f"the mask {source}"
    if info.is_counted and info.num_frames and number >= info.num_frames:
        held = f"the clip's frames are 0 to {info.num_frames - 1}"
        raise InputError(f"{name} is for frame {number}, but {held}")
    if (isinstance(start, int) and number < start) or (isinstance(end, int) and number >= end):
        raise InputError(f"{name} is for frame {number}, which --start and --end leave out")
