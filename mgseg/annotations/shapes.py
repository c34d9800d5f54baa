"""Masks to polygons and back. Coordinates are pixel corners: pixel (x, y) reaches from (x, y) to (x + 1, y + 1).

OpenCV traces, pycocotools fills; both come with the extra `annotations`.
"""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from mgseg.errors import InputError, MgsegError
from mgseg.files.pictures import UNREADABLE, check_size

Mask = NDArray[np.bool_]
Ring = NDArray[np.float64]  # (P, 2) of x, y; closed without repeating the first point

# What Python raises for a file that is damaged or of another kind.
DAMAGED = (*UNREADABLE, AttributeError, BadZipFile, NotImplementedError, RuntimeError)
_FARTHEST = 100_000  # pixels; what fills polygons takes memory by their length
TOLERANCE = 0.75  # pixels that a simplified outline may leave the exact one


class Part(NamedTuple):
    """A connected part of an object: its outline and its holes."""

    outline: Ring
    holes: list[Ring]


def trace(mask: Mask, tolerance: float = TOLERANCE) -> list[Part]:
    """Trace the outlines of a mask along its pixels' edges, the largest part first.

    Args:
        mask: bool (H, W).
        tolerance: how far the outline may leave the exact one, in pixels; 0: `fill` gives the same mask back.
    """
    doubled = np.repeat(np.repeat(mask.astype(np.uint8), 2, 0), 2, 1)
    # In the doubled mask an edge pixel 2x lies left, 2x + 1 right in its pixel: the edges are at x and x + 1.
    return [part for part in _trace(doubled, tolerance, halved=True) if len(part.outline) > 2]


def trace_centres(mask: Mask, tolerance: float = TOLERANCE) -> list[Part]:
    """Trace a mask through the centres of its outermost pixels, as tools want it that draw the outline, too.

    Whole numbers are the centres. A part of a line's width has an outline of one or two points.
    """
    return _trace(mask.astype(np.uint8), tolerance, halved=False)


