"""Masks from shapes: polygons are filled; boxes and strokes are segmented by GrabCut."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from mgseg.errors import InputError
from mgseg.files.grabcut import cut_object
from mgseg.segment.mask_sources import Shape

Mask = NDArray[np.uint8]


def needs_frame(shapes: Sequence[Shape]) -> bool:
    """Whether the frame's picture is needed."""
    return any(shape.kind != "poly" for shape in shapes)


def draw_shapes(shapes: Sequence[tuple[int, Shape]], taken: Mask, image: NDArray[np.uint8]) -> Mask:
    """Make a mask of shapes.

    Args:
        shapes: with the number of the object of each.
        taken: uint8 (H, W), what other sources say of the frame; their objects stay as they are.
        image: uint8 (H, W, 3), RGB, the frame.

    Returns:
        uint8 (H, W) of the shapes' objects. Where two that were cut out overlap, the smaller one lies on top.

    Raises:
        InputError: an object comes out empty, or two polygons overlap.
    """
    size = (taken.shape[0], taken.shape[1])
    mask = np.zeros(size, np.uint8)
    found = []
    for number in dict.fromkeys(number for number, _ in shapes):
        own = [shape for other, shape in shapes if other == number]
        pixels = _cut(own, size, image) if needs_frame(own) else _polygons(own, size)
        if not pixels.any():
            drawn = " ".join(map(str, own))
            raise InputError(f"nothing was found for object {number} in {drawn}", "add a stroke, or give a polygon")
        found.append((needs_frame(own), -int(pixels.sum()), number, pixels))
    for is_cut, _, number, pixels in sorted(found, key=lambda item: (not item[0], item[1])):
        other = mask[pixels & (mask > 0)]
        if not is_cut and other.size and not any(item[0] for item in found):
            first, second = sorted((int(other[0]), number))
            raise InputError(f"the polygons of objects {first} and {second} overlap on {other.size} pixels")
        mask[pixels] = number
    return mask


def _polygons(shapes: Sequence[Shape], size: tuple[int, int]) -> NDArray[np.bool_]:
    picture = Image.new("1", (size[1], size[0]))
    pen = ImageDraw.Draw(picture)
    for shape in shapes:
        pen.polygon([(x - 0.5, y - 0.5) for x, y in shape.points], fill=1)  # Pillow counts from pixel centres
    return np.array(picture)


def _cut(shapes: Sequence[Shape], size: tuple[int, int], image: NDArray[np.uint8]) -> NDArray[np.bool_]:
    start = [shape for shape in shapes if shape.kind == "poly"]
    outline = _polygons(start, size) if start else None
    plus, minus = (_strokes([shape for shape in shapes if shape.kind == kind], size) for kind in ("on", "off"))
    boxes = [shape for shape in shapes if shape.kind == "box"]
    if not boxes:
        return cut_object(image, start=outline, plus=plus, minus=minus)
    parts = []
    for box in boxes:
        (left, top), (right, bottom) = box.points
        corners = math.floor(left), math.floor(top), math.ceil(right), math.ceil(bottom)
        parts.append(cut_object(image, corners, start=outline, plus=plus, minus=minus))
    return np.logical_or.reduce(parts)


def _strokes(shapes: Sequence[Shape], size: tuple[int, int]) -> NDArray[np.bool_] | None:
    """Lines through the points, as wide as a hundredth of the frame's shorter side."""
    if not shapes:
        return None
    picture = Image.new("1", (size[1], size[0]))
    pen = ImageDraw.Draw(picture)
    width = max(3, min(size) // 100)
    for shape in shapes:
        pen.line(shape.points, fill=1, width=width, joint="curve")
        for x, y in (shape.points[0], shape.points[-1]):
            pen.ellipse((x - width / 2, y - width / 2, x + width / 2, y + width / 2), fill=1)
    return np.array(picture)
