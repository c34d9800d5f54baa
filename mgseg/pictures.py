"""Pictures as frames: which files of a folder are pictures, in what order, and how one is read."""

import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from mgseg.errors import InputError

PICTURES = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"}
MAX_PIXELS = 2**26  # 67 megapixels a frame, twice 8K video: more is a damaged or hostile header


def list_pictures(folder: Path) -> list[Path]:
    """List a folder's pictures in natural order.

    Raises:
        InputError: there is none.
    """
    paths = [path for path in folder.iterdir() if path.suffix.lower() in PICTURES and path.name[0] != "."]
    if not paths:
        raise InputError(f"{folder} holds no pictures", "pictures are " + ", ".join(sorted(PICTURES)))
    return sorted(paths, key=lambda path: _natural(path.name))


def _natural(name: str) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", name)]


def read_picture(path: Path) -> NDArray[np.uint8]:
    """Read a picture as an upright frame, uint8 (H, W, 3) RGB.

    Raises:
        InputError: it cannot be read or is over MAX_PIXELS.
    """
    try:
        with Image.open(path) as picture:
            check_size(path, *picture.size)
            if picture.mode.startswith("I;16"):  # Pillow's own conversion clips 16 bits instead of scaling
                grey = (np.asarray(picture) >> 8).astype(np.uint8)
                return np.repeat(grey[:, :, None], 3, axis=2)
            return np.array(ImageOps.exif_transpose(picture).convert("RGB"))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise InputError(f"cannot read the picture {path}: {error}") from error


def check_size(path: Path, width: int, height: int) -> None:
    """Refuse a frame of more than MAX_PIXELS before memory is spent on it."""
    if width * height > MAX_PIXELS:
        limit = f"the limit is {MAX_PIXELS:,} pixels a frame"
        raise InputError(f"{path} claims frames of {width}x{height}; {limit}")
