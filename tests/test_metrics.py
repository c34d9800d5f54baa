"""J, F and their statistics against slow obvious forms and against values worked out by hand."""

import math

import numpy as np
import pytest

from mgseg.errors import InputError
from mgseg.evaluation.metrics import boundary_accuracy, region_similarity, statistics

pytestmark = pytest.mark.numeric


def plain_boundary(mask):
    """A pixel is on the boundary when it differs from its right, lower or lower right neighbour in the picture."""
    height, width = mask.shape
    boundary = np.zeros_like(mask)
    for y in range(height):
        for x in range(width):
            neighbours = [(y, x + 1), (y + 1, x), (y + 1, x + 1)]
            boundary[y, x] = any(mask[y, x] != mask[v, u] for v, u in neighbours if v < height and u < width)
    return boundary


def plain_matches(boundary, other, radius):
    """Count the pixels of one boundary that lie within the radius of a pixel of the other."""
    here, there = np.argwhere(boundary), np.argwhere(other)
    squared = ((here[:, None] - there[None]) ** 2).sum(axis=2)
    return int((squared.min(axis=1) <= radius * radius).sum())


def plain_boundary_accuracy(prediction, truth, radius):
    predicted, true = plain_boundary(prediction), plain_boundary(truth)
    if not predicted.any() and not true.any():
        return 1.0
    if not predicted.any() or not true.any():
        return 0.0
    precision = plain_matches(predicted, true, radius) / predicted.sum()
    recall = plain_matches(true, predicted, radius) / true.sum()
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def random_blob(rng, size):
    """A few random ellipses, some of them over the picture's edge."""
    y, x = np.mgrid[: size[0], : size[1]]
    mask = np.zeros(size, dtype=bool)
    for _ in range(rng.integers(1, 4)):
        cy, cx = rng.uniform(-3, size[0] + 3), rng.uniform(-3, size[1] + 3)
        mask |= ((y - cy) / rng.uniform(1, 15)) ** 2 + ((x - cx) / rng.uniform(1, 15)) ** 2 <= 1
    return mask


@pytest.mark.parametrize("radius", [1, 2, 5, 9])
def test_boundary_accuracy_equals_the_plain_form_exactly(radius):
    rng = np.random.default_rng(radius)
    for _ in range(15):
        size = (int(rng.integers(3, 48)), int(rng.integers(3, 48)))
        prediction, truth = random_blob(rng, size), random_blob(rng, size)
        expected = plain_boundary_accuracy(prediction, truth, radius)
        assert boundary_accuracy(prediction, truth, bound_th=radius) == expected


def test_boundary_accuracy_equals_the_plain_form_on_noise():
    rng = np.random.default_rng(0)
    for _ in range(10):
        prediction, truth = rng.random((2, 20, 31)) < 0.05
        assert boundary_accuracy(prediction, truth, bound_th=2) == plain_boundary_accuracy(prediction, truth, 2)


def test_the_tolerance_at_480p_is_eight_pixels():
    assert math.ceil(0.008 * math.hypot(480, 854)) == 8
    truth, prediction = np.zeros((2, 480, 854), dtype=bool)
    truth[:, :100] = True
    for shift, expected in ((8, 1.0), (9, 0.0)):
        prediction[:] = False
        prediction[:, : 100 + shift] = True
        assert boundary_accuracy(prediction, truth) == expected


def test_region_similarity_by_hand():
    truth, prediction = np.zeros((2, 4, 5), dtype=bool)
    truth[1:3, 1:4] = True
    prediction[1:3, 2:5] = True
    assert region_similarity(prediction, truth) == 4 / 8


def test_two_empty_masks_agree_and_one_empty_mask_does_not():
    empty, full = np.zeros((8, 9), dtype=bool), np.zeros((8, 9), dtype=bool)
    full[2:5, 2:5] = True
    assert region_similarity(empty, empty) == boundary_accuracy(empty, empty) == 1.0
    assert region_similarity(full, empty) == region_similarity(empty, full) == 0.0
    assert boundary_accuracy(full, empty) == boundary_accuracy(empty, full) == 0.0


def test_a_mask_of_the_whole_picture_has_no_boundary():
    whole, part = np.ones((8, 9), dtype=bool), np.eye(8, 9, dtype=bool)
    assert boundary_accuracy(whole, whole) == 1.0
    assert boundary_accuracy(part, whole) == boundary_accuracy(whole, part) == 0.0


def test_void_pixels_count_for_neither_mask():
    rng = np.random.default_rng(1)
    prediction, truth, void = random_blob(rng, (30, 40)), random_blob(rng, (30, 40)), random_blob(rng, (30, 40))
    cleared = prediction & ~void, truth & ~void
    assert region_similarity(prediction, truth, void) == region_similarity(*cleared)
    assert boundary_accuracy(prediction, truth, void) == boundary_accuracy(*cleared)
    assert region_similarity(truth | void, truth & ~void, void) == 1.0


def test_masks_of_different_sizes_are_refused_with_both_sizes():
    with pytest.raises(InputError, match=r"\[4, 5\], \[5, 4\]"):
        region_similarity(np.zeros((4, 5), dtype=bool), np.zeros((5, 4), dtype=bool))
    with pytest.raises(InputError, match="one size"):
        boundary_accuracy(np.zeros((4, 5, 3), dtype=bool), np.zeros((4, 5, 3), dtype=bool))


def test_statistics_by_hand():
    mean, recall, decay = statistics(np.array([1.0, 0.9, 0.5, 0.6, 0.2, 0.1, 0.0, 0.3]))
    assert mean == pytest.approx(0.45)
    assert recall == 3 / 8  # 0.5 itself is not above 0.5
    # the ends of the quarters are the frames 1, 3, 5, 6, 8, and neighbouring quarters share theirs
    assert decay == pytest.approx((1.0 + 0.9 + 0.5) / 3 - (0.1 + 0.0 + 0.3) / 3)


@pytest.mark.parametrize("num_frames", [1, 2, 3, 5])
def test_statistics_of_very_short_clips_are_finite(num_frames):
    assert np.isfinite(statistics(np.linspace(1, 0, num_frames))).all()
    assert statistics(np.ones(num_frames)) == (1.0, 1.0, 0.0)


def test_decay_counts_frames_beyond_256():
    values = np.concatenate([np.ones(250), np.zeros(750)])  # indices kept in 8 bits would wrap around
    assert statistics(values).decay == pytest.approx(1.0, abs=0.01)
