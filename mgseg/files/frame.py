"""Data classes of a clip and its frames, which every reader returns."""

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

BACKWARD_BYTES = 2**28  # of decoded frames, held at once when a clip is read backward


@dataclass(frozen=True)
class ClipInfo:
    """Properties of a clip.

    Args:
        path: the video file or folder of pictures.
        width: width of an upright frame, pixels.
        height: height of an upright frame, pixels.
        num_frames: as the header promises, None if unknown.
        is_counted: whether `num_frames` is a count rather than an estimate from the duration.
        rate: mean frames a second.
        time_base: seconds per tick, of which all frame times are multiples.
        pixel_aspect: width of an upright frame's pixel divided by its height.
        first_time: seconds in the file's own time of the first frame, which `Frame.time` calls 0.
        has_audio: whether there is sound.
        is_turned: whether frames are turned or mirrored before they are handed out, as the file asks.
        reads_once: whether the clip is a pipe or the like, of which only the first `frames` gives any.
        is_hdr: whether frames are tone-mapped from HDR to BT.709 before they are handed out.
    """

    path: Path
    width: int
    height: int
    num_frames: int | None
    rate: Fraction
    time_base: Fraction
    is_counted: bool
    pixel_aspect: Fraction = Fraction(1)
    first_time: Fraction = Fraction(0)
    has_audio: bool = False
    is_turned: bool = False
    is_hdr: bool = False
    reads_once: bool = False


@dataclass(frozen=True)
class Frame:
    """One decoded picture of a clip.

    Args:
        index: place in the clip, from 0.
        time: seconds since the clip's first frame, exact.
        image: uint8 (H, W, 3) RGB, upright, of the clip's size.
        name: the picture's stem, or the index in five digits.
        own_size: (height, width) of the upright frame in the file, if it was scaled to fit the clip's size.
    """

    index: int
    time: Fraction
    image: NDArray[np.uint8]
    name: str
    own_size: tuple[int, int] | None = None


def frames_at_once(clip: ClipInfo) -> int:
    """Return how many frames are held in memory when a clip is read backward."""
    return max(8, BACKWARD_BYTES // (3 * clip.width * clip.height))
