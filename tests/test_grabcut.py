"""Cutting an object out of a frame from a box and strokes."""

import numpy as np
import pytest
from numpy.typing import NDArray

from mgseg.errors import InputError
from mgseg.files.grabcut import cut_object

pytest.importorskip("cv2")


def scene(height: int, width: int) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """A red disc, textured, on a textured green ground."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:height, :width]
    disc = (y - height / 2) ** 2 + (x - width / 2) ** 2 < (min(height, width) / 4) ** 2
    image = np.where(disc[..., None], (200, 40, 40), (40, 160, 60)) + rng.integers(-25, 26, (height, width, 3))
    return image.clip(0, 255).astype(np.uint8), disc


def overlap(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> float:
    return float((a & b).sum() / (a | b).sum())


@pytest.mark.parametrize("size", [(120, 160), (700, 900)], ids=str)  # smaller and larger than the first cut's size
def test_a_box_around_an_object_gives_the_object(size: tuple[int, int]) -> None:
    image, disc = scene(*size)
    rows, columns = np.nonzero(disc)
    box = (int(columns.min()) - 4, int(rows.min()) - 4, int(columns.max()) + 5, int(rows.max()) + 5)
    found = cut_object(image, box)
    assert found.dtype == bool
    assert found.shape == size
    assert overlap(found, disc) > 0.95
    assert (found == cut_object(image, box)).all(), "the same box gives the same object"


def test_strokes_add_and_take_away() -> None:
    image, disc = scene(120, 160)
    plus, minus = np.zeros_like(disc), np.zeros_like(disc)
    plus[2:6, 2:6] = True  # ground, but the user says that it belongs to the object
    minus[60, 80] = True
    found = cut_object(image, start=disc, plus=plus, minus=minus)
    assert found[plus].all()
    assert not found[minus].any()


@pytest.mark.parametrize("box", [(-1, 0, 10, 10), (0, 0, 161, 10), (10, 10, 10, 20)], ids=str)
def test_a_box_that_does_not_fit_is_refused_with_the_size(box: tuple[int, int, int, int]) -> None:
    with pytest.raises(InputError, match="160x120"):
        cut_object(scene(120, 160)[0], box)


def test_nothing_to_start_from_is_refused() -> None:
    with pytest.raises(InputError, match="nothing to cut"):
        cut_object(scene(120, 160)[0])
