"""Detection and repair of masks that are not flat: smooth edges, noise, photos.

A picture is given as labels (H, W), one for each distinct value, and levels (K, C), the grey value or colour of each.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

MANY_VALUES = 4096  # distinct values beyond this are a photo or noise; no need to look at each
_LEAST_AREA = 8  # pixels; a smaller area is looked at more closely
_SPECK = 3  # pixels; so few cannot be followed
_ALIKE = 48  # colours closer than this in every channel are one object after JPEG
_NOISE = 12  # what JPEG adds to a flat colour, mostly
# Of the pixels inside of areas of one main colour (black left out), the share that lies within _NOISE of it. Measured
# on DAVIS frames: 0.81 to 0.98 for masks with smooth edges or saved as JPEG with quality 30 and more; 0.24 to 0.56 for
# photos, cut-outs and photos with paint on them.
_LEAST_FLAT = 0.65
# In small pictures both have few such pixels. But masks have less than 1,000 colours and few objects there.
_SMALL = 2000  # pixels inside of areas
_COLOURS_OF_A_PHOTO = 1000
_OBJECTS_OF_A_PHOTO = 4

# Of all values, the share that are steps. Measured: at most 0.33 for flat pictures of up to 150 thin objects that
# cross each other; 0.5 and more for smooth edges, but for pictures of a few pixels.
_MANY_STEPS = 0.4

Labels = NDArray[np.integer]
Flags = NDArray[np.bool_]
Bytes = NDArray[np.uint8]


@dataclass(frozen=True)
class Blemishes:
    """Values that are not objects: each field is a flag for each label.

    Args:
        edges: steps of a smooth edge, on pixels between one neighbour and the opposite one.
        specks: single pixels, or three at most.
        num_values: how many labels were looked at.
    """

    edges: Flags
    specks: Flags
    num_values: int

    @property
    def is_smooth(self) -> bool:
        """Whether edges are smooth. A thin object between two others looks like a step, too, but few objects do."""
        return bool(self.edges.sum() > 1 and self.edges.sum() >= _MANY_STEPS * self.num_values)

    @property
    def no_objects(self) -> Flags:
        """Return which labels have to be repaired."""
        return self.edges | self.specks if self.is_smooth else self.specks


def find_blemishes(
    labels: Labels, levels: NDArray[np.integer], ignore: Sequence[int] | NDArray[np.integer] = ()
) -> Blemishes:
    """Find the values that are smooth edges or specks. However thin a line, it is neither if it is flat.

    Args:
        labels: (H, W), 0 to K - 1.
        levels: (K, C), grey value or colour of each label.
        ignore: labels that may have any shape: background and void.
    """
    areas = np.bincount(labels.ravel(), minlength=len(levels))
    suspects = (areas > 0) & ~is_solid(labels, areas)
    suspects[list(ignore)] = areas[list(ignore)] = 0
    rows, columns = np.nonzero(suspects[labels])
    own = labels[rows, columns]
    alone, between = np.ones(len(own), bool), np.zeros(len(own), bool)
    for here, there in _opposite_neighbours(labels, rows, columns):
        alone &= (own != here) & (own != there)
        between |= _is_between(levels, own, here, there)
    edges, specks = (np.bincount(own[x], minlength=len(levels)) * 2 > areas for x in (between, alone))
    return Blemishes(suspects & edges, suspects & ~edges & (specks | (areas <= _SPECK)), int((areas > 0).sum()))


def is_solid(labels: Labels, areas: NDArray[np.integer]) -> Flags:
    """Which labels form areas: enough pixels, and 2x2 blocks among them."""
    same = (labels[:-1, :-1] == labels[1:, :-1]) & (labels[:-1, :-1] == labels[:-1, 1:])
    same &= labels[:-1, :-1] == labels[1:, 1:]
    blocks = np.bincount(labels[:-1, :-1][same], minlength=len(areas))
    return (areas >= _LEAST_AREA) & (blocks * 10 >= areas)


def is_gradient(grey: Bytes) -> bool:
    """Whether grey values run into one another over a distance, as a feathered edge does."""
    ramp = (grey > 0) & (grey < grey.max(initial=0))
    steps = 0
    for first, second, one, other in (
        (grey[:-1], grey[1:], ramp[:-1], ramp[1:]),
        (grey[:, :-1], grey[:, 1:], ramp[:, :-1], ramp[:, 1:]),
    ):
        difference = np.abs(first.astype(np.int16) - second)
        steps += int(((difference > 0) & (difference <= 4) & one & other).sum())
    return bool(ramp.any()) and 4 * steps >= int(ramp.sum())


def _opposite_neighbours(labels: Labels, rows: Labels, columns: Labels) -> Iterator[tuple[Labels, Labels]]:
    """The labels on both sides of pixels in four directions; -1 outside of the picture."""
    around = np.pad(labels.astype(np.int64), 1, constant_values=-1)
    for down, right in ((0, 1), (1, 0), (1, 1), (1, -1)):
        yield around[rows + 1 - down, columns + 1 - right], around[rows + 1 + down, columns + 1 + right]


def _is_between(levels: NDArray[np.integer], own: Labels, here: Labels, there: Labels) -> Flags:
    """Whether a pixel's level is a mixture of the levels on both sides of it."""
    levels = levels.astype(np.float32)
    start, way = levels[here], levels[there] - levels[here]
    length = (way**2).sum(1)
    position = ((levels[own] - start) * way).sum(1) / np.maximum(length, 1)
    off = np.abs(levels[own] - start - position[:, None] * way).max(1)
    inside = (here >= 0) & (there >= 0) & (here != own) & (there != own)
    return inside & (length > 0) & (position > 0) & (position < 1) & (off <= _NOISE)


