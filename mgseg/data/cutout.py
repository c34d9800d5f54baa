"""Objects cut out of pictures, and the interface of their sources."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from mgseg.data.scene import UInt8Array


@dataclass(frozen=True)
class Cutout:
    """One object: picture uint8 (h, w, 3) and mask uint8 (h, w), 1 on the object, both cut to its box."""

    picture: UInt8Array
    mask: UInt8Array


class Donor(Protocol):
    """A source of objects to paste."""

    def draw_cutout(self, rng: np.random.Generator) -> Cutout: ...


def cut_out(picture: UInt8Array, mask: UInt8Array, number: int) -> Cutout:
    """Cut an object, which the mask (h, w) shows by its number, out of its picture (h, w, 3)."""
    own = mask == number
    rows, columns = np.flatnonzero(own.any(1)), np.flatnonzero(own.any(0))
    box = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
    return Cutout(picture[box], own[box].astype(np.uint8))
