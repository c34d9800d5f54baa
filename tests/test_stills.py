"""Layouts of still pictures, bad data, and the clips drawn from them."""

import json
import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mgseg.data.layouts import find_pairs, find_stills
from mgseg.data.scene import ClipRequest, render
from mgseg.data.stills import Stills
from mgseg.data.transforms import STILLS, Augmentation
from mgseg.errors import DatasetError, InputError
from mgseg.files.masks import write_mask

HEIGHT, WIDTH = 60, 80
REQUEST = ClipRequest(num_frames=3, num_objects=2, size=64, max_skip=1)
# Background and objects of the generated pictures, told apart by colour.
COLOURS = np.array([(0, 0, 255), (255, 0, 0), (0, 255, 0)], np.uint8)


def labels(seed: int, objects: int = 1) -> np.ndarray:
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    left, top = np.random.default_rng(seed).integers(0, 8, 2)
    mask[top : top + 40, left : left + 32] = 1
    if objects == 2:
        mask[top + 10 : top + 46, left + 36 : left + 66] = 2
    return mask


def save(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)


def make_plain(root: Path, count: int = 4, objects: int = 2) -> Path:
    for index in range(count):
        mask = labels(index, objects)
        save(root / "images" / f"{index:03}.png", COLOURS[mask])
        save(root / "masks" / f"{index:03}.png", mask)
    return root


def make_ecssd(root: Path) -> None:
    save(root / "images" / "0001.jpg", COLOURS[labels(1)])
    save(root / "ground_truth_mask" / "0001.png", labels(1) * np.uint8(255))


def make_msra10k(root: Path) -> None:
    save(root / "Imgs" / "58.jpg", COLOURS[labels(1)])
    save(root / "Imgs" / "58.png", labels(1) * np.uint8(200))


def make_voc(root: Path) -> None:
    mask = labels(1)
    mask[0] = 255
    save(root / "JPEGImages" / "2007_000032.jpg", COLOURS[labels(1)])
    save(root / "JPEGImages" / "2007_000033.jpg", COLOURS[labels(1)])  # not segmented
    path = root / "SegmentationObject" / "2007_000032.png"
    path.parent.mkdir()
    image = Image.fromarray(mask)
    image.putpalette([value for colour in range(256) for value in (colour, 0, 255 - colour)])
    image.save(path)


def make_coco(root: Path) -> None:
    save(root / "val2017" / "000007.jpg", COLOURS[labels(1, 2)])
    square = [10, 5, 40, 5, 40, 45, 10, 45]
    small = [20, 15, 30, 15, 30, 25, 20, 25]
    runs = {"size": [HEIGHT, WIDTH], "counts": [HEIGHT * 50, HEIGHT * 10, HEIGHT * 20]}
    annotations = [
        {"image_id": 7, "area": 100, "iscrowd": 0, "segmentation": [small]},
        {"image_id": 7, "area": 1200, "iscrowd": 0, "segmentation": [square]},
        {"image_id": 7, "area": 600, "iscrowd": 0, "segmentation": runs},
        {"image_id": 7, "area": 900, "iscrowd": 1, "segmentation": runs},
    ]
    images = [{"id": i, "file_name": f"{i:06}.jpg", "height": HEIGHT, "width": WIDTH} for i in (6, 7)]
    (root / "annotations").mkdir()
    text = json.dumps({"images": images, "annotations": annotations})
    (root / "annotations" / "instances_val2017.json").write_text(text)


