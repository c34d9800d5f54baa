"""Unlimited undo and redo: one small file for each change, so that it survives a restart of the server."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from mgseg.files.whole_file import whole_file

Mask = NDArray[np.uint8]


@dataclass(frozen=True)
class Change:
    """One change: a patch of a frame's mask, or the table of objects (frame -1).

    Attributes:
        frame: its number; -1 for the objects.
        corner: (top, left) of the patch.
        before, after: uint8 (h, w) the patch; for the objects JSON as bytes.
        was_given, is_given: whether the frame's mask was a given one before, and is after.
    """

    frame: int
    corner: tuple[int, int]
    before: Mask
    after: Mask
    was_given: bool
    is_given: bool

    @classmethod
    def between(cls, frame: int, before: Mask, after: Mask, was_given: bool, is_given: bool) -> Self:
        """The change from one whole mask to another; a patch only where both are given masks, which nothing else
        changes meanwhile."""
        if was_given != is_given:
            return cls(frame, (0, 0), before, after, was_given, is_given)
        rows, columns = np.nonzero(before != after)
        if not len(rows):
            empty = np.zeros((0, 0), np.uint8)
            return cls(frame, (0, 0), empty, empty, was_given, is_given)
        window = np.s_[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
        corner = int(rows.min()), int(columns.min())
        return cls(frame, corner, before[window], after[window], was_given, is_given)

    @classmethod
    def of_objects(cls, before: list[Any], after: list[Any]) -> Self:
        """Return the change of the table of objects."""
        first, second = (np.frombuffer(json.dumps(x).encode(), np.uint8) for x in (before, after))
        return cls(-1, (0, 0), first, second, was_given=False, is_given=False)

    def objects(self, before: bool) -> list[dict[str, Any]]:
        """The table of objects before or after the change."""
        return list(json.loads((self.before if before else self.after).tobytes()))

    def given(self, before: bool) -> bool:
        """Whether the frame's mask is a given one before or after the change."""
        return self.was_given if before else self.is_given

    def apply(self, mask: Mask, before: bool) -> Mask:
        """Return a whole mask with the patch as it was before or after the change."""
        patch = self.before if before else self.after
        (top, left), (height, width) = self.corner, patch.shape
        result = mask.copy()
        result[top : top + height, left : left + width] = patch
        return result


class History:
    """Changes of a project, oldest first, and how many of them are applied.

    Args:
        folder: folder of the files, one a change.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        numbers = {int(path.stem) for path in folder.glob("*.npz") if path.stem.isdecimal()}
        self.length = next(n for n in range(len(numbers) + 1) if n + 1 not in numbers)
        self.position = self.length

    def add(self, change: Change) -> None:
        """Append a change; those that were undone are dropped."""
        for number in range(self.position + 1, self.length + 1):
            self._path(number).unlink(missing_ok=True)
        with whole_file(self._path(self.position + 1)) as part, part.open("wb") as file:
            np.savez_compressed(file, **vars(change))
        self.position += 1
        self.length = self.position

    def undo(self) -> Change | None:
        """Step back; returns the change to take back, None at the beginning."""
        if not self.position:
            return None
        self.position -= 1
        return self._read(self.position + 1)

    def redo(self) -> Change | None:
        """Step forward; returns the change to do again, None at the end."""
        if self.position == self.length:
            return None
        self.position += 1
        return self._read(self.position)

    def _path(self, number: int) -> Path:
        return self._folder / f"{number:06d}.npz"

    def _read(self, number: int) -> Change:
        with np.load(self._path(number), allow_pickle=False) as entry:
            top, left = entry["corner"].tolist()
            return Change(
                int(entry["frame"]),
                (top, left),
                entry["before"],
                entry["after"],
                bool(entry["was_given"]),
                bool(entry["is_given"]),
            )
