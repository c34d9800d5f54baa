"""`mgseg segment`: flags only; the work is `mgseg.segment.clip.segment_clip`."""

import re
import sys
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mgseg.cli import console
from mgseg.cli.annotations import Boxes, Coco, CocoPolygons, Cvat, Labelme, Names, Yolo, parse_names
from mgseg.cli.options import (
    Adapt,
    Arithmetic,
    Device,
    Flip,
    MemoryEvery,
    MemorySize,
    Precision,
    ReferenceWeight,
    Scales,
    Size,
    Threads,
    Weights,
    find_network,
    option,
    segmenter_options,
)

if TYPE_CHECKING:
    from mgseg.segment.clip import SegmentResult
    from mgseg.segment.mask_sources import FileSource, Shape

_FRAME = re.compile(r"\d{1,12}")
_TIME = re.compile(r"(\d{1,12}:){0,2}\d{0,12}(\d|\.\d{1,12})s?")
_SAID = 3  # stretches, and cuts, that are named on the terminal
_MASKS, _RESULTS, _MATTES, _RANGE = "Masks", "Results", "Mattes and cut-outs", "Range"


def _parse_masks(texts: list[str]) -> "dict[int | None, list[FileSource | Shape]]":
    """The sources of masks by frame; a file that is missing is found out here."""
    from mgseg.errors import InputError
    from mgseg.files.names import find_path
    from mgseg.segment.mask_sources import FileSource, parse_mask

    by_frame: dict[int | None, list[FileSource | Shape]] = {}
    for text in texts:
        try:
            frame, source = parse_mask(text)
        except InputError as error:
            raise typer.BadParameter(f"{error}. {error.hint or ''}".strip(), param_hint="--mask") from error
        if isinstance(source, FileSource):
            source = replace(source, path=find_path(source.path, "mask"))
        by_frame.setdefault(frame, []).append(source)
    return by_frame


def _parse_position(text: str | None) -> int | Fraction | None:
    """A frame number such as 120, or a time: 4.5s, 1:02, 0:01:02.5."""
    if text is None:
        return None
    if _FRAME.fullmatch(text):
        return int(text)
    if not _TIME.fullmatch(text):
        raise typer.BadParameter(f"{text!r} is neither a frame number (120) nor a time (4.5s, 1:02.5)")
    seconds = Fraction(0)
    for number, part in enumerate(text.removesuffix("s").split(":")):
        if number and Fraction(part) >= 60:
            raise typer.BadParameter(f"{text!r}: minutes and seconds after a colon must be at most 59")
        seconds = seconds * 60 + Fraction(part)
    return seconds


def _parse_objects(text: str | None) -> tuple[int, ...] | None:
    """The numbers in a list such as 1,3."""
    if text is None:
        return None
    if not re.fullmatch(r"\d{1,3}(,\d{1,3})*", text):
        raise typer.BadParameter(f"{text!r} is not a list of object numbers such as 1,3", param_hint="--objects")
    return tuple(int(number) for number in text.split(","))


