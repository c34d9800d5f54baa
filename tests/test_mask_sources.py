"""First masks from wherever they come: annotation files, arrays, several files for one frame, shapes."""

import json
import zipfile
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from mgseg.annotations.frames import Clip
from mgseg.annotations.table import find_writer
from mgseg.errors import InputError, MgsegError
from mgseg.files.masks import VOID, write_mask
from mgseg.files.video import ClipInfo, probe
from mgseg.segment.given_masks import GivenMasks
from mgseg.segment.mask_sources import FileSource, Shape, parse_mask

pytest.importorskip("cv2")
pytest.importorskip("pycocotools")
pytest.importorskip("yaml")

SIZE = (60, 80)
NAMES = {3: "cat", 8: "dog"}
FORMATS = [("coco", "a.json"), ("coco_polygons", "b.json"), ("labelme", ""), ("cvat", "c.xml"), ("cvat", "d.zip")]
U8 = NDArray[np.uint8]


def scene(shift: int = 0) -> U8:
    """An object of two parts and a disc."""
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    mask = np.zeros(SIZE, np.uint8)
    mask[5:20, 5 + shift : 25 + shift] = mask[30:50, 5 + shift : 20 + shift] = 3
    mask[(y - 30) ** 2 + (x - 55 - shift) ** 2 < 150] = 8
    return mask


def frame_of(mask: U8) -> U8:
    """A picture on which each object has its own colour, with a little noise."""
    colours = np.array([(40, 60, 150), *[(200, 60 + 20 * (k % 8), 40) for k in range(255)]], np.uint8)[mask]
    return np.asarray(colours + np.random.default_rng(0).integers(0, 12, colours.shape), np.uint8)


def video(folder: Path, num_frames: int = 5, size: tuple[int, int] = SIZE) -> ClipInfo:
    return ClipInfo(folder / "clip.mp4", size[1], size[0], num_frames, Fraction(25), Fraction(1, 25), is_counted=True)


def take(given: GivenMasks, number: int, image: U8 | None = None) -> U8:
    image = np.zeros((*SIZE, 3), np.uint8) if image is None else image
    mask = given.take(number, image, is_first=number == 0)
    assert mask is not None
    return mask


def write(name: str, path: Path, masks: list[U8], names: dict[int, str] | None = None) -> Path:
    with find_writer(name, path)(path, Clip("clip.mp4", SIZE, names or NAMES, len(masks))) as writer:
        for index, mask in enumerate(masks):
            writer.add(index, f"{index:05d}", mask)
    return path


def iou(first: U8, second: U8) -> float:
    pairs = [((first == k), (second == k)) for k in {*np.unique(first), *np.unique(second)} - {0, VOID}]
    return min((a & b).sum() / (a | b).sum() for a, b in pairs)


@pytest.mark.parametrize(
    ("text", "frame", "source"),
    [
        ("a.png", None, FileSource(Path("a.png"))),
        ("12=a.png", 12, FileSource(Path("a.png"))),
        ("12=3=a.png", 12, FileSource(Path("a.png"), "", 3)),
        ("x=y.png", None, FileSource(Path("x=y.png"))),
        ("a.json#street 1.jpg", None, FileSource(Path("a.json"), "street 1.jpg")),
        ("4=a.npz#masks", 4, FileSource(Path("a.npz"), "masks")),
        ("a#1.png", None, FileSource(Path("a#1.png"))),
        ("box:1,2,3.5,4", None, Shape("box", ((1, 2), (3.5, 4)))),
        ("2=box:1,2,3,4", None, Shape("box", ((1, 2), (3, 4)), 2)),
        ("7=2=box:1,2,3,4", 7, Shape("box", ((1, 2), (3, 4)), 2)),
        ("2=poly:1,2,3,4,5,6", None, Shape("poly", ((1, 2), (3, 4), (5, 6)), 2)),
        ("2=on:1,2", None, Shape("on", ((1, 2),), 2)),
    ],
)
def test_the_form_is_frame_object_source(text: str, frame: int | None, source: Any) -> None:
    assert parse_mask(text) == (frame, source)


def test_a_file_whose_name_looks_like_a_form_is_taken_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("3=a.png", "a.json#b"):
        Path(name).write_bytes(b"")
        assert parse_mask(name) == (None, FileSource(Path(name)))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("poly:1,2,3,4", "three points or more, found 4 numbers"),
        ("poly:1,2,3,4,5", "pairs of x and y, found 5"),
        ("box:1,2,3", "pairs"),
        ("box:5,5,1,9", "LEFT < RIGHT"),
        ("box:1,2,3,x", "expected numbers"),
        ("box:1,2,3,nan", "pairs"),
        ("0=box:1,2,3,4", "1 to 254, found 0"),
        ("1=255=a.png", "1 to 254, found 255"),
        ("5=", "names no mask"),
        ("", "names no mask"),
    ],
)
def test_what_is_not_of_that_form_is_refused(text: str, says: str) -> None:
    with pytest.raises(InputError, match=says):
        parse_mask(text)