@pytest.mark.parametrize("make", [make_ecssd, make_msra10k, make_voc])
def test_each_layout_gives_picture_and_mask(make: Callable[[Path], None], tmp_path: Path) -> None:
    make(tmp_path)
    (pair,) = find_pairs(tmp_path)
    picture, mask = pair.read()
    expected = labels(1)
    np.testing.assert_array_equal(mask[1:], expected[1:])
    assert (mask[0] == 255).all() or (mask[0] == expected[0]).all()
    inside, outside = picture[expected == 1].mean(0), picture[expected == 0].mean(0)
    assert inside.argmax() == 0
    assert outside.argmax() == 2


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # pycocotools 2.0.8 with NumPy 2
def test_coco_objects_are_drawn_smaller_over_larger_and_without_crowds(tmp_path: Path) -> None:
    make_coco(tmp_path)
    (pair,) = find_pairs(tmp_path)
    assert pair.name == "000007"
    picture, mask = pair.read()
    assert picture.shape == (HEIGHT, WIDTH, 3)
    assert set(np.unique(mask)) == {0, 1, 2, 3}
    assert mask[8, 12] == 1
    assert (mask[:, 50:60] == 2).all()
    assert mask[20, 25] == 3
    size = [HEIGHT, WIDTH]
    counts = [{"size": size, "counts": found} for found in ([81], [-1, HEIGHT * WIDTH + 1], "\u00ff", None)]
    points = [[[float("nan"), 5, 40, 5, 40, 45]], [["a", 5, 40, 5, 40, 45]], [[1e30, 5, 40, 5, 40, 45]], [1, 2, 3]]
    for damaged in (*counts, *points, [[10, 5]], [], {"size": [9, 9], "counts": [81]}, {"size": size}, 5):
        with pytest.raises(DatasetError, match="segmentation 1 is neither"):
            replace(pair, segments=(damaged,)).read()
    with pytest.raises(DatasetError, match="segmentation 1 cannot be drawn"):
        replace(pair, segments=({"size": size, "counts": "garbage"},)).read()
    with pytest.raises(InputError, match="1048576x1048576"):  # before memory is spent on it
        replace(pair, size=(2**20, 2**20)).read()
    text = (tmp_path / "annotations" / "instances_val2017.json").read_text().replace('"area"', '"other"')
    (tmp_path / "annotations" / "instances_val2017.json").write_text(text, encoding="utf-8-sig")
    assert len(find_pairs(tmp_path)[0].segments) == 3
    smaller, small_mask = pair.read(shorter_side=30)
    assert smaller.shape[:2] == small_mask.shape == (30, 40)


@pytest.mark.parametrize("content", ["{", "[]", '{"annotations": [{}], "images": []}'])
def test_a_damaged_coco_file_is_refused(content: str, tmp_path: Path) -> None:
    (tmp_path / "annotations").mkdir()
    (tmp_path / "val2017").mkdir()
    (tmp_path / "annotations" / "instances_val2017.json").write_text(content)
    with pytest.raises(DatasetError, match="instances_val2017"):
        find_pairs(tmp_path)


def test_a_plain_folder_may_hold_any_picture_format(tmp_path: Path) -> None:
    make_plain(tmp_path, 2)
    save(tmp_path / "images" / "a.webp", COLOURS[labels(5)])
    save(tmp_path / "masks" / "a.png", labels(5))
    (tmp_path / "images" / "notes.txt").write_text("no picture")
    assert [pair.name for pair in find_pairs(tmp_path)] == ["000", "001", "a"]


def test_a_missing_or_unknown_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="does not exist"):
        Stills(tmp_path / "nowhere")
    with pytest.raises(DatasetError, match="not a layout") as caught:
        Stills(tmp_path)
    assert "images/ and masks/" in (caught.value.hint or "")
    (tmp_path / "images").mkdir()
    (tmp_path / "masks").mkdir()
    with pytest.raises(DatasetError, match="no picture"):
        Stills(tmp_path)


def test_bad_pictures_are_named_with_their_reason_and_never_drawn(tmp_path: Path) -> None:
    make_plain(tmp_path, 3)
    (tmp_path / "images" / "cut.png").write_bytes((tmp_path / "images" / "000.png").read_bytes()[:60])
    save(tmp_path / "masks" / "cut.png", labels(0))
    save(tmp_path / "images" / "lonely.png", COLOURS[labels(0)])
    save(tmp_path / "images" / "empty.png", COLOURS[labels(0)])
    save(tmp_path / "masks" / "empty.png", labels(0) * 0)
    save(tmp_path / "images" / "void.png", COLOURS[labels(0)])
    write_mask(tmp_path / "masks" / "void.png", labels(0) * np.uint8(255))  # in DAVIS's palette 255 is not white
    save(tmp_path / "images" / "size.png", COLOURS[labels(0)])
    save(tmp_path / "masks" / "size.png", labels(0)[1:])
    save(tmp_path / "images" / "colour.png", COLOURS[labels(0)])
    save(tmp_path / "masks" / "colour.png", COLOURS[labels(0)])
    stills = Stills(tmp_path)
    problems = stills.check()
    assert set(problems) == {"cut", "lonely", "empty", "void", "size", "colour"}
    assert "no object" in problems["empty"]
    assert "no object" in problems["void"]
    assert "its mask" in problems["size"]
    assert "in colour" in problems["colour"]
    drawn = {stills.draw(np.random.default_rng(seed), REQUEST).name.split("/")[1] for seed in range(30)}
    assert drawn == {"000", "001", "002"}
    assert len(problems) == 6


def test_a_dataset_of_nothing_but_bad_pictures_is_refused(tmp_path: Path) -> None:
    save(tmp_path / "images" / "a.png", COLOURS[labels(0)])
    save(tmp_path / "masks" / "a.png", labels(0) * 0)
    stills = Stills(tmp_path)
    with pytest.raises(DatasetError, match=r"cannot be used.*no object"):
        stills.draw(np.random.default_rng(0), REQUEST)


