"""Mattes: a soft alpha channel made from the scores of objects. Backgrounds are in `background.py`.

Alpha is float32 (H, W) in [0, 1]. Colours are straight: they are not multiplied by alpha.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mgseg.errors import InputError
from mgseg.files.guided_filter import box_mean, follow_edges
from mgseg.files.masks import VOID

Plane = NDArray[np.float32]
U8 = NDArray[np.uint8]

_NOTHING = 1 / 510  # a smaller alpha rounds to 0 in 8 bits
_MARGIN = 16  # pixels of the network around an object that its contour may move by, or whose colours count


@dataclass(frozen=True)
class Alpha:
    """Settings for making alpha from scores.

    Args:
        objects: ids that alpha shows; None for all.
        expand: pixels by which the objects grow; negative shrinks them.
        feather: pixels on either side of the contour over which it fades, in addition.
        invert: 1 where the objects are not.
    """

    objects: tuple[int, ...] | None = None
    expand: int = 0
    feather: int = 0
    invert: bool = False

    def __post_init__(self) -> None:
        if self.feather < 0:
            raise InputError(f"feather must be 0 pixels or more, found {self.feather}")

    def check(self, known: tuple[int, ...]) -> None:
        """Raise an InputError for objects that no mask contains.

        Raises:
            InputError: an object is in no mask; the hint lists the existing ones.
        """
        unknown = sorted(set(self.objects or ()) - set(known))
        if unknown:
            wanted, given = (", ".join(map(str, ids)) for ids in (unknown, known))
            raise InputError(f"no mask contains object {wanted}", f"the masks contain {given}")

    def draw(self, frame: U8, scores: Mapping[int, Plane], scale: float = 1) -> Plane:
        """Make the alpha of a frame from probabilities.

        Args:
            frame: uint8 (H, W, 3) RGB, whose edges the contours follow.
            scores: float32 (H, W) probability of each object.
            scale: pixels of the frame for one of the network.

        Returns:
            float32 (H, W) in [0, 1].
        """
        alpha = np.zeros(frame.shape[:2], np.float32)
        for object_id in scores:
            if self.objects is None or object_id in self.objects:
                alpha += scores[object_id]  # looked up one by one, for each is computed only then
        box = bounding_box(alpha > _NOTHING, round(_MARGIN * scale))
        if box is not None:
            followed = np.zeros_like(alpha)
            followed[box] = follow_edges(alpha[box], frame[box], scale)
            alpha = followed
        return self._shape(alpha)

    def draw_hard(self, mask: U8) -> Plane:
        """Make the alpha of an index map: 1 within the objects, 0 elsewhere; float32 (H, W)."""
        inside = np.isin(mask, self.objects) if self.objects is not None else (mask > 0) & (mask != VOID)
        return self._shape(inside.astype(np.float32))

    def _shape(self, alpha: Plane) -> Plane:
        box = bounding_box(alpha > 0, abs(self.expand) + 2 * self.feather)
        if box is not None and (self.expand or self.feather):
            alpha[box] = _feather(_expand(alpha[box], self.expand), self.feather)
        return 1 - alpha if self.invert else alpha


def bounding_box(inside: NDArray[np.bool_], margin: int) -> tuple[slice, slice] | None:
    """Return the rows and columns that contain all of `inside`, plus a margin; None if it is empty."""
    rows, columns = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
    if not len(rows):
        return None
    top, left = max(0, rows[0] - margin), max(0, columns[0] - margin)
    return slice(top, rows[-1] + 1 + margin), slice(left, columns[-1] + 1 + margin)


def _expand(alpha: Plane, pixels: int) -> Plane:
    """Move the contour outwards, or inwards for negative pixels; how soft it is stays."""
    if pixels < 0:
        return 1 - _expand(1 - alpha, -pixels)
    for step in range(pixels):  # a cross and a square in turn make an octagon, which is nearly a disk
        high, wide = alpha.copy(), alpha.copy()
        np.maximum(high[1:], alpha[:-1], out=high[1:])
        np.maximum(high[:-1], alpha[1:], out=high[:-1])
        beside = high if step % 2 else alpha
        np.maximum(wide[:, 1:], beside[:, :-1], out=wide[:, 1:])
        np.maximum(wide[:, :-1], beside[:, 1:], out=wide[:, :-1])
        alpha = np.maximum(high, wide)
    return alpha


def _feather(alpha: Plane, pixels: int) -> Plane:
    """Blur with a tent that reaches so many pixels to each side."""
    for radius in (pixels // 2, pixels - pixels // 2):
        alpha = box_mean(alpha, radius) if radius else alpha
    return alpha


def cut_out(frame: U8, alpha: Plane) -> U8:
    """Cut a frame out by its alpha: uint8 (H, W, 4) RGBA, straight, black where alpha is 0."""
    seen = (alpha * 255 + 0.5).astype(np.uint8)
    return np.dstack([frame * (seen > 0)[..., None], seen])


def composite(frame: U8, alpha: Plane, background: U8) -> U8:
    """Composite a frame over a background by its alpha, both uint8 (H, W, 3) RGB."""
    share = alpha[..., None]
    return (frame * share + background * (1 - share) + 0.5).astype(np.uint8)