def segment(
    clip: Annotated[
        Path,
        typer.Argument(
            help="A video file, a folder of pictures, or - for a video from standard input.",
            metavar="CLIP",
            show_default=False,
        ),
    ],
    mask: Annotated[
        list[str],
        option(
            *("--mask", "-m"),
            panel=_MASKS,
            text="Mask of the first frame (with --start: of that one): a picture, annotations (labelme, COCO, CVAT, "
            "YOLO), an array (.npy), a matte video, or a shape, box:LEFT,TOP,RIGHT,BOTTOM or poly:X,Y,X,Y,X,Y. "
            "FRAME=FILE is for another frame, counted from 0; OBJECT=box:... numbers the object; FRAME=OBJECT=... does "
            "both. Repeatable. Or a folder of masks named like the pictures, of a video like 00012.png.",
            metavar="[FRAME=][OBJECT=]MASK",
            show_default=False,
        ),
    ],
    clean_mask: Annotated[
        bool, option("--clean-mask", panel=_MASKS, text="Repair a mask with smooth edges or stray specks.")
    ] = False,
    resize_mask: Annotated[
        bool, option("--resize-mask", panel=_MASKS, text="Scale a mask of another size to the clip's.")
    ] = False,
    mask_from: Annotated[
        int | None,
        option(
            "--mask-from",
            panel=_MASKS,
            text="Take only this frame, counted from 0, of a mask that is a video.",
            min=0,
            show_default="every frame",
        ),
    ] = None,
    zero_is_background: Annotated[
        bool,
        option(
            "--zero-is-background",
            panel=_MASKS,
            text="Treat 0 in later masks as background instead of 'no information'.",
        ),
    ] = False,
    output: Annotated[
        Path | None,
        option(
            "--output",
            "-o",
            panel=_RESULTS,
            text="Folder for the masks.",
            show_default="CLIP_masks in the current folder",
        ),
    ] = None,
    no_masks: Annotated[bool, option("--no-masks", panel=_RESULTS, text="Write no folder of masks.")] = False,
    overlay: Annotated[
        Path | None,
        option("--overlay", panel=_RESULTS, text="Clip with coloured objects: .mp4 .mkv .webm .gif .webp"),
    ] = None,
    scores: Annotated[
        Path | None,
        option("--scores", panel=_RESULTS, text="Folder for soft masks: 8-bit grey PNGs, a folder for each object."),
    ] = None,
    cut_outs: Annotated[
        Path | None,
        option(
            "--cut-outs",
            panel=_RESULTS,
            text="Folder for PNGs of the objects on transparent ground, with soft edges.",
        ),
    ] = None,
    hard: Annotated[bool, option("--hard", panel=_RESULTS, text="Cut out along the mask, without soft edges.")] = False,
    each_object: Annotated[
        Path | None,
        option(
            "--each-object",
            panel=_RESULTS,
            text="Folder for black and white masks (0 and 255), a folder for each object.",
        ),
    ] = None,
    name: Annotated[
        str | None,
        option(
            "--name",
            panel=_RESULTS,
            text="Name of the pictures that are written, such as shot_%05d.png: %05d becomes the frame's number in "
            "five digits.",
            metavar="PATTERN",
            show_default="name of the clip's picture; of a video %05d.png",
        ),
    ] = None,
    report: Annotated[
        Path | None,
        option(
            "--report", panel=_RESULTS, text="HTML page of what to look at: confidence by frame, cuts, worst frames."
        ),
    ] = None,
    overwrite: Annotated[
        bool, option("--overwrite", panel=_RESULTS, text="Replace results that are there, file by file.")
    ] = False,
    resume: Annotated[
        bool,
        option(
            "--resume",
            panel=_RESULTS,
            text="Keep masks that this run would make again: after an interruption, or with a further --mask.",
        ),
    ] = False,
    as_json: Annotated[bool, option("--json", panel=_RESULTS, text="Print what was done as JSON.")] = False,
    matte: Annotated[
        Path | None,
        option(
            "--matte",
            panel=_MATTES,
            text="Clip with a soft alpha channel (straight, not premultiplied), for an editor: .mov (ProRes 4444), "
            ".webm (VP9), .mkv (FFV1, lossless), a folder of PNGs, or FOLDER/%05d.png.",
            metavar="FILE|FOLDER",
        ),
    ] = None,
    matte_only: Annotated[
        bool,
        option(
            "--matte-only",
            panel=_MATTES,
            text="Write the alpha channel itself as a grey picture: .mov (ProRes 422), .mp4 (H.264), .webm, .mkv, a "
            "folder of 16-bit PNGs, FOLDER/%05d.png or FOLDER/%05d.exr.",
        ),
    ] = False,
    background: Annotated[
        str | None,
        option(
            "--background",
            panel=_MATTES,
            text="Put the objects over a colour (green, #00b140), a picture file, or blur (the clip itself, out of "
            "focus). The result has no alpha channel.",
            metavar="COLOUR|PICTURE|blur",
        ),
    ] = None,
    objects: Annotated[
        str | None,
        option(
            "--objects",
            panel=_MATTES,
            text="Show only these objects in mattes and cut-outs, such as 1,3.",
            metavar="NUMBERS",
            show_default="all",
        ),
    ] = None,
    expand: Annotated[
        int,
        option("--expand", panel=_MATTES, text="Grow the objects by so many pixels; a negative number shrinks them."),
    ] = 0,
    feather: Annotated[
        int, option("--feather", panel=_MATTES, text="Soften edges over so many pixels to either side.", min=0)
    ] = 0,
    invert: Annotated[
        bool, option("--invert", panel=_MATTES, text="Show what is not the objects, for instance to remove them.")
    ] = False,
    coco: Coco = None,
    coco_polygons: CocoPolygons = None,
    yolo: Yolo = None,
    labelme: Labelme = None,
    cvat: Cvat = None,
    boxes: Boxes = None,
    names: Names = "",
    start: Annotated[
        str | None, option("--start", panel=_RANGE, text="First frame: a number from 0 (120) or a time (4.5s, 1:02).")
    ] = None,
    end: Annotated[
        str | None, option("--end", panel=_RANGE, text="First frame that is left out, a number or a time.")
    ] = None,
    both_ways: Annotated[
        bool,
        option("--both-ways", panel=_RANGE, text="Also segment the frames before the first mask, backward from it."),
    ] = False,
    weights: Weights = "auto",
    device: Device = "auto",
    threads: Threads = None,  # by its callback
    precision: Arithmetic = Precision.auto,
    size: Size = 480,
    memory_every: MemoryEvery = 5,
    memory_size: MemorySize = 10,
    flip: Flip = False,
    scales: Scales = "1",
    reference_weight: ReferenceWeight = 1.0,
    adapt: Adapt = 0,
) -> None:
    """Follow the objects of a mask through a clip.

    [dim]mgseg segment bunny.mp4 --mask bunny.png --overlay bunny_overlay.mp4[/dim]

    Writes an indexed PNG for each frame, with the object numbers and colours of the mask given.
    """
    annotations = {
        "coco": coco,
        "coco_polygons": coco_polygons,
        "yolo": yolo,
        "labelme": labelme,
        "cvat": cvat,
        "boxes": boxes,
    }
    if no_masks and not (overlay or scores or cut_outs or each_object or matte or report or any(annotations.values())):
        raise typer.BadParameter(
            "no other result is requested; add --overlay or --matte, for example", param_hint="--no-masks"
        )
    if not matte and (matte_only or background):
        raise typer.BadParameter("needs --matte", param_hint="--matte-only" if matte_only else "--background")
    if not cut_outs and hard:
        raise typer.BadParameter("needs --cut-outs", param_hint="--hard")
    if not matte and not cut_outs and (objects or expand or feather or invert):
        raise typer.BadParameter(
            "these options need --matte or --cut-outs", param_hint="--objects, --expand, --feather, --invert"
        )
    network_options = segmenter_options(size, memory_every, memory_size, flip, scales, reference_weight, adapt)
    labels = parse_names(names)
    begin, stop = _parse_position(start), _parse_position(end)
    from mgseg.files.names import find_path, masks_folder

    clip = find_path(clip)  # before torch is imported, which takes seconds
    given = _parse_masks(mask)
    from mgseg.files.matte import Alpha
    from mgseg.outputs.cut_outs import CutOuts
    from mgseg.outputs.matte import Matte
    from mgseg.outputs.report import Report
    from mgseg.outputs.table import Outputs
    from mgseg.segment.clip import Span, segment_clip
    from mgseg.segment.given_masks import MaskReading

    alpha = Alpha(_parse_objects(objects), expand, feather, invert)
    folder = None if no_masks else output or masks_folder(clip)
    network = find_network(weights, device, precision)
    with console.Bars() as bars:
        result = segment_clip(
            clip,
            given,
            Outputs(
                folder,
                overlay,
                scores,
                cut_outs and CutOuts(cut_outs, alpha, hard),
                each_object,
                matte and Matte(matte, alpha, matte_only, background),
                **annotations,
                report=report and Report(report, ("mgseg", *sys.argv[1:])),
                object_names=labels,
                name=name,
                overwrite=overwrite,
                resume=resume,
            ),
            network,
            span=Span(begin or 0, stop, both_ways),
            options=network_options,
            reading=MaskReading(clean_mask, resize_mask, mask_from),
            zero_is_background=zero_is_background,
            progress=lambda done, total: bars(clip.name, done, total),
            on_adapt=lambda done, total: bars("adapting to the first mask", done, total, "steps"),
        )
    _report(result, as_json)


