"""Annotation formats: what is written is read back, by our readers and by pycocotools."""

import contextlib
import csv
import io
import json
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from mgseg.annotations.coco import read_coco
from mgseg.annotations.cvat import read_cvat
from mgseg.annotations.frames import Clip, LabelledFrame
from mgseg.annotations.labelme import read_labelme
from mgseg.annotations.table import FORMATS, find_writer
from mgseg.annotations.yolo import read_yolo
from mgseg.errors import InputError, OutputError

pytest.importorskip("cv2")
pytest.importorskip("pycocotools")

SIZE = (80, 120)
CLIP = Clip("clip.mp4", SIZE, {1: "a ring & <more>", 2: "straße"}, 3)
LOSSLESS, SIMPLIFIED = 1.0, 0.97  # IoU
BRIDGES = 0.02  # what lines of a pixel between parts and to holes take, where a loader draws them


def masks() -> list[NDArray[np.uint8]]:
    """A ring with a hole, which moves; a second object of two parts, which leaves; on the last frame nothing."""
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    made = []
    for shift in (0, 5):
        mask = np.zeros(SIZE, np.uint8)
        radius = np.hypot(y - 40, x - 45 - shift)
        mask[(radius < 30) & (radius > 10)] = 1
        if not shift:
            mask[5:25, 95:115] = mask[50:70, 95:115] = 2
        mask[0, :] = 255  # void
        made.append(mask)
    return [*made, np.zeros(SIZE, np.uint8)]


def write(name: str, path: Path) -> None:
    with find_writer(name, path)(path, CLIP) as writer:
        for index, mask in enumerate(masks()):
            writer.add(index, f"{index:05d}", mask, {1: 0.75})


def compare(frames: Iterator[LabelledFrame] | list[LabelledFrame], tracks: bool = True) -> float:
    """The lowest IoU of all objects of all frames; labels and tracks must be those that were written."""
    lowest, count = 1.0, 0
    for frame in frames:
        index = int(Path(frame.name).stem) if frame.index is None else frame.index
        truth = masks()[index]
        assert frame.size == SIZE
        assert len(frame.objects) == len(set(np.unique(truth)) - {0, 255})
        for found in frame.objects:
            number = next(n for n, label in CLIP.names.items() if label == found.label)
            assert not tracks or found.track == number
            true = truth == number
            lowest = min(lowest, (found.mask & true).sum() / (found.mask | true).sum())
            count += 1
    assert count == 3
    return float(lowest)


def test_coco_is_lossless_and_pycocotools_reads_the_same(tmp_path: Path) -> None:
    from pycocotools.coco import COCO

    path = tmp_path / "new" / "a.json"
    write("coco", path)
    assert compare(read_coco(path)) == LOSSLESS
    with contextlib.redirect_stdout(io.StringIO()):
        theirs = COCO(str(path))
    assert [image["frame_index"] for image in theirs.dataset["images"]] == [0, 1, 2]
    for item in theirs.loadAnns(theirs.getAnnIds()):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of pycocotools' own arrays
            mask = theirs.annToMask(item) > 0
        assert (mask == (masks()[item["image_id"]] == item["track_id"])).all()
        assert item["area"] == mask.sum()


def test_coco_polygons_keep_parts(tmp_path: Path) -> None:
    write("coco_polygons", tmp_path / "a.json")
    found = [o for frame in read_coco(tmp_path / "a.json") for o in frame.objects if o.label == "straße"]
    true = masks()[0] == 2
    assert (found[0].mask & true).sum() / (found[0].mask | true).sum() > SIMPLIFIED


def test_labelme_keeps_holes_as_masks_and_parts_in_a_group(tmp_path: Path) -> None:
    write("labelme", tmp_path / "a")
    assert compare([read_labelme(path) for path in sorted((tmp_path / "a").glob("*.json"))]) > SIMPLIFIED
    shapes = json.loads((tmp_path / "a" / "00000.json").read_text(encoding="utf-8"))["shapes"]
    assert [(s["shape_type"], s["group_id"]) for s in shapes] == [("mask", 1), ("polygon", 2), ("polygon", 2)]


