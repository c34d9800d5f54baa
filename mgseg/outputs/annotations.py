"""Annotation outputs, one class for each format of `mgseg.annotations`."""

from pathlib import Path
from typing import ClassVar, Self

from mgseg.annotations.frames import AnnotationWriter, Clip
from mgseg.annotations.table import find_writer
from mgseg.outputs.writer import OutputWriter, Segmented, Target


class AnnotationOutput(OutputWriter):
    """Writes one format; frames before the first mask are left out.

    Attributes:
        format: its name in `annotations.table`.
    """

    format: ClassVar[str]
    in_order = True

    def __init__(self, wanted: Path, target: Target) -> None:
        super().__init__(wanted, target)
        self._writer: AnnotationWriter | None = None

    def check(self, *, may_replace: bool) -> None:
        """Also check that the format has the ending of the file."""
        find_writer(self.format, self.path)
        super().check(may_replace=may_replace)

    def write(self, item: Segmented) -> None:
        """Add a frame, and its picture if the format needs it."""
        if item.mask is None:
            return
        assert self._writer is not None
        self._writer.add(item.frame.index, item.frame.name, item.mask, item.confidence)
        self._writer.add_picture(item.frame.name, item.frame.image)

    def __enter__(self) -> Self:
        target = self.target
        clip = Clip(target.clip.path.name, (target.clip.height, target.clip.width), target.names, target.num_frames)
        self._writer = self._exits.enter_context(find_writer(self.format, self.path)(self.path, clip))
        return super().__enter__()


class CocoOutput(AnnotationOutput):
    """COCO with run lengths."""

    format = "coco"
    is_folder = False


class CocoPolygonsOutput(AnnotationOutput):
    """COCO with polygons."""

    format = "coco_polygons"
    is_folder = False


class YoloOutput(AnnotationOutput):
    """A folder of YOLO segmentation."""

    format = "yolo"


class LabelmeOutput(AnnotationOutput):
    """A folder of labelme's files."""

    format = "labelme"


class CvatOutput(AnnotationOutput):
    """CVAT's tracks or masks."""

    format = "cvat"
    is_folder = False


class BoxOutput(AnnotationOutput):
    """A table of boxes."""

    format = "boxes"
    is_folder = False