def test_the_same_numbers_give_the_same_clip_whatever_came_before(tmp_path: Path) -> None:
    make_plain(tmp_path)
    fresh, used = Stills(tmp_path, cache_bytes=0), Stills(tmp_path)
    for seed in range(5):
        used.draw(np.random.default_rng(100 + seed), REQUEST)
        one = render([fresh.draw(np.random.default_rng(seed), REQUEST)], "cpu")
        other = render([pickle.loads(pickle.dumps(used.draw(np.random.default_rng(seed), REQUEST)))], "cpu")
        assert one.names == other.names
        assert torch.equal(one.images, other.images)
        assert torch.equal(one.masks, other.masks)


def test_clips_have_the_promised_form(tmp_path: Path) -> None:
    stills = Stills(make_plain(tmp_path))
    scenes = [stills.draw(np.random.default_rng(seed), REQUEST) for seed in range(24)]
    batch = render(scenes, "cpu")
    assert batch.images.shape == (24, 3, 3, 64, 64)
    assert batch.images.dtype == torch.float32
    assert 0 <= batch.images.min() < batch.images.max() <= 1
    assert batch.masks.shape == (24, 3, 64, 64)
    assert batch.masks.dtype == torch.uint8
    assert set(batch.masks.unique().tolist()) <= {0, 1, 2, 255}
    assert batch.num_objects == 2
    first = batch.masks[:, 0].flatten(1)
    assert (((first == 1) | (first == 2)).float().mean(1) > 0.005).all()
    assert not torch.equal(batch.images[:, 0], batch.images[:, 1])


def test_objects_beyond_the_slots_become_background(tmp_path: Path) -> None:
    stills = Stills(make_plain(tmp_path), Augmentation())
    request = ClipRequest(num_frames=1, num_objects=1, size=64, max_skip=1)
    owners = set()
    for seed in range(20):
        batch = render([stills.draw(np.random.default_rng(seed), request)], "cpu")
        image, mask = batch.images[0, 0], batch.masks[0, 0]
        assert set(mask.unique().tolist()) <= {0, 1}
        owners.add(int(image[:, mask == 1].mean(1).argmax()))
    assert owners == {0, 1}  # red and green, each in turn


def test_all_objects_that_there_is_room_for_are_followed_unless_some_are_chosen(tmp_path: Path) -> None:
    root = make_plain(tmp_path)
    request = ClipRequest(num_frames=1, num_objects=2, size=64, max_skip=1)
    counts = {}
    for choose in (False, True):
        stills = Stills(root, Augmentation(choose=choose))
        clips = [render([stills.draw(np.random.default_rng(seed), request)], "cpu") for seed in range(20)]
        counts[choose] = {len({1, 2} & set(clip.masks.unique().tolist())) for clip in clips}
    assert counts == {False: {2}, True: {1, 2}}


def test_pasted_objects_hide_and_are_hidden_exactly(tmp_path: Path) -> None:
    """Every object has one colour and the background another, so that the picture tells whose each pixel is."""
    base, other = tmp_path / "base", tmp_path / "other"
    mask = labels(0)
    save(base / "images" / "a.png", COLOURS[mask])
    save(base / "masks" / "a.png", mask)
    save(other / "images" / "b.png", COLOURS[mask * 2])
    save(other / "masks" / "b.png", mask * 2)
    options = Augmentation(start=STILLS.start, step=STILLS.step, paste_step=STILLS.paste_step, paste=1.0, behind=0.5)
    stills = Stills(base, options, donors=[Stills(other)])
    touching = 0
    for seed in range(40):
        batch = render([stills.draw(np.random.default_rng(seed), REQUEST)], "cpu")
        red, green, _ = batch.images[0].transpose(0, 1)
        one, two = (batch.masks[0] == slot for slot in (1, 2))
        assert not (one & (green > 0.5)).any()
        assert not (two & (red > 0.5)).any()
        if two[0].any():
            # A pixel may be shared by three, the object in front and at least half of what is left: a quarter.
            assert two[green > 0.501].all()
            assert (green[two] > 0.249).all()
            touching += int((one[:, :, 1:] & two[:, :, :-1]).any())
    assert touching > 10


def test_pasted_objects_leave_and_come_back(tmp_path: Path) -> None:
    options = Augmentation(paste=1.0, replace=1.0, leave=1.0)
    stills = Stills(make_plain(tmp_path, objects=1), options)
    gone = 0
    for seed in range(20):
        batch = render([stills.draw(np.random.default_rng(seed), REQUEST)], "cpu")
        present = [(batch.masks[0] == slot).flatten(1).any(1).tolist() for slot in (1, 2)]
        gone += present.count([True, False, True])
    assert gone >= 20