@pytest.mark.parametrize(("name", "file"), FORMATS)
def test_what_is_exported_comes_back_as_given_masks_with_the_same_numbers(tmp_path: Path, name: str, file: str) -> None:
    masks = [scene(), scene(4)]
    path = write(name, tmp_path / "out" / file if file else tmp_path / "out", masks)
    given = GivenMasks(path, video(tmp_path))
    assert given.object_ids == (3, 8)
    for number, mask in enumerate(masks):
        assert iou(take(given, number), mask) > 0.95
    if name != "labelme":
        assert {given.names[3], given.names[8]} == {"cat", "dog"}


def test_yolo_files_are_given_one_by_one_or_as_a_folder(tmp_path: Path) -> None:
    folder = write("yolo", tmp_path / "out", [scene(), scene(4)]) / "labels" / "train"
    given = GivenMasks({3: folder / "00001.txt"}, video(tmp_path))
    assert set(given.names.values()) == {"cat", "dog"}
    found = take(given, 3)
    assert iou(np.where(found == 0, 0, np.where(found == found[7, 12], 3, 8)).astype(np.uint8), scene(4)) > 0.95
    given = GivenMasks(folder, video(tmp_path))
    assert (given.object_ids, given.first) == ((1, 2), 0)


def coco_of(names: list[str], size: tuple[int, int] = SIZE, label: str = "cat") -> dict[str, Any]:
    """Other people's COCO: no tracks, no frame numbers."""
    square = [10, 10, 30, 10, 30, 30, 10, 30]
    images = [{"id": k, "file_name": name, "width": size[1], "height": size[0]} for k, name in enumerate(names)]
    found = [{"id": k, "image_id": k, "category_id": 1, "segmentation": [square]} for k in range(len(names))]
    return {"images": images, "annotations": found, "categories": [{"id": 1, "name": label}]}


def test_one_picture_of_a_coco_file_is_named_behind_a_hash(tmp_path: Path) -> None:
    path = tmp_path / "coco.json"
    path.write_text(json.dumps(coco_of(["street.jpg", "beach.jpg"])), encoding="utf-8-sig")
    info = video(tmp_path)
    for item in ("beach.jpg", "beach"):
        given = GivenMasks(f"{path}#{item}", info)
        assert (given.object_ids, given.first) == ((1,), 0)
        assert take(given, 0).sum() == 400
    with pytest.raises(InputError, match=r"no picture\(s\) 'moon'") as caught:
        GivenMasks(f"{path}#moon", info)
    assert "street.jpg, beach.jpg" in str(caught.value.hint)
    with pytest.raises(
        InputError, match=r"is for street\.jpg, beach\.jpg; the frames of .*clip\.mp4 are numbered like 00012"
    ) as caught:
        GivenMasks(path, info)
    assert "#street.jpg" in str(caught.value.hint)


def test_pictures_of_a_coco_file_find_their_frames_by_name(tmp_path: Path) -> None:
    for name in ("a.png", "b.png", "c.png"):
        path = tmp_path / "frames" / name
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(frame_of(scene())).save(path)
    (tmp_path / "coco.json").write_text(json.dumps(coco_of(["x/b.jpg", "x/c.jpg"])))
    given = GivenMasks(tmp_path / "coco.json", probe(tmp_path / "frames"))
    assert given.first == 1
    assert given.object_ids == (1,)


def test_annotations_of_another_size_or_beyond_the_clip_are_refused_with_both(tmp_path: Path) -> None:
    path = tmp_path / "coco.json"
    path.write_text(json.dumps(coco_of(["a.jpg"], (120, 160))))
    with pytest.raises(InputError, match=r"a\.jpg is 160x120, the clip is 80x60") as caught:
        GivenMasks(path, video(tmp_path))
    assert "--resize-mask" in str(caught.value.hint)
    assert take(GivenMasks(path, video(tmp_path), resize=True), 0).sum() == 100
    write("cvat", tmp_path / "c.xml", [scene()] * 4)
    with pytest.raises(InputError, match=r"c\.xml is for frame 2, but the clip's frames are 0 to 1"):
        GivenMasks(tmp_path / "c.xml", video(tmp_path, 2))


