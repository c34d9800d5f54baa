"""Masks as polygons and run lengths, and back."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from mgseg.annotations.shapes import (
    box_of,
    check_polygon,
    decode_rle,
    draw_filled,
    encode_rle,
    fill,
    join,
    trace,
    trace_centres,
)
from mgseg.errors import InputError

pytest.importorskip("cv2")
pytest.importorskip("pycocotools")

MASKS = arrays(bool, st.tuples(st.integers(1, 12), st.integers(1, 12)))


def disc_with_hole() -> NDArray[np.bool_]:
    y, x = np.mgrid[:80, :120]
    radius = np.hypot(y - 40, x - 45)
    return ((radius < 30) & (radius > 10)) | (np.hypot(y - 40, x - 100) < 12)


@settings(deadline=None, max_examples=200)
@given(mask=MASKS)
def test_exact_outlines_filled_give_the_mask_back(mask: NDArray[np.bool_]) -> None:
    rings = [ring for part in trace(mask, 0) for ring in (part.outline, *part.holes)]
    assert (fill(rings, mask.shape) == mask).all()


@settings(deadline=None, max_examples=100)
@given(mask=MASKS)
def test_one_joined_ring_holds_all_parts_and_holes(mask: NDArray[np.bool_]) -> None:
    parts = trace(mask, 0)
    if parts:
        assert (fill([join(parts)], mask.shape) == mask).all()


@settings(deadline=None, max_examples=100)
@given(mask=MASKS)
def test_a_ring_through_the_centres_drawn_with_its_outline_gives_the_mask_back(mask: NDArray[np.bool_]) -> None:
    parts = trace_centres(mask, 0)
    drawn = [draw_filled(join([part]) + 0.5, mask.shape) for part in parts if not part.holes]
    if len(drawn) == len(parts) > 0:  # the bridges to holes and between parts are drawn, too, as lines of a pixel
        assert (np.logical_or.reduce(drawn) == mask).all()


def test_a_simplified_outline_has_few_points_and_stays_close() -> None:
    mask = disc_with_hole()
    exact, simple = trace(mask, 0), trace(mask)
    assert [len(part.holes) for part in simple] == [1, 0], "the largest part first"
    assert sum(len(part.outline) for part in simple) < sum(len(part.outline) for part in exact) / 3
    found = fill([ring for part in simple for ring in (part.outline, *part.holes)], mask.shape)
    assert (found & mask).sum() / (found | mask).sum() > 0.97


@settings(deadline=None, max_examples=100)
@given(mask=MASKS)
def test_run_lengths_give_the_mask_back(mask: NDArray[np.bool_]) -> None:
    assert (decode_rle(encode_rle(mask), mask.shape) == mask).all()


def test_run_lengths_of_another_size_or_damaged_are_refused() -> None:
    rle = encode_rle(disc_with_hole())
    with pytest.raises(InputError, match=r"\[80, 120\]"):
        decode_rle(rle, (120, 80))
    with pytest.raises(InputError, match="add up"):
        decode_rle({"size": [2, 2], "counts": [1, 2]}, (2, 2))


def test_boxes_hold_all_pixels_and_no_more() -> None:
    mask = np.zeros((9, 9), bool)
    assert box_of(mask) is None
    mask[2:4, 3:8] = True
    assert box_of(mask) == (3, 2, 5, 2)


@pytest.mark.parametrize("points", [[], [1, 2], [[1, 2], [3, 4]], "abc", [[1, 2], [3]], [1, 2, 3, float("nan"), 5, 6]])
def test_what_is_no_polygon_is_refused_with_its_place(points: object) -> None:
    with pytest.raises(InputError, match=r"a\.json: a polygon"):
        check_polygon(points, "a.json")
