"""Interpretation of pictures as masks, in every form. docs/masks.md describes the rules."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mgseg.errors import InputError
from mgseg.files.flatness import (
    MANY_VALUES,
    Blemishes,
    Labels,
    fill,
    find_blemishes,
    is_gradient,
    is_photo,
    main_colours,
    nearest_colours,
)
from mgseg.files.palettes import (
    BLACK,
    DAVIS_PALETTE,
    GREY_PALETTE,
    HIGHEST_COUNTED,
    VOID,
    WHITE,
    entry,
    id_palette,
    is_void,
)

_FEW_SPECKS = 8  # so many specks do occur in hand-made datasets, which are indexed
_FEW_GREYS = 16  # more grey values than this are a soft edge or JPEG, and cleaned by brightness
_SHADES = 8  # painted greys that differ by less are one, with noise
_MIDDLE_GREYS = range(96, 161)  # "unknown" in a trimap
_CLEAN_HINT = "use --clean-mask to give each stray pixel to the nearest object, or save the mask without smooth edges"

Mask = NDArray[np.uint8]


class _NotFlatError(InputError):
    """Smooth edges, noise or specks."""


class _PhotoError(InputError):
    """A photo."""


@dataclass(frozen=True)
class MaskFile:
    """A mask that was read from a file.

    Args:
        mask: uint8 (H, W) index map.
        palette: 768 bytes R, G, B of each id if the file had colours, else None.
        by_colour: the ids were made up, one for each colour.
        is_white: the file was black and white; id 1 was made up.
    """

    mask: Mask
    palette: bytes | None = None
    by_colour: bool = False
    is_white: bool = False

    def colour_of(self, object_id: int) -> bytes:
        """Return the colour, or grey, of an object in the file."""
        return WHITE if self.is_white else entry(self.palette or GREY_PALETTE, object_id)


def interpret(path: Path, picture: Image.Image, *, clean: bool) -> MaskFile:
    """Turn any picture of a mask into ids. docs/masks.md has the rules.

    Args:
        path: for messages.
        picture: decoded and upright.
        clean: repair smooth edges and specks instead of refusing them.

    Raises:
        InputError: the picture is not a mask, or its meaning is ambiguous.
    """
    if picture.mode in ("I", "F") or picture.mode.startswith("I;16"):
        return _from_grey(path, narrow(path, np.asarray(picture)), clean)
    opaque = _opaque(path, picture)
    if picture.mode == "P" and (palette := id_palette(picture)):
        mask = np.array(picture)
        mask[~opaque] = 0
        if palette == DAVIS_PALETTE:
            return _from_davis(path, mask, clean)
        if _is_flat_enough(_blemishes_of_indices(mask, palette)):
            return MaskFile(mask, palette)
    rgb = np.array(picture.convert("RGBA").convert("RGB"))
    return _from_colours(path, rgb, clean) if opaque.all() else _from_cut_out(path, rgb, opaque, clean)


def narrow(path: Path, wide: NDArray[np.generic]) -> Mask:
    """Convert a mask of more than 8 bits to 8, if its values allow it.

    Values within 0 to 255 stay; multiples of 257 within 0 to 65535 are 8 bits spread over 16; fractions within 0 to 1
    are shares of 255.

    Raises:
        InputError: the values are outside the supported ranges.
    """
    if np.isfinite(wide.astype(np.float64)).all():
        lowest, highest = float(wide.min()), float(wide.max())
        whole = bool((wide == np.rint(wide.astype(np.float64))).all())
        if lowest >= 0 and whole and highest <= 255:
            return wide.astype(np.uint8)
        if lowest >= 0 and whole and highest <= 65535 and not (wide.astype(np.int64) % 257).any():
            return (wide.astype(np.int64) // 257).astype(np.uint8)
        if lowest >= 0 and highest <= 1:
            return np.rint(wide.astype(np.float64) * 255).astype(np.uint8)
        found = f"its values go from {lowest:g} to {highest:g}"
    else:
        found = "some of its values are not numbers (NaN)"
    hint = "give the objects the values 1 to 254, and save the mask with 8 bits a pixel"
    raise InputError(f"the mask {path} has more than 8 bits a pixel and {found}", hint)


def _opaque(path: Path, picture: Image.Image) -> NDArray[np.bool_]:
    """Which pixels belong to the mask by their alpha, (H, W); all of them where there is none, or it is even."""
    if "A" in picture.getbands() or "transparency" in picture.info:
        alpha = np.asarray(picture.convert("RGBA"))[:, :, 3]
        opaque = alpha >= 128
        if opaque.any():
            return opaque
        if (alpha == alpha.flat[0]).all() and alpha.flat[0]:
            return np.ones_like(opaque)
        raise InputError(f"the mask {path} is transparent everywhere", "paint the object with an opaque colour")
    return np.ones((picture.height, picture.width), bool)


def _from_davis(path: Path, mask: Mask, clean: bool) -> MaskFile:
    """Indices are ids, 255 void."""
    blemishes = _blemishes_of_indices(mask, None)
    if _is_flat_enough(blemishes):
        return MaskFile(mask, DAVIS_PALETTE)
    if clean:
        return MaskFile(fill(np.where(blemishes.no_objects[mask], np.int16(-1), mask)), DAVIS_PALETTE)
    raise _not_clean(path, np.bincount(mask.ravel(), minlength=256), "indices", is_smooth=blemishes.is_smooth)


def _is_flat_enough(blemishes: Blemishes) -> bool:
    return not blemishes.is_smooth and blemishes.specks.sum() <= _FEW_SPECKS


def _blemishes_of_indices(mask: Mask, palette: bytes | None) -> Blemishes:
    """By the palette's colours, or by the indices where a smooth edge was made of indices."""
    levels = np.frombuffer(palette, np.uint8).reshape(-1, 3) if palette else np.arange(256)[:, None]
    return find_blemishes(mask, levels, ignore=(0, VOID))