def test_labels_that_are_not_among_the_names_are_listed(tmp_path: Path) -> None:
    path = write("coco", tmp_path / "coco.json", [scene()])
    assert GivenMasks(path, video(tmp_path), names={5: "dog", 9: "cat"}).object_ids == (5, 9)
    with pytest.raises(InputError, match=r"labels that --names does not list: 'cat', 'dog'") as caught:
        GivenMasks(path, video(tmp_path), names={1: "fox"})
    assert "1=fox" in str(caught.value.hint)


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("a.json", "{"),
        ("a.json", "[1]"),
        ("a.json", '{"shapes": [{"label": "x", "points": [[1, 2], [3, 4]]}], "imageHeight": 60, "imageWidth": 80}'),
        ("a.json", '{"images": [], "annotations": [], "categories": []}'),
        ("a.xml", "<html/>"),
        ("a.xml", "<annotations>"),
        ("a.zip", "no zip"),
        ("a.txt", "0 0.1 0.1 0.2"),
        ("a.txt", "0 0.1 0.1 0.2 0.2"),
        ("a.npy", "no array"),
        ("a.npz", "no arrays"),
    ],
)
def test_damaged_annotation_files_are_refused_by_name(tmp_path: Path, file: str, text: str) -> None:
    (tmp_path / file).write_text(text)
    with pytest.raises(MgsegError, match=file):
        GivenMasks(tmp_path / file, video(tmp_path))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"segmentation": [[1, 1, 1e15, 1, 5, 5]]}, "far outside of any frame"),
        ({"segmentation": [[1, 1, float("nan"), 1, 5, 5]]}, "three points or more"),
        ({"segmentation": {"size": [60, 80], "counts": "%%%"}}, r"coco\.json|run lengths"),
        ({"category_id": {}}, "cannot be read as a COCO"),
    ],
)
def test_numbers_that_would_take_all_memory_or_crash_are_refused(
    tmp_path: Path, change: dict[str, Any], says: str
) -> None:
    content = coco_of(["a.jpg"])
    content["annotations"][0] |= change
    (tmp_path / "coco.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match=says):
        GivenMasks(tmp_path / "coco.json", video(tmp_path))


@pytest.mark.parametrize("size", [(2**20, 2**20), (0, 80), (-5, 80), (1e300, 3)])
def test_frames_of_impossible_size_are_refused(tmp_path: Path, size: Any) -> None:
    (tmp_path / "coco.json").write_text(json.dumps(coco_of(["a.jpg"], size)))
    with pytest.raises(InputError, match="frame"):
        GivenMasks(tmp_path / "coco.json", video(tmp_path))


def test_tracks_that_are_no_numbers_are_numbered(tmp_path: Path) -> None:
    content = coco_of(["a.jpg"])
    content["annotations"][0]["track_id"] = "left car"
    (tmp_path / "coco.json").write_text(json.dumps(content))
    assert GivenMasks(tmp_path / "coco.json", video(tmp_path)).object_ids == (1,)


def test_a_zip_with_an_xml_of_cvat_is_read(tmp_path: Path) -> None:
    write("cvat", tmp_path / "annotations.xml", [scene()])
    with zipfile.ZipFile(tmp_path / "task.zip", "w") as file:
        file.write(tmp_path / "annotations.xml", "annotations.xml")
    assert GivenMasks(tmp_path / "task.zip", video(tmp_path)).object_ids == (3, 8)


@pytest.mark.parametrize(
    "array",
    [scene(), scene().astype(np.int64), scene().astype(np.float32), scene()[None], scene()[:, :, None]],
    ids=["uint8", "int64", "float", "1xHxW", "HxWx1"],
)
def test_arrays_are_index_maps(tmp_path: Path, array: NDArray[Any]) -> None:
    np.save(tmp_path / "m.npy", array)
    np.savez_compressed(tmp_path / "m.npz", mask=array)
    for name in ("m.npy", "m.npz", "m.npz#mask"):
        assert np.array_equal(take(GivenMasks(f"{tmp_path}/{name}", video(tmp_path)), 0), scene())


@pytest.mark.parametrize("kind", [bool, np.uint8, np.float32])
def test_planes_are_objects_and_may_not_overlap(tmp_path: Path, kind: Any) -> None:
    planes = np.stack([scene() == 3, scene() == 8]).astype(kind)
    np.save(tmp_path / "m.npy", planes)
    expected = np.select([scene() == 3, scene() == 8], [1, 2], 0)
    assert np.array_equal(take(GivenMasks(tmp_path / "m.npy", video(tmp_path)), 0), expected)
    planes[1, 6, 6:9] = 1
    np.save(tmp_path / "m.npy", planes)
    with pytest.raises(InputError, match="objects 1 and 2 overlap on 3 pixels"):
        GivenMasks(tmp_path / "m.npy", video(tmp_path))


def test_arrays_that_are_no_masks_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "m.npz", a=scene(), b=scene())
    with pytest.raises(InputError, match="contains the arrays a, b") as caught:
        GivenMasks(tmp_path / "m.npz", video(tmp_path))
    assert "m.npz#NAME" in str(caught.value.hint)
    for array, says in (
        (np.zeros((2, 2, 60, 80)), "expected object numbers"),
        (np.stack([scene(), scene()]), "2 masks; expected one"),
        (scene().astype(np.int64) * 100_000, "values from 0 to 800000"),
        (scene().astype(np.int64) * 100, "more than 8 bits"),
        (scene()[:-1], "80x59, the clip is 80x60"),
    ):
        np.save(tmp_path / "m.npy", array)
        with pytest.raises(InputError, match=says):
            GivenMasks(tmp_path / "m.npy", video(tmp_path))


