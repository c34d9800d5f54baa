"""`mgseg export`: flags only; the work is `mgseg.annotations.export.export_masks`."""

from pathlib import Path
from typing import Annotated

import typer

from mgseg.cli import console
from mgseg.cli.annotations import Boxes, Coco, CocoPolygons, Cvat, Labelme, Names, Yolo, parse_names


def export(
    masks: Annotated[Path, typer.Argument(help="Folder of masks written by `mgseg segment`.")],
    coco: Coco = None,
    coco_polygons: CocoPolygons = None,
    yolo: Yolo = None,
    labelme: Labelme = None,
    cvat: Cvat = None,
    boxes: Boxes = None,
    names: Names = "",
    clip: Annotated[
        Path | None, typer.Option("--clip", help="The clip, for formats that also need the frames: YOLO and labelme.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace existing files.")] = False,
) -> None:
    """Convert masks to annotation files for labelling tools and training sets.

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
        console.warning(f"--names names object {', '.join(map(str, unknown))}, which is in no mask")
    console.message(f"{result.num_frames} masks, objects {', '.join(map(str, result.object_ids)) or 'none'}")
