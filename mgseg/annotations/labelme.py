"""labelme: a JSON file for each frame. An object with holes, or with parts of a line's width, is written as a mask,
which is lossless; others as polygons, one a part, that share a group_id.

Source: labelme's own files, version 5.
"""

import base64
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from mgseg.annotations.frames import AnnotationWriter, Clip, LabelledFrame, LabelledObject
from mgseg.annotations.shapes import DAMAGED, Mask, Ring, box_of, check_frame, check_polygon, trace_centres, whole
from mgseg.errors import InputError
from mgseg.files.whole_file import make_folder, write_whole

VERSION = "5.5.0"


class LabelmeWriter(AnnotationWriter):
    """Writes `FOLDER/FRAME.json`; the picture FRAME.jpg belongs beside it."""

    def __init__(self, path: Path, clip: Clip) -> None:
        super().__init__(path, clip)
        self.pictures = path

    def add(
        self, index: int, name: str, mask: NDArray[np.uint8], confidence: Mapping[int, float] | None = None
    ) -> None:
        """Write a frame's file."""
        shapes = [shape for number, pixels in self.objects(mask) for shape in self._shapes(number, pixels)]
        content = {
            "version": VERSION,
            "flags": {},
            "shapes": shapes,
            "imagePath": f"{name}.jpg",
            "imageData": None,
            "imageHeight": mask.shape[0],
            "imageWidth": mask.shape[1],
        }
        write_whole(make_folder(self.path) / f"{name}.json", json.dumps(content, ensure_ascii=False, indent=1))

    def _shapes(self, object_id: int, pixels: Mask) -> list[dict[str, Any]]:
        common = {"label": self.clip.label(object_id), "group_id": object_id, "description": "", "flags": {}}
        parts = trace_centres(pixels)
        if any(part.holes or len(part.outline) < 3 for part in parts):
            left, top, width, height = box_of(pixels) or (0, 0, 0, 0)
            points = [[left, top], [left + width - 1, top + height - 1]]
            packed = _pack(pixels[top : top + height, left : left + width])
            return [common | {"shape_type": "mask", "points": points, "mask": packed}]
        return [common | {"shape_type": "polygon", "points": part.outline.tolist(), "mask": None} for part in parts]

    def finish(self) -> None:
        """Do nothing: all files are already written."""


def read_labelme(path: Path) -> LabelledFrame:
    """Read one frame's file: polygons, masks, rectangles and circles; shapes of one label and group are one object.

    Raises:
        InputError: the file is not a labelme file, or a shape is damaged.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
        size = check_frame(content["imageWidth"], content["imageHeight"], str(path))
        objects: dict[tuple[str, int | None], Mask] = {}
        for number, shape in enumerate(content["shapes"]):
            pixels = _pixels(shape, size, f"{path}, shape {number + 1}")
            group = whole(shape.get("group_id"))
            key = (str(shape["label"]), group)
            objects[key] = objects[key] | pixels if key in objects else pixels
        found = tuple(LabelledObject(label, group, pixels) for (label, group), pixels in objects.items())
        return LabelledFrame(str(content.get("imagePath") or path.stem), None, size, found)
    except DAMAGED as error:
        raise InputError(f"{path} cannot be read as a labelme file: {error!r}") from error


def _pixels(shape: dict[str, Any], size: tuple[int, int], where: str) -> Mask:
    kind, points = shape.get("shape_type", "polygon"), shape["points"]
    if kind == "polygon":
        return _fill(check_polygon(points, where), size)
    result = np.zeros(size, bool)
    (x0, y0), (x1, y1) = points[0], points[1]
    if kind == "mask":
        part = _unpack(shape["mask"])
        left, top = round(x0), round(y0)
        result[top : top + part.shape[0], left : left + part.shape[1]] = part
    elif kind == "rectangle":
        rows, columns = sorted((round(y0), round(y1))), sorted((round(x0), round(x1)))
        result[max(0, rows[0]) : rows[1], max(0, columns[0]) : columns[1]] = True
    elif kind == "circle":
        y, x = np.mgrid[: size[0], : size[1]] + 0.5
        result = np.hypot(y - y0, x - x0) <= np.hypot(y1 - y0, x1 - x0)
    else:
        raise InputError(
            f"{where} is a {kind}, which has no area", "supported shapes: polygon, mask, rectangle and circle"
        )
    return result


def _fill(ring: Ring, size: tuple[int, int]) -> Mask:
    """Fill a polygon as labelme does: whole numbers are the centres of pixels, and the outline belongs to it."""
    picture = Image.new("1", (size[1], size[0]))
    ImageDraw.Draw(picture).polygon([(x, y) for x, y in ring], fill=1, outline=1)
    return np.asarray(picture)


def _pack(pixels: Mask) -> str:
    data = io.BytesIO()
    Image.fromarray(pixels.astype(np.uint8) * 255).convert("1").save(data, "PNG")
    return base64.b64encode(data.getvalue()).decode("ascii")


def _unpack(text: str) -> Mask:
    with Image.open(io.BytesIO(base64.b64decode(text))) as picture:
        return np.asarray(picture.convert("L")) > 0
