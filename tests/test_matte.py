"""Alpha from scores: where it is 0 and 1, how contours follow edges, and what each option does to it."""

import numpy as np
import pytest
from PIL import Image

from mgseg.errors import InputError
from mgseg.files.background import Background
from mgseg.files.guided_filter import box_mean, follow_edges
from mgseg.files.matte import Alpha, composite, cut_out

SIZE = (60, 80)


def disc(radius: float, softness: float = 0.5) -> np.ndarray:
    """A disc whose edge fades linearly; float32."""
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    distance = np.hypot(y - 30, x - 40)
    return np.clip((radius - distance) / (2 * softness) + 0.5, 0, 1).astype(np.float32)


def picture(alpha: np.ndarray) -> np.ndarray:
    """A red object on blue, uint8 RGB."""
    colours = np.array([200, 40, 30]) * alpha[..., None] + np.array([20, 60, 180]) * (1 - alpha[..., None])
    return colours.round().astype(np.uint8)


FRAME = picture(disc(15))


def test_alpha_is_one_within_zero_outside_and_soft_between() -> None:
    alpha = Alpha().draw(FRAME, {1: disc(15, softness=3)})
    assert alpha.dtype == np.float32
    assert alpha.shape == SIZE
    assert 0 <= alpha.min() <= alpha.max() <= 1
    assert (alpha[disc(10) == 1] > 0.98).all()
    assert (alpha[disc(20) == 0] < 0.02).all()
    assert ((alpha > 0.05) & (alpha < 0.95)).any()


@pytest.mark.parametrize("scale", [1, 2])
def test_a_contour_that_is_off_moves_to_the_edge_nearby(scale: float) -> None:
    truth = disc(15)
    off = disc(16.5, softness=2)
    followed = follow_edges(off, FRAME, scale)
    assert abs(followed - truth).mean() < 0.5 * abs(off - truth).mean()


def test_without_edges_nearby_a_contour_stays_where_it_is() -> None:
    score = disc(15, softness=3)
    followed = follow_edges(score, np.full((*SIZE, 3), 128, np.uint8))
    assert ((followed > 0.5) == (score > 0.5)).mean() > 0.99


def test_only_the_objects_asked_for_are_shown_and_together_they_add_up() -> None:
    left, right = disc(15), disc(15)
    left[:, 40:], right[:, :40] = 0, 0
    flat = np.full((*SIZE, 3), 128, np.uint8)
    both = Alpha().draw(flat, {1: left, 3: right})
    assert both[30, 30] > 0.95 < both[30, 50]
    assert both[30, 39] > 0.95 < both[30, 40]
    one = Alpha(objects=(3,)).draw(flat, {1: left, 3: right})
    assert one[30, 30] < 0.05
    assert one[30, 50] > 0.95
    assert not Alpha(objects=(3,)).draw(flat, {1: left}).any()


def test_objects_that_no_mask_gives_are_refused_with_those_that_there_are() -> None:
    with pytest.raises(InputError, match="no mask contains object 4, 7") as error:
        Alpha(objects=(1, 7, 4)).check((1, 2))
    assert error.value.hint == "the masks contain 1, 2"
    Alpha(objects=(2,)).check((1, 2))


@pytest.mark.parametrize("pixels", [1, 2, 5])
def test_expanding_moves_the_contour_by_so_many_pixels(pixels: int) -> None:
    mask = (disc(15) > 0.5).astype(np.uint8)
    areas = {n: Alpha(expand=n).draw_hard(mask).sum() for n in (-pixels, 0, pixels)}
    radii = {n: float(np.sqrt(area / np.pi)) for n, area in areas.items()}
    assert radii[pixels] == pytest.approx(radii[0] + pixels, abs=0.3 + 0.05 * pixels)
    assert radii[-pixels] == pytest.approx(radii[0] - pixels, abs=0.3 + 0.05 * pixels)


def test_expanding_keeps_a_soft_edge_soft() -> None:
    soft = disc(15, softness=4)
    flat = np.full((*SIZE, 3), 128, np.uint8)
    before, after = Alpha().draw(flat, {1: soft}), Alpha(expand=3).draw(flat, {1: soft})
    edges = [((alpha[30] > 0.05) & (alpha[30] < 0.95)).sum() for alpha in (before, after)]
    assert edges[0] > 2
    assert abs(edges[0] - edges[1]) <= 2


