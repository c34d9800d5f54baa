"""`mgseg bench`: measure speed and memory of a network, compared with its plain form."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import typer
from rich.table import Table

from mgseg.cli import console
from mgseg.cli.options import Device, Precision, Threads, find_network
from mgseg.errors import InputError, MgsegError

NETWORK, MEASURE = "Network", "Measurement"
RANDOM = "random:"


def bench(
    weights: Annotated[
        str,
        typer.Option(
            help="A name from `mgseg weights list`, a file, or random:MODEL (see `mgseg train --model`).",
            rich_help_panel=NETWORK,
        ),
    ] = "auto",
    device: Device = "auto",
    threads: Threads = None,  # by its callback
    precision: Annotated[
        Precision,
        typer.Option(
            help="Numeric precision of mgseg; the plain form always runs in float32.", rich_help_panel=NETWORK
        ),
    ] = Precision.float32,
    size: Annotated[str, typer.Option(help="Size of the frames, HEIGHTxWIDTH.", rich_help_panel=MEASURE)] = "480x864",
    objects: Annotated[int, typer.Option(help="Number of objects in the clip.", rich_help_panel=MEASURE)] = 1,
    memory_frames: Annotated[int, typer.Option(help="Number of frames in memory.", rich_help_panel=MEASURE)] = 5,
    repeats: Annotated[
        int, typer.Option(help="Number of timed steps; the median is shown.", rich_help_panel=MEASURE)
    ] = 5,
    plain: Annotated[bool, typer.Option(help="Also measure plain STM for comparison.", rich_help_panel=MEASURE)] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of the table.")] = False,
) -> None:
    """Measure the time of each part of the network and the memory on a made-up clip; compare with plain STM.

    In float32 both forms must give the same masks; if they do not, the command fails after printing the figures.
    """
    from mgseg.benchmark import BenchOptions, run_benchmark
    from mgseg.weights import save_random_weights

    height, width = _parse_size(size)
    options = BenchOptions(height, width, objects, memory_frames, repeats, plain)
    with TemporaryDirectory(prefix="mgseg-") as folder:
        if weights.startswith(RANDOM):
            weights = str(save_random_weights(weights.removeprefix(RANDOM), Path(folder)))
        report = run_benchmark(find_network(weights, device, precision), options)
    if as_json:
        console.json(report)
    else:
        console.table(_table(report))
    if plain and report["options"]["precision"] == Precision.float32 and report["masks"]["differences"]:
        raise MgsegError("the masks of the two variants differ, which never should happen in float32")


def _parse_size(text: str) -> tuple[int, int]:
    """Return (height, width) of "480x864"."""
    parts = text.split("x")
    if len(parts) != 2 or not all(part.isascii() and part.isdigit() for part in parts):
        raise InputError(f"size {text!r}: expected HEIGHTxWIDTH", "try --size 480x864")
    return int(parts[0]), int(parts[1])


def _table(report: dict[str, Any]) -> Table:
    options = report["options"]
    title = (
        f"{options['weights']}, {options['height']}x{options['width']}, {options['objects']} object(s), "
        f"{options['memory_frames']} memory frames, {options['device']} ({report['threads']} threads)"
    )
    table = Table("", "mgseg", "plain form", "ratio", title=title)
    for name, label, unit in (
        ("seconds_a_frame", "time a frame", 1e-3),
        ("gflops", "operations a frame", 1.0),
        ("peak_bytes", "peak memory beyond the model", 1e6),
    ):
        values = [report[name], report.get("plain", {}).get(name)]
        suffix = {1e-3: "ms", 1.0: "GFLOP", 1e6: "MB"}[unit]
        cells = ["-" if value is None else f"{value / unit:,.0f} {suffix}" for value in values]
        ratio = report.get("ratios", {}).get(name)
        table.add_row(label, *cells, "-" if ratio is None else f"{ratio:.2f}")
    table.add_row("frames a second", f"{report['frames_a_second']:.2f}", "", "")
    table.add_section()
    for name, seconds in report["parts"].items():
        table.add_row(name.replace("_", " "), f"{seconds * 1e3:,.1f} ms", "", "")
    if masks := report.get("masks"):
        share = f"{masks['differences']} of {masks['pixels'] - masks['ties']:,} pixels"
        table.caption = f"masks of both forms differ in {share} ({masks['ties']:,} ties left out)"
    return table
