"""The annotation formats as options of `segment` and `export`."""

from pathlib import Path
from typing import Annotated

import typer

from mgseg.cli.options import option

_PANEL = "Annotations"

Coco = Annotated[
    Path | None, option("--coco", panel=_PANEL, text="COCO instances, FILE.json. Lossless (run-length masks).")
]
CocoPolygons = Annotated[
    Path | None,
    option("--coco-polygons", panel=_PANEL, text="COCO with polygons, which labelling tools can edit. Holes are lost."),
]
Yolo = Annotated[
    Path | None,
    option("--yolo", panel=_PANEL, text="YOLO segmentation, a folder with data.yaml. Object numbers are lost."),
]
Labelme = Annotated[Path | None, option("--labelme", panel=_PANEL, text="labelme, a folder of JSON files.")]
Cvat = Annotated[
    Path | None, option("--cvat", panel=_PANEL, text="CVAT: tracks as FILE.xml, or lossless masks as FILE.zip.")
]
Boxes = Annotated[
    Path | None, option("--boxes", panel=_PANEL, text="Table of box, area and centre of each object, FILE.csv.")
]
Names = Annotated[
    str, option("--names", panel=_PANEL, text="Names of the objects in annotation files, such as 1=car,2=person.")
]


def parse_names(text: str) -> dict[int, str]:
    """Read "1=car,2=person"."""
    names = {}
    for item in filter(None, text.split(",")):
        number, equals, name = item.partition("=")
        if not equals or not number.strip().isdecimal() or not 1 <= int(number) <= 254 or not name.strip():
            raise typer.BadParameter(f"{item!r} is not NUMBER=NAME with a number from 1 to 254", param_hint="--names")
        names[int(number)] = name.strip()
    return names
