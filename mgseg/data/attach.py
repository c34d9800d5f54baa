"""Objects attached to other objects: a small object placed on another, or a part of it, which moves with it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mgseg.data.cutout import Cutout
from mgseg.data.scene import UInt8Array

_SIDES = 0.25, 0.6  # of the carrier's extent, the longer side of what is attached
_PARTS = 0.15, 0.5  # of the object's pixels, the part of it that becomes an object
_SMALLEST = 6  # pixels of the source of that side


def attach(
    rng: np.random.Generator,
    pictures: Sequence[UInt8Array],
    masks: Sequence[UInt8Array],
    carrier: int,
    cutout: Cutout,
    slot: int,
) -> tuple[list[UInt8Array], list[UInt8Array]]:
    """Paste a cut-out onto an object in every picture, at a fixed place of the object and scaled with it.

    Args:
        pictures: P of uint8 (h, w, 3); masks: P of uint8 (h, w). Neither is changed.
        carrier: the object's number in the masks; it is in the first one. Where it is not seen, nothing is put.
        cutout: what is put on it.
        slot: number of the cut-out in the new masks.

    Returns:
        new pictures, new masks.
    """
    centre, extent = _measure(masks[0] == carrier)
    rows, columns = np.nonzero(masks[0] == carrier)
    chosen = int(rng.integers(len(rows)))
    offset = (np.array([columns[chosen], rows[chosen]]) - centre) / extent
    side = float(rng.uniform(*_SIDES)) / max(cutout.mask.shape)
    put = []
    for picture, mask in zip(pictures, masks, strict=True):
        carried = mask == carrier
        if not carried.any():
            put.append((picture, mask))
            continue
        centre, extent = _measure(carried)
        factor = max(side * extent, _SMALLEST / max(cutout.mask.shape))
        put.append(_put(picture, mask, cutout, centre + offset * extent, factor, slot))
    return [picture for picture, _ in put], [mask for _, mask in put]


def split(rng: np.random.Generator, mask: UInt8Array, whole: int, slot: int) -> UInt8Array:
    """Make a part of an object a separate object: all pixels on one side of a straight line through it.

    Args:
        mask: uint8 (h, w), not changed.
        whole: the object's number in it; it is there.
        slot: number of the part in the new mask.
    """
    rows, columns = np.nonzero(mask == whole)
    angle = rng.uniform(0, 2 * np.pi)
    along = np.cos(angle) * columns + np.sin(angle) * rows
    beyond = along > np.quantile(along, 1 - rng.uniform(*_PARTS))
    result = mask.copy()
    result[rows[beyond], columns[beyond]] = slot
    return result


def _measure(mask: NDArray[np.bool_]) -> tuple[NDArray[np.float64], float]:
    """Centre (x, y) and the side of a square of the same area."""
    rows, columns = np.nonzero(mask)
    return np.array([columns.mean(), rows.mean()]), float(np.sqrt(len(rows)))


def _put(
    picture: UInt8Array, mask: UInt8Array, cutout: Cutout, centre: NDArray[np.float64], factor: float, slot: int
) -> tuple[UInt8Array, UInt8Array]:
    """Paste a cut-out, `factor` times its size, with its middle at `centre`; what lies outside is cut off."""
    size = tuple(max(2, round(side * factor)) for side in cutout.mask.shape[::-1])
    colours = Image.fromarray(cutout.picture).resize(size, Image.Resampling.BILINEAR)
    coverage = Image.fromarray(cutout.mask * np.uint8(255)).resize(size, Image.Resampling.BILINEAR)
    corner = round(centre[0] - size[0] / 2), round(centre[1] - size[1] / 2)
    result = Image.fromarray(picture)
    result.paste(colours, corner, coverage)
    labels = Image.fromarray(mask)
    labels.paste(slot, corner, coverage.point([255 * (level >= 128) for level in range(256)]))
    return np.array(result), np.array(labels)
