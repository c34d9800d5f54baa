"""Table of outputs: each output and the class that writes it."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, get_origin, get_type_hints

from mgseg.files.video import Frame
from mgseg.outputs.annotations import (
    BoxOutput,
    CocoOutput,
    CocoPolygonsOutput,
    CvatOutput,
    LabelmeOutput,
    YoloOutput,
)
from mgseg.outputs.cut_outs import CutOuts, CutOutWriter
from mgseg.outputs.each_object import EachObjectWriter
from mgseg.outputs.masks import MaskWriter
from mgseg.outputs.matte import Matte, MatteWriter
from mgseg.outputs.names import NumberedNames
from mgseg.outputs.overlay import OverlayWriter
from mgseg.outputs.report import Report, ReportWriter
from mgseg.outputs.scores import ScoreWriter
from mgseg.outputs.writer import OutputWriter, Target


@dataclass(frozen=True)
class Outputs:
    """Paths and settings of the outputs; None for those that are not wanted. Pictures have the names of the frames.

    Args:
        masks: folder of indexed PNGs.
        overlay: video (.mp4, .mkv, .webm) or animation (.gif, .webp) of the clip with coloured objects.
        scores: folder with a folder for each object id, of 8-bit grey PNGs: probability times 255.
        cut_outs: folder of PNGs of the objects on a transparent background; `CutOuts` sets the details.
        each_object: folder with a folder for each object id, of masks: 255 within the object, 0 elsewhere.
        matte: video or pictures with a soft alpha channel; `Matte` sets the details.
        coco: COCO instances with run lengths, .json.
        coco_polygons: COCO instances with polygons, .json.
        yolo: folder of YOLO segmentation labels and pictures.
        labelme: folder of labelme's files and pictures.
        cvat: CVAT's tracks (.xml) or masks (.zip).
        boxes: table of boxes, .csv.
        object_names: names of the object ids in annotations; others are called "object N".
        report: HTML page with confidence and area of each object, scene cuts and the worst frames.
        name: of the pictures, with %05d for the frame's number, such as "shot_%05d.png"; by default that of the frame.
        overwrite: write into folders that contain pictures, and replace files.
        resume: continue after the last complete mask of an interrupted run. Videos are written again from the
            finished masks; pictures of finished frames are kept.
    """

    masks: Annotated[str | Path | None, MaskWriter] = None
    overlay: Annotated[str | Path | None, OverlayWriter] = None
    scores: Annotated[str | Path | None, ScoreWriter] = None
    cut_outs: Annotated[str | Path | CutOuts | None, CutOutWriter] = None
    each_object: Annotated[str | Path | None, EachObjectWriter] = None
    matte: Annotated[str | Path | Matte | None, MatteWriter] = None
    coco: Annotated[str | Path | None, CocoOutput] = None
    coco_polygons: Annotated[str | Path | None, CocoPolygonsOutput] = None
    yolo: Annotated[str | Path | None, YoloOutput] = None
    labelme: Annotated[str | Path | None, LabelmeOutput] = None
    cvat: Annotated[str | Path | None, CvatOutput] = None
    boxes: Annotated[str | Path | None, BoxOutput] = None
    object_names: Mapping[int, str] = field(default_factory=dict)
    report: Annotated[str | Path | Report | None, ReportWriter] = None
    name: str | None = None
    overwrite: bool = False
    resume: bool = False

    def __post_init__(self) -> None:
        for name in self._table():
            value = getattr(self, name)
            if isinstance(value, str):
                object.__setattr__(self, name, Path(value))
        self._names()

    def named(self, frame: Frame) -> Frame:
        """The frame with the name that its pictures have."""
        names = self._names()
        return replace(frame, name=names.stem(frame.index)) if names else frame

    def _names(self) -> NumberedNames | None:
        return None if self.name is None else NumberedNames(self.name, (".png",))

    @property
    def paths(self) -> dict[str, Path | None]:
        """Where each output is written, by its name; None for what is not wanted."""
        return {name: getattr(value, "path", value) for name, value in vars(self).items() if name in self._table()}

    def writers(self, target: Target) -> dict[str, OutputWriter]:
        """A writer for each output that is wanted, by its name."""
        wanted = {name: getattr(self, name) for name in self._table()}
        return {name: self._table()[name](value, target) for name, value in wanted.items() if value is not None}

    @classmethod
    def _table(cls) -> dict[str, type[OutputWriter]]:
        hints = get_type_hints(cls, include_extras=True)
        return {name: hint.__metadata__[0] for name, hint in hints.items() if get_origin(hint) is Annotated}
