"""Pictures as frames: which files of a folder are pictures, in what order, and how one is read and written."""

import io
import re
import struct
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps
from PIL.PngImagePlugin import PngInfo

from mgseg.errors import InputError, OutputError

PICTURES = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"}
MAX_PIXELS = 2**26  # 67 megapixels a frame, twice 8K video: more is a damaged or hostile header

# What Pillow raises for a file that is missing, cut short, no picture, damaged, or absurdly large.
UNREADABLE = (
    *(OSError, ValueError, SyntaxError, TypeError, LookupError, EOFError, OverflowError),
    *(struct.error, zlib.error, Image.DecompressionBombError),
)
_NOTE = "mgseg"  # keyword of the PNG text chunk


def list_pictures(folder: Path) -> list[Path]:
    """List a folder's pictures in natural order.

    Raises:
        InputError: there is none, or the folder cannot be read.
    """
    try:
        paths = [path for path in folder.iterdir() if path.suffix.lower() in PICTURES and path.name[0] != "."]
    except OSError as error:
        raise InputError(f"cannot read the folder {folder}: {error.strerror}") from error
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
    except UNREADABLE as error:
        raise InputError(f"cannot read the picture {path}: {error}") from error


def check_size(path: Path, width: int, height: int) -> None:
    """Refuse a frame of more than MAX_PIXELS before memory is spent on it."""
    if width * height > MAX_PIXELS:
        limit = f"the limit is {MAX_PIXELS:,} pixels a frame"
        raise InputError(f"{path} claims frames of {width}x{height}; {limit}")


def write_png(path: Path, picture: Image.Image, note: str | None = None) -> None:
    """Write a picture as PNG, whole or not at all; `note` is ASCII text for `read_note`.

    Raises:
        OutputError: it cannot be written.
    """
    data, text = io.BytesIO(), PngInfo()
    if note is not None:
        text.add_text(_NOTE, note)
    picture.save(data, "PNG", compress_level=1, pnginfo=text)  # masks are flat: higher levels cost time and save little
    part = path.with_name(path.name + ".part")
    try:
        part.write_bytes(data.getbuffer())
        part.replace(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise OutputError(f"cannot write {path}: {error.strerror}") from error


def read_note(path: Path) -> str | None:
    """The note that `write_png` left in a file, None if it has none; the pixels are not read.

    Raises:
        InputError: it cannot be read.
    """
    try:
        with Image.open(path) as picture:
            check_size(path, *picture.size)
            note = picture.info.get(_NOTE)
    except UNREADABLE as error:
        raise InputError(f"cannot read {path}: {error}") from error
    return note if isinstance(note, str) else None
