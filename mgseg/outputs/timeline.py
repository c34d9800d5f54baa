"""The confidence of a clip, by object and frame, and what to look at: a few numbers a frame are kept, no picture."""

from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mgseg.outputs.writer import Segmented

LOOK_AT = 0.7  # frames with less confidence are reported
REACH = 10  # frames: a correction improves neighbours up to this distance; closer to a given mask it is worth less
GAP = 5  # stretches of an object that are so many frames apart are one


@dataclass(frozen=True)
class DoubtfulStretch:
    """A range of frames in which one object has low confidence.

    Attributes:
        object_id: the object.
        first, last: frame numbers.
        worst: the frame of least confidence: the one to correct.
        confidence: J predicted of that frame.
    """

    object_id: int
    first: int
    last: int
    worst: int
    confidence: float

    def __str__(self) -> str:
        frames = f"frames {self.first}-{self.last}" if self.last > self.first else f"frame {self.first}"
        return f"{frames} (object {self.object_id})"


class _Track:
    """One object: frame numbers, confidence (NaN where unknown), area in pixels."""

    def __init__(self) -> None:
        self.frames, self.confidence, self.areas = array("q"), array("f"), array("q")


class Timeline:
    """Collects confidence and area of a clip's frames, which may come in any order."""

    def __init__(self) -> None:
        self._tracks: dict[int, _Track] = {}
        self.cuts: list[int] = []  # frames with which a new scene begins

    def add(self, item: Segmented) -> None:
        """Add a frame."""
        if item.cut is not None:
            self.cuts.append(item.cut)
        if item.mask is None:
            return
        areas = np.bincount(item.mask.ravel(), minlength=256)
        known = item.confidence or {}
        for object_id in {*known, *(int(i) for i in np.flatnonzero(areas[1:255]) + 1)}:
            track = self._tracks.setdefault(object_id, _Track())
            track.frames.append(item.frame.index)
            track.confidence.append(known.get(object_id, float("nan")))
            track.areas.append(int(areas[object_id]))

    @property
    def has_confidence(self) -> bool:
        """Whether there is any predicted confidence."""
        return any(not np.isnan(track.confidence).all() for track in self._tracks.values())

    def tracks(self) -> Iterator[tuple[int, list[int], list[float], list[int]]]:
        """Yield each object's id, its frames in order, their confidence (NaN where unknown) and area in pixels."""
        for object_id, track in sorted(self._tracks.items()):
            order = np.argsort(track.frames, kind="stable")
            columns = (np.asarray(column)[order].tolist() for column in (track.frames, track.confidence, track.areas))
            yield object_id, *columns

    def stretches(self) -> list[DoubtfulStretch]:
        """Return the ranges of frames with low confidence, the least confident first."""
        found = [s for i, frames, values, _ in self.tracks() for s in find_stretches(i, frames, values)]
        return sorted(found, key=lambda stretch: stretch.confidence)

    def suggest(self) -> int | None:
        """The frame whose correction should help most; None where no confidence is known, or all masks were given."""
        least: dict[int, float] = {}
        for _, frames, values, _ in self.tracks():
            for frame, value in zip(frames, values, strict=True):
                if value == value:  # not NaN
                    least[frame] = min(value, least.get(frame, 1.0))
        numbers = np.array(sorted(least))
        confidence = np.array([least[int(number)] for number in numbers])
        if not (confidence < 1).any():
            return None
        return int(numbers[np.argmax(np.where(confidence < 1, _gain(numbers, confidence), -1))])

    def to_json(self) -> dict[str, Any]:
        """Return everything as plain values; confidence is null where it is unknown."""
        objects = {
            str(object_id): {
                "frames": frames,
                "confidence": [None if value != value else round(value, 4) for value in values],
                "area": areas,
            }
            for object_id, frames, values, areas in self.tracks()
        }
        stretches = [{**vars(s), "confidence": round(s.confidence, 4)} for s in self.stretches()]
        return {
            "objects": objects,
            "scene_cuts": sorted(self.cuts),
            "look_at": stretches,
            "correct_first": self.suggest(),
        }


def find_stretches(object_id: int, frames: Iterable[int], values: Iterable[float]) -> list[DoubtfulStretch]:
    """Find the ranges of frames in which one object has low confidence.

    Args:
        object_id: the object.
        frames: frame numbers, ascending.
        values: confidence in each, in [0, 1]; NaN where it is unknown.

    Returns:
        The stretches in the order of the clip.
    """
    found: list[DoubtfulStretch] = []
    for frame, value in zip(frames, values, strict=True):
        if not value < LOOK_AT:
            continue
        last = found[-1] if found else None
        if last is None or frame - last.last > GAP:
            found.append(DoubtfulStretch(object_id, frame, frame, frame, value))
        else:
            worst, least = (frame, value) if value < last.confidence else (last.worst, last.confidence)
            found[-1] = DoubtfulStretch(object_id, last.first, frame, worst, least)
    return found


def _gain(numbers: NDArray[np.int64], confidence: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return how much a correction of each frame can improve it and its neighbours; less near given masks.

    The least confident frame alone is worth little where the frames around it are good, or a given mask is near.
    """
    given = numbers[confidence == 1]
    gain = np.zeros(len(numbers))
    lacking = 1 - confidence
    if len(given):
        after = np.searchsorted(given, numbers).clip(max=len(given) - 1)
        apart = np.minimum(np.abs(given[after] - numbers), np.abs(given[np.maximum(after - 1, 0)] - numbers))
        lacking = lacking * np.minimum(1, apart / REACH)
    for shift in range(-REACH + 1, REACH):  # frames may be missing: their numbers say how near they are
        position = np.searchsorted(numbers, numbers + shift).clip(max=len(numbers) - 1)
        is_there = numbers[position] == numbers + shift
        gain += np.where(is_there, lacking[position], 0) * (1 - abs(shift) / REACH)
    return gain