def test_large_pictures_are_made_smaller_when_read(tmp_path: Path) -> None:
    make_plain(tmp_path, 1)
    picture, mask = find_pairs(tmp_path)[0].read(shorter_side=30)
    assert picture.shape == (30, 40, 3)
    assert mask.shape == (30, 40)
    assert set(np.unique(mask)) == {0, 1, 2}


@pytest.mark.parametrize("shorter_side", [59, 60, 80, 160, 400])
@pytest.mark.parametrize("orientation", [1, 6])
def test_a_jpeg_that_decodes_smaller_has_the_size_of_its_mask(
    tmp_path: Path, shorter_side: int, orientation: int
) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    (tmp_path / "images").mkdir()
    (tmp_path / "masks").mkdir()
    Image.new("RGB", (854, 480), "red").save(tmp_path / "images" / "a.jpg", exif=exif)
    shape = (480, 854) if orientation == 1 else (854, 480)
    Image.fromarray(np.ones(shape, np.uint8)).save(tmp_path / "masks" / "a.png")
    picture, mask = find_pairs(tmp_path)[0].read(shorter_side)
    assert picture.shape[:2] == mask.shape
    assert min(mask.shape) == shorter_side


def test_a_source_of_small_objects_alone_gives_the_largest_that_it_draws(tmp_path: Path) -> None:
    small = np.zeros((40, 40), np.uint8)
    small[:10, :10], small[20:32, 20:40] = 1, 2  # 100 and 240 pixels
    save(tmp_path / "images" / "0.png", COLOURS[small])
    save(tmp_path / "masks" / "0.png", small)
    cutout = Stills(tmp_path).draw_cutout(np.random.default_rng(0))
    assert cutout.mask.sum() == 240


def test_black_and_white_masks_are_of_one_object(tmp_path: Path) -> None:
    """As in `segment`. JPEG, which holds no ids, has masks of one object alone."""
    save(tmp_path / "images" / "a.png", COLOURS[labels(0)])
    save(tmp_path / "masks" / "a.png", labels(0) * np.uint8(255))
    save(tmp_path / "images" / "b.png", COLOURS[labels(0)])
    save(tmp_path / "masks" / "b.jpg", labels(0) * np.uint8(255))
    for pair in find_pairs(tmp_path):
        assert (pair.read()[1] == labels(0)).mean() > 0.995


def test_pictures_and_masks_are_turned_as_their_exif_data_ask(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees
    (tmp_path / "images").mkdir()
    Image.fromarray(np.rot90(COLOURS[labels(0)]).copy()).save(tmp_path / "images" / "a.png", exif=exif)
    save(tmp_path / "masks" / "a.png", labels(0))  # made in a viewer, which shows the picture upright
    (pair,) = find_pairs(tmp_path)
    picture, mask = pair.read()
    np.testing.assert_array_equal(picture, COLOURS[mask])


def test_names_of_other_systems_make_no_difference(tmp_path: Path) -> None:
    make_plain(tmp_path, 2)
    (tmp_path / "images" / "001.png").rename(tmp_path / "images" / "001.PNG")
    for name in ("000", "001"):
        (tmp_path / "masks" / f"{name}.png").rename(tmp_path / "masks" / f"{name}.PNG")
        for kind in ("images", "masks"):
            (tmp_path / kind / f"._{name}.png").write_bytes(b"\0\5\x16\7")
    Image.open(tmp_path / "masks" / "000.PNG").save(tmp_path / "masks" / "000.tif")
    (tmp_path / "masks" / "000.PNG").unlink()
    stills = Stills(tmp_path)
    assert len(stills) == 2
    assert stills.check() == {}


def test_the_folders_of_davis_are_not_cocos_even_where_case_means_nothing(tmp_path: Path) -> None:
    (tmp_path / "DAVIS" / "Annotations").mkdir(parents=True)
    (tmp_path / "coco" / "annotations").mkdir(parents=True)  # without its instances_*.json
    make_plain(tmp_path / "mine")
    make_plain(tmp_path / ".trash")
    assert find_stills(tmp_path) == [tmp_path / "mine"]
    assert find_stills(tmp_path / "mine") == [tmp_path / "mine"]
    assert find_stills(tmp_path / "nowhere") == []
    (tmp_path / "mine" / "images").rename(tmp_path / "mine" / "Images")
    assert len(find_pairs(tmp_path / "mine")) == 4
