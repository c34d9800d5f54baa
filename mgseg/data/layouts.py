"""Still pictures with masks in the folder layouts that people have: ECSSD, MSRA10K, VOC, COCO, images/ and masks/."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Set
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from mgseg.data.scene import UInt8Array
from mgseg.errors import DatasetError
from mgseg.files.masks import read_index_map
from mgseg.files.pictures import PICTURES, check_size, read_picture, reduced_size

JPEG = {".jpg", ".jpeg", ".jpe", ".jfif"}


@dataclass(frozen=True)
class Pair:
    """A picture and its mask.

    Attributes:
        name: name of the picture, unique in its dataset.
        image: picture file.
        mask: index map file, or None where `segments` hold the objects.
        binary: the mask is of one object, black and white, maybe with smooth edges.
        segments: COCO segmentations (polygons or RLE), one an object, for a picture of `size`.
    """

    name: str
    image: Path
    mask: Path | None
    binary: bool = False
    segments: tuple[Any, ...] = ()
    size: tuple[int, int] = (0, 0)

    def read(self, shorter_side: int = 0) -> tuple[UInt8Array, UInt8Array]:
        """Read picture uint8 (h, w, 3) and mask uint8 (h, w): 0 background, 1..254 objects, 255 ignore.

        Raises:
            InputError: a file is missing or damaged.
            DatasetError: the sizes of picture and mask differ, or pycocotools is missing.
        """
        picture = read_picture(self.image, shorter_side)
        if self.mask is None:
            check_size(self.image, self.size[1], self.size[0])
            mask = _draw_segments(self.name, self.segments, self.size)
            size = reduced_size((self.size[1], self.size[0]), shorter_side)
            mask = np.array(Image.fromarray(mask).resize(size, Image.Resampling.NEAREST))
        else:
            mask = read_index_map(self.mask, shorter_side, binary=self.binary)
        if mask.shape != picture.shape[:2]:
            raise DatasetError(
                f"{self.name}: the picture is {picture.shape[:2]}, its mask is {mask.shape} (height, width)"
            )
        return picture, mask


def find_pairs(root: Path) -> list[Pair]:
    """Find the pictures of a dataset in any of the known layouts.

    Raises:
        DatasetError: the folder is missing, has no known layout, or holds no pair.
    """
    if not root.is_dir():
        raise DatasetError(f"{root}: the folder of still pictures does not exist")
    read = _reader(root)
    if read is None:
        raise DatasetError(
            f"{root}: not a layout of still pictures that mgseg knows", f"expected a folder with {KNOWN}"
        )
    pairs = read()
    if not pairs:
        raise DatasetError(f"{root}: no picture with a mask was found", f"expected a folder with {KNOWN}")
    return pairs


def find_stills(folder: Path) -> list[Path]:
    """Find the datasets of stills: the folder itself, or the folders in it that have one of the layouts."""
    if _reader(folder):
        return [folder]
    inside = sorted(folder.iterdir()) if folder.is_dir() else []
    return [root for root in inside if root.name[0] != "." and _reader(root)]


def find_all_stills(data: Path) -> list[Path]:
    """Find the datasets of stills: the folder itself, its subfolders, or those of its folder static or stills.

    Raises:
        DatasetError: no stills were found.
    """
    folders = [data, data / "static", data / "stills"]
    found = [root for folder in folders for root in find_stills(folder)]
    if not found:
        looked = f"looked for folders with {KNOWN} in {', '.join(map(str, folders))}"
        raise DatasetError(f"no stills to train on were found in {data}", looked)
    return found


def _reader(root: Path) -> Callable[[], list[Pair]] | None:
    """What reads the pairs of a folder in one of the layouts; None where it has none of them."""
    folders = {path.name.lower(): path for path in root.iterdir() if path.is_dir()} if root.is_dir() else {}
    for marks, reader in LAYOUTS:
        found = [folders[mark.lower()] for mark in marks if mark.lower() in folders]
        # DAVIS has a folder Annotations, too.
        if len(found) == len(marks) and (reader is not read_coco or any(found[0].glob("instances_*.json"))):
            return partial(reader, *found)
    return None


def read_plain(images: Path, masks: Path) -> list[Pair]:
    """images/NAME.jpg and masks/NAME.png, an index map: 0 background, 1..254 objects, 255 ignore; or 0/255."""
    return _matched(images, masks)


def read_ecssd(images: Path, masks: Path) -> list[Pair]:
    """images/NAME.jpg and ground_truth_mask/NAME.png, black and white."""
    return _matched(images, masks, binary=True)


def read_msra10k(folder: Path) -> list[Pair]:
    """Imgs/NAME.jpg and Imgs/NAME.png, black and white."""
    pairs = _matched(folder, folder, binary=True)
    return [pair for pair in pairs if pair.image.suffix.lower() in JPEG]


def read_voc(images: Path, masks: Path) -> list[Pair]:
    """VOC 2007 and 2012: JPEGImages/NAME.jpg and SegmentationObject/NAME.png for the names that have a mask."""
    pictures = _by_stem(images)
    return [Pair(name, pictures.get(name, images / f"{name}.jpg"), mask) for name, mask in _by_stem(masks).items()]


def read_coco(annotations: Path) -> list[Pair]:
    """COCO: annotations/instances_SPLIT.json with the pictures in SPLIT/ (train2017/, val2017/), without crowds."""
    pairs = []
    for path in sorted(annotations.glob("instances_*.json")):
        folder = annotations.parent / path.stem.removeprefix("instances_")
        if folder.is_dir():
            pairs += read_coco_split(folder, path)
    return pairs


def read_coco_split(images: Path, annotations: Path) -> list[Pair]:
    """Read one COCO instances file.

    Raises:
        DatasetError: the file is damaged, or is not an instances file.
    """
    try:
        content = json.loads(annotations.read_bytes())
        objects = defaultdict(list)
        for item in content["annotations"]:
            if not item.get("iscrowd", 0):
                objects[item["image_id"]].append((float(item.get("area", 0)), item["segmentation"]))
        return [
            _coco_pair(images, image, objects[image["id"]]) for image in content["images"] if image["id"] in objects
        ]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DatasetError(f"{annotations}: cannot be read as COCO instances ({error!r})") from error


def _coco_pair(images: Path, image: dict[str, Any], objects: list[tuple[float, Any]]) -> Pair:
    # The largest first: where annotations overlap, the smaller object lies on top; at most 254 fit in a byte.
    objects.sort(key=lambda entry: -entry[0])
    segments = tuple(segment for _, segment in objects[:254])
    name = image["file_name"]
    return Pair(
        Path(name).stem, images / name, None, segments=segments, size=(int(image["height"]), int(image["width"]))
    )


LAYOUTS: tuple[tuple[tuple[str, ...], Callable[..., list[Pair]]], ...] = (
    (("images", "masks"), read_plain),
    (("images", "ground_truth_mask"), read_ecssd),
    (("Imgs",), read_msra10k),
    (("JPEGImages", "SegmentationObject"), read_voc),
    (("annotations",), read_coco),
)
KNOWN = "; ".join(" and ".join(f"{mark}/" for mark in marks) for marks, _ in LAYOUTS) + "instances_*.json"


def _matched(images: Path, masks: Path, *, binary: bool = False) -> list[Pair]:
    """Pairs by equal stems; a picture whose mask is missing is kept, so that reading it names the loss.

    JPEG holds no ids, so a mask in it is of one object. A mask of another format comes first.
    """
    found = _by_stem(masks)
    pairs = []
    for name, image in _by_stem(images, first=JPEG).items():
        mask = found.get(name, masks / f"{name}.png")
        pairs.append(Pair(name, image, mask, binary or mask.suffix.lower() in JPEG))
    return pairs


def _by_stem(folder: Path, first: Set[str] = PICTURES - JPEG) -> dict[str, Path]:
    """The pictures of a folder by the stem of their names; of several with one stem, one whose suffix is in `first`."""
    found = [path for path in folder.iterdir() if path.suffix.lower() in PICTURES and not path.name.startswith(".")]
    by_stem = {path.stem: path for path in sorted(found, key=lambda path: (path.suffix.lower() in first, path.name))}
    return dict(sorted(by_stem.items()))


def _draw_segments(name: str, segments: tuple[Any, ...], size: tuple[int, int]) -> UInt8Array:
    try:
        from pycocotools import mask as coco
    except ImportError as error:
        raise DatasetError("COCO masks need pycocotools", "pip install -e '.[train]', from the checkout") from error
    labels = np.zeros(size, np.uint8)
    for number, segment in enumerate(segments, start=1):
        if not _is_sound(segment, size):
            raise DatasetError(f"{name}: segmentation {number} is neither polygons nor RLE of a picture of {size}")
        try:
            if isinstance(segment, list):
                encoded = coco.merge(coco.frPyObjects(segment, *size))
            else:
                encoded = coco.frPyObjects(segment, *size) if isinstance(segment["counts"], list) else segment
            labels[coco.decode(encoded) > 0] = number
        except (ValueError, TypeError, IndexError) as error:
            raise DatasetError(f"{name}: segmentation {number} cannot be drawn: {error}") from error
    return labels


def _is_sound(segment: Any, size: tuple[int, int]) -> bool:
    """Check before pycocotools does, which crashes on some: polygons of three points near the picture, or RLE."""
    if isinstance(segment, list):
        return bool(segment) and all(_is_polygon(polygon, 10 * max(size)) for polygon in segment)
    if not isinstance(segment, dict) or segment.get("size") != list(size):
        return False
    counts = segment.get("counts")
    if isinstance(counts, list):
        return all(type(count) is int and count >= 0 for count in counts) and sum(counts) == size[0] * size[1]
    return isinstance(counts, str) and counts.isascii()


def _is_polygon(points: Any, limit: float) -> bool:
    if not isinstance(points, list) or len(points) < 6 or len(points) % 2:
        return False
    return all(isinstance(value, int | float) and abs(value) <= limit for value in points)
