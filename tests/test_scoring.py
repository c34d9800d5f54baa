"""Reading of index maps as they are, and the ids in them."""

import zlib

import numpy as np
import pytest
from PIL import Image

from mgseg.errors import InputError
from mgseg.evaluation.scoring import ids_of
from mgseg.files.masks import read_index_map, write_mask

RNG = np.random.default_rng(0)
MASK = np.kron(RNG.choice(np.array([0, 1, 7, 255], np.uint8), (5, 7)), np.ones((4, 3), np.uint8))


def save_as(kind, path, mask):
    """Save a mask as PNG in one of the ways that programs do."""
    if kind == "indexed":
        write_mask(path, mask)
    elif kind == "grey, filtered rows":
        Image.fromarray(mask).save(path)
    elif kind == "indexed, 4 bits":
        picture = Image.fromarray(mask % 16).convert("P")
        picture.save(path, bits=4)
    elif kind == "indexed, several chunks":
        write_mask(path, mask)
        data = path.read_bytes()
        at = data.index(b"IDAT") - 4
        body = data[at + 8 : at + 8 + int.from_bytes(data[at : at + 4])]
        parts = [chunk(b"IDAT", body[:20]), chunk(b"IDAT", body[20:])]
        path.write_bytes(data[:at] + b"".join(parts) + data[at + 12 + len(body) :])


def chunk(kind, body):
    return len(body).to_bytes(4) + kind + body + zlib.crc32(kind + body).to_bytes(4)


@pytest.mark.parametrize("kind", ["indexed", "grey, filtered rows", "indexed, 4 bits", "indexed, several chunks"])
def test_every_way_to_save_a_mask_reads_as_pillow_reads_it(tmp_path, kind):
    path = tmp_path / "mask.png"
    save_as(kind, path, MASK)
    expected = np.asarray(Image.open(path))
    found = read_index_map(path)
    assert found.dtype == np.uint8
    assert (found == expected).all()
    assert (found == (MASK % 16 if kind == "indexed, 4 bits" else MASK)).all()


def test_one_bit_masks_are_read(tmp_path):
    Image.fromarray(MASK > 0).save(tmp_path / "mask.png")
    assert (read_index_map(tmp_path / "mask.png") == (MASK > 0)).all()


def test_any_cut_file_is_refused_by_name(tmp_path):
    path = tmp_path / "mask.png"
    write_mask(path, MASK)
    data = path.read_bytes()
    for length in range(0, len(data) - 16, 7):  # the end mark itself is not needed
        path.write_bytes(data[:length])
        with pytest.raises(InputError, match=r"mask\.png"):
            read_index_map(path)


def test_damaged_pixels_are_refused(tmp_path):
    path = tmp_path / "mask.png"
    write_mask(path, MASK)
    data = bytearray(path.read_bytes())
    data[data.index(b"IDAT") + 20] ^= 0xFF
    path.write_bytes(data)
    with pytest.raises(InputError, match=r"mask\.png"):
        read_index_map(path)


def test_a_picture_that_claims_to_be_huge_is_refused_before_it_is_unpacked(tmp_path):
    header = (60000).to_bytes(4) * 2 + bytes([8, 0, 0, 0, 0])
    pixels = chunk(b"IDAT", zlib.compress(bytes(10_000_000)))
    (tmp_path / "mask.png").write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + pixels + chunk(b"IEND", b""))
    with pytest.raises(InputError, match=r"mask\.png"):
        read_index_map(tmp_path / "mask.png")


@pytest.mark.parametrize("values", [[0], [1], [0, 1], [0, 255], [3, 9], [0, 1, 2, 254, 255]])
def test_ids_are_the_values_but_zero(values):
    mask = np.resize(np.array(values, np.uint8), (6, 10))
    assert ids_of(mask) == tuple(value for value in values if value)
