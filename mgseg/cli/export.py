"""`mgseg export`: flags only; the work is `mgseg.annotations.export.export_masks`."""

from pathlib import Path
from typing import Annotated

import typer

from mgseg.cli import console
from mgseg.cli.options import option

_FORMATS = "Formats"


def parse_names(text: str) -> dict[int, str]:
    """Read "1=car,2=person"."""
    names = {}
    for item in filter(None, text.split(",")):
        number, equals, name = item.partition("=")
        if not equals or not number.strip().isdecimal() or not 1 <= int(number) <= 254 or not name.strip():
            raise typer.BadParameter(f"{item!r} is not NUMBER=NAME with a number from 1 to 254", param_hint="--names")
        names[int(number)] = name.strip()
    return names


def export(
    masks: Annotated[Path, typer.Argument(help="Folder of masks, as mgseg segment writes them.")],
    coco: Annotated[
        Path | None, option("--coco", panel=_FORMATS, text="COCO instances, FILE.json. Lossless (run lengths).")
    ] = None,
    coco_polygons: Annotated[
        Path | None,
        option("--coco-polygons", panel=_FORMATS, text="COCO with polygons, which can be edited. Holes are lost."),
    ] = None,
    yolo: Annotated[
        Path | None,
        option("--yolo", panel=_FORMATS, text="YOLO segmentation, a folder with data.yaml. Object numbers are lost."),
    ] = None,
    labelme: Annotated[
        Path | None, option("--labelme", panel=_FORMATS, text="labelme, a folder of JSON files.")
    ] = None,
    cvat: Annotated[
        Path | None,
        option("--cvat", panel=_FORMATS, text="CVAT: tracks as FILE.xml, or lossless masks as FILE.zip."),
    ] = None,
    boxes: Annotated[
        Path | None, option("--boxes", panel=_FORMATS, text="Box, area and centre of each object, FILE.csv.")
    ] = None,
    names: Annotated[str, typer.Option("--names", help="Names of the objects: 1=car,2=person.")] = "",
    clip: Annotated[
        Path | None, typer.Option("--clip", help="The clip itself: its frames are written where a format wants them.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace files that are there.")] = False,
) -> None:
    """Write masks as annotations for labelling tools and training sets.

    [dim]mgseg export bunny_masks --coco bunny.json --names 1=rabbit[/dim]
    """
    places = {
        "coco": coco,
        "coco_polygons": coco_polygons,
        "yolo": yolo,
        "labelme": labelme,
        "cvat": cvat,
        "boxes": boxes,
    }
    wanted = {name: path for name, path in places.items() if path}
    if not wanted:
        raise typer.BadParameter("name at least one format, such as --coco FILE.json", param_hint="--coco")
    labels = parse_names(names)
    from mgseg.annotations.export import export_masks

    with console.progress(masks.name, "masks") as progress:
        result = export_masks(masks, wanted, names=labels, clip=clip, overwrite=overwrite, progress=progress)
    for path in wanted.values():
        console.result(str(path))
    unknown = sorted(labels.keys() - set(result.object_ids))
    if unknown:
        console.warning(f"--names has object {', '.join(map(str, unknown))}, which no mask holds")
    console.message(f"{result.num_frames} masks, objects {', '.join(map(str, result.object_ids)) or 'none'}")