def _trace(mask: NDArray[np.uint8], tolerance: float, *, halved: bool) -> list[Part]:
    cv2 = import_extra("cv2", "OpenCV")
    contours, tree = cv2.findContours(mask, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    parts: dict[int, Part] = {}
    for number, contour in enumerate(contours):
        parent = int(tree[0][number][3])
        corners = contour[:, 0].astype(np.int32)
        ring = _simplify((corners + 1) // 2 if halved else corners, tolerance if parent < 0 else tolerance / 2)
        if parent < 0:
            parts[number] = Part(ring, [])
        elif len(ring) > 2:
            parts[parent].holes.append(ring)
    return sorted(parts.values(), key=lambda part: -area_of(part.outline))


def _simplify(corners: NDArray[np.int32], tolerance: float) -> Ring:
    cv2 = import_extra("cv2", "OpenCV")
    moved = np.any(corners != np.roll(corners, 1, 0), axis=1)
    corners = corners[moved] if moved.any() else corners[:1]
    if tolerance and len(corners) > 4:
        simple = cv2.approxPolyDP(corners[:, None].astype(np.float32), tolerance, True)[:, 0]
        if len(simple) > 2:
            return np.asarray(simple, np.float64)
    return corners.astype(np.float64)


def draw_filled(ring: Ring, size: tuple[int, int]) -> Mask:
    """Undo `trace_centres` for one ring (see `join`): fill it and its outline, bool (H, W), by OpenCV.

    Places are cut to whole numbers first, as YOLO's own loader does.
    """
    cv2 = import_extra("cv2", "OpenCV")
    mask = np.zeros(size, np.uint8)
    far = 4 * max(size)  # OpenCV counts in 32 bits; nothing of this is seen
    cv2.fillPoly(mask, [ring.clip(-far, far).astype(np.int32)], 1)
    return mask > 0


def fill(rings: Sequence[Ring], size: tuple[int, int]) -> Mask:
    """Fill polygons: bool (H, W). Where rings overlap, two cancel each other, so that holes stay holes.

    Args:
        rings: rings of three points or more.
        size: (height, width).
    """
    coco = import_extra("pycocotools.mask", "pycocotools")
    mask = np.zeros(size, bool)
    for ring in rings:
        encoded = coco.frPyObjects([np.asarray(ring, np.float64).ravel().tolist()], *size)
        mask ^= _decode(encoded[0])
    return mask


def fill_parts(polygons: Sequence[Ring], size: tuple[int, int]) -> Mask:
    """Fill polygons that each add to the object: bool (H, W). As COCO and labelme mean several polygons."""
    return np.logical_or.reduce([fill([polygon], size) for polygon in polygons])


def join(parts: Sequence[Part]) -> Ring:
    """Join all parts and holes to one ring with zero-width bridges, for formats with one polygon for each object."""
    ring = np.zeros((0, 2))
    for part in parts:
        for piece in (part.outline, *part.holes):
            ring = _bridge(ring, piece) if len(ring) else piece
    return np.concatenate([ring, ring[-1:].repeat(max(0, 3 - len(ring)), 0)])  # three points at least


def _bridge(ring: Ring, piece: Ring) -> Ring:
    """Go along `ring` to its corner nearest to `piece`, across, around the piece, and back the same way."""
    apart = np.square(ring[:, None] - piece[None]).sum(-1)
    here, there = np.unravel_index(int(apart.argmin()), apart.shape)
    around = np.roll(piece, -int(there), 0)
    return np.concatenate([ring[: here + 1], around, around[:1], ring[here:]])


def area_of(ring: Ring) -> float:
    """Area inside a ring, in pixels."""
    x, y = ring.T
    return float(abs((x * np.roll(y, -1) - np.roll(x, -1) * y).sum()) / 2)


def encode_rle(mask: Mask) -> dict[str, Any]:
    """Encode a mask as COCO's compressed run lengths: {"size": [height, width], "counts": text}."""
    coco = import_extra("pycocotools.mask", "pycocotools")
    encoded = coco.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"size": list(encoded["size"]), "counts": encoded["counts"].decode("ascii")}


def decode_rle(rle: dict[str, Any], size: tuple[int, int]) -> Mask:
    """Undo `encode_rle`; also takes counts as a list of numbers.

    Raises:
        InputError: the run lengths are damaged or belong to another picture size.
    """
    coco = import_extra("pycocotools.mask", "pycocotools")
    if list(rle.get("size", ())) != list(size):
        raise InputError(f"the run-length mask has the size {rle.get('size')}, expected {list(size)} (height, width)")
    counts = rle.get("counts")
    if isinstance(counts, list):
        if not all(isinstance(n, int) and n >= 0 for n in counts) or sum(counts) != size[0] * size[1]:
            raise InputError(f"the lengths of the run-length mask do not add up to {size[0] * size[1]} pixels")
        rle = coco.frPyObjects(rle, *size)
    elif not isinstance(counts, str | bytes) or not counts:
        raise InputError("the run-length mask has no counts")
    return _decode(rle)


def _decode(rle: dict[str, Any]) -> Mask:
    coco = import_extra("pycocotools.mask", "pycocotools")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # its arrays are not ready for NumPy 2's copy keyword
        return np.asarray(coco.decode(rle) > 0)


def box_of(mask: Mask) -> tuple[int, int, int, int] | None:
    """Return left, top, width and height of a mask; None if it is empty."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not len(rows):
        return None
    left, top = int(columns[0]), int(rows[0])
    return left, top, int(columns[-1]) + 1 - left, int(rows[-1]) + 1 - top


def check_polygon(points: Any, where: str) -> Ring:
    """Convert a polygon from a file to a ring, or raise an InputError.

    Raises:
        InputError: fewer than three points, no numbers, or points far outside of any frame.
    """
    try:
        ring = np.asarray(points, np.float64).reshape(-1, 2)
    except (ValueError, TypeError) as error:
        raise InputError(f"{where}: a polygon must be pairs of numbers, found {str(points)[:60]}") from error
    if len(ring) < 3 or not np.isfinite(ring).all():
        raise InputError(f"{where}: a polygon must have three points or more, found {len(ring)}")
    if np.abs(ring).max() > _FARTHEST:
        raise InputError(f"{where}: a polygon reaches to {np.abs(ring).max():g}, far outside of any frame")
    return ring


def check_frame(width: Any, height: Any, where: str) -> tuple[int, int]:
    """The (height, width) that a file gives for a frame.

    Raises:
        InputError: they are not whole numbers from 1 on, or exceed MAX_PIXELS.
    """
    try:
        size = int(height), int(width)
    except (ValueError, TypeError, OverflowError) as error:
        raise InputError(f"{where}: a frame of {str(width)[:20]}x{str(height)[:20]}") from error
    if min(size) < 1:
        raise InputError(f"{where}: a frame of {size[1]}x{size[0]}")
    check_size(Path(where), size[1], size[0])
    return size


def whole(value: Any) -> int | None:
    """Check that a number from a file is a whole number, and return it."""
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def import_extra(name: str, title: str) -> Any:
    """Import a package that the extra `annotations` installs.

    Raises:
        MgsegError: it is not installed.
    """
    from importlib import import_module

    try:
        return import_module(name)
    except ImportError as error:
        raise MgsegError(f"reading or writing annotations needs {title}", "pip install 'mgseg[annotations]'") from error
