"""YOLO segmentation: labels/FRAME.txt with one polygon on each line, and data.yaml with the class names.

A line is one object: parts and holes are joined to one polygon by bridges of no width. Ids of objects are lost: a
class is what has a name. Source: docs.ultralytics.com, "Instance segmentation datasets".
"""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mgseg.annotations.frames import AnnotationWriter, Clip, LabelledFrame, LabelledObject
from mgseg.annotations.shapes import check_polygon, draw_filled, import_extra, join, trace_centres
from mgseg.errors import InputError
from mgseg.files.whole_file import make_folder, write_whole


class YoloWriter(AnnotationWriter):
    """Writes `FOLDER/labels/train/FRAME.txt` and `FOLDER/data.yaml`; the pictures belong into `FOLDER/images/train`."""

    def __init__(self, path: Path, clip: Clip) -> None:
        super().__init__(path, clip)
        self.pictures = path / "images" / "train"
        self._classes: dict[str, int] = {}

    def add(
        self, index: int, name: str, mask: NDArray[np.uint8], confidence: Mapping[int, float] | None = None
    ) -> None:
        """Write the lines of a frame; a frame without objects gets an empty file, as YOLO expects."""
        lines = []
        scale = np.array([mask.shape[1], mask.shape[0]])
        for object_id, pixels in self.objects(mask):
            number = self._classes.setdefault(self.clip.label(object_id), len(self._classes))
            ring = (join(trace_centres(pixels)) + 0.5) / scale  # a pixel's centre, seen from the picture's corner
            lines.append(" ".join([str(number), *(f"{value:.6g}" for value in ring.ravel())]))
        write_whole(make_folder(self.path / "labels" / "train") / f"{name}.txt", "".join(f"{x}\n" for x in lines))

    def finish(self) -> None:
        """Write data.yaml."""
        names = "".join(
            f"  {number}: {json.dumps(name, ensure_ascii=False)}\n" for name, number in self._classes.items()
        )
        text = f"path: .\ntrain: images/train\nval: images/train\nnames:\n{names}"
        write_whole(make_folder(self.path) / "data.yaml", text)


def read_names(path: Path) -> dict[int, str]:
    """Read the class names from the data.yaml in a folder above the labels; empty if there is none.

    Raises:
        InputError: data.yaml is damaged, or has no names.
        MgsegError: PyYAML is not installed.
    """
    above = (folder / "data.yaml" for folder in path.resolve().parents[:4])
    file = next((file for file in above if file.is_file()), None)
    if file is None:
        return {}
    yaml = import_extra("yaml", "PyYAML")
    try:
        names = yaml.safe_load(file.read_text(encoding="utf-8-sig"))["names"]
        pairs = enumerate(names) if isinstance(names, list) else names.items()
        return {int(number): str(name) for number, name in pairs}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, yaml.YAMLError) as error:
        raise InputError(f"{file} gives no class names: {error!r}") from error


def read_yolo(path: Path, size: tuple[int, int], names: Mapping[int, str] | None = None) -> LabelledFrame:
    """Read the labels of one picture.

    Args:
        path: the text file.
        size: (height, width) of the picture, which the file does not hold.
        names: names of the classes; others are called "class N".

    Raises:
        InputError: a line is not a class with a polygon.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read {path}: {error}") from error
    objects = []
    for number, line in enumerate(filter(str.strip, lines), start=1):
        where = f"{path}, line {number}"
        first, *rest = line.split()
        if not first.isdecimal():
            raise InputError(f"{where}: expected a class number and a polygon, found {line[:40]!r}")
        if len(rest) == 4:
            raise InputError(
                f"{where} is a box, expected a polygon",
                "draw the box instead: --mask box:LEFT,TOP,RIGHT,BOTTOM, in pixels",
            )
        ring = check_polygon(rest, where) * (size[1], size[0])
        label = (names or {}).get(int(first), f"class {first}")
        objects.append(LabelledObject(label, None, draw_filled(ring, size)))
    return LabelledFrame(path.stem, None, size, tuple(objects))
