"""Region similarity J and boundary accuracy F of one object in one frame, and their statistics over a clip.

Definitions: Perazzi et al., "A Benchmark Dataset and Evaluation Methodology for Video Object Segmentation",
CVPR 2016, section 4, with the numbers and edge cases of the official DAVIS 2017 evaluation code. Arrays only.
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mgseg.errors import InputError

Mask = NDArray[np.bool_]

BOUND_TH = 0.008  # tolerance of F as a part of the picture's diagonal: DAVIS's own
RECALL_ABOVE = 0.5  # a frame counts as found above this J (or F): DAVIS's own
DECAY_BINS = 4  # decay is the mean of the first quarter less that of the last: DAVIS's own


class Statistics(NamedTuple):
    """What DAVIS reports of one object's J (or F) over its frames.

    `mean` over the frames; `recall`, the part of the frames above 0.5; `decay`, the mean of the first quarter of
    the frames less that of the last (negative when the masks get better).
    """

    mean: float
    recall: float
    decay: float


def region_similarity(prediction: Mask, truth: Mask, void: Mask | None = None) -> float:
    """Return J, the intersection over the union of two masks of one object.

    Args:
        prediction: bool (H, W).
        truth: bool (H, W).
        void: bool (H, W), pixels that count for neither; none by default.

    Returns:
        J in [0, 1]; 1 where both masks are empty.

    Raises:
        InputError: the masks differ in size.
    """
    prediction, truth = _without_void(prediction, truth, void)
    intersection = np.count_nonzero(prediction & truth)
    union = np.count_nonzero(prediction) + np.count_nonzero(truth) - intersection
    return intersection / union if union else 1.0


def boundary_accuracy(prediction: Mask, truth: Mask, void: Mask | None = None, bound_th: float = BOUND_TH) -> float:
    """Return F, the harmonic mean of precision and recall of the boundary of a mask of one object.

    A boundary pixel is right when a boundary pixel of the other mask lies within `ceil(bound_th * diagonal)`
    pixels of it (Euclidean distance between pixel centres).

    Args:
        prediction: bool (H, W).
        truth: bool (H, W).
        void: bool (H, W), pixels that are background in both; none by default.
        bound_th: tolerance as a part of the diagonal, or in pixels from 1 upward.

    Returns:
        F in [0, 1]; 1 where neither mask has a boundary, 0 where one of them has none.

    Raises:
        InputError: the masks differ in size.
    """
    prediction, truth = _without_void(prediction, truth, void)
    radius = math.ceil(bound_th if bound_th >= 1 else bound_th * math.hypot(*truth.shape))
    window = _window(prediction | truth)
    # A row of bits ends in `radius` zeros, so that a shift along the row never reaches the next one.
    stride = -(-(window[1].stop - window[1].start + radius) // 8) * 8
    predicted = _pack(_boundary(prediction[window]), stride)
    true = _pack(_boundary(truth[window]), stride)
    if predicted == true:
        return 1.0
    if not predicted or not true:
        return 0.0
    precision = (predicted & _dilate(true, stride, radius)).bit_count() / predicted.bit_count()
    recall = (true & _dilate(predicted, stride, radius)).bit_count() / true.bit_count()
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def statistics(values: NDArray[np.float64]) -> Statistics:
    """Return mean, recall and decay of one object's J (or F).

    Args:
        values: float (num_frames,), at least one, in the order of the frames.
    """
    ends = np.round(np.linspace(1, len(values), DECAY_BINS + 1) + 1e-10).astype(np.intp) - 1
    first, last = values[ends[0] : ends[1] + 1], values[ends[-2] : ends[-1] + 1]
    return Statistics(
        mean=float(np.mean(values)),
        recall=float(np.mean(values > RECALL_ABOVE)),
        decay=float(np.mean(first) - np.mean(last)),
    )


def _without_void(prediction: Mask, truth: Mask, void: Mask | None) -> tuple[Mask, Mask]:
    """Return both masks as bool, void pixels cleared; refuse masks of different sizes."""
    if prediction.ndim != 2 or prediction.shape != truth.shape or (void is not None and void.shape != truth.shape):
        shapes = [list(mask.shape) for mask in (prediction, truth, void) if mask is not None]
        raise InputError(
            f"masks to compare must all be of one size (height, width); found {', '.join(map(str, shapes))}"
        )
    prediction, truth = prediction.astype(bool, copy=False), truth.astype(bool, copy=False)
    return (prediction, truth) if void is None else (prediction & ~void, truth & ~void)


def _window(mask: Mask) -> tuple[slice, slice]:
    """Return the smallest window that holds a mask and the pixels up and left of it, where its boundary lies."""
    spans = []
    for axis in (1, 0):
        inside = np.flatnonzero(mask.any(axis=axis)).tolist() or [0]
        spans.append(slice(max(inside[0] - 1, 0), inside[-1] + 2))
    return spans[0], spans[1]


def _boundary(mask: Mask) -> Mask:
    """Return the pixels that differ from their neighbour to the right, below, or below right.

    The one-pixel boundary of Martin's `seg2bmap` (Berkeley segmentation benchmark), half a pixel up and left of
    the true one. Past the edge of the picture there is nothing to differ from.
    """
    boundary = np.zeros_like(mask)
    boundary[:, :-1] |= mask[:, :-1] ^ mask[:, 1:]
    boundary[:-1] |= mask[:-1] ^ mask[1:]
    boundary[:-1, :-1] |= mask[:-1, :-1] ^ mask[1:, 1:]
    return boundary


def _pack(mask: Mask, stride: int) -> int:
    """Return a mask as one integer: a bit a pixel, row after row, `stride` bits a row."""
    rows = np.zeros((mask.shape[0], stride), dtype=bool)
    rows[:, : mask.shape[1]] = mask
    return int.from_bytes(np.packbits(rows, bitorder="little").tobytes(), "little")


def _dilate(bits: int, stride: int, radius: int) -> int:
    """Dilate a packed mask with the disk x^2 + y^2 <= radius^2, a whole picture a shift.

    From the disk's top and bottom rows inward its half width only grows, so one running horizontal dilation
    serves all of its rows.
    """
    dilated, row, half_width = 0, bits, 0
    for offset in range(radius, -1, -1):
        while half_width < math.isqrt(radius * radius - offset * offset):
            half_width += 1
            row |= (bits << half_width) | (bits >> half_width)
        dilated |= (row << offset * stride) | (row >> offset * stride)
    return dilated
