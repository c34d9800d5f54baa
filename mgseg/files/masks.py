"""Reading of masks into index maps; writing of indexed PNGs.

A mask is a uint8 (H, W) index map: 0 background, 1-254 object ids, 255 void (unknown).
"""

import json
from collections.abc import Mapping
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
from PIL import Image

from mgseg.errors import InputError
from mgseg.files.mask_forms import Mask as Mask  # these have their public place here
from mgseg.files.mask_forms import MaskFile as MaskFile
from mgseg.files.mask_forms import interpret, narrow
from mgseg.files.names import reads_once
from mgseg.files.palettes import DAVIS_PALETTE as DAVIS_PALETTE
from mgseg.files.palettes import VOID as VOID
from mgseg.files.palettes import WHITE as WHITE
from mgseg.files.palettes import id_palette
from mgseg.files.pictures import (
    CONFIDENCE_NOTE,
    SETTINGS_NOTE,
    UNREADABLE,
    load_picture,
    read_note,
    reduced_size,
    write_png,
)

_RESIZE_HINT = "use --resize-mask to scale the mask to the clip"


def read_mask(
    path: str | Path,
    *,
    size: tuple[int, int] | None = None,
    clean: bool = False,
    resize: bool = False,
    pixel_aspect: Fraction = Fraction(1),
    turned_by: str | None = None,
    may_be_empty: bool = False,
) -> MaskFile:
    """Read a mask in any form; docs/masks.md describes the forms.

    In short. Indexed: the indices, 255 void. Greyscale: 0/255 and 0/1 are one object, other values are ids. Colours:
    each exact colour is an object, numbered from the largest area down, black is background. So is what is transparent.

    Args:
        path: a PNG (or any picture without loss).
        size: (height, width) it must have.
        clean: repair smooth edges and stray specks instead of refusing them.
        resize: scale to `size` (nearest pixel) instead of refusing another size of the same aspect.
        pixel_aspect: pixel aspect of the clip; a mask may have the aspect at which the clip is shown.
        turned_by: what turns the clip's frames ("EXIF"), if anything does; for a hint.
        may_be_empty: accept a mask without any object.

    Raises:
        InputError: the file cannot be read, is not a mask, marks no object, or has the wrong size or aspect ratio.
    """
    path = Path(path)
    if reads_once(path):
        again = "a mask is read again when its frame comes"
        raise InputError(f"the mask {path} can be read only once, but {again}", "save it to a file first")
    if not path.is_file():
        raise InputError(f"no such mask: {path}")
    picture = load_picture(path, "the mask")
    try:
        file = interpret(path, picture, clean=clean)
    except UNREADABLE as error:
        raise InputError(f"cannot read the mask {path}: {error}") from error
    mask = file.mask
    if size is not None:
        mask = fit_mask(mask, f"the mask {path}", size, resize=resize, pixel_aspect=pixel_aspect, turned_by=turned_by)
    if not may_be_empty and not object_ids(mask):
        if (mask == VOID).any():
            hint = "255 means void (ignored) in an indexed PNG; give the object another index, or save as greyscale"
            raise InputError(f"the mask {path} marks no object: every pixel is void (255) or background", hint)
        raise InputError(
            f"the mask {path} marks no object: it is 0 everywhere", "paint each object with a value from 1 to 254"
        )
    return replace(file, mask=mask)


def fit_mask(
    mask: Mask,
    name: str,
    size: tuple[int, int],
    *,
    resize: bool = False,
    pixel_aspect: Fraction = Fraction(1),
    turned_by: str | None = None,
) -> Mask:
    """Check that a mask has the clip's size, or scale it; see `read_mask`.

    Raises:
        InputError: the mask has the wrong size or aspect ratio; `name` stands for it in the message.
    """
    if mask.shape == size:
        return mask
    hint = _size_hint(mask.shape, size, pixel_aspect, turned_by)
    if not resize or hint != _RESIZE_HINT:
        raise InputError(f"{name} is {mask.shape[1]}x{mask.shape[0]}, the clip is {size[1]}x{size[0]}", hint)
    return np.asarray(Image.fromarray(mask).resize((size[1], size[0]), Image.Resampling.NEAREST))


def _size_hint(found: tuple[int, ...], size: tuple[int, int], pixel_aspect: Fraction, turned_by: str | None) -> str:
    """Return the hint for a mask whose (height, width) differs from the clip's."""

    def has_aspect(height: int, width: int) -> bool:
        ratio = found[1] * height / (found[0] * width)
        slack = 0.01 + 1 / min(found)  # of rounding
        return any(abs(ratio / aspect - 1) <= slack for aspect in (1, float(pixel_aspect)))

    if has_aspect(*size):
        return _RESIZE_HINT
    if not has_aspect(*size[::-1]):
        return "the two differ in shape; make the mask from a frame of this clip, uncropped"
    if turned_by:
        return f"the clip's frames are turned by {turned_by} when they are shown; turn the mask in the same way"
    return "turn the mask by a quarter turn, so that it lies as the clip's frames do"