def _report(result: "SegmentResult", as_json: bool) -> None:
    if as_json:
        console.json(result.to_json())
    else:
        for path in filter(None, result.outputs.paths.values()):
            console.result(str(path))
    kept = f" ({result.num_found} of them found)" if result.num_found else ""
    objects = f"{len(result.object_ids)} object{'s' * (len(result.object_ids) != 1)}"
    frames = f"{result.num_frames} frame{'s' * (result.num_frames != 1)}"
    speed = f", {result.frames_per_second:.1f} frames a second" if result.num_found < result.num_frames else ""
    for text in result.warnings:
        console.warning(text)
    console.message(f"{frames}{kept}, {objects}{speed}")
    if result.num_found and result.redone:
        console.message(f"redone: frames {', '.join(f'{first}-{last}' for first, last in result.redone)}")
    _look_at(result)
    if result.problem:
        console.warning("the result is partial")
        raise result.problem


def _look_at(result: "SegmentResult") -> None:
    """Say which frames are worth a look."""
    timeline = result.timeline
    if timeline.cuts:
        cuts = ", ".join(map(str, sorted(timeline.cuts)[:_SAID]))
        more = f" and {len(timeline.cuts) - _SAID} more" if len(timeline.cuts) > _SAID else ""
        console.message(f"scene cuts at frame {cuts}{more}: masks that run over a cut are often wrong")
    if not timeline.has_confidence:
        console.message("no confidence: these weights contain no confidence model (mgseg weights calibrate adds one)")
    elif stretches := timeline.stretches():
        more = f" and {len(stretches) - _SAID} more" if len(stretches) > _SAID else ""
        first = timeline.suggest()
        console.message(f"look at {', '.join(map(str, stretches[:_SAID]))}{more}; correct frame {first} first")