def _from_cut_out(path: Path, rgb: Mask, opaque: NDArray[np.bool_], clean: bool) -> MaskFile:
    """Flat colours are objects, as in any mask; otherwise what is opaque is the one object."""
    rgb[~opaque] = 0
    one_object = MaskFile(opaque.view(np.uint8), is_white=True)
    if not rgb.any():
        return one_object
    try:
        return _from_colours(path, rgb, clean=False)
    except _PhotoError:
        return one_object
    except _NotFlatError:
        if (rgb == rgb[:, :, :1]).all() or len(main_colours(rgb)) <= 2:
            return one_object
        return _from_colours(path, rgb, clean)


def _from_grey(path: Path, grey: Mask, clean: bool) -> MaskFile:
    areas = np.bincount(grey.ravel(), minlength=256)
    others = [int(value) for value in np.flatnonzero(areas) if value not in (0, VOID)]
    if not others:
        return MaskFile((grey > 0).view(np.uint8), is_white=bool(areas[VOID]))
    if areas[VOID] and len(others) == 1 and _is_trimap(grey, others[0]):
        return MaskFile(np.select([grey == VOID, grey == others[0]], [1, VOID], 0).astype(np.uint8), is_white=True)
    blemishes = find_blemishes(grey, np.arange(256)[:, None], ignore=(0, VOID))
    is_noisy = bool(areas[VOID]) and min(others) > HIGHEST_COUNTED and min(np.diff([*others, VOID])) < _SHADES
    if len(others) + bool(areas[VOID]) == 1 or not (is_noisy or blemishes.no_objects.any() or is_gradient(grey)):
        return _from_flat_greys(path, grey, others)
    if not clean:
        is_smooth = is_noisy or blemishes.is_smooth or len(others) > _FEW_GREYS
        raise _not_clean(path, areas, "grey values", is_smooth=is_smooth)
    return _cleaned_grey(path, grey, blemishes, is_few=len(others) <= _FEW_GREYS and not is_noisy)


def _cleaned_grey(path: Path, grey: Mask, blemishes: Blemishes, *, is_few: bool) -> MaskFile:
    """One object by half of its brightness; several by the neighbours if values are few, else by the main greys."""
    objects = np.flatnonzero(np.bincount(grey.ravel()) * ~blemishes.no_objects[: int(grey.max()) + 1])
    rgb = np.repeat(grey[:, :, None], 3, axis=2)
    colours = main_colours(rgb)
    if (objects > 0).sum() <= 1 if is_few else len(colours) <= 2:
        peak = int(grey.max())
        marked = 2 * grey.astype(np.int16) >= peak
        return MaskFile(marked * np.uint8(1 if peak > HIGHEST_COUNTED else peak), is_white=peak > HIGHEST_COUNTED)
    if is_few:
        return _from_grey(path, fill(np.where(blemishes.no_objects[grey], np.int16(-1), grey)), clean=False)
    _check_is_no_photo(path, rgb, colours, len(np.unique(grey)))
    return _by_main_colours(path, rgb, colours)


def _check_is_no_photo(path: Path, rgb: Mask, colours: Mask, num_colours: int) -> None:
    if is_photo(rgb, colours, num_colours):
        hint = "a mask has one flat colour for each object and is black elsewhere; hide the photo before you save"
        raise _PhotoError(f"the mask {path} has {num_colours:,} colours, as a photo has", hint)


