"""Pictures as frames: listing a folder in order, reading and writing a picture."""

import io
import os
import re
import struct
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError
from PIL.PngImagePlugin import PngInfo

from mgseg.errors import InputError
from mgseg.files.whole_file import write_whole

PICTURE_KINDS = {
    **dict.fromkeys((".jpg", ".jpeg", ".jpe", ".jfif"), "JPEG"),
    ".png": "PNG",
    ".bmp": "BMP",
    ".webp": "WebP",
    ".tif": "TIFF",
    ".tiff": "TIFF",
}
PICTURES = set(PICTURE_KINDS)
# Formats that are not read as frames. Among frames they are an error, not silently skipped.
OTHER_PICTURES = {
    *(".gif", ".heic", ".heif", ".avif", ".exr", ".hdr", ".jp2", ".jxl", ".psd", ".tga", ".ppm", ".pgm", ".dpx"),
    *(".dng", ".cr2", ".cr3", ".nef", ".arw"),
}
MAX_PIXELS = 2**26  # 67 megapixels a frame, twice 8K video: more is a damaged or hostile header

# What Pillow raises for a file that is missing, cut short, no picture, damaged, or absurdly large.
UNREADABLE = (
    *(OSError, ValueError, SyntaxError, TypeError, LookupError, EOFError, OverflowError),
    *(struct.error, zlib.error, Image.DecompressionBombError),
)
_PROGRAMS = {"EPS", "WMF"}  # drawn by other programs (Ghostscript), which is no way to treat a file of unknown origin
_QUARTER_TURNS = (5, 6, 7, 8)  # of EXIF orientation
SETTINGS_NOTE, CONFIDENCE_NOTE = "mgseg", "mgseg confidence"  # keywords of PNG text chunks


def list_pictures(folder: Path) -> list[Path]:
    """List a folder's pictures in natural order.

    Raises:
        InputError: there are no pictures, or the folder cannot be read.
    """
    try:
        with os.scandir(folder) as entries:
            files = [entry for entry in entries if entry.is_file() or (entry.is_symlink() and not entry.is_dir())]
        paths = [Path(file) for file in files if file.name[0] != "." and Path(file).suffix.lower() in PICTURES]
    except OSError as error:
        raise InputError(f"cannot read the folder {folder}: {error.strerror}") from error
    if not paths:
        raise InputError(f"{folder} contains no pictures", "supported: " + ", ".join(sorted(PICTURES)))
    return sorted(paths, key=lambda path: _natural(path.name))


def _natural(name: str) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", name)]


def read_picture(path: Path, shorter_side: int = 0) -> NDArray[np.uint8]:
    """Read a picture as an upright frame. This is the one reader of frames: `segment`, `eval` and `train` use it.

    More than 8 bits are scaled to 8, see `_narrow`. EXIF orientation is applied.

    Args:
        path: the file.
        shorter_side: scale down, never up, until the shorter side is this long; 0 keeps the size.

    Returns:
        uint8 (H, W, 3) RGB, writable.

    Raises:
        InputError: the picture cannot be read or has more than MAX_PIXELS.
    """
    picture, size = _load(path, "the picture", shorter_side)
    try:
        if picture.mode in ("I", "F") or picture.mode.startswith("I;16"):
            picture = Image.fromarray(_narrow(path, np.asarray(picture)))
        if "transparency" in picture.info:
            picture = picture.convert("RGBA")  # Pillow warns about any other way
        picture = picture.convert("RGB")
        if picture.size != size:
            picture = picture.resize(size, Image.Resampling.BILINEAR, reducing_gap=2.0)
        return np.array(picture)
    except UNREADABLE as error:
        raise InputError(f"cannot read the picture {path}: {error}") from error


def load_picture(path: Path, what: str) -> Image.Image:
    """Open and decode a picture, rotated by its EXIF orientation.

    Args:
        path: the file.
        what: "the picture" or "the mask", for the error.

    Raises:
        InputError: the picture cannot be read or has more than MAX_PIXELS.
    """
    return _load(path, what, 0)[0]


