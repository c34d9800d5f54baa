"""The benchmark of crossing objects: its clips are exact and repeatable, and it tells swapped from kept and lost."""

import numpy as np
import pytest
from benchmark_crossing import KINDS, count_fates, make_dataset
from PIL import Image

from mgseg.data.catalog import find_split
from mgseg.files.masks import read_index_map, write_mask

COUNTS = {"two": 2, "three": 3, "twins": 2, "nested": 3, "small": 4}


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Two pictures of a bright square each, on grey."""
    root = tmp_path_factory.mktemp("pictures")
    (root / "images").mkdir()
    (root / "masks").mkdir()
    for name, colour in (("red", (250, 10, 10)), ("blue", (10, 10, 250))):
        mask = np.zeros((90, 120), np.uint8)
        mask[20:70, 30:80] = 1
        picture = np.where(mask[..., None] > 0, np.uint8(colour), np.uint8(120)).astype(np.uint8)
        Image.fromarray(picture).save(root / "images" / f"{name}.png")
        write_mask(root / "masks" / f"{name}.png", mask)
    return root


@pytest.fixture(scope="module")
def dataset(pictures, tmp_path_factory):
    out = tmp_path_factory.mktemp("crossing")
    make_dataset(pictures, out, clips_a_kind=1, num_frames=9, seed=3)
    return out


def masks_of(dataset, name):
    return [read_index_map(path) for path in sorted((dataset / "Annotations" / "480p" / name).iterdir())]


def test_objects_change_sides_and_meet_in_the_middle(dataset):
    assert find_split("davis17", "val", dataset).names == tuple(f"{kind}-00" for kind in KINDS)
    for kind, count in COUNTS.items():
        masks = masks_of(dataset, f"{kind}-00")
        assert len(masks) == 9
        crossing = 2 if kind == "nested" else count
        columns = [[np.nonzero(masks[t] == slot)[1].mean() for slot in range(1, crossing + 1)] for t in (0, -1)]
        assert list(np.argsort(columns[0])) == list(np.argsort(columns[1]))[::-1]
        areas = [[(mask == slot).sum() for slot in range(1, count + 1)] for mask in masks]
        assert areas[4][0] < areas[0][0] / 2  # the one behind is hidden


def test_what_is_carried_stays_where_it_is_on_its_carrier(dataset):
    for mask in masks_of(dataset, "nested-00"):
        carrier, carried = mask == 2, mask == 3
        assert 0.02 < carried.sum() / carrier.sum() < 0.5
        rows, columns = np.nonzero(carrier | carried)
        middle = [axis.mean() for axis in np.nonzero(carried)]
        assert rows.min() < middle[0] < rows.max()
        assert columns.min() < middle[1] < columns.max()


def test_the_same_seed_gives_the_same_clips(pictures, dataset, tmp_path):
    make_dataset(pictures, tmp_path, clips_a_kind=1, num_frames=9, seed=3)
    for path in dataset.rglob("*.*g"):
        assert path.read_bytes() == (tmp_path / path.relative_to(dataset)).read_bytes()


@pytest.mark.parametrize("fate", ["kept", "swapped", "lost"])
def test_what_became_of_the_objects_is_told_apart(dataset, tmp_path, fate):
    table = {"kept": [0, 1, 2, 3, 4], "swapped": [0, 2, 1, 4, 3], "lost": [0, 0, 0, 0, 0]}[fate]
    for kind in KINDS:
        (tmp_path / f"{kind}-00").mkdir()
        for number, mask in enumerate(masks_of(dataset, f"{kind}-00")):
            write_mask(tmp_path / f"{kind}-00" / f"{number:05d}.png", np.uint8(table)[mask])
    for kind, fates in count_fates(dataset, tmp_path).items():
        assert fates[fate] >= 2
        assert fates.total() == COUNTS[kind]
