"""The random warps, looks and their rendering, against plain references."""

from dataclasses import fields, replace

import numpy as np
import pytest
import torch

from mgseg.data.paste import cut_layer
from mgseg.data.scene import Layer, Look, Scene, render
from mgseg.data.transforms import (
    CLIPS,
    STILLS,
    STM_CLIPS,
    STM_STILLS,
    Augmentation,
    Motion,
    draw_elastic,
    draw_look,
    draw_poses,
    warp_grids,
)

pytestmark = pytest.mark.numeric

SIZE = 48
PLAIN = np.tile(np.eye(3, 4, dtype=np.float32), (3, 1, 1))
WILD = Motion(shift=0.1, rotation=20, scale=0.2, shear=0.1, elastic=0.02)


def picture(seed: int, height: int = SIZE, width: int = SIZE) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (1, height, width, 3), np.uint8)


def grids(seed: int, source: tuple[int, int], motion: Motion, flip: bool = False, scale: float = 1.0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    poses = draw_poses(rng, 3, motion, motion)
    elastic = draw_elastic(rng, 3, motion.elastic, motion.elastic)
    centre = source[1] / 2, source[0] / 2
    middle = SIZE / 2, SIZE / 2
    return warp_grids(poses, elastic, size=SIZE, source=source, pivot=centre, place=middle, scale=scale, flip=flip)


def scene(*layers: Layer, look: Look | None = None) -> Scene:
    return Scene("test", layers, look or Look(PLAIN), SIZE, num_objects=2)


@pytest.mark.parametrize("flip", [False, True])
def test_without_motion_every_frame_is_the_picture_or_its_mirror_image(flip: bool) -> None:
    pictures = picture(0)
    masks = (pictures[..., 0] > 128).astype(np.uint8)
    batch = render([scene(Layer(pictures, masks, grids(0, (SIZE, SIZE), Motion(), flip)))], "cpu")
    expected = pictures[0, :, ::-1] if flip else pictures[0]
    for frame in range(3):
        shown = batch.images[0, frame].permute(1, 2, 0).numpy() * 255
        np.testing.assert_allclose(shown, expected, atol=0.02)
        np.testing.assert_array_equal(batch.masks[0, frame].numpy(), masks[0, :, ::-1] if flip else masks[0])


def test_a_warp_moves_a_point_where_its_pose_says() -> None:
    poses = np.array([[0.25, -0.125, np.pi / 2, np.log(2), np.log(2), 0]], np.float32)
    still = np.zeros((1, 9, 9, 2), np.float32)
    options = {"size": SIZE, "source": (100, 200), "pivot": (50.0, 30.0), "place": (20.0, 24.0), "scale": 1.0}
    layer = warp_grids(poses, still, **options)
    # The pivot lies at place + shift; ten crop pixels right of it are, turned by 90 degrees and enlarged twice, five
    # source pixels up: the crop's x axis is the source's negative y axis.
    line = 0.5 + np.linspace(0, SIZE - 1, 9)
    x, y = np.meshgrid(line, line)
    dx, dy = x - (20 + 12), y - (24 - 6)
    np.testing.assert_allclose((layer[0, ..., 0] + 1) * 100, 50 + dy / 2, atol=1e-3)
    np.testing.assert_allclose((layer[0, ..., 1] + 1) * 50, 30 - dx / 2, atol=1e-3)


def test_outside_the_picture_the_mask_is_ignored() -> None:
    layer = Layer(picture(0, 20, 20), np.ones((1, 20, 20), np.uint8), grids(0, (20, 20), Motion()))
    mask = render([scene(layer)], "cpu").masks[0, 0]
    inside = torch.zeros(SIZE, SIZE, dtype=torch.bool)
    inside[14:34, 14:34] = True
    assert (mask[inside] == 1).all()
    assert (mask[~inside] == 255).all()


@pytest.mark.parametrize("slot", [None, 2])
@pytest.mark.parametrize("seed", range(5))
def test_cutting_a_layer_to_the_crop_does_not_change_what_is_seen(seed: int, slot: int | None) -> None:
    base = Layer(picture(9), np.zeros((1, SIZE, SIZE), np.uint8), grids(9, (SIZE, SIZE), Motion()))
    source = picture(seed, 90, 70)
    masks = (source[..., 0] > 100).astype(np.uint8)
    layer = Layer(source, masks, grids(seed, (90, 70), WILD, scale=1.1), slot)
    trimmed = cut_layer(list(source), list(masks), layer.grids, 1.1, slot)
    assert trimmed.pictures.size < layer.pictures.size
    layers = [(layer,), (trimmed,)] if slot is None else [(base, layer), (base, trimmed)]
    whole, part = (render([scene(*chosen)], "cpu") for chosen in layers)
    assert (whole.masks == (slot or 1)).float().mean() > 0.05
    # Coordinates are rounded differently: a pixel in a thousand may lie on the edge between two source pixels.
    assert (whole.masks != part.masks).float().mean() < 1e-3
    assert (whole.images - part.images).abs().mean() < 1e-4


def test_a_much_finer_picture_is_averaged_not_sampled() -> None:
    stripes = np.zeros((4 * SIZE, 4 * SIZE, 3), np.uint8)
    stripes[:, ::2] = 255
    size = 4 * SIZE, 4 * SIZE
    layer = cut_layer([stripes], [np.zeros(size, np.uint8)], grids(0, size, Motion(), scale=2.4), 2.4)
    image = render([scene(layer)], "cpu").images[0, 0]
    assert (image - 0.5).abs().max() < 0.01


@pytest.mark.parametrize("seed", range(10))
def test_a_pasted_object_owns_exactly_the_pixels_that_show_it(seed: int) -> None:
    rng = np.random.default_rng(seed)
    red = np.full((1, 60, 60, 3), (255, 0, 0), np.uint8)
    green = np.full((1, 40, 30, 3), (0, 255, 0), np.uint8)
    base = Layer(red, rng.integers(0, 2, (1, 60, 60), np.uint8), grids(seed, (60, 60), Motion(rotation=10)))
    shape = (rng.random((1, 40, 30)) > 0.4).astype(np.uint8)
    pasted = Layer(green, shape, grids(seed + 100, (40, 30), WILD), slot=2)
    alone, both = render([scene(base), scene(base, pasted)], "cpu").masks
    image = render([scene(base, pasted)], "cpu").images[0]
    owned = both == 2
    assert owned.any()
    torch.testing.assert_close(owned, image[:, 1] >= 0.5)
    torch.testing.assert_close(both[~owned], alone[~owned])
    torch.testing.assert_close(image[:, 0] + image[:, 1], torch.ones_like(image[:, 0]))  # no third colour at the edges


def test_an_object_unseen_in_the_first_frame_is_background_later() -> None:
    moved = grids(0, (SIZE, SIZE), Motion())
    moved[0] += 10
    base = Layer(picture(0), np.ones((1, SIZE, SIZE), np.uint8), grids(0, (SIZE, SIZE), Motion()))
    late = Layer(picture(1), np.ones((1, SIZE, SIZE), np.uint8), moved, slot=2)
    one = render([scene(base, late)], "cpu")
    assert (one.masks[0, 0] == 1).all()
    assert (one.masks[0, 1:] == 0).all()
    # The other sample of a batch, in which the object is there from the start, keeps it.
    both = render([scene(base, late), scene(base, replace(late, grids=base.grids))], "cpu")
    assert (both.masks[1] == 2).all()


@pytest.mark.parametrize(("side", "expected"), [(3, 255), (5, 1)])
def test_an_object_of_a_few_pixels_in_the_first_frame_is_ignored(side: int, expected: int) -> None:
    size = 192
    masks = np.ones((3, size, size), np.uint8)
    masks[0] = 0
    masks[0, :side, :side] = 1
    line = np.linspace(1 / size - 1, 1 - 1 / size, 9, dtype=np.float32)
    still = np.tile(np.stack(np.meshgrid(line, line), -1), (3, 1, 1, 1))
    layer = Layer(np.zeros((3, size, size, 3), np.uint8), masks, still)
    found = render([Scene("test", (layer,), Look(PLAIN), size, num_objects=1)], "cpu").masks[0]
    assert set(found[0].unique().tolist()) == {0, expected}
    assert (found[1:] == expected).all()


def test_a_walk_starts_in_its_range_and_goes_on_smoothly() -> None:
    start = Motion(shift=0.1, rotation=10, scale=0.2, shear=0.1)
    step = Motion(shift=0.05, rotation=5, scale=0.05, shear=0.02)
    walks = np.stack([draw_poses(np.random.default_rng(seed), 12, start, step) for seed in range(300)])
    assert (np.abs(walks[:, 0]) <= start.ranges() + 1e-6).all()
    np.testing.assert_allclose(np.abs(walks[:, 0]).mean(0)[[0, 2, 5]], start.ranges()[[0, 2, 5]] / 2, rtol=0.15)
    moves = np.diff(walks, axis=1)
    # Steps of a walk with momentum agree with the step before; those of independent poses would oppose it.
    correlation = (moves[:, 1:] * moves[:, :-1]).mean() / (moves**2).mean()
    assert 0.4 < correlation < 0.8


def test_without_any_setting_a_clip_looks_as_it_was() -> None:
    look = draw_look(np.random.default_rng(0), 3, SIZE, Augmentation())
    np.testing.assert_allclose(look.colour, PLAIN, atol=1e-6)
    assert look.kernels is None
    assert look.noise is None


@pytest.mark.parametrize("kind", ["blur", "motion_blur"])
def test_blur_keeps_the_brightness(kind: str) -> None:
    for seed in range(20):
        look = draw_look(np.random.default_rng(seed), 3, 384, Augmentation(**{kind: 1.0}))
        assert look.kernels is not None
        assert look.kernels.shape[1] % 2 == 1
        np.testing.assert_allclose(look.kernels.sum((1, 2)), 1, rtol=1e-5)
        # Nothing is cut off at the kernel's edge but the tail of a bell.
        assert look.kernels[:, [0, -1]].max() < 0.01


def test_a_frame_is_blurred_by_its_own_kernel() -> None:
    kernels = np.zeros((3, 3, 3), np.float32)
    kernels[0, 1, 1] = kernels[1, 1, 0] = kernels[2, 0, 1] = 1  # stay, and take from the left and from above
    layer = Layer(picture(0), np.zeros((1, SIZE, SIZE), np.uint8), grids(0, (SIZE, SIZE), Motion()))
    image = render([scene(layer, look=Look(PLAIN, kernels))], "cpu").images[0]
    torch.testing.assert_close(image[1, :, :, 1:], image[0, :, :, :-1])
    torch.testing.assert_close(image[2, :, 1:], image[0, :, :-1])


def test_grey_and_noise_are_applied_to_the_picture() -> None:
    layer = Layer(picture(0), np.zeros((1, SIZE, SIZE), np.uint8), grids(0, (SIZE, SIZE), Motion()))
    look = draw_look(np.random.default_rng(0), 3, SIZE, Augmentation(grey=1.0))
    grey = render([scene(layer, look=look)], "cpu").images[0]
    torch.testing.assert_close(grey[:, 0], grey[:, 2])
    luma = (picture(0)[0] / 255) @ [0.299, 0.587, 0.114]
    np.testing.assert_allclose(grey[0, 0].numpy(), luma, atol=1e-4)
    noisy = replace(look, noise=np.full((3, SIZE, SIZE), 0.1, np.float32))
    torch.testing.assert_close(render([scene(layer, look=noisy)], "cpu").images[0], (grey + 0.1).clamp(0, 1))


@pytest.mark.parametrize("preset", [STILLS, CLIPS, STM_STILLS, STM_CLIPS])
def test_presets_keep_to_sensible_ranges(preset: Augmentation) -> None:
    assert preset.resize >= 384
    for field in fields(Motion):
        assert getattr(preset.step, field.name) <= 20
    # An elastic field that bends more than a control point's distance would fold the picture.
    assert preset.start.elastic + 3 * preset.step.elastic < 0.1


def test_a_probability_beyond_one_is_refused() -> None:
    with pytest.raises(ValueError, match="leave is a probability, found 15"):
        replace(STILLS, leave=15)


def test_mixed_precision_around_it_does_not_touch_the_rendering() -> None:
    layer = Layer(picture(1, 90, 70), np.ones((1, 90, 70), np.uint8), grids(1, (90, 70), WILD))
    plain = render([scene(layer)], "cpu")
    with torch.autocast("cpu", torch.bfloat16):
        mixed = render([scene(layer)], "cpu")
    assert torch.equal(plain.images, mixed.images)


@pytest.mark.gpu
def test_the_gpu_renders_what_the_cpu_renders() -> None:
    layer = Layer(picture(1, 90, 70), np.ones((1, 90, 70), np.uint8), grids(1, (90, 70), WILD))
    cut = Layer(picture(2, 30, 40), np.ones((1, 30, 40), np.uint8), grids(2, (30, 40), WILD), slot=2)
    one, other = (render([scene(layer, cut)], device) for device in ("cpu", "cuda"))
    assert (one.images - other.images.cpu()).abs().mean() < 1e-4
    assert (one.masks != other.masks.cpu()).float().mean() < 1e-3