def write_mask(
    path: str | Path,
    mask: Mask,
    palette: bytes | None = None,
    note: str | None = None,
    confidence: Mapping[int, float] | None = None,
) -> None:
    """Write a mask as an indexed PNG, whole or not at all.

    Args:
        path: where to; `path.part` exists meanwhile.
        mask: uint8 (H, W) index map.
        palette: 768 bytes; None for DAVIS's.
        note: ASCII text that the file shall carry, see `read_note`.
        confidence: predicted J by object id that the file shall carry, see `read_confidence`.

    Raises:
        OutputError: it cannot be written.
    """
    picture = Image.frombytes("P", (mask.shape[1], mask.shape[0]), np.ascontiguousarray(mask).tobytes())
    picture.putpalette(palette or DAVIS_PALETTE)
    notes = {} if note is None else {SETTINGS_NOTE: note}
    if confidence is not None:
        notes[CONFIDENCE_NOTE] = json.dumps({str(i): round(value, 4) for i, value in confidence.items()})
    write_png(Path(path), picture, notes)


def read_confidence(path: Path) -> dict[int, float] | None:
    """Read the predicted J by object id that `write_mask` stored in a mask file; None if there is none.

    Raises:
        InputError: the file cannot be read.
    """
    try:
        return {int(i): float(value) for i, value in json.loads(read_note(path, CONFIDENCE_NOTE) or "").items()}
    except (ValueError, AttributeError, TypeError):
        return None


def read_index_map(path: Path, shorter_side: int = 0, *, binary: bool = False, as_stored: bool = False) -> Mask:
    """Read a mask of a dataset or of a result. This is the one reader of index maps: `segment`, `eval`, `train` use it.

    The values are the ids: of an indexed picture its indices, of a grey one (also if stored as RGB, or with a grey
    palette) its grey values. Black and white means object 1, as in a mask that a user gives. EXIF orientation is
    applied.

    Args:
        path: the file.
        shorter_side: scale down, never up, by nearest neighbour, until the shorter side is this long; 0 keeps the size.
        binary: the mask is of one object, and may have smooth edges: half of white and more is object 1.
        as_stored: leave black and white as 0 and 255.

    Returns:
        uint8 (H, W), writable.

    Raises:
        InputError: the file cannot be read, is in colour without a palette, or has values over 255.
    """
    path = Path(path)
    picture = load_picture(path, "the mask")
    try:
        mask, white = _stored_values(path, picture)
    except UNREADABLE as error:
        raise InputError(f"cannot read the mask {path}: {error}") from error
    if binary:
        mask = (mask >= 128 if mask.max(initial=0) > 1 else mask > 0).view(np.uint8)
    elif white and not as_stored and mask.max(initial=0) == 255 and not ((mask > 0) & (mask < 255)).any():
        mask = (mask > 0).view(np.uint8)
    size = reduced_size(picture.size, shorter_side)
    if size == picture.size:
        return mask
    return np.array(Image.fromarray(mask).resize(size, Image.Resampling.NEAREST))


def _stored_values(path: Path, picture: Image.Image) -> tuple[Mask, bool]:
    """The values of an index map, and whether 255 is white in it."""
    if picture.mode in ("I", "F") or picture.mode.startswith("I;16"):
        return narrow(path, np.asarray(picture)), True
    if picture.mode == "P":
        colours = bytes(picture.getpalette("RGB") or [])
        if colours == DAVIS_PALETTE[: len(colours)] or id_palette(picture):
            return np.array(picture), False
    elif picture.mode == "L":
        return np.array(picture), True
    rgb = np.asarray(picture.convert("RGBA").convert("RGB"))
    if (rgb == rgb[:, :, :1]).all():
        return rgb[:, :, 0].copy(), True
    if picture.mode == "P":  # a dataset's own palette
        return np.array(picture), False
    found = f"a picture in colour (mode {picture.mode})"
    raise InputError(f"{path} is {found}; expected object numbers of 8 bits", "save it as an indexed PNG")


def as_index_map(array: object, size: tuple[int, int]) -> Mask:
    """Check a mask given as an array: a uint8 index map, or bool for object 1, of a size (height, width).

    Raises:
        InputError: it is anything else, or contains only 255, which means void, not the object of a 0/255 mask.
    """
    if not isinstance(array, np.ndarray):
        hint = "convert a list or a Pillow picture with np.asarray(...), a tensor with .cpu().numpy()"
        raise InputError(f"a mask must be a NumPy array, found {type(array).__name__}", hint)
    if array.shape != size or array.dtype not in (np.uint8, np.bool_):
        hint = (
            "resize it with nearest-neighbour interpolation"
            if array.shape != size
            else "object ids are 1 to 254: astype(np.uint8)"
        )
        raise InputError(
            f"a mask must be uint8 or bool and of the frame's size {size}, found {array.dtype} {array.shape}", hint
        )
    mask = array.astype(np.uint8, copy=False)
    if (mask == VOID).any() and not object_ids(mask):
        raise InputError(
            "the mask marks no object: it contains 255 alone, which means void", "convert a 0/255 mask with: mask > 127"
        )
    return mask


def object_ids(mask: Mask) -> tuple[int, ...]:
    """Return the ids in a mask, ascending, without background and void."""
    counts = np.bincount(mask.ravel(), minlength=256)
    return tuple(int(i) for i in np.flatnonzero(counts[1:VOID]) + 1)