def _from_flat_greys(path: Path, grey: Mask, others: Sequence[int]) -> MaskFile:
    """Flat grey values: ids, 255 void beside low ones; or painted greys, white among them."""
    is_covered = bool((grey == 0).any()) or len(others) > 1
    if not (grey == VOID).any() or (is_void(others) and is_covered):
        return MaskFile(grey)
    if others and min(others) <= HIGHEST_COUNTED:
        values = f"{others[0]} to {others[-1]}"
        hint = "paint void as 0 and each object with a value from 1 to 254"
        raise InputError(f"the mask {path} has the grey values {values} and 255, which may be an object or void", hint)
    return _number_colours(path, np.repeat(grey[:, :, None], 3, axis=2))


def _is_trimap(grey: Mask, middle: int) -> bool:
    """Whether one middle grey lies all around white, so that white and black hardly touch."""
    if middle not in _MIDDLE_GREYS:
        return False
    pairs = ((grey[:-1], grey[1:]), (grey[:, :-1], grey[:, 1:]))
    touching = sum(int((((a == 0) & (b == 255)) | ((a == 255) & (b == 0))).sum()) for a, b in pairs)
    around = sum(int((((a == middle) & (b == 255)) | ((a == 255) & (b == middle))).sum()) for a, b in pairs)
    return around > 20 * touching


def _from_colours(path: Path, rgb: Mask, clean: bool) -> MaskFile:
    if (rgb == rgb[:, :, :1]).all():
        return _from_grey(path, np.ascontiguousarray(rgb[:, :, 0]), clean)
    values, labels, levels = _distinct(rgb)
    is_smooth = is_dirty = True
    if len(values) <= MANY_VALUES:
        blemishes = find_blemishes(labels, levels, ignore=np.flatnonzero(values == 0))
        if blemishes.num_values == 1 or not blemishes.no_objects.any():
            return _number_colours(path, rgb)
        is_smooth = blemishes.is_smooth
        is_dirty = is_smooth or bool(10 * blemishes.specks.sum() > len(values))
    colours = main_colours(rgb)
    if is_dirty:
        _check_is_no_photo(path, rgb, colours, len(values))
    if clean:
        return _by_main_colours(path, rgb, colours)
    raise _not_clean(path, np.bincount(labels.ravel()), "colours", [f"#{v:06x}" for v in values], is_smooth=is_smooth)


def _distinct(rgb: Mask) -> tuple[NDArray[np.uint32], Labels, Mask]:
    """The colours packed (K,), their places (H, W), and the colours as uint8 (K, 3)."""
    packed = rgb.astype(np.uint32) @ np.array([65536, 256, 1], np.uint32)
    values, labels = np.unique(packed, return_inverse=True)
    levels = values[:, None] >> np.array([16, 8, 0], np.uint32) & 255
    return values, labels.reshape(packed.shape), levels.astype(np.uint8)


def _number_colours(path: Path, rgb: Mask) -> MaskFile:
    """Number the colours from the largest area down; black is background, or else white if it is the largest."""
    values, labels, levels = _distinct(rgb)
    order = np.argsort(-np.bincount(labels.ravel()), kind="stable")
    largest_is_white = (levels[order[0]] == 255).all()
    background = 0 if values[0] == 0 else order[0] if largest_is_white else -1
    order = order[order != background]
    if len(order) > 254:
        raise InputError(f"the mask {path} has {len(order)} flat colours; at most 254 objects can be segmented")
    numbers = np.zeros(len(values), np.uint8)
    numbers[order] = np.arange(1, len(order) + 1)
    return MaskFile(numbers[labels], _palette_of(levels[order]), by_colour=True)


def _by_main_colours(path: Path, rgb: Mask, colours: Mask) -> MaskFile:
    return MaskFile(nearest_colours(rgb, colours), _palette_of(colours[1:]), by_colour=True)


def _palette_of(colours: Mask) -> bytes:
    """A palette with these colours (N, 3) from id 1 on."""
    return (BLACK + colours.tobytes() + DAVIS_PALETTE[3 + 3 * len(colours) :])[:768]


def _not_clean(
    path: Path,
    areas: NDArray[np.integer],
    what: str,
    names: Sequence[str] | None = None,
    *,
    is_smooth: bool,
) -> InputError:
    order = [i for i in np.argsort(-areas, kind="stable") if areas[i]]
    shares = areas / areas.sum() * 100
    top = ", ".join(f"{names[i] if names else i} {shares[i]:.3g} %" for i in order[:8])
    rest = f", and {len(order) - 8} more" if len(order) > 8 else ""
    found = "smooth edges or noise" if is_smooth else "specks, a few pixels of another value"
    return _NotFlatError(f"the mask {path} has {found}: {len(order)} {what} ({top}{rest})", _CLEAN_HINT)
