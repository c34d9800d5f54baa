"""Every form of picture that a mask can have gives the same objects; docs/masks.md has the rules in words."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from mgseg.errors import InputError
from mgseg.files.mask_forms import MaskFile, interpret
from mgseg.files.masks import DAVIS_PALETTE, VOID, object_ids

U8 = NDArray[np.uint8]
SHADES = 40  # of each channel, so that no two colours of a test are alike


def read(pixels: NDArray[Any] | Image.Image, *, clean: bool = False) -> MaskFile:
    picture = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    return interpret(Path("mask.png"), picture, clean=clean)


def indexed(indices: U8, palette: bytes) -> Image.Image:
    picture = Image.frombytes("P", (indices.shape[1], indices.shape[0]), indices.tobytes())
    picture.putpalette(palette)
    return picture


def soft(pixels: U8, factor: int = 4) -> U8:
    picture = Image.fromarray(pixels)
    small = picture.resize((picture.width // factor, picture.height // factor), Image.Resampling.BILINEAR)
    return np.asarray(small.resize(picture.size, Image.Resampling.BILINEAR))


def without_thin_parts(white: U8, width: int) -> U8:
    """Drop parts and fill gaps of a black and white picture that are narrower than `width`, an odd number."""
    picture = Image.fromarray(white)
    for grow in (ImageFilter.MinFilter, ImageFilter.MaxFilter, ImageFilter.MaxFilter, ImageFilter.MinFilter):
        picture = picture.filter(grow(width))
    return np.asarray(picture)


@st.composite
def scenes(draw: st.DrawFn, max_objects: int = 25) -> U8:
    """Flat shapes, thick and thin, drawn over one another: an index map with ids 1 to 63."""
    seed = draw(st.integers(0, 2**32 - 1))
    random = np.random.default_rng(seed)
    count = draw(st.integers(1, max_objects))
    picture = Image.new("L", (96, 72))
    pen = ImageDraw.Draw(picture)
    for object_id in random.permutation(np.arange(1, 64))[:count].tolist():
        x, y, width, height = (int(v) for v in random.integers((0, 0, 2, 2), (90, 66, 40, 40)))
        shape = draw(st.sampled_from(["line", "rectangle", "ellipse"]))
        if shape == "line":
            pen.line((x, y, x + width, y + height * random.integers(0, 2)), fill=object_id, width=1)
        else:
            getattr(pen, shape)((x, y, x + width, y + height), fill=object_id)
    mask = np.array(picture)
    mask[np.isin(mask, _hidden(mask))] = 0
    assume(mask.any())  # an empty mask is refused in some forms, which is another test
    return mask


def _hidden(mask: U8) -> U8:
    """Ids of which others left nothing but crumbs: no one would paint those."""
    same = np.zeros(mask.shape, bool)
    around = np.pad(mask, 1)
    for down, right in np.ndindex(3, 3):
        if (down, right) != (1, 1):
            same |= around[down : down + 72, right : right + 96] == mask
    areas, alone = (np.bincount(x.ravel(), minlength=256) for x in (mask, mask[~same]))
    return np.flatnonzero((areas > 0) & ((areas < 8) | (3 * alone > areas))).astype(np.uint8)


def colours(random: np.random.Generator) -> U8:
    """A table of 256 colours, 63 different ones after black, none of them grey: a grey is an id."""
    packed = np.array([k for k in random.permutation(6**3) if k % 43])[:63]
    table = np.zeros((256, 3), np.uint8)
    table[1:64] = np.stack([packed // 36, packed // 6 % 6, packed % 6], axis=1) * SHADES + 20
    return table


FORMS = {
    "indexed, DAVIS palette": lambda mask, _: indexed(mask, DAVIS_PALETTE),
    "indexed, own palette": lambda mask, random: indexed(mask, colours(random).tobytes()),
    "indexed, grey ramp": lambda mask, _: indexed(mask, bytes(v for v in range(256) for _ in range(3))),
    "indexed, palette in any order": lambda mask, random: _shuffled(mask, colours(random), random),
    "indexed, by Pillow's quantize": lambda mask, random: Image.fromarray(colours(random)[mask]).quantize(256),
    "grey": lambda mask, _: Image.fromarray(mask),
    "grey, 16 bits": lambda mask, _: Image.fromarray(mask.astype(np.uint16)),
    "grey, 16 bits, spread": lambda mask, _: Image.fromarray(mask.astype(np.uint16) * 257),
    "grey, floats": lambda mask, _: Image.fromarray(mask.astype(np.float32)),
    "grey as RGB": lambda mask, _: Image.fromarray(mask).convert("RGB"),
    "RGB": lambda mask, random: Image.fromarray(colours(random)[mask]),
    "RGBA, opaque": lambda mask, random: Image.fromarray(colours(random)[mask]).convert("RGBA"),
    "RGBA, clear background": lambda mask, random: _clear(colours(random)[mask], mask),
}


def _shuffled(mask: U8, table: U8, random: np.random.Generator) -> Image.Image:
    order = random.permutation(256).astype(np.uint8)
    palette = np.zeros((256, 3), np.uint8)
    palette[order] = table
    return indexed(order[mask], palette.tobytes())


def _clear(rgb: U8, mask: U8) -> Image.Image:
    rgb = np.where(mask[:, :, None] > 0, rgb, np.uint8(200))  # what lies under transparent pixels is anything
    return Image.fromarray(np.dstack([rgb, (mask > 0).view(np.uint8) * np.uint8(255)]))


def same_objects(found: U8, mask: U8) -> bool:
    """Whether two index maps have the same objects, whatever their ids."""
    pairs = np.unique(np.stack([found.ravel(), mask.ravel()]), axis=1)
    one_to_one = all(len(np.unique(ids)) == pairs.shape[1] for ids in pairs)
    return one_to_one and bool(((pairs[0] == 0) == (pairs[1] == 0)).all())


@pytest.mark.parametrize("form", FORMS)
@settings(max_examples=25, deadline=None)
@given(mask=scenes(), seed=st.integers(0, 2**32 - 1), clean=st.booleans())
def test_flat_objects_however_thin_or_many_are_the_same_in_every_form(
    form: str, mask: U8, seed: int, clean: bool
) -> None:
    file = read(FORMS[form](mask, np.random.default_rng(seed)), clean=clean)
    assert same_objects(file.mask, mask)
    if form.startswith(("grey", "indexed, DAVIS", "indexed, own", "indexed, grey")):
        assert np.array_equal(file.mask, mask)  # the ids, too
    elif file.by_colour:
        assert object_ids(file.mask) == tuple(range(1, len(object_ids(mask)) + 1))


@settings(max_examples=25, deadline=None)
@given(mask=scenes(8), factor=st.sampled_from([2, 4]))
def test_smooth_edges_are_refused_in_grey_and_in_colour(mask: U8, factor: int) -> None:
    white = (mask > 0).view(np.uint8) * np.uint8(255)
    if len(np.unique(soft(white, factor))) > 10:  # less is a rectangle that scaling left as it was
        with pytest.raises(InputError, match="smooth edges"):
            read(soft(white, factor))
    # A thin line becomes an even grey, which is cleaned as an object of its own.
    thick = soft(without_thin_parts(white, 2 * factor + 1), factor)
    if len(np.unique(thick)) > 10:
        assert np.array_equal(read(thick, clean=True).mask > 0, 2 * thick.astype(int) >= thick.max())


def black_and_white() -> U8:
    mask = np.zeros((48, 64), np.uint8)
    mask[10:22, 20:32] = 255
    return mask


@pytest.mark.parametrize("black_first", [True, False])
@pytest.mark.parametrize("mode", ["1", "L", "RGB", "RGBA", "LA", "P"])
def test_white_is_the_object_whatever_the_order_of_the_palette(mode: str, black_first: bool) -> None:
    white = black_and_white()
    if mode == "P":
        palette = b"\0\0\0\xff\xff\xff" if black_first else b"\xff\xff\xff\0\0\0"
        picture = indexed((white > 0).view(np.uint8) ^ np.uint8(not black_first), palette)
    else:
        picture = Image.fromarray(white).convert(mode)
    assert np.array_equal(read(picture).mask, white > 0)


def test_a_picture_that_is_white_everywhere_is_one_object() -> None:
    file = read(np.full((48, 64), 255, np.uint8))
    assert file.is_white
    assert (file.mask == 1).all()


def test_white_beside_painted_greys_is_an_object_and_beside_counted_ids_void() -> None:
    mask = black_and_white()
    mask[30:40, 10:20] = 128
    assert sorted(np.unique(read(mask).mask)) == [0, 1, 2]
    mask[30:40, 10:20] = 3
    assert np.array_equal(read(mask).mask, mask)
    mask[30:40, 30:40] = 180
    with pytest.raises(InputError, match=r"3 to 180 and 255, which may be an object or void") as caught:
        read(mask)
    assert "1 to 254" in str(caught.value.hint)


def test_a_grey_band_all_around_white_is_the_unknown_part_of_a_trimap() -> None:
    mask = np.zeros((48, 64), np.uint8)
    mask[5:35, 15:45] = 128
    mask[10:30, 20:40] = 255
    found = read(mask).mask
    assert np.array_equal(found == 1, mask == 255)
    assert np.array_equal(found == VOID, mask == 128)


def test_the_colours_of_a_cube_of_colours_count_and_not_their_indices() -> None:
    cube = np.stack(np.meshgrid(range(0, 256, 85), range(0, 256, 36), range(0, 256, 36), indexing="ij"), -1)
    palette = cube.reshape(-1, 3)[:, ::-1].astype(np.uint8)  # blue slowest, as ffmpeg's pal8 has it
    white = int(np.flatnonzero((palette >= 252).all(1))[0])
    mask = black_and_white()
    assert np.array_equal(read(indexed((mask > 0).view(np.uint8) * np.uint8(white), palette.tobytes())).mask, mask > 0)


def test_white_paper_is_background_where_nothing_is_black() -> None:
    rgb = np.full((48, 64, 3), 255, np.uint8)
    rgb[5:15, 5:15] = 200, 0, 0
    rgb[20:40, 20:50] = 0, 0, 200
    expected = np.zeros((48, 64), np.uint8)
    expected[5:15, 5:15], expected[20:40, 20:50] = 2, 1
    assert np.array_equal(read(rgb).mask, expected)
    assert same_objects(read(Image.fromarray(rgb).quantize(8)).mask, expected)


def photo(shape: tuple[int, int] = (96, 128)) -> U8:
    """Texture and shading, as a photo has."""
    random = np.random.default_rng(3)
    y, x = np.mgrid[: shape[0], : shape[1]]
    shading = np.stack([128 + 90 * np.sin(x / 9 + k) * np.cos(y / (7 + k)) for k in range(3)], -1)
    return np.clip(shading + random.normal(0, 12, (*shape, 3)), 1, 255).astype(np.uint8)


def test_photos_cut_outs_on_black_and_photos_with_paint_on_them_are_refused_even_when_cleaning() -> None:
    inside = np.zeros((96, 128), bool)
    inside[20:70, 30:100] = True
    painted = np.where(inside[:, :, None], np.array([255, 0, 0], np.uint8), photo())
    for picture in (photo(), photo() * inside[:, :, None].view(np.uint8), painted):
        for clean in (False, True):
            with pytest.raises(InputError, match="colours, as a photo has") as caught:
                read(picture, clean=clean)
            assert "--clean-mask" not in str(caught.value.hint)


@pytest.mark.parametrize("kind", ["photo", "grey photo", "black", "one colour, premultiplied"])
def test_alpha_is_the_mask_where_the_colours_are_not(kind: str) -> None:
    mask = np.zeros((96, 128), np.uint8)
    mask[20:70, 30:100] = 255
    alpha = soft(mask)
    under = {
        "photo": photo(),
        "grey photo": np.repeat(photo()[:, :, :1], 3, axis=2),
        "black": np.zeros((96, 128, 3), np.uint8),
        "one colour, premultiplied": (alpha[:, :, None] * np.array([0.9, 0.2, 0.2])).astype(np.uint8),
    }[kind]
    for clean in (False, True):
        assert np.array_equal(read(np.dstack([under, alpha]), clean=clean).mask, alpha >= 128)


def test_colours_count_beside_soft_alpha_if_they_are_flat() -> None:
    mask = black_and_white()
    rgb = np.zeros((48, 64, 3), np.uint8)
    rgb[:, :26], rgb[:, 26:] = (200, 0, 0), (0, 200, 0)
    alpha = soft(mask, 2)
    found = read(np.dstack([rgb, alpha])).mask
    assert np.array_equal(found > 0, alpha >= 128)
    assert object_ids(found) == (1, 2)


def test_what_is_transparent_everywhere_is_refused() -> None:
    with pytest.raises(InputError, match="transparent everywhere"):
        read(np.zeros((48, 64, 4), np.uint8))


def test_more_flat_colours_than_ids_are_counted_and_not_taken_for_smooth_edges() -> None:
    cells = np.arange(20 * 15).reshape(15, 20) + 1
    packed = np.kron(cells * 50_021 % 2**24, np.ones((10, 10), int))
    with pytest.raises(InputError, match="300 flat colours; at most 254 objects"):
        read((packed[:, :, None] >> np.array([16, 8, 0]) & 255).astype(np.uint8))


@pytest.mark.parametrize("values", [[0, 300], [-1, 1], [0.5, 3.0], [np.nan, 1]])
def test_values_beyond_eight_bits_are_refused(values: list[float]) -> None:
    wide = np.zeros((48, 64), np.float32)
    wide[:10], wide[10:20] = values
    with pytest.raises(InputError, match="more than 8 bits") as caught:
        read(wide)
    assert "1 to 254" in str(caught.value.hint)


def test_a_matte_of_floats_has_smooth_edges() -> None:
    matte = soft(black_and_white()).astype(np.float32) / 255
    with pytest.raises(InputError, match="smooth edges"):
        read(matte)
    assert np.array_equal(read(matte, clean=True).mask, 2 * np.rint(matte * 255).astype(int) >= 255)


def test_an_even_alpha_says_nothing() -> None:
    mask = black_and_white()
    for alpha in (60, 128, 255):
        assert np.array_equal(read(np.dstack([mask, mask, mask, np.full_like(mask, alpha)])).mask, mask > 0)


def test_white_with_noise_is_one_object_after_cleaning_and_not_two_before() -> None:
    mask = black_and_white()
    mask[:, ::2] -= (mask[:, ::2] > 0).view(np.uint8)
    with pytest.raises(InputError, match="noise"):
        read(mask)
    assert np.array_equal(read(mask, clean=True).mask, mask > 0)


def test_white_on_almost_black_is_not_dropped_as_void() -> None:
    with pytest.raises(InputError, match="may be an object or void"):
        read(np.maximum(black_and_white(), 1))
