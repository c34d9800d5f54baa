"""Palettes of masks: DAVIS's palette; whether the indices of an indexed picture are object ids or only colours."""

from collections.abc import Sequence

import numpy as np
from PIL import Image

VOID = 255
WHITE = b"\xff\xff\xff"
BLACK = b"\0\0\0"
HIGHEST_COUNTED = 63  # programs count objects from 1; greys painted to be seen are brighter


def _davis_palette() -> bytes:
    """The colours of PASCAL VOC and DAVIS: the bits of an id, spread over the high bits of R, G and B."""
    colours = np.zeros((256, 3), np.uint8)
    ids = np.arange(256)
    for bit in range(8):
        colours |= ((ids[:, None] >> (3 * bit + np.arange(3)) & 1) << (7 - bit)).astype(np.uint8)
    return colours.tobytes()


DAVIS_PALETTE = _davis_palette()
GREY_PALETTE = bytes(value for value in range(256) for _ in range(3))


def id_palette(picture: Image.Image) -> bytes | None:
    """The palette of an indexed picture, 768 bytes, if the indices are ids; None if only the colours have a meaning.

    Indices are ids where the colours are those of DAVIS, and where index 0 is black. Where it is not, a black or white
    index elsewhere tells that the order is that of a program which counted colours. So does a cube of colours, as GIF
    and ffmpeg's pal8 have it, and white as index 255 beside high indices. A grey ramp is a grey picture.
    """
    colours = bytes(picture.getpalette("RGB") or [])
    palette = colours + DAVIS_PALETTE[len(colours) :]
    used = [index for index, count in enumerate(picture.histogram()) if count]
    of_used = {index: entry(palette, index) for index in used}
    if all(of_used[index] == entry(DAVIS_PALETTE, index) for index in used):
        return palette
    if all(of_used[index] == entry(GREY_PALETTE, index) for index in used) or _is_cube(colours):
        return None
    if of_used.get(0) != BLACK and {BLACK, WHITE} & {of_used[index] for index in used if index}:
        return None
    if min(of_used.get(VOID, BLACK)) >= 248 and not is_void(used):
        return None
    return palette


def entry(palette: bytes, index: int) -> bytes:
    """Return the colour of an index, three bytes."""
    return palette[3 * index : 3 * index + 3]


def _is_cube(colours: bytes) -> bool:
    """Whether a palette of many colours takes each channel's values from a short list."""
    table = np.frombuffer(colours, np.uint8).reshape(-1, 3)
    return len(np.unique(table, axis=0)) > 64 and max(len(np.unique(channel)) for channel in table.T) <= 8


def is_void(values: Sequence[int]) -> bool:
    """Whether 255 beside these values is void: they are ids that were counted from 1."""
    others = [value for value in values if value not in (0, VOID)]
    return bool(others) and max(others) <= HIGHEST_COUNTED
