"""Overlay: colours and contours of masks drawn over a frame."""

import numpy as np
from numpy.typing import NDArray

from mgseg.files.masks import VOID
from mgseg.files.matte import bounding_box

_OPACITY = 0.45  # strong enough to see the object's colour, weak enough to see the picture below
_LINES = 240  # a contour is one pixel wide for every so many pixels of the frame's shorter side


def draw_overlay(frame: NDArray[np.uint8], mask: NDArray[np.uint8], palette: bytes) -> NDArray[np.uint8]:
    """Colour the objects of a frame and draw a contour around each.

    Args:
        frame: uint8 (H, W, 3) RGB; left as it is.
        mask: uint8 (H, W) index map; background and void stay uncoloured.
        palette: 768 bytes R, G, B of each id. Its dark colours are shown bright.

    Returns:
        uint8 (H, W, 3) RGB.
    """
    result = frame.copy()
    box = bounding_box(mask > 0, margin=1)
    if box is None:
        return result
    part, ids = result[box], np.where(mask[box] == VOID, np.uint8(0), mask[box])
    colours = _bright(palette)
    inside = ids > 0
    mixed = part[inside] * np.float32(1 - _OPACITY) + (colours * np.float32(_OPACITY))[ids[inside]]
    part[inside] = mixed.astype(np.uint8)
    line = inside & _contours(ids, width=max(1, round(min(mask.shape) / _LINES)))
    part[line] = (colours // 2 + 127)[ids[line]]  # paler than the area, so that it shows on any colour
    return result


def _bright(palette: bytes) -> NDArray[np.uint8]:
    """The palette's colours, each scaled to full brightness; black becomes white."""
    colours = np.frombuffer(palette, np.uint8).reshape(256, 3).astype(np.float32)
    brightest = colours.max(axis=1, keepdims=True)
    return np.where(brightest > 0, colours * (255 / np.maximum(brightest, 1)), 255).astype(np.uint8)


def _contours(ids: NDArray[np.uint8], width: int) -> NDArray[np.bool_]:
    """Pixels within `width` of a pixel of another id, row- or columnwise; bool (H, W)."""
    line = np.zeros(ids.shape, bool)
    for distance in range(1, width + 1):
        across = ids[distance:] != ids[:-distance]
        line[distance:] |= across
        line[:-distance] |= across
        across = ids[:, distance:] != ids[:, :-distance]
        line[:, distance:] |= across
        line[:, :-distance] |= across
    return line