def _load(path: Path, what: str, shorter_side: int) -> tuple[Image.Image, tuple[int, int]]:
    """Load a picture, and say what size it is to have; a JPEG may come smaller, but not below that."""
    try:
        with Image.open(path) as picture:
            check_size(path, *picture.size)
            if picture.format in _PROGRAMS:
                raise InputError(f"{what} {path} is {picture.format}, a vector format without pixels", "save it as PNG")
            size = reduced_size(picture.size, shorter_side)  # from the full size, because the draft's sides are rounded
            if shorter_side:  # a JPEG decodes at a half or a quarter of its size in a fraction of the time
                picture.draft("RGB", size)
            picture.load()
            turned = picture.getexif().get(ExifTags.Base.Orientation, 1) in _QUARTER_TURNS
            ImageOps.exif_transpose(picture, in_place=True)
            return picture, size[::-1] if turned else size
    except UnidentifiedImageError as error:
        hint = "the file is damaged or in an unsupported format; save it as PNG"
        raise InputError(f"cannot read {what} {path}: it is not a picture", hint) from error
    except UNREADABLE as error:
        raise InputError(f"cannot read {what} {path}: {error}") from error


def reduced_size(size: tuple[int, int], shorter_side: int) -> tuple[int, int]:
    """Scale (width, height) so that the shorter side is at most `shorter_side`; 0 leaves it."""
    factor = shorter_side / min(size)
    if shorter_side == 0 or factor >= 1:
        return size
    return round(size[0] * factor), round(size[1] * factor)


def _narrow(path: Path, wide: NDArray[np.generic]) -> NDArray[np.uint8]:
    """Scale grey values of more than 8 bits to 8.

    16 bits are scaled by their range. Floats up to 16 are taken as 0 to 1 (what is brighter is clipped), as EXR and
    most programs have them. Other floats and 32-bit integers are taken as 0 to 255 or 0 to 65535, whichever holds them.
    """
    if wide.dtype.itemsize == 2:
        return (wide.astype(np.uint16) >> 8).astype(np.uint8)
    values = np.nan_to_num(wide.astype(np.float64), posinf=1.0)
    highest = values.max(initial=0)
    is_float = wide.dtype.kind == "f"
    scale = next((s for most, s in ((16 * is_float, 255.0), (255, 1.0), (65535, 1 / 257)) if highest <= most), None)
    if scale is None:
        raise InputError(
            f"the picture {path} has values up to {highest:g}, expected at most 65535",
            "scale them to 16 bits, 0 to 65535",
        )
    return np.clip(np.rint(values * scale), 0, 255).astype(np.uint8)


def read_size(path: Path) -> tuple[int, int] | None:
    """Read (height, width) from a picture's header, before rotation; None if it cannot be read."""
    try:
        with Image.open(path) as picture:
            return picture.height, picture.width
    except UNREADABLE:
        return None


def is_indexed(path: Path) -> bool:
    """Whether a picture has a palette or one bit, like masks but not frames; False if it cannot be read."""
    try:
        with Image.open(path) as picture:
            return picture.mode in ("P", "1")
    except UNREADABLE:
        return False


def is_turned(path: Path) -> bool:
    """Whether the EXIF orientation rotates a picture by a quarter turn.

    Raises:
        InputError: the picture cannot be read.
    """
    try:
        with Image.open(path) as picture:
            return picture.getexif().get(ExifTags.Base.Orientation, 1) in _QUARTER_TURNS
    except UNREADABLE as error:
        raise InputError(f"cannot read the picture {path}: {error}") from error


def check_size(path: Path, width: int, height: int) -> None:
    """Raise an InputError for a frame of more than MAX_PIXELS, before memory is allocated."""
    if width * height > MAX_PIXELS:
        limit = f"the limit is {MAX_PIXELS:,} pixels a frame"
        raise InputError(f"{path} claims to have frames of {width}x{height}; {limit}")


def write_png(path: Path, picture: Image.Image, notes: Mapping[str, str] | None = None) -> None:
    """Write a picture as PNG, whole or not at all; `notes` are ASCII texts by keyword, for `read_note`.

    Raises:
        OutputError: it cannot be written.
    """
    data, text = io.BytesIO(), PngInfo()
    for keyword, note in (notes or {}).items():
        text.add_text(keyword, note)
    picture.save(data, "PNG", compress_level=1, pnginfo=text)  # masks are flat: higher levels cost time and save little
    write_whole(path, data.getbuffer())


def read_note(path: Path, keyword: str = SETTINGS_NOTE) -> str | None:
    """Read a note that `write_png` stored, without reading the pixels; None if there is none.

    Raises:
        InputError: the picture cannot be read.
    """
    try:
        with Image.open(path) as picture:
            check_size(path, *picture.size)
            note = picture.info.get(keyword)
    except UNREADABLE as error:
        raise InputError(f"cannot read {path}: {error}") from error
    return note if isinstance(note, str) else None
