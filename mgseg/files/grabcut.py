"""Segmentation of one object in a frame from a box and strokes, by OpenCV's GrabCut. Needs the extra `annotations`."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mgseg.errors import InputError, MgsegError

Mask = NDArray[np.bool_]
Box = tuple[int, int, int, int]  # left, top, right, bottom; right and bottom are outside

_SHORT_SIDE = 480  # the first cut is made at this size
_MARGIN = 0.25  # of the box on each side: the background that GrabCut learns from
_ROUNDS, _FINE_ROUNDS = 5, 2


def cut_object(
    frame: NDArray[np.uint8],
    box: Box | None = None,
    *,
    start: Mask | None = None,
    plus: Mask | None = None,
    minus: Mask | None = None,
) -> Mask:
    """Cut one object out of a frame.

    The first cut is made with the frame's shorter side at 480 pixels; it is refined along its edge at full size.

    Args:
        frame: uint8 (H, W, 3), RGB.
        box: around the object, in pixels; what lies outside is background. None: around `start` and `plus`.
        start: bool (H, W), a mask to improve.
        plus: bool (H, W), pixels that belong to the object.
        minus: bool (H, W), pixels that do not.

    Returns:
        The object, bool (H, W). It may be empty.

    Raises:
        InputError: the box is outside the frame or empty, or neither box, start nor plus is given.
        MgsegError: OpenCV is not installed.
    """
    cv2 = find_opencv()
    height, width = frame.shape[:2]
    left, top, right, bottom = _checked(box or _around(start, plus), width, height)
    margin = (round((right - left) * _MARGIN) + 2, round((bottom - top) * _MARGIN) + 2)
    window = np.s_[max(0, top - margin[1]) : bottom + margin[1], max(0, left - margin[0]) : right + margin[0]]
    inside = np.zeros((height, width), bool)
    inside[top:bottom, left:right] = True
    labels = np.where(inside, np.uint8(cv2.GC_PR_FGD), np.uint8(cv2.GC_BGD))
    if start is not None:
        labels[inside & ~start] = cv2.GC_PR_BGD
    _state(labels, plus, minus)
    labels, image = labels[window], np.ascontiguousarray(frame[window])
    scale = min(1.0, _SHORT_SIDE / min(height, width))
    small = [max(1, round(x * scale)) for x in (image.shape[1], image.shape[0])]
    coarse = _grabcut(
        cv2.resize(image, small, interpolation=cv2.INTER_AREA),
        cv2.resize(labels, small, interpolation=cv2.INTER_NEAREST),
        _ROUNDS,
    )
    result = np.zeros((height, width), bool)
    result[window] = coarse if scale == 1 else _refine(image, labels, coarse, round(1 / scale) + 1)
    return result


def _refine(image: NDArray[np.uint8], labels: NDArray[np.uint8], coarse: Mask, reach: int) -> Mask:
    """Decide the pixels near the coarse mask's edge again, at full size."""
    cv2 = find_opencv()
    size = (labels.shape[1], labels.shape[0])
    mask = cv2.resize(coarse.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST)
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
    sure, near = cv2.erode(mask, kernel) > 0, cv2.dilate(mask, kernel) > 0
    fine = np.where(mask > 0, np.uint8(cv2.GC_PR_FGD), np.uint8(cv2.GC_PR_BGD))
    fine[sure], fine[~near] = cv2.GC_FGD, cv2.GC_BGD
    _state(fine, labels == cv2.GC_FGD, labels == cv2.GC_BGD)
    return _grabcut(image, fine, _FINE_ROUNDS)


def _state(labels: NDArray[np.uint8], plus: Mask | None, minus: Mask | None) -> None:
    cv2 = find_opencv()
    for pixels, value in ((plus, cv2.GC_FGD), (minus, cv2.GC_BGD)):
        if pixels is not None:
            labels[pixels] = value


def _grabcut(image: NDArray[np.uint8], labels: NDArray[np.uint8], rounds: int) -> Mask:
    cv2 = find_opencv()
    object_there = (labels == cv2.GC_FGD) | (labels == cv2.GC_PR_FGD)
    if not object_there.any() or object_there.all():  # GrabCut needs a sample of either
        return object_there
    models = np.zeros((1, 65)), np.zeros((1, 65))
    cv2.setRNGSeed(0)  # its clustering is random
    cv2.grabCut(image, labels, None, *models, rounds, cv2.GC_INIT_WITH_MASK)
    return (labels == cv2.GC_FGD) | (labels == cv2.GC_PR_FGD)


def _around(*masks: Mask | None) -> Box:
    """A box with some room around all pixels of the masks."""
    given = [mask for mask in masks if mask is not None and mask.any()]
    if not given:
        raise InputError(
            "there is nothing to cut out: neither a box nor a stroke is given",
            "draw a box around the object, or a stroke on it",
        )
    rows, columns = np.nonzero(np.logical_or.reduce(given))
    room = [(x.max() - x.min()) // 4 + 8 for x in (columns, rows)]
    return (
        max(0, int(columns.min() - room[0])),
        max(0, int(rows.min() - room[1])),
        min(given[0].shape[1], int(columns.max() + room[0])),
        min(given[0].shape[0], int(rows.max() + room[1])),
    )


def _checked(box: Box, width: int, height: int) -> Box:
    left, top, right, bottom = box
    if not (0 <= left < right <= width and 0 <= top < bottom <= height):
        found = f"{left},{top},{right},{bottom}"
        raise InputError(
            f"the box {found} does not fit a frame of {width}x{height}",
            f"give left,top,right,bottom in pixels: 0 <= left < right <= {width}, 0 <= top < bottom <= {height}",
        )
    return box


def find_opencv() -> Any:
    """Import OpenCV's module cv2.

    Raises:
        MgsegError: it is not installed.
    """
    try:
        import cv2
    except ImportError as error:
        raise MgsegError("cutting out an object needs OpenCV", "pip install 'mgseg[annotations]'") from error
    return cv2