def white(path: Path, pixels: NDArray[np.bool_]) -> Path:
    Image.fromarray(pixels).save(path)
    return path


def test_several_masks_of_a_frame_join_and_black_and_white_ones_are_different_objects(tmp_path: Path) -> None:
    a, b = white(tmp_path / "a.png", scene() == 3), white(tmp_path / "b.png", scene() == 8)
    given = GivenMasks({0: [a, b]}, video(tmp_path))
    assert np.array_equal(take(given, 0), np.select([scene() == 3, scene() == 8], [1, 2], 0))
    given = GivenMasks({0: [f"0=7={a}", f"0=4={b}"]}, video(tmp_path))
    assert np.array_equal(take(given, 0), np.select([scene() == 3, scene() == 8], [7, 4], 0))


def test_masks_of_a_frame_that_overlap_are_refused_with_the_objects(tmp_path: Path) -> None:
    write_mask(tmp_path / "a.png", np.where(scene() == 3, scene(), 0).astype(np.uint8))
    other = np.where(scene() == 8, scene(), 0).astype(np.uint8)
    other[6, 6:10] = 8
    write_mask(tmp_path / "b.png", other)
    with pytest.raises(InputError, match=r"objects 3 and 8 overlap on 4 pixels of frame 2, by .*b\.png"):
        GivenMasks({2: [tmp_path / "a.png", tmp_path / "b.png"]}, video(tmp_path))
    write_mask(tmp_path / "both.png", scene())
    with pytest.raises(InputError, match=r"has the objects 3, 8; OBJECT= in front"):
        GivenMasks(f"0=1={tmp_path / 'both.png'}", video(tmp_path))


def test_polygons_are_filled_to_their_corners(tmp_path: Path) -> None:
    given = GivenMasks(["poly:10,5,30,5,30,25,10,25", "6=poly:40,5,60,5,60,15,40,15"], video(tmp_path))
    expected = np.zeros(SIZE, np.uint8)
    expected[5:25, 10:30], expected[5:15, 40:60] = 1, 6
    assert iou(take(given, 0), expected) > 0.85
    assert given.object_ids == (1, 6)
    with pytest.raises(InputError, match="objects 1 and 2 overlap"):
        GivenMasks(["1=poly:10,5,30,5,30,25", "2=poly:10,5,30,5,30,25,10,25"], video(tmp_path))


def test_shapes_beyond_the_frame_are_refused_with_both(tmp_path: Path) -> None:
    for text in ("box:10,10,90,40", "poly:-1,2,30,40,5,6", "1=on:10,61"):
        with pytest.raises(InputError, match=r"lies partly outside the frame, which is 80x60"):
            GivenMasks(text, video(tmp_path))


def test_an_object_is_cut_out_of_the_frame_from_its_box(tmp_path: Path) -> None:
    mask = np.where(scene() == 8, scene(), 0).astype(np.uint8)
    given = GivenMasks(["8=box:38,14,74,46"], video(tmp_path))
    assert given.cut_out == [0]
    assert iou(take(given, 0, frame_of(mask)), mask) > 0.9


def test_strokes_put_right_what_a_box_got_wrong(tmp_path: Path) -> None:
    frame = frame_of(scene())
    first = GivenMasks(["2=box:2,2,30,55"], video(tmp_path))
    assert (take(first, 0, frame)[35:45, 8:15] == 2).all()
    refined = GivenMasks(["2=box:2,2,30,55", "2=off:6,31,18,31,18,48,6,48,10,40"], video(tmp_path))
    assert (take(refined, 0, frame)[40, 10] == 0).all()
    with pytest.raises(InputError, match="belongs to no object"):
        GivenMasks(["on:5,5", "box:2,2,30,55"], video(tmp_path))


def test_what_is_given_as_a_mask_wins_over_what_is_cut_out(tmp_path: Path) -> None:
    half = (scene() == 8) & (np.arange(80) < 55)
    given = GivenMasks([white(tmp_path / "a.png", half), "8=box:38,14,74,46"], video(tmp_path))
    found = take(given, 0, frame_of(np.where(scene() == 8, scene(), 0).astype(np.uint8)))
    assert np.array_equal(found == 1, half)
    assert (found == 8).any()