def main_colours(rgb: Bytes) -> Bytes:
    """Black and the colours that cover areas, from the largest down, without those that differ by noise only.

    A narrow band of a colour between two others is left out: that is a smooth edge.

    Returns:
        uint8 (N, 3).
    """
    bins = (rgb >> 5).astype(np.uint16) @ np.array([64, 8, 1], np.uint16)
    areas = np.bincount(bins.ravel(), minlength=512)
    colours, numbers = [np.zeros(3, np.uint8)], [0]
    solid = np.flatnonzero(is_solid(bins, areas))
    for number in solid[np.argsort(-areas[solid], kind="stable")]:
        colour = np.median(rgb[bins == number], axis=0).astype(np.uint8)
        if not _alike(np.array(colours), colour).any():
            colours.append(colour)
            numbers.append(number)
    inner = np.bincount(bins[_inside(bins, 2)], minlength=512)
    levels = np.array(colours)
    others = range(len(levels))
    bands = [
        k > 0
        and inner[numbers[k]] * 20 < areas[numbers[k]]
        and any(_is_between(levels, *np.array([[k], [i], [j]])).any() for i in others for j in range(i))
        for k in others
    ]
    return levels[~np.array(bands)]


def _inside(labels: Labels, radius: int) -> Flags:
    """Which pixels have neighbours of their own label only."""
    around, inside = np.pad(labels, radius, mode="edge"), np.ones(labels.shape, bool)
    for down, right in np.ndindex(2 * radius + 1, 2 * radius + 1):
        inside &= around[down : down + labels.shape[0], right : right + labels.shape[1]] == labels
    return inside


def is_photo(rgb: Bytes, colours: Bytes, num_colours: int) -> bool:
    """Whether the areas of the main colours are not flat.

    Args:
        rgb: uint8 (H, W, 3).
        colours: its main colours.
        num_colours: number of colours in all.
    """
    away, nearest = np.full(rgb.shape[:2], 255, np.int16), np.full(rgb.shape[:2], -1, np.int16)
    for number, colour in enumerate(colours):
        distance = np.abs(rgb.astype(np.int16) - colour).max(axis=-1)
        nearest[distance < np.minimum(away, _ALIKE)] = number
        np.minimum(away, distance, out=away)
    bright = rgb.max(axis=-1) > _NOISE
    inside = _inside(nearest, 1) & bright
    if inside.sum() < _SMALL and bright.sum() < 10 * _SMALL:
        few = num_colours < _COLOURS_OF_A_PHOTO and len(colours) <= _OBJECTS_OF_A_PHOTO
        if few or not inside.any():
            return not few
    if not inside.any():
        return True
    return float((away[inside] <= _NOISE).mean()) < _LEAST_FLAT


def nearest_colours(rgb: Bytes, colours: Bytes) -> Bytes:
    """Return the number of the main colour of each pixel, uint8 (H, W); a pixel like none gets a neighbour's."""
    mask = np.full(rgb.shape[:2], -1, np.int16)
    for number, colour in reversed(list(enumerate(colours))):
        mask[_alike(rgb, colour)] = number
    return fill(mask)


def fill(mask: Labels) -> Bytes:
    """Replace -1 by the value of a neighbouring pixel, repeatedly until no -1 is left."""
    mask = mask.astype(np.int16)
    while (holes := mask < 0).any():
        if holes.all():
            return np.zeros(mask.shape, np.uint8)
        before = np.pad(mask, 1, constant_values=-1)
        for neighbour in (before[:-2, 1:-1], before[2:, 1:-1], before[1:-1, :-2], before[1:-1, 2:]):
            mask = np.where(mask < 0, neighbour, mask)
    return mask.astype(np.uint8)


def _alike(rgb: Bytes, colour: Bytes) -> Flags:
    return np.abs(rgb.astype(np.int16) - colour).max(axis=-1) < _ALIKE