def test_yolo_keeps_parts_and_holes_in_one_polygon_a_line(tmp_path: Path) -> None:
    write("yolo", tmp_path / "a")
    text = (tmp_path / "a" / "data.yaml").read_text(encoding="utf-8")
    assert '0: "a ring & <more>"' in text
    names = {0: CLIP.names[1], 1: CLIP.names[2]}
    files = sorted((tmp_path / "a" / "labels" / "train").glob("*.txt"))
    assert [len(file.read_text().splitlines()) for file in files] == [2, 1, 0]
    assert compare([read_yolo(file, SIZE, names) for file in files], tracks=False) > SIMPLIFIED - BRIDGES


def test_cvat_tracks_end_where_their_object_leaves(tmp_path: Path) -> None:
    write("cvat", tmp_path / "a.xml")
    assert compare(read_cvat(tmp_path / "a.xml")) > SIMPLIFIED
    assert (tmp_path / "a.xml").read_text(encoding="utf-8").count('outside="1"') == 2


def test_cvat_mask_zip_is_lossless(tmp_path: Path) -> None:
    write("cvat", tmp_path / "a.zip")
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        lines = archive.read("labelmap.txt").decode().splitlines()
        colours = {line.split(":")[0]: tuple(map(int, line.split(":")[1].split(","))) for line in lines[1:]}
        assert archive.read("ImageSets/Segmentation/default.txt").decode().split() == ["00000", "00001", "00002"]
        for index, truth in enumerate(masks()):
            picture = np.asarray(Image.open(io.BytesIO(archive.read(f"SegmentationClass/{index:05d}.png"))))
            for number, label in CLIP.names.items():
                if label in colours:
                    assert ((picture == colours[label]).all(-1) == (truth == number)).all()


def test_boxes_are_a_row_for_each_object_that_is_seen(tmp_path: Path) -> None:
    write("boxes", tmp_path / "a.csv")
    with (tmp_path / "a.csv").open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["frame"], row["object"], row["label"]) for row in rows] == [
        ("0", "1", "a ring & <more>"),
        ("0", "2", "straße"),
        ("1", "1", "a ring & <more>"),
    ]
    assert [rows[1][name] for name in ("left", "top", "width", "height", "area")] == ["95", "5", "20", "65", "800"]
    assert (rows[1]["x"], rows[1]["y"]) == ("105.00", "37.50")
    assert (rows[0]["confidence"], rows[1]["confidence"]) == ("0.7500", "")


@pytest.mark.parametrize(("name", "ending"), [(n, e) for n, endings in FORMATS.items() for e in endings if e])
def test_a_file_appears_whole_or_not_at_all(tmp_path: Path, name: str, ending: str) -> None:
    path = tmp_path / f"a{ending}"
    path.write_text("before")

    def fail() -> None:
        with find_writer(name, path)(path, CLIP) as writer:
            writer.add(0, "00000", masks()[0])
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_of_another_ending_is_refused_with_the_right_ones(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"\.xml or \.zip"):
        find_writer("cvat", tmp_path / "a.json")


@pytest.mark.parametrize("read", [read_coco, read_labelme, read_cvat], ids=lambda f: f.__name__)
@pytest.mark.parametrize("text", ["", "{}", "[]", "<a/>", '{"images": 1}', "\xff"])
def test_other_files_are_refused_by_name(tmp_path: Path, read: Any, text: str) -> None:
    path = tmp_path / "other.json"
    path.write_text(text, encoding="latin-1")
    with pytest.raises(InputError, match=r"other\.json"):
        list(read(path) if read is not read_labelme else [read(path)])


@pytest.mark.parametrize("line", ["x 0.1 0.1 0.2 0.2 0.3 0.3", "0 0.1 0.1", "0 0.1 0.1 0.2 0.2", "0 a b c d e f"])
def test_a_line_that_is_no_polygon_is_refused_with_its_number(tmp_path: Path, line: str) -> None:
    (tmp_path / "a.txt").write_text(f"0 0.1 0.1 0.2 0.1 0.2 0.2\n{line}\n")
    with pytest.raises(InputError, match=r"a\.txt, line 2"):
        read_yolo(tmp_path / "a.txt", SIZE)
