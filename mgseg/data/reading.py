"""Read pictures and masks for training, small enough to be kept in memory; broken files become `DatasetError`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from mgseg.data.scene import UInt8Array
from mgseg.errors import DatasetError
from mgseg.files.pictures import UNREADABLE


def reduced_size(size: tuple[int, int], shorter_side: int) -> tuple[int, int]:
    """Scale (width, height) so that the shorter side is at most `shorter_side`; 0 leaves it."""
    factor = shorter_side / min(size)
    if shorter_side == 0 or factor >= 1:
        return size
    return round(size[0] * factor), round(size[1] * factor)


def read_picture(path: Path, shorter_side: int = 0) -> UInt8Array:
    """Read uint8 (h, w, 3) RGB, made smaller (never larger) to a shorter side.

    Raises:
        DatasetError: the file is missing or damaged.
    """
    try:
        with Image.open(path) as image:
            size = reduced_size(image.size, shorter_side)
            image.draft("RGB", size)  # JPEG decodes at a half or a quarter of its size at a fraction of the time
            picture = image.convert("RGB")
            if picture.size != size:
                picture = picture.resize(size, Image.Resampling.BILINEAR, reducing_gap=2.0)
            return np.array(picture)  # a copy: torch takes no read-only memory
    except UNREADABLE as error:
        raise DatasetError(f"{path}: cannot be read as a picture ({error})") from error


def read_labels(path: Path, shorter_side: int = 0) -> UInt8Array:
    """Read an index map, uint8 (h, w), made smaller to a shorter side by nearest neighbour.

    Raises:
        DatasetError: the file is missing, damaged, or no 8-bit index map.
    """
    try:
        with Image.open(path) as image:
            if image.mode not in ("L", "P", "1"):
                raise DatasetError(f"{path}: expected a mask of one 8-bit channel, found mode {image.mode}")
            mask = image.convert("L") if image.mode == "1" else image
            return reduce_labels(np.array(mask), shorter_side)
    except UNREADABLE as error:
        raise DatasetError(f"{path}: cannot be read as a mask ({error})") from error


def reduce_labels(mask: UInt8Array, shorter_side: int) -> UInt8Array:
    """Make an index map smaller to a shorter side, by nearest neighbour."""
    height, width = mask.shape
    size = reduced_size((width, height), shorter_side)
    return mask if size == (width, height) else np.array(Image.fromarray(mask).resize(size, Image.Resampling.NEAREST))


def find_objects(mask: UInt8Array, min_area: float) -> list[int]:
    """Find the ids 1..254 that cover at least a share `min_area` of the mask."""
    counts = Image.fromarray(mask).histogram()
    return [object_id for object_id in range(1, 255) if counts[object_id] >= min_area * mask.size]
