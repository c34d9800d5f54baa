"""`mgseg eval`: flags only; the work is `mgseg.evaluation.evaluate.evaluate_split`."""

import os
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mgseg.cli import console
from mgseg.cli.eval_tables import show_corrections, show_scores
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
    from mgseg.data.split import Split
    from mgseg.network import Network
    from mgseg.segment.segmenter import SegmenterOptions

_DATA, _RESULTS, _CORRECTIONS = "Data", "Results", "Corrections"


class Pick(StrEnum):
    """Which frame is corrected next."""

    confidence = "confidence"
    oracle = "oracle"
    uniform = "uniform"


def evaluate(
    dataset: Annotated[
        str,
        option(
            "--dataset",
            panel=_DATA,
            text="davis16, davis17, youtube-vos-2018, youtube-vos-2019, or a folder in the layout of one of them.",
        ),
    ] = "youtube-vos-2019",
    split: Annotated[
        str | None,
        option(
            "--split",
            panel=_DATA,
            text="Split to evaluate, such as valid, valid_all_frames or val.",
            show_default="valid, val or all, depending on the dataset",
        ),
    ] = None,
    data: Annotated[
        Path | None,
        option(
            "--data", panel=_DATA, text="Folder with your datasets, or the dataset's own folder.", envvar="MGSEG_DATA"
        ),
    ] = None,
    sequence: Annotated[
        list[str] | None, option("--sequence", panel=_DATA, text="Evaluate only this sequence; repeatable.")
    ] = None,
    sequence_list: Annotated[
        Path | None,
        option("--sequence-list", panel=_DATA, text="Evaluate only the sequences in this text file, one name a line."),
    ] = None,
    results: Annotated[
        Path | None,
        option("--results", panel=_DATA, text="Score existing masks, DIR/SEQUENCE/FRAME.png, without segmenting."),
    ] = None,
    output: Annotated[
        Path | None,
        option(*("--output", "-o"), panel=_RESULTS, text="Folder for the masks.", show_default="DATASET_SPLIT_masks"),
    ] = None,
    no_score: Annotated[bool, option("--no-score", panel=_RESULTS, text="Segment without scoring.")] = False,
    resume: Annotated[
        bool, option("--resume", panel=_RESULTS, text="Continue an interrupted run; finished sequences are kept.")
    ] = False,
    overwrite: Annotated[bool, option("--overwrite", panel=_RESULTS, text="Replace existing results.")] = False,
    archive: Annotated[
        Path | None,
        option(
            "--zip",
            panel=_RESULTS,
            text="Zip file for the dataset's evaluation server; its masks are checked first.",
            show_default="DATASET_SPLIT.zip if there is no ground truth",
        ),
    ] = None,
    page: Annotated[
        Path | None,
        option("--report", panel=_RESULTS, text="HTML page with scores, curves, and the worst objects and frames."),
    ] = None,
    as_json: Annotated[bool, option("--json", panel=_RESULTS, text="Print JSON instead of the table.")] = False,
    as_csv: Annotated[bool, option("--csv", panel=_RESULTS, text="Print CSV instead of the table.")] = False,
    workers: Annotated[
        int | None,
        option(
            "--workers",
            panel=_RESULTS,
            text="Number of processes that compute scores.",
            min=1,
            show_default="all cores",
        ),
    ] = None,
    corrections: Annotated[
        int,
        option(
            "--corrections",
            panel=_CORRECTIONS,
            text="Simulate an annotator: add the true mask of one more frame and segment again, this many times.",
            min=0,
        ),
    ] = 0,
    pick: Annotated[
        Pick,
        option(
            "--pick",
            panel=_CORRECTIONS,
            text="Frame to correct next: as suggested (confidence), lowest true J (oracle), or evenly spaced.",
        ),
    ] = Pick.confidence,
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
    """Segment a dataset and score the masks, or score existing masks.

    [dim]mgseg eval --dataset davis16 --data DAVIS --report davis16.html[/dim]

    Protocols: DAVIS 2016, DAVIS 2017 and YouTube-VOS. With torchrun, several processes share the sequences.
    """
    if as_json and as_csv:
        raise typer.BadParameter("choose either --json or --csv, not both", param_hint="--csv")
    if results and (output or resume or overwrite or no_score):
        hint = "--output, --resume, --overwrite, --no-score"
        raise typer.BadParameter(
            "these options cannot be used with --results, which only scores masks", param_hint=hint
        )
    if corrections and (results or output or resume or overwrite or no_score or archive or page or as_csv):
        hint = "--results, --output, --resume, --overwrite, --no-score, --zip, --report, --csv"
        raise typer.BadParameter(
            "these options cannot be used with --corrections, which writes no masks and prints a table or --json",
            param_hint=hint,
        )
    from mgseg.data.catalog import default_split, find_split
    from mgseg.data.video_layouts import read_list
    from mgseg.evaluation.evaluate import Files, evaluate_masks, evaluate_split

    options = segmenter_options(size, memory_every, memory_size, flip, scales, reference_weight, adapt)
    found = find_split(dataset, split or default_split(dataset), data)
    if names := [*(sequence or []), *(read_list(sequence_list) if sequence_list else [])]:
        found = found.only(names)
    if corrections:
        _correct(found, corrections, pick, find_network(weights, device, precision), options, as_json)
        return
    label = f"{found.dataset}_{found.name}"
    masks = None if results else output or Path(f"{label}_masks")
    archive = archive or (None if found.has_truth or no_score else Path(f"{label}.zip"))
    scoring: Any = {"score": not no_score, "workers": workers or _num_cores()}
    with console.Bars() as progress:
        if results:
            report = evaluate_masks(found, results, archive=archive, page=page, progress=progress, **scoring)
        else:
            from mgseg.distributed import join
            from mgseg.network import Network

            files = Files(masks=masks, resume=resume, overwrite=overwrite, archive=archive, page=page)
            with join(device) as processes:
                network = Network(weights, processes.device, precision.value)
                report = evaluate_split(
                    found, network, options, files, processes=processes, progress=progress, **scoring
                )
    if os.environ.get("RANK", "0") != "0":  # under torchrun the first process alone speaks
        return
    if not report.objects and not no_score:
        console.message("nothing was scored: the dataset has no ground truth except the first masks of the objects")
    for note in report.notes:
        console.warning(note)
    if as_json or as_csv:
        console.result(report.to_json() if as_json else report.to_csv().rstrip("\n"))
    elif report.objects:
        show_scores(report)
    for path in (masks, archive, page):
        if path:
            (console.message if report.objects or as_json or as_csv else console.result)(str(path))


def _correct(
    split: "Split", corrections: int, pick: Pick, network: "Network", options: "SegmenterOptions", as_json: bool
) -> None:
    """Simulate an annotator, and print J&F after each correction."""
    import json

    from mgseg.evaluation.corrections import Pick as FramePick
    from mgseg.evaluation.corrections import rounds_to_dict, simulate_corrections

    with console.Bars() as progress:
        rounds = simulate_corrections(split, corrections, FramePick(pick.value), network, options, progress)
    if as_json:
        console.result(json.dumps({"pick": pick.value, **rounds_to_dict(rounds)}, indent=1))
        return
    caption = f"picked by {pick.value}; corrected frames count; weights {network.name}, size {options.size}"
    show_corrections(f"{split.dataset} {split.name}, J&F in percent", rounds, caption, corrections)


def _num_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