@pytest.mark.parametrize("pixels", [1, 4, 7])
def test_feathering_fades_over_so_many_pixels_on_either_side(pixels: int) -> None:
    mask = np.zeros(SIZE, np.uint8)
    mask[:, 40:] = 1
    row = Alpha(feather=pixels).draw_hard(mask)[30]
    assert row[40 - pixels - 1] == pytest.approx(0, abs=1e-6)
    assert row[40 + pixels] == pytest.approx(1, abs=1e-6)
    assert (np.diff(row[40 - pixels - 1 : 40 + pixels + 1]) > 0).all()
    assert row[39] + row[40] == pytest.approx(1, abs=1e-5)


def test_inverted_alpha_is_the_rest() -> None:
    scores = {1: disc(15, softness=2)}
    assert np.allclose(Alpha(invert=True).draw(FRAME, scores), 1 - Alpha().draw(FRAME, scores), atol=1e-6)
    assert (Alpha(invert=True).draw(FRAME, {}) == 1).all()
    assert not Alpha().draw(FRAME, {}).any()


def test_a_hard_alpha_is_the_mask_without_void() -> None:
    mask = np.array([[0, 1, 2, 255]], np.uint8)
    assert Alpha().draw_hard(mask).tolist() == [[0, 1, 1, 0]]
    assert Alpha(objects=(2,)).draw_hard(mask).tolist() == [[0, 0, 1, 0]]


def test_a_negative_feather_is_refused() -> None:
    with pytest.raises(InputError, match="feather"):
        Alpha(feather=-1)


@pytest.mark.parametrize("radius", [1, 3, 100])
@pytest.mark.parametrize("shape", [(9, 13), (7, 6, 3), (1, 1)])
def test_the_box_mean_is_the_mean_of_what_lies_inside(radius: int, shape: tuple[int, ...]) -> None:
    x = np.random.default_rng(0).random(shape, np.float32)
    found = box_mean(x, radius)
    for i in range(shape[0]):
        for j in range(shape[1]):
            part = x[max(0, i - radius) : i + radius + 1, max(0, j - radius) : j + radius + 1]
            assert np.allclose(found[i, j], part.mean(axis=(0, 1)), atol=1e-5)


def test_a_composite_shows_the_frame_where_alpha_is_one_and_the_background_where_it_is_zero() -> None:
    alpha = np.zeros(SIZE, np.float32)
    alpha[:, 40:], alpha[:, 39] = 1, 0.5
    background = np.full((*SIZE, 3), (0, 255, 0), np.uint8)
    shown = composite(FRAME, alpha, background)
    assert np.array_equal(shown[:, 40:], FRAME[:, 40:])
    assert np.array_equal(shown[:, :39], background[:, :39])
    assert abs(shown[:, 39].astype(int) - (FRAME[:, 39].astype(int) + background[:, 39]) / 2).max() <= 0.5


def test_a_cut_out_has_straight_colours_and_black_where_nothing_is_seen() -> None:
    alpha = disc(10, softness=3)
    cut = cut_out(FRAME, alpha)
    seen = cut[..., 3] > 0
    assert np.array_equal(cut[seen][:, :3], FRAME[seen])
    assert not cut[~seen].any()
    assert abs(cut[..., 3] / 255 - alpha).max() <= 0.5 / 255 + 1e-6


def test_a_background_is_a_colour_a_picture_or_blur(tmp_path) -> None:
    alpha = disc(15)
    assert (Background("#102030", SIZE).draw(FRAME, alpha) == (16, 32, 48)).all()
    assert (Background("lime", SIZE).draw(FRAME, alpha) == (0, 255, 0)).all()
    wide = np.zeros((10, 100, 3), np.uint8)
    wide[:, 40:60] = (9, 99, 199)  # the middle, which is what fills the clip
    Image.fromarray(wide).save(tmp_path / "wide.png")
    drawn = Background(tmp_path / "wide.png", SIZE).draw(FRAME, alpha)
    assert drawn.shape == (*SIZE, 3)
    assert (drawn[:, 10:70] == (9, 99, 199)).all()
    with pytest.raises(InputError, match="not an existing picture, a colour or blur"):
        Background("nowhere.jpg", SIZE)


def test_a_blurred_background_has_none_of_the_objects_colours() -> None:
    drawn = Background("blur", SIZE).draw(FRAME, disc(17))
    assert abs(drawn.astype(int) - (20, 60, 180)).max() <= 3  # blue, also where the red object is
