"""Table of the annotation formats by name."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

from mgseg.annotations.boxes import BoxWriter
from mgseg.annotations.coco import CocoWriter
from mgseg.annotations.cvat import CvatMaskWriter, CvatWriter
from mgseg.annotations.frames import AnnotationWriter, Clip
from mgseg.annotations.labelme import LabelmeWriter
from mgseg.annotations.yolo import YoloWriter
from mgseg.errors import OutputError

# Name -> ending of the file -> writer; "" is a folder.
FORMATS: dict[str, dict[str, Callable[[Path, Clip], AnnotationWriter]]] = {
    "coco": {".json": CocoWriter},
    "coco_polygons": {".json": partial(CocoWriter, polygons=True)},
    "yolo": {"": YoloWriter},
    "labelme": {"": LabelmeWriter},
    "cvat": {".xml": CvatWriter, ".zip": CvatMaskWriter},
    "boxes": {".csv": BoxWriter},
}


def find_writer(name: str, path: Path) -> Callable[[Path, Clip], AnnotationWriter]:
    """Return the writer of a format for a path.

    Raises:
        OutputError: the format does not have the path's ending.
    """
    writers = FORMATS[name]
    if "" in writers:
        return writers[""]
    if path.suffix.lower() not in writers:
        endings = " or ".join(writers)
        raise OutputError(
            f"{path}: the name of a --{name.replace('_', '-')} file must end in {endings}", "change the ending"
        )
    return writers[path.suffix.lower()]
