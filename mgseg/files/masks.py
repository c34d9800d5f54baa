"""Masks: from PNG files as people make them to index maps, back to indexed PNG, the palette.

A mask is a uint8 (H, W) index map: 0 background, 1-254 object ids, 255 void (unknown).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mgseg.errors import InputError
from mgseg.files.pictures import UNREADABLE, check_size, load_picture, reduced_size, write_png

VOID = 255
_CLEAN_HINT = "--clean-mask gives each stray pixel to the object beside it; or save the mask without smooth edges"
_SOFT_VALUES = 16  # more grey values than this are a soft edge or JPEG, not objects
_MANY_PHANTOMS = 8  # so many specks in an indexed mask are no accident; a few do occur in hand-made datasets
_LEAST_AREA = 8  # pixels; less cannot be followed
_ALIKE = 48  # colours closer than this in every channel are one object after JPEG

Mask = NDArray[np.uint8]


def _davis_palette() -> bytes:
    """The colours of PASCAL VOC and DAVIS: the bits of an id, spread over the high bits of R, G and B."""
    colours = np.zeros((256, 3), np.uint8)
    ids = np.arange(256)
    for bit in range(8):
        colours |= ((ids[:, None] >> (3 * bit + np.arange(3)) & 1) << (7 - bit)).astype(np.uint8)
    return colours.tobytes()


DAVIS_PALETTE = _davis_palette()


@dataclass(frozen=True)
class MaskFile:
    """A mask as read.

    Args:
        mask: uint8 (H, W) index map.
        palette: 768 bytes R, G, B of each id if the file had colours, else None.
        by_colour: the ids were made up, one for each colour.
    """

    mask: Mask
    palette: bytes | None = None
    by_colour: bool = False


def read_mask(
    path: str | Path,
    *,
    size: tuple[int, int] | None = None,
    clean: bool = False,
    resize: bool = False,
    may_be_empty: bool = False,
) -> MaskFile:
    """Read a mask as people make them.

    Indexed: the indices, 255 void. Greyscale: 0/255 and 0/1 are one object, other values are ids. Colours: each
    exact colour is an object, numbered from the largest area down, black is background. So is what is transparent.

    Args:
        path: a PNG (or any picture without loss).
        size: (height, width) it must have.
        clean: repair smooth edges and stray specks instead of refusing them.
        resize: scale to `size` (nearest pixel) instead of refusing another size.
        may_be_empty: accept a mask without any object.

    Raises:
        InputError: it cannot be read, is no mask, marks no object, or has another size.
    """
    path = Path(path)
    file = _read(path, clean)
    mask = file.mask
    if size is not None and mask.shape != size:
        found = f"{mask.shape[1]}x{mask.shape[0]}"
        if not resize:
            wanted = f"the clip {size[1]}x{size[0]}"
            raise InputError(f"the mask {path} is {found}, {wanted}", "--resize-mask scales the mask to the clip")
        mask = np.asarray(Image.fromarray(mask).resize((size[1], size[0]), Image.Resampling.NEAREST))
    if not may_be_empty and not object_ids(mask):
        if (mask == VOID).any():
            hint = "255 means void in an indexed mask; give the object another index, or save it as greyscale"
            raise InputError(f"the mask {path} marks no object: all of it is void (255) or background", hint)
        raise InputError(f"the mask {path} marks no object: it is 0 everywhere")
    return replace(file, mask=mask)


def write_mask(path: str | Path, mask: Mask, palette: bytes | None = None, note: str | None = None) -> None:
    """Write a mask as an indexed PNG, whole or not at all.

    Args:
        path: where to; `path.part` exists meanwhile.
        mask: uint8 (H, W) index map.
        palette: 768 bytes; None for DAVIS's.
        note: ASCII text that the file shall carry, see `read_note`.

    Raises:
        OutputError: it cannot be written.
    """
    picture = Image.frombytes("P", (mask.shape[1], mask.shape[0]), np.ascontiguousarray(mask).tobytes())
    picture.putpalette(palette or DAVIS_PALETTE)
    write_png(Path(path), picture, note)


def read_index_map(path: Path, shorter_side: int = 0, *, binary: bool = False, as_stored: bool = False) -> Mask:
    """Read a mask of a dataset or of a result. This is the one reader of index maps: `segment`, `eval`, `train` use it.

    The values are the ids: of an indexed picture its indices, of a grey one (also if stored as RGB) its grey values.
    Black and white means object 1, as in a mask that a user gives. EXIF orientation is applied.

    Args:
        path: the file.
        shorter_side: scale down, never up, by nearest neighbour, until the shorter side is this long; 0 keeps the size.
        binary: the mask is of one object, and may have smooth edges: half of white and more is object 1.
        as_stored: leave black and white as 0 and 255.

    Returns:
        uint8 (H, W), writable.

    Raises:
        InputError: it cannot be read, is in colour without a palette, or has values over 255.
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
    if picture.mode == "P":
        colours = bytes(picture.getpalette("RGB") or [])
        return np.array(picture), colours[:3] == b"\0\0\0" and colours[765:] == b"\xff\xff\xff"
    if picture.mode in ("1", "L"):
        return np.array(picture.convert("L")), True
    if picture.mode in ("I", "F") or picture.mode.startswith("I;16"):
        return _narrow(path, np.asarray(picture)), True
    rgb = np.asarray(picture.convert("RGB"))
    if (rgb != rgb[:, :, :1]).any():
        found = f"a picture in colour (mode {picture.mode})"
        raise InputError(f"{path} is {found}; expected an index map of 8 bits", "save it as indexed PNG")
    return rgb[:, :, 0].copy(), True


