"""Masks as people make them: what is understood, what is refused with which hint, what cleaning repairs."""

import re
import zlib
from fractions import Fraction
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

import mgseg.files.pictures
from mgseg.errors import InputError, OutputError
from mgseg.files.masks import DAVIS_PALETTE, object_ids, read_index_map, read_mask, write_mask

U8 = NDArray[np.uint8]


@pytest.fixture
def shapes() -> U8:
    """Background, a square of 3 and a smaller disc of 8."""
    y, x = np.mgrid[:60, :80]
    mask = np.zeros((60, 80), np.uint8)
    mask[10:40, 10:40] = 3
    mask[(y - 40) ** 2 + (x - 60) ** 2 < 100] = 8
    return mask


def save(path: Path, pixels: NDArray[Any], **options: Any) -> Path:
    Image.fromarray(pixels).save(path, **options)
    return path


def smooth(pixels: U8) -> U8:
    """Scaled down and up again, so that every edge is soft."""
    picture = Image.fromarray(pixels)
    small = picture.resize((picture.width // 2, picture.height // 2), Image.Resampling.BILINEAR)
    return np.asarray(small.resize(picture.size, Image.Resampling.BILINEAR))


def test_the_palette_is_that_of_davis() -> None:
    start = [0, 0, 0, 128, 0, 0, 0, 128, 0, 128, 128, 0, 0, 0, 128, 128, 0, 128, 0, 128, 128, 128, 128, 128, 64, 0, 0]
    assert list(DAVIS_PALETTE[:27]) == start
    assert len(DAVIS_PALETTE) == 768


def test_written_masks_are_read_back_with_palette_and_void(tmp_path: Path, shapes: U8) -> None:
    shapes[0, :20] = 255
    palette = bytes(range(256)) * 3
    write_mask(tmp_path / "m.png", shapes, palette)
    read = read_mask(tmp_path / "m.png", size=(60, 80))
    assert np.array_equal(read.mask, shapes)
    assert read.palette == palette
    assert np.array_equal(read_index_map(tmp_path / "m.png"), shapes)
    assert [path.name for path in tmp_path.iterdir()] == ["m.png"]


@pytest.mark.parametrize("white", [1, 255])
@pytest.mark.parametrize("mode", ["1", "L", "RGB", "RGBA", "LA", "P", "I;16"])
def test_one_white_object_is_object_one_however_it_is_stored(tmp_path: Path, shapes: U8, mode: str, white: int) -> None:
    grey = (shapes > 0).astype(np.uint8) * np.uint8(white)
    if mode == "I;16":
        picture = Image.fromarray(grey.astype(np.uint16) * (257 if white == 255 else 1))
    elif mode == "P":
        picture = Image.fromarray(grey).convert("P", palette=Image.Palette.WEB) if white == 1 else Image.fromarray(grey)
        picture = Image.frombytes("P", picture.size, grey.tobytes())
        picture.putpalette([value for value in range(256) for _ in range(3)])
    else:
        picture = Image.fromarray(grey * np.uint8(255) if mode == "1" and white == 1 else grey).convert(mode)
    picture.save(tmp_path / "m.png")
    assert np.array_equal(read_mask(tmp_path / "m.png").mask, shapes > 0)


def test_grey_values_that_are_few_and_flat_are_ids(tmp_path: Path, shapes: U8) -> None:
    assert np.array_equal(read_mask(save(tmp_path / "m.png", shapes)).mask, shapes)
    shapes[shapes == 8] = 255  # void beside an id
    assert object_ids(read_mask(save(tmp_path / "v.png", shapes)).mask) == (3,)


def test_each_colour_is_an_object_from_the_largest_down(tmp_path: Path, shapes: U8) -> None:
    colours = np.zeros((9, 3), np.uint8)
    colours[3], colours[8] = (0, 0, 200), (250, 250, 0)
    read = read_mask(save(tmp_path / "m.png", colours[shapes]))
    assert (read.mask[shapes == 3] == 1).all()
    assert (read.mask[shapes == 8] == 2).all()
    assert (read.mask[shapes == 0] == 0).all()
    assert read.by_colour
    assert read.palette is not None
    assert read.palette[3:9] == bytes([0, 0, 200, 250, 250, 0])


def test_transparent_pixels_are_background(tmp_path: Path, shapes: U8) -> None:
    rgba = np.dstack([np.full((60, 80, 3), (200, 10, 10), np.uint8), (shapes > 0).astype(np.uint8) * np.uint8(255)])
    assert np.array_equal(read_mask(save(tmp_path / "m.png", rgba)).mask, shapes > 0)


def test_an_indexed_mask_with_a_transparent_colour_keeps_its_ids(tmp_path: Path, shapes: U8) -> None:
    mask = np.where(shapes > 0, shapes + 2, 0).astype(np.uint8)
    picture = Image.fromarray(mask)
    picture.putpalette(DAVIS_PALETTE)
    picture.save(tmp_path / "m.png", transparency=0)
    assert np.array_equal(read_mask(tmp_path / "m.png").mask, mask)
    picture.save(tmp_path / "m.png", transparency=int(mask.max()))
    assert np.array_equal(read_mask(tmp_path / "m.png").mask, np.where(mask == mask.max(), 0, mask))


def test_smooth_grey_edges_are_refused_with_their_histogram_and_repaired_on_request(tmp_path: Path, shapes: U8) -> None:
    grey = (shapes > 0).astype(np.uint8) * np.uint8(255)
    path = save(tmp_path / "m.png", smooth(grey))
    with pytest.raises(InputError, match=r"112 grey values \(0 62\.4 %, 255 15 %, ") as caught:
        read_mask(path)
    assert "--clean-mask" in str(caught.value.hint)
    assert np.array_equal(read_mask(path, clean=True).mask, smooth(grey) >= 128)


@pytest.mark.parametrize("options", [{"format": "PNG"}, {"format": "JPEG", "quality": 80}])
def test_smooth_or_noisy_colours_are_repaired_to_the_objects(
    tmp_path: Path, shapes: U8, options: dict[str, Any]
) -> None:
    colours = np.zeros((9, 3), np.uint8)
    colours[3], colours[8] = (0, 40, 220), (230, 30, 0)
    pixels = colours[shapes] if options["format"] == "JPEG" else smooth(colours[shapes])
    path = save(tmp_path / "m.img", pixels, **options)
    with pytest.raises(InputError, match="smooth edges or noise"):
        read_mask(path)
    mask = read_mask(path, clean=True).mask
    truth = np.select([shapes == 3, shapes == 8], [1, 2], 0)
    assert object_ids(mask) == (1, 2)
    assert (mask != truth).mean() < 0.02


def test_stray_specks_of_another_id_are_refused_and_repaired(tmp_path: Path, shapes: U8) -> None:
    dirty = shapes.copy()
    dirty[20, 20], dirty[50, 5:7] = 77, 90
    path = save(tmp_path / "m.png", dirty)
    with pytest.raises(InputError, match=r"5 grey values .*90 0\.0417 %"):
        read_mask(path)
    assert np.array_equal(read_mask(path, clean=True).mask, shapes)


def test_an_indexed_mask_with_dozens_of_phantom_objects_is_refused(tmp_path: Path, shapes: U8) -> None:
    write_mask(tmp_path / "m.png", smooth(np.where(shapes > 0, 200, 0).astype(np.uint8)))
    with pytest.raises(InputError, match="indices"):
        read_mask(tmp_path / "m.png")
    cleaned = read_mask(tmp_path / "m.png", clean=True).mask
    assert object_ids(cleaned) == (200,)
    assert ((cleaned == 200) != (shapes > 0)).mean() < 0.03


def test_small_and_thin_objects_of_an_indexed_mask_are_not_mistaken_for_specks(tmp_path: Path, shapes: U8) -> None:
    shapes[50, 5:30] = 40  # a line of one pixel
    shapes[55, 55] = 41
    write_mask(tmp_path / "m.png", shapes)
    assert object_ids(read_mask(tmp_path / "m.png").mask) == (3, 8, 40, 41)


def test_another_size_is_refused_with_both_sizes_and_scaled_on_request(tmp_path: Path, shapes: U8) -> None:
    write_mask(tmp_path / "m.png", shapes)
    with pytest.raises(InputError, match=r"m\.png is 80x60, the clip is 160x120") as caught:
        read_mask(tmp_path / "m.png", size=(120, 160))
    assert "--resize-mask" in str(caught.value.hint)
    scaled = read_mask(tmp_path / "m.png", size=(120, 160), resize=True).mask
    assert np.array_equal(scaled, shapes.repeat(2, axis=0).repeat(2, axis=1))


@pytest.mark.parametrize(
    ("size", "turned_by", "hint"),
    [
        ((80, 60), None, "turn the mask by a quarter turn"),
        ((160, 120), "EXIF", "turned by EXIF"),
        ((60, 100), None, "make the mask from a frame of this clip"),
    ],
)
def test_another_shape_is_refused_even_with_resizing_and_no_hint_asks_for_that(
    tmp_path: Path, shapes: U8, size: tuple[int, int], turned_by: str | None, hint: str
) -> None:
    write_mask(tmp_path / "m.png", shapes)
    for resize in (False, True):
        with pytest.raises(InputError, match="is 80x60, the clip") as caught:
            read_mask(tmp_path / "m.png", size=size, resize=resize, turned_by=turned_by)
        assert hint in str(caught.value.hint)


def test_a_mask_may_have_the_shape_at_which_a_clip_is_shown(tmp_path: Path, shapes: U8) -> None:
    write_mask(tmp_path / "m.png", shapes)
    scaled = read_mask(tmp_path / "m.png", size=(60, 60), resize=True, pixel_aspect=Fraction(4, 3)).mask
    assert object_ids(scaled) == (3, 8)
    assert scaled.shape == (60, 60)


@pytest.mark.parametrize(("value", "text"), [(0, "0 everywhere"), (255, "void")])
def test_a_mask_without_an_object_is_refused_unless_that_is_allowed(tmp_path: Path, value: int, text: str) -> None:
    mask = np.full((60, 80), value, np.uint8)
    write_mask(tmp_path / "m.png", mask)
    with pytest.raises(InputError, match=text):
        read_mask(tmp_path / "m.png")
    assert np.array_equal(read_mask(tmp_path / "m.png", may_be_empty=True).mask, mask)


def test_more_than_eight_bits_are_refused_where_they_matter(tmp_path: Path, shapes: U8) -> None:
    path = save(tmp_path / "m.png", shapes.astype(np.uint16) * 500)
    with pytest.raises(InputError, match="from 0 to 4000"):
        read_mask(path)
    assert np.array_equal(read_mask(save(path, shapes.astype(np.uint16))).mask, shapes)


def test_what_is_no_picture_or_a_broken_one_is_told(tmp_path: Path, shapes: U8) -> None:
    write_mask(tmp_path / "whole.png", np.random.default_rng(0).integers(0, 9, (60, 80), np.uint8))
    whole = (tmp_path / "whole.png").read_bytes()
    for name, data in {"text.png": b"not a picture", "empty.png": b"", "cut.png": whole[: len(whole) // 2]}.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(InputError, match=f"cannot read the mask .*{re.escape(name)}"):
            read_mask(tmp_path / name)
    with pytest.raises(InputError, match="no such mask"):
        read_mask(tmp_path / "none.png")


def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")

    side = (50_000).to_bytes(4, "big")
    bomb = (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", side + side + b"\x08\0\0\0\0") + chunk(b"IDAT", b"") + chunk(b"IEND", b"")
    )
    (tmp_path / "bomb.png").write_bytes(bomb)
    with pytest.raises(InputError, match=r"50000x50000|decompression bomb"):
        read_mask(tmp_path / "bomb.png")


def test_the_limit_is_on_pixels(tmp_path: Path, shapes: U8, monkeypatch: pytest.MonkeyPatch) -> None:
    write_mask(tmp_path / "m.png", shapes)
    monkeypatch.setattr(mgseg.files.pictures, "MAX_PIXELS", 60 * 80 - 1)
    with pytest.raises(InputError, match="80x60; the limit is 4,799 pixels"):
        read_mask(tmp_path / "m.png")


def test_a_mask_that_cannot_be_written_leaves_nothing(tmp_path: Path, shapes: U8) -> None:
    with pytest.raises(OutputError, match="No such file or directory"):
        write_mask(tmp_path / "absent" / "m.png", shapes)
    (tmp_path / "m.png").mkdir()
    with pytest.raises(OutputError, match="cannot write"):
        write_mask(tmp_path / "m.png", shapes)
    assert [path.name for path in tmp_path.iterdir()] == ["m.png"]


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(1, 255), min_size=1, max_size=5), st.integers(1, 9), st.integers(0, 2**32 - 1))
def test_any_index_map_comes_back_as_it_was_written(ids: list[int], width: int, seed: int) -> None:
    mask = np.random.default_rng(seed).choice(np.array([0, *ids], np.uint8), (6, width))
    with TemporaryDirectory() as folder:
        write_mask(Path(folder) / "m.png", mask)
        assert np.array_equal(read_index_map(Path(folder) / "m.png"), mask)
