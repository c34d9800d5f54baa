"""`mgseg segment`: flags only; the work is `mgseg.segment.clip.segment_clip`."""

import re
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mgseg.cli import console
from mgseg.cli.options import (
    Arithmetic,
    Device,
    Flip,
    MemoryEvery,
    MemorySize,
    Precision,
    Size,
    Weights,
    find_network,
    option,
)

if TYPE_CHECKING:
    from mgseg.segment.clip import SegmentResult

_FRAME = re.compile(r"\d{1,12}")
_TIME = re.compile(r"(\d{1,12}:){0,2}\d{0,12}(\d|\.\d{1,12})s?")
_MASKS, _RESULTS, _RANGE = "Masks", "Results", "Range"


def _parse_mask(text: str) -> tuple[int | None, Path]:
    """Split FRAME=PATH; a file whose own name looks like that is taken as it is."""
    frame, equals, path = text.partition("=")
    if equals and _FRAME.fullmatch(frame.strip()) and not Path(text).exists():
        return int(frame), Path(path)
    return None, Path(text)


def _parse_position(text: str | None) -> int | Fraction | None:
    """A frame number such as 120, or a time: 4.5s, 1:02, 0:01:02.5."""
    if text is None:
        return None
    if _FRAME.fullmatch(text):
        return int(text)
    if not _TIME.fullmatch(text):
        raise typer.BadParameter(f"{text!r} is neither a frame number (120) nor a time (4.5s, 1:02.5)")
    seconds = Fraction(0)
    for part in text.removesuffix("s").split(":"):
        seconds = seconds * 60 + Fraction(part)
    return seconds


def segment(
    clip: Annotated[
        Path, typer.Argument(help="A video file, or a folder of pictures.", metavar="CLIP", show_default=False)
    ],
    mask: Annotated[
        list[str],
        option(
            *("--mask", "-m"),
            panel=_MASKS,
            text="Mask of the first frame (with --start: of that one); or FRAME=PATH, FRAME counted from 0 in the "
            "whole clip (repeatable); or a folder of masks named like the pictures, of a video like 00012.png.",
            metavar="PATH|FRAME=PATH",
            show_default=False,
        ),
    ],
    clean_mask: Annotated[
        bool, option("--clean-mask", panel=_MASKS, text="Repair a mask with smooth edges or stray specks.")
    ] = False,
    resize_mask: Annotated[
        bool, option("--resize-mask", panel=_MASKS, text="Scale a mask of another size to the clip's.")
    ] = False,
    zero_is_background: Annotated[
        bool,
        option(
            "--zero-is-background",
            panel=_MASKS,
            text="0 in later masks takes what was predicted there away; otherwise it says nothing.",
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
        Path | None, option("--cut-outs", panel=_RESULTS, text="Folder for PNGs of the objects, else transparent.")
    ] = None,
    overwrite: Annotated[
        bool, option("--overwrite", panel=_RESULTS, text="Replace results that are there, file by file.")
    ] = False,
    resume: Annotated[
        bool, option("--resume", panel=_RESULTS, text="Go on from the last whole mask of an interrupted run.")
    ] = False,
    as_json: Annotated[bool, option("--json", panel=_RESULTS, text="Print what was done as JSON.")] = False,
    start: Annotated[
        str | None, option("--start", panel=_RANGE, text="First frame: a number from 0 (120) or a time (4.5s, 1:02).")
    ] = None,
    end: Annotated[
        str | None, option("--end", panel=_RANGE, text="Where to stop: the first frame left out, likewise.")
    ] = None,
    both_ways: Annotated[
        bool, option("--both-ways", panel=_RANGE, text="From the first mask go backward, too.")
    ] = False,
    weights: Weights = "auto",
    device: Device = "auto",
    precision: Arithmetic = Precision.auto,
    size: Size = 480,
    memory_every: MemoryEvery = 5,
    memory_size: MemorySize = 10,
    flip: Flip = False,
) -> None:
    """Follow the objects of a mask through a clip.

    [dim]mgseg segment bunny.mp4 --mask bunny.png --overlay bunny_overlay.mp4[/dim]

    Writes an indexed PNG for each frame, with the object numbers and colours of the mask given.
    """
    given = [_parse_mask(text) for text in mask]
    if len(dict(given)) < len(given):
        raise typer.BadParameter("two masks for one frame; give FRAME=PATH", param_hint="--mask")
    if no_masks and not (overlay or scores or cut_outs):
        raise typer.BadParameter("nothing else is asked for", param_hint="--no-masks")
    begin, stop = _parse_position(start), _parse_position(end)
    from mgseg.outputs.table import Outputs
    from mgseg.segment.clip import Span, segment_clip
    from mgseg.segment.segmenter import SegmenterOptions

    folder = None if no_masks else output or Path(f"{clip.resolve().stem}_masks")
    network = find_network(weights, device, precision)
    with console.progress(clip.name) as progress:
        result = segment_clip(
            clip,
            given[0][1] if len(given) == 1 and given[0][0] is None else dict(given),
            Outputs(folder, overlay, scores, cut_outs, overwrite, resume),
            network,
            span=Span(begin or 0, stop, both_ways),
            options=SegmenterOptions(size, memory_every, memory_size, flip),
            clean_masks=clean_mask,
            resize_masks=resize_mask,
            zero_is_background=zero_is_background,
            progress=progress,
        )
    _report(result, as_json)


def _report(result: "SegmentResult", as_json: bool) -> None:
    import json

    if as_json:
        console.result(json.dumps(result.to_json(), indent=2, ensure_ascii=False))
    else:
        for place in filter(None, result.outputs.places.values()):
            console.result(str(place))
    found = f" ({result.num_found} of them found)" if result.num_found else ""
    objects = f"{len(result.object_ids)} object{'s' * (len(result.object_ids) != 1)}"
    frames = f"{result.num_frames} frame{'s' * (result.num_frames != 1)}"
    speed = f", {result.frames_per_second:.1f} frames a second" if result.num_found < result.num_frames else ""
    for text in result.warnings:
        console.warning(text)
    console.message(f"{frames}{found}, {objects}{speed}")
    if result.problem:
        console.warning("the result is partial")
        raise result.problem