def object_ids(mask: Mask) -> tuple[int, ...]:
    """The ids in a mask, ascending, without background and void."""
    counts = np.bincount(mask.ravel(), minlength=256)
    return tuple(int(i) for i in np.flatnonzero(counts[1:VOID]) + 1)


def _read(path: Path, clean: bool) -> MaskFile:
    if not path.is_file():
        raise InputError(f"no such mask: {path}")
    try:
        with Image.open(path) as picture:
            check_size(path, *picture.size)
            picture.load()
            if picture.mode == "P":
                return _from_indices(path, picture, clean)
            if picture.mode in ("I", "F") or picture.mode.startswith("I;16"):
                return MaskFile(_from_grey(path, _narrow(path, np.asarray(picture)), clean))
            if picture.mode in ("1", "L"):
                return MaskFile(_from_grey(path, np.asarray(picture.convert("L")), clean))
            over_black = Image.new("RGBA", picture.size, "black")
            over_black.alpha_composite(picture.convert("RGBA"))  # what is transparent is background
            return _from_colours(path, np.asarray(over_black.convert("RGB")), clean)
    except UNREADABLE as error:
        raise InputError(f"cannot read the mask {path}: {error}") from error


def _from_indices(path: Path, picture: Image.Image, clean: bool) -> MaskFile:
    mask = np.array(picture)
    if "transparency" in picture.info:
        mask[np.asarray(picture.convert("RGBA"))[:, :, 3] == 0] = 0
    colours = bytes(picture.getpalette("RGB") or [])
    palette = colours + DAVIS_PALETTE[len(colours) :]
    if set(np.unique(mask)) == {0, 255} and palette[0:3] == b"\0\0\0" and palette[765:] == b"\xff\xff\xff":
        return MaskFile((mask == 255).astype(np.uint8))  # greyscale 0/255 that a program saved with a palette
    if len(object_ids(mask)) > _MANY_PHANTOMS:
        mask = _without_phantoms(path, mask, clean, "indices", limit=_MANY_PHANTOMS)
    return MaskFile(mask, palette)


def _from_grey(path: Path, grey: Mask, clean: bool) -> Mask:
    values = np.unique(grey)
    if set(values) == {0, 255}:
        return _without_phantoms(path, (grey == 255).astype(np.uint8), clean, "grey values")
    if len(values) > _SOFT_VALUES:
        if not clean:
            raise _not_clean(path, np.bincount(grey.ravel()), "grey values")
        return (grey >= 128).astype(np.uint8)
    return _without_phantoms(path, grey, clean, "grey values")


def _from_colours(path: Path, rgb: Mask, clean: bool) -> MaskFile:
    if (rgb == rgb[:, :, :1]).all():
        return MaskFile(_from_grey(path, np.ascontiguousarray(rgb[:, :, 0]), clean))
    if clean:
        colours = _main_colours(rgb)
        mask = np.full(rgb.shape[:2], -1, np.int16)
        for number, colour in reversed(list(enumerate(colours))):
            mask[_alike(rgb, colour)] = number
        return MaskFile(_fill(mask), _palette_of(colours[1:]), by_colour=True)
    packed = rgb.astype(np.uint32) @ np.array([65536, 256, 1], np.uint32)
    values, inverse, areas = np.unique(packed, return_inverse=True, return_counts=True)
    inverse = inverse.reshape(packed.shape)
    if len(values) > 254 or not (_solid(inverse, areas) | (values == 0)).all():
        raise _not_clean(path, areas, "colours", [f"#{value:06x}" for value in values])
    order = np.argsort(np.where(values == 0, -np.inf, -areas), kind="stable")
    if values[order[0]] != 0:  # no background at all
        order = np.concatenate([[len(values)], order])
    numbers = np.empty(len(values) + 1, np.uint8)
    numbers[order] = np.arange(len(order))
    channels = np.append(values, 0)[order[1:], None] >> np.array([16, 8, 0]) & 255
    return MaskFile(numbers[inverse], _palette_of(channels.astype(np.uint8)), by_colour=True)


