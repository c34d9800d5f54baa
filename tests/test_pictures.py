"""The one reader of frames and the one reader of index maps: every way to store the same pixels reads alike."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from mgseg.errors import InputError
from mgseg.files.masks import read_index_map, write_mask
from mgseg.files.pictures import list_pictures, read_picture
from mgseg.files.video import probe

RAMP = np.tile(np.arange(0, 256, 5, dtype=np.uint8), (20, 1))  # 20 x 52 grey frame
IDS = np.kron(np.array([[0, 1, 2], [7, 0, 1]], np.uint8), np.ones((10, 8), np.uint8))
TURNED = Image.Exif()
TURNED[0x0112] = 6  # to be shown a quarter turn clockwise


def save(path: Path, pixels: NDArray[Any], **options: Any) -> Path:
    Image.fromarray(pixels).save(path, **options)
    return path


@pytest.mark.parametrize(
    "wide",
    [
        RAMP.astype(np.uint16) * 257,
        RAMP.astype(np.float32) / 255,
        RAMP.astype(np.float32),
        RAMP.astype(np.float32) * 257,
        RAMP.astype(np.int32),
        RAMP.astype(np.int32) * 257,
    ],
    ids=["16 bit", "float 0..1", "float 0..255", "float 0..65535", "32 bit 0..255", "32 bit 0..65535"],
)
def test_frames_of_more_than_eight_bits_are_scaled_to_eight(tmp_path: Path, wide: NDArray[Any]) -> None:
    frame = read_picture(save(tmp_path / "f.tif", wide))
    assert frame.shape == (20, 52, 3)
    assert np.abs(frame[:, :, 1].astype(int) - RAMP).max() <= 1


def test_floats_that_are_brighter_than_white_or_no_numbers_do_not_darken_the_rest(tmp_path: Path) -> None:
    hdr = RAMP.astype(np.float32) / 255
    hdr[0, :4] = np.inf, np.nan, 3.5, -1
    frame = read_picture(save(tmp_path / "f.tif", hdr))
    assert frame[0, :4, 0].tolist() == [255, 0, 255, 0]
    assert np.array_equal(frame[1:, :, 0], RAMP[1:])


def test_values_that_no_rule_can_scale_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"values up to 1e\+06") as caught:
        read_picture(save(tmp_path / "f.tif", np.full((4, 4), 1e6, np.float32)))
    assert "65535" in str(caught.value.hint)


def test_frames_and_index_maps_are_turned_as_exif_asks(tmp_path: Path) -> None:
    save(tmp_path / "f.png", RAMP, exif=TURNED)
    save(tmp_path / "m.png", IDS, exif=TURNED)
    assert np.array_equal(read_picture(tmp_path / "f.png")[:, :, 0], np.rot90(RAMP, -1))
    assert np.array_equal(read_index_map(tmp_path / "m.png"), np.rot90(IDS, -1))
    assert read_picture(tmp_path / "f.png", 10).shape == (26, 10, 3)


@pytest.mark.parametrize("mode", ["P", "L", "RGB", "RGBA", "I;16", "I", "F"])
def test_ids_are_the_same_in_every_mode(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "m.tif"
    if mode == "P":
        write_mask(path := tmp_path / "m.png", IDS)
    elif mode in ("I;16", "I", "F"):
        save(path, IDS.astype({"I;16": np.uint16, "I": np.int32, "F": np.float32}[mode]))
    else:
        Image.fromarray(IDS).convert(mode).save(path)
    found = read_index_map(path)
    assert np.array_equal(found, IDS)
    assert found.dtype == np.uint8
    assert found.flags.writeable  # torch warns otherwise


@pytest.mark.parametrize("mode", ["1", "L", "RGB", "I;16", "P"])
def test_black_and_white_is_object_one_unless_it_is_wanted_as_stored(tmp_path: Path, mode: str) -> None:
    white = (IDS > 0).astype(np.uint8) * np.uint8(255)
    picture = Image.fromarray(white.astype(np.uint16) * 257) if mode == "I;16" else Image.fromarray(white).convert(mode)
    picture.save(tmp_path / "m.png")
    assert np.array_equal(read_index_map(tmp_path / "m.png"), IDS > 0)
    assert np.array_equal(read_index_map(tmp_path / "m.png", as_stored=True), white)


def test_255_beside_ids_or_in_a_palette_of_datasets_stays_void(tmp_path: Path) -> None:
    void = np.where(IDS == 7, np.uint8(255), IDS)
    assert np.array_equal(read_index_map(save(tmp_path / "grey.png", void)), void)
    write_mask(tmp_path / "voc.png", np.where(IDS > 0, np.uint8(255), np.uint8(0)))
    assert np.array_equal(read_index_map(tmp_path / "voc.png") == 255, IDS > 0)


def test_a_binary_mask_may_have_smooth_edges(tmp_path: Path) -> None:
    smooth = np.where(IDS == 1, np.uint8(255), IDS * np.uint8(18))  # 7 becomes 126
    assert np.array_equal(read_index_map(save(tmp_path / "m.png", smooth), binary=True), IDS == 1)
    assert np.array_equal(read_index_map(save(tmp_path / "m.png", (IDS > 0).view(np.uint8)), binary=True), IDS > 0)


def test_frames_and_index_maps_are_made_smaller_but_never_larger(tmp_path: Path) -> None:
    save(tmp_path / "f.jpg", np.repeat(np.repeat(RAMP, 8, 0), 8, 1))
    save(tmp_path / "m.png", IDS)
    assert read_picture(tmp_path / "f.jpg", 40).shape == (40, 104, 3)
    assert read_picture(tmp_path / "f.jpg", 4000).shape == (160, 416, 3)
    assert np.array_equal(read_index_map(tmp_path / "m.png", 10), IDS[1::2, 1::2])
    assert np.array_equal(read_index_map(tmp_path / "m.png", 4000), IDS)


def test_every_spelling_of_jpeg_belongs_to_a_folder_and_hidden_files_do_not(tmp_path: Path) -> None:
    for name in ("1.jpg", "2.JPEG", "3.jfif", "4.jpe", "._1.jpg", ".5.jpg"):
        save(tmp_path / name, RAMP, format="JPEG")
    assert [path.name for path in list_pictures(tmp_path)] == ["1.jpg", "2.JPEG", "3.jfif", "4.jpe"]


def make_frames(folder: Path, count: int = 4) -> None:
    for number in range(count):
        save(folder / f"{number:05d}.jpg", RAMP)


def test_a_folder_whose_pictures_differ_in_size_is_refused_before_it_is_read(tmp_path: Path) -> None:
    make_frames(tmp_path)
    assert probe(tmp_path).num_frames == 4
    save(tmp_path / "thumbnail.jpg", RAMP[::2, ::2])
    with pytest.raises(InputError, match=r"thumbnail\.jpg is 26x10, the first is 52x20") as caught:
        probe(tmp_path)
    assert "another folder" in str(caught.value.hint)


def test_sizes_are_compared_as_exif_turns_the_frames(tmp_path: Path) -> None:
    save(tmp_path / "1.jpg", RAMP, exif=TURNED)
    save(tmp_path / "2.jpg", RAMP.T.copy())
    assert (probe(tmp_path).width, probe(tmp_path).height) == (20, 52)


def test_a_picture_that_would_be_left_out_is_named(tmp_path: Path) -> None:
    make_frames(tmp_path)
    (tmp_path / "00001.heic").write_bytes(b"")
    (tmp_path / "._00002.heic").write_bytes(b"")
    with pytest.raises(InputError, match=r"00001\.heic is a picture in a format that mgseg cannot read"):
        probe(tmp_path)


def test_a_mask_among_frames_of_another_kind_is_named(tmp_path: Path) -> None:
    make_frames(tmp_path)
    save(tmp_path / "99999.png", RAMP)
    assert probe(tmp_path).num_frames == 5
    write_mask(tmp_path / "00000_mask.png", IDS)
    with pytest.raises(InputError, match=r"00000_mask\.png is an indexed picture among frames in JPEG"):
        probe(tmp_path)


def test_a_folder_named_like_a_picture_is_no_picture(tmp_path: Path) -> None:
    make_frames(tmp_path)
    (tmp_path / "x.jpg").mkdir()
    assert len(list_pictures(tmp_path)) == 4


def test_postscript_is_not_given_to_another_program(tmp_path: Path) -> None:
    (tmp_path / "m.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 64 48\n")
    with pytest.raises(InputError, match="is EPS"):
        read_picture(tmp_path / "m.png")
