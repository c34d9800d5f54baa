"""Overlays: only objects change, in their colours, with a contour."""

import numpy as np
import pytest

from mgseg.files.masks import DAVIS_PALETTE
from mgseg.files.overlay import draw_overlay


@pytest.fixture
def frame() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (50, 70, 3), np.uint8)


def masked(*areas: tuple[slice, slice, int]) -> np.ndarray:
    mask = np.zeros((50, 70), np.uint8)
    for rows, columns, value in areas:
        mask[rows, columns] = value
    return mask


def test_background_and_void_are_left_as_they_are_and_so_is_the_frame(frame: np.ndarray) -> None:
    mask = masked((slice(10, 20), slice(10, 30), 1), (slice(30, 40), slice(0, 70), 255))
    before = frame.copy()
    drawn = draw_overlay(frame, mask, DAVIS_PALETTE)
    assert np.array_equal(drawn[mask != 1], frame[mask != 1])
    assert (drawn[mask == 1] != frame[mask == 1]).any(axis=1).mean() > 0.9
    assert np.array_equal(frame, before)


def test_an_object_is_tinted_in_its_bright_colour_and_lined_in_a_pale_one(frame: np.ndarray) -> None:
    mask = masked((slice(10, 30), slice(10, 30), 1), (slice(10, 30), slice(30, 50), 2))
    drawn = draw_overlay(frame, mask, DAVIS_PALETTE)
    red, green = drawn[11:29, 11:29].astype(int), drawn[11:29, 31:49].astype(int)
    assert abs(red - (frame[11:29, 11:29] * 0.55 + np.array([255, 0, 0]) * 0.45)).max() <= 1
    assert abs(green - (frame[11:29, 31:49] * 0.55 + np.array([0, 255, 0]) * 0.45)).max() <= 1
    assert (drawn[10:30, 29] == [254, 127, 127]).all()  # where the objects touch
    assert (drawn[10:30, 30] == [127, 254, 127]).all()


@pytest.mark.parametrize(
    "area", [(slice(0, 50), slice(0, 70)), (slice(0, 1), slice(0, 1)), (slice(49, 50), slice(69, 70))]
)
def test_objects_at_the_border_are_drawn_whole(frame: np.ndarray, area: tuple[slice, slice]) -> None:
    drawn = draw_overlay(frame, masked((*area, 9)), DAVIS_PALETTE)
    changed = (drawn != frame).any(axis=2)
    assert changed[area].mean() > 0.9
    assert changed.sum() == changed[area].sum()


def test_a_black_object_is_shown_white(frame: np.ndarray) -> None:
    drawn = draw_overlay(frame, masked((slice(5, 15), slice(5, 15), 1)), bytes(768))
    assert drawn[6:14, 6:14].mean() > frame[6:14, 6:14].mean() + 30


def test_an_empty_mask_draws_nothing(frame: np.ndarray) -> None:
    assert np.array_equal(draw_overlay(frame, masked(), DAVIS_PALETTE), frame)
