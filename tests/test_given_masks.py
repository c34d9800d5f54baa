"""The masks that a user gives for a clip: one object keeps one id in all files; what a mask is and where it may lie."""

import unicodedata
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from mgseg.errors import InputError
from mgseg.files.masks import write_mask
from mgseg.files.video import ClipInfo, probe
from mgseg.segment.given_masks import GivenMasks

SIZE = (48, 64)
FRAME = np.zeros((*SIZE, 3), np.uint8)


def square(value: int, left: int = 10) -> NDArray[np.uint8]:
    mask = np.zeros(SIZE, np.uint8)
    mask[10:30, left : left + 15] = value
    return mask


def save(path: Path, pixels: NDArray[np.uint8], exif: Image.Exif | None = None) -> Path:
    path.parent.mkdir(exist_ok=True)
    Image.fromarray(pixels).save(path, **({"exif": exif} if exif else {}))
    return path


def video(folder: Path) -> ClipInfo:
    return ClipInfo(folder / "clip.mp4", SIZE[1], SIZE[0], 20, Fraction(25), Fraction(1, 25), is_counted=True)


def pictures(folder: Path, names: list[str], exif: Image.Exif | None = None) -> ClipInfo:
    for name in names:
        save(folder / "frames" / name, np.full((*SIZE, 3), 90, np.uint8), exif)
    return probe(folder / "frames")


def ids(given: GivenMasks, frame: int) -> set[int]:
    mask = given.take(frame, FRAME, is_first=frame == 0)
    assert mask is not None
    return {*np.unique(mask).tolist()} - {0}


def test_white_keeps_its_id_beside_greys_and_alone(tmp_path: Path) -> None:
    both = save(tmp_path / "both.png", square(128) + square(255, 40))
    white = save(tmp_path / "white.png", square(255, 40))
    given = GivenMasks({0: both, 5: white}, video(tmp_path))
    mask, later = given.take(0, FRAME, is_first=True), given.take(5, FRAME, is_first=False)
    assert mask is not None
    assert later is not None
    assert later[12, 45] == mask[12, 45] != mask[12, 12]
    given = GivenMasks({0: white, 5: both}, video(tmp_path))
    assert ids(given, 0) == {1}
    mask = given.take(5, FRAME, is_first=False)
    assert mask is not None
    assert mask[12, 45] == 1
    assert mask[12, 12] not in (0, 1)


def test_white_alone_corrects_object_one_of_an_indexed_mask(tmp_path: Path) -> None:
    write_mask(tmp_path / "first.png", square(1) + square(2, 40))
    white = save(tmp_path / "white.png", square(255))
    given = GivenMasks({0: tmp_path / "first.png", 5: white}, video(tmp_path))
    assert ids(given, 5) == {1}


def test_arrays_of_bool_are_object_one_and_arrays_of_0_and_255_are_refused(tmp_path: Path) -> None:
    assert ids(GivenMasks(square(1) > 0, video(tmp_path)), 0) == {1}
    with pytest.raises(InputError, match="255 alone, which means void") as caught:
        GivenMasks(square(255), video(tmp_path))
    assert "mask > 127" in str(caught.value.hint)
    with pytest.raises(InputError, match="found int64"):
        GivenMasks(square(1).astype(np.int64), video(tmp_path))  # type: ignore[arg-type]


def test_a_mask_among_the_frames_is_refused(tmp_path: Path) -> None:
    info = pictures(tmp_path, ["00000.jpg", "00001.jpg"])
    mask = save(tmp_path / "frames" / "00000_mask.png", square(255))
    with pytest.raises(InputError, match=r"00000_mask\.png lies in the folder of the frames") as caught:
        GivenMasks(mask, info)
    assert "another folder" in str(caught.value.hint)
    GivenMasks(save(tmp_path / "masks" / "00000_mask.png", square(255)), info)


def test_the_hint_for_a_mask_of_frames_turned_by_exif_says_so(tmp_path: Path) -> None:
    turned = Image.Exif()
    turned[0x0112] = 6
    info = pictures(tmp_path, ["00000.jpg"], turned)
    with pytest.raises(InputError, match="64x48, the clip is 48x64") as caught:
        GivenMasks(save(tmp_path / "mask.png", square(255)), info)
    assert "turned by EXIF" in str(caught.value.hint)


def test_names_of_masks_and_frames_may_differ_in_their_unicode_form(tmp_path: Path) -> None:
    name = "fée_{}"
    info = pictures(tmp_path, [unicodedata.normalize("NFD", name.format(k)) + ".png" for k in range(3)])
    save(tmp_path / "masks" / (unicodedata.normalize("NFC", name.format(1)) + ".png"), square(255))
    assert GivenMasks(tmp_path / "masks", info).first == 1


def test_two_masks_of_one_frame_in_a_folder_are_refused_by_name(tmp_path: Path) -> None:
    for ending in ("png", "bmp"):
        save(tmp_path / "masks" / f"00003.{ending}", square(255))
    with pytest.raises(InputError, match=r"00003\.bmp and .*00003\.png are masks of the same frame"):
        GivenMasks(tmp_path / "masks", video(tmp_path))