def _main_colours(rgb: Mask) -> Mask:
    """Black and the colours that cover areas, from the largest down, without those that differ by noise only."""
    bins = (rgb >> 5).astype(np.uint16) @ np.array([64, 8, 1], np.uint16)
    areas = np.bincount(bins.ravel(), minlength=512)
    colours = [np.zeros(3, np.uint8)]
    solid = np.flatnonzero(_solid(bins, areas))
    for number in solid[np.argsort(-areas[solid], kind="stable")]:
        colour = np.median(rgb[bins == number], axis=0).astype(np.uint8)
        if not _alike(np.array(colours), colour).any():
            colours.append(colour)
    return np.array(colours)


def _alike(rgb: Mask, colour: Mask) -> NDArray[np.bool_]:
    return np.abs(rgb.astype(np.int16) - colour).max(axis=-1) < _ALIKE


def _palette_of(colours: Mask) -> bytes:
    """A palette with these colours (N, 3) from id 1 on."""
    return (DAVIS_PALETTE[:3] + colours.tobytes() + DAVIS_PALETTE[3 + 3 * len(colours) :])[:768]


def _narrow(path: Path, wide: NDArray[np.generic]) -> Mask:
    """A mask of more than 8 bits, if its values allow it: 0/65535 as 0/255, or all within 0..255."""
    values = set(np.unique(wide).tolist())
    if values <= {0, 65535}:
        return (wide == 65535).astype(np.uint8) * np.uint8(255)
    if not all(0 <= value <= 255 and value == int(value) for value in values):
        found = f"its values go from {min(values)} to {max(values)}"
        raise InputError(f"the mask {path} has more than 8 bits a pixel and {found}", "save it with 8 bits")
    return wide.astype(np.uint8)


def _solid(mask: NDArray[np.integer], areas: NDArray[np.integer]) -> NDArray[np.bool_]:
    """Which values form areas rather than edges or specks: enough pixels, and 2x2 blocks among them."""
    same = (mask[:-1, :-1] == mask[1:, :-1]) & (mask[:-1, :-1] == mask[:-1, 1:]) & (mask[:-1, :-1] == mask[1:, 1:])
    blocks = np.bincount(mask[:-1, :-1][same], minlength=len(areas))
    return (areas >= _LEAST_AREA) & (blocks * 10 >= areas)


def _without_phantoms(path: Path, mask: Mask, clean: bool, what: str, limit: int = 1) -> Mask:
    areas = np.bincount(mask.ravel(), minlength=256)
    phantoms = (areas > 0) & ~_solid(mask, areas)
    phantoms[[0, VOID]] = False
    if phantoms.sum() < limit:
        return mask
    if not clean:
        raise _not_clean(path, areas, what)
    return _fill(np.where(phantoms[mask], np.int16(-1), mask))


def _fill(mask: NDArray[np.integer]) -> Mask:
    """Give each pixel that is -1 the value of a neighbour that has one, again and again until none is left."""
    mask = mask.astype(np.int16)
    while (holes := mask < 0).any():
        if holes.all():
            return np.zeros(mask.shape, np.uint8)
        before = np.pad(mask, 1, constant_values=-1)
        for neighbour in (before[:-2, 1:-1], before[2:, 1:-1], before[1:-1, :-2], before[1:-1, 2:]):
            mask = np.where(mask < 0, neighbour, mask)
    return mask.astype(np.uint8)


def _not_clean(path: Path, areas: NDArray[np.integer], what: str, names: Sequence[str] | None = None) -> InputError:
    order = [i for i in np.argsort(-areas, kind="stable") if areas[i]]
    shares = areas / areas.sum() * 100
    top = ", ".join(f"{names[i] if names else i} {shares[i]:.3g} %" for i in order[:8])
    rest = f", and {len(order) - 8} more" if len(order) > 8 else ""
    message = f"the mask {path} has smooth edges or specks: {len(order)} {what} ({top}{rest})"
    return InputError(message, _CLEAN_HINT)
