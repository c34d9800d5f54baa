"""Where given masks come from, and how they are written on the command line: `[FRAME=][OBJECT=]SOURCE`."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mgseg.errors import InputError

GRAMMAR = "[FRAME=]FILE, FRAME=OBJECT=FILE, or [FRAME=OBJECT=|OBJECT=]box:LEFT,TOP,RIGHT,BOTTOM, poly:X,Y,X,Y,X,Y,..."
_NUMBERS = re.compile(r"(?:\s*(\d{1,12})\s*=)?(?:\s*(\d{1,12})\s*=)?(.*)", re.DOTALL)
_SHAPE = re.compile(r"(box|poly|on|off):(.*)", re.DOTALL)
_LEAST_POINTS = {"box": 2, "poly": 3, "on": 1, "off": 1}
_HOLDING_SEVERAL = {".json", ".xml", ".zip", ".npz"}  # FILE#ITEM


@dataclass(frozen=True)
class FileSource:
    """A file with a mask, or a folder of such files.

    Attributes:
        path: a picture, an annotation file, an array, a video.
        item: which of the pictures or arrays that it holds; "" where it holds one.
        object_id: the number of the one object in it; None to keep what the file says.
    """

    path: Path
    item: str = ""
    object_id: int | None = None

    def __str__(self) -> str:
        return f"{self.path}#{self.item}" if self.item else str(self.path)


@dataclass(frozen=True)
class Shape:
    """A shape drawn by numbers.

    Attributes:
        kind: "box", "poly", or a stroke: "on" an object or "off" it.
        points: x, y in pixels; of a box left, top and right, bottom.
        object_id: its number; None for one that is free, of a stroke for that of the shape before it.
    """

    kind: str
    points: tuple[tuple[float, float], ...]
    object_id: int | None = None

    @property
    def is_stroke(self) -> bool:
        """Whether it refines another shape."""
        return self.kind in ("on", "off")

    def __str__(self) -> str:
        return f"{self.kind}:" + ",".join(f"{value:g}" for point in self.points for value in point)

    def check(self, width: int, height: int) -> None:
        """Refuse a shape that does not fit a frame."""
        (left, top), (right, bottom) = np.min(self.points, axis=0), np.max(self.points, axis=0)
        if not (0 <= left <= right <= width and 0 <= top <= bottom <= height):
            raise InputError(f"{self} lies partly outside the frame, which is {width}x{height}")


MaskSource = str | Path | NDArray[np.uint8] | FileSource | Shape
MaskSources = MaskSource | Sequence[MaskSource]


def parse_mask(text: str) -> tuple[int | None, FileSource | Shape]:
    """Split `[FRAME=][OBJECT=]SOURCE`. A file whose own name looks like that is taken as it is.

    One number before a file is the frame, one number before a shape the object; two are frame and object.

    Returns:
        Frame number, None for the first frame; and the source.

    Raises:
        InputError: it is not of that form.
    """
    if text and Path(text).exists():
        return None, FileSource(Path(text))
    match = _NUMBERS.fullmatch(text)
    assert match is not None  # the last group takes anything
    first, second, rest = match.groups()
    shape = _SHAPE.fullmatch(rest)
    if shape and not Path(rest).exists():
        frame, number = (first, second) if second else (None, first)
        return _number(frame), Shape(shape[1], _points(text, shape[1], shape[2]), _object_id(text, number))
    path, _, item = rest.rpartition("#")
    if Path(rest).exists() or Path(path).suffix.lower() not in _HOLDING_SEVERAL:
        path, item = rest, ""
    if not path:
        raise InputError(f"{text!r} names no mask", f"give {GRAMMAR}")
    return _number(first), FileSource(Path(path), item, _object_id(text, second))


def _number(digits: str | None) -> int | None:
    return None if digits is None else int(digits)


def _object_id(text: str, number: str | None) -> int | None:
    if number is None:
        return None
    if not 1 <= int(number) <= 254:
        hint = "one number before a shape is its object; to give the frame too, write FRAME=OBJECT=SHAPE"
        raise InputError(f"{text!r}: object numbers must be 1 to 254, found {number}", hint)
    return int(number)


def _points(text: str, kind: str, numbers: str) -> tuple[tuple[float, float], ...]:
    try:
        values = [float(value) for value in numbers.split(",")]
    except ValueError as error:
        raise InputError(f"{text!r}: expected numbers between commas after {kind}:", f"give {GRAMMAR}") from error
    points = tuple(zip(values[::2], values[1::2], strict=False))
    if len(values) % 2 or not np.isfinite(values).all():
        raise InputError(f"{text!r}: expected pairs of x and y, found {len(values)} numbers")
    if len(points) < _LEAST_POINTS[kind] or (kind == "box" and len(points) > 2):
        wanted = {"box": "LEFT,TOP,RIGHT,BOTTOM", "poly": "three points or more"}.get(kind, "a point or more")
        raise InputError(f"{text!r}: {kind} needs {wanted}, found {len(values)} numbers")
    if kind == "box" and not (points[0][0] < points[1][0] and points[0][1] < points[1][1]):
        raise InputError(f"{text!r}: a box must be LEFT,TOP,RIGHT,BOTTOM with LEFT < RIGHT and TOP < BOTTOM")
    return points
