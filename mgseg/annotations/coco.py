"""COCO instances: one JSON file. Lossless: run lengths, with track_id and frame numbers beside COCO's own fields.

Source: cocodataset.org, "Data format". `frame_index` and `video_id` follow TAO's and YouTube-VIS's names.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from mgseg.annotations.frames import AnnotationWriter, Clip, LabelledFrame, LabelledObject
from mgseg.annotations.shapes import (
    DAMAGED,
    Mask,
    box_of,
    check_frame,
    check_polygon,
    decode_rle,
    encode_rle,
    fill_parts,
    trace,
    whole,
)
from mgseg.errors import InputError
from mgseg.files.whole_file import make_folder, whole_file


class CocoWriter(AnnotationWriter):
    """Writes `FILE.json`. Images are named FRAME.jpg.

    Args:
        path: the file.
        clip: whose masks are written.
        polygons: polygons instead of run lengths, for tools that edit them; holes are lost.
    """

    def __init__(self, path: Path, clip: Clip, *, polygons: bool = False) -> None:
        super().__init__(path, clip)
        self._polygons = polygons
        self._categories: dict[str, int] = {}
        self._images, self._annotations = _Items(self.scratch()), _Items(self.scratch())

    def add(
        self, index: int, name: str, mask: NDArray[np.uint8], confidence: Mapping[int, float] | None = None
    ) -> None:
        """Add an image and an annotation for each object."""
        height, width = mask.shape
        image = {"id": index, "file_name": f"{name}.jpg", "width": width, "height": height}
        self._images.add(image | {"video_id": 1, "frame_index": index})
        for object_id, pixels in self.objects(mask):
            self._annotations.add(self._annotation(index, object_id, pixels))

    def _annotation(self, index: int, object_id: int, pixels: Mask) -> dict[str, Any]:
        category = self._categories.setdefault(self.clip.label(object_id), len(self._categories) + 1)
        segmentation: Any = encode_rle(pixels)
        if self._polygons:
            segmentation = [part.outline.ravel().tolist() for part in trace(pixels)] or segmentation
        return {
            "id": self._annotations.count + 1,
            "image_id": index,
            "category_id": category,
            "segmentation": segmentation,
            "area": int(pixels.sum()),
            "bbox": list(box_of(pixels) or (0, 0, 0, 0)),
            "iscrowd": 0,
            "track_id": object_id,
        }

    def finish(self) -> None:
        """Write the JSON file from the collected items."""
        height, width = self.clip.size
        head = {
            "info": {"description": self.clip.name},
            "licenses": [],
            "videos": [{"id": 1, "name": self.clip.name, "width": width, "height": height}],
            "categories": [{"id": number, "name": name} for name, number in self._categories.items()],
        }
        make_folder(self.path.parent)
        with whole_file(self.path) as part, part.open("w", encoding="utf-8") as file:
            file.write(json.dumps(head, ensure_ascii=False)[:-1])
            for name, items in (("images", self._images), ("annotations", self._annotations)):
                file.write(f', "{name}": [')
                items.copy_to(file)
                file.write("]")
            file.write("}\n")


class _Items:
    """Items of a JSON list, kept on disk until their list is written."""

    def __init__(self, file: IO[str]) -> None:
        self.count = 0
        self._file = file

    def add(self, item: dict[str, Any]) -> None:
        self._file.write((",\n" if self.count else "\n") + json.dumps(item, ensure_ascii=False))
        self.count += 1

    def copy_to(self, file: IO[str]) -> None:
        self._file.seek(0)
        while text := self._file.read(1 << 20):
            file.write(text)


def read_coco(path: Path) -> Iterator[LabelledFrame]:
    """Read the images of a COCO file that have annotations, without crowd annotations.

    Raises:
        InputError: the file is not a COCO instances file, or an annotation is damaged.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
        categories = {item["id"]: str(item["name"]) for item in content["categories"]}
        by_image: dict[Any, list[dict[str, Any]]] = {}
        for item in content["annotations"]:
            if not item.get("iscrowd"):
                by_image.setdefault(item["image_id"], []).append(item)
        for image in content["images"]:
            size = check_frame(image["width"], image["height"], f"{path}, image {image.get('file_name')}")
            found = by_image.get(image["id"], [])
            # The largest first: where annotations overlap, the smaller object lies on top.
            found.sort(key=lambda item: -float(item.get("area", 0)))
            objects = [
                LabelledObject(categories[item["category_id"]], whole(item.get("track_id")), _mask(item, size, path))
                for item in found
            ]
            yield LabelledFrame(str(image["file_name"]), whole(image.get("frame_index")), size, tuple(objects))
    except DAMAGED as error:
        raise InputError(f"{path} cannot be read as a COCO instances file: {error!r}") from error


def _mask(item: dict[str, Any], size: tuple[int, int], path: Path) -> Mask:
    where = f"{path}, annotation {item.get('id')}"
    segmentation = item["segmentation"]
    if isinstance(segmentation, list):
        return fill_parts([check_polygon(polygon, where) for polygon in segmentation], size)
    return decode_rle(segmentation, size)
