"""`mgseg weights`: list shipped checkpoints, import published ones, export trained ones, fit their confidence."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from mgseg.cli import console
from mgseg.cli.options import Device

if TYPE_CHECKING:
    from mgseg.weights import ReleasedWeights

app = typer.Typer(no_args_is_help=True, help="List, import, export and calibrate weights.")

Output = Annotated[Path, typer.Option("--output", "-o", help="The file to write.", dir_okay=False)]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace an existing file.")]


@app.command("list")
def list_weights(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of the table.")] = False,
) -> None:
    """List the shipped weights: size, whether the file is unchanged, and scores."""

    from mgseg.weights import released_weights

    rows = [_row(entry) for entry in released_weights().values()]
    if as_json:
        console.json(rows)
        return
    table = Table("name", "size", "sha256", "scores (J&F, %)")
    for row in rows:
        size = "-" if row["bytes"] is None else f"{row['bytes'] / 1e6:.1f} MB"
        scores = "\n".join(f"{value:.1f} {protocol}" for protocol, value in row["scores"].items())
        table.add_row(row["name"], size, row["state"], scores)
    console.table(table)


@app.command("import")
def import_weights(
    source: Annotated[Path, typer.Argument(help="The published STM checkpoint, STM_weights.pth.")],
    output: Output,
    overwrite: Overwrite = False,
) -> None:
    """Convert a published STM checkpoint for `mgseg segment --weights`."""
    from mgseg.stm_import import import_stm

    import_stm(source, output, overwrite)
    console.result(str(output))
    console.message("to reproduce the masks of the original STM code, segment with --memory-size 0 --precision float32")


@app.command("export")
def export_weights(
    source: Annotated[Path, typer.Argument(help="A checkpoint written by `mgseg train` or `mgseg weights import`.")],
    output: Output,
    overwrite: Overwrite = False,
) -> None:
    """Write only the weights of a checkpoint, in half precision, without the training state."""
    from mgseg import weights

    weights.export_weights(source, output, overwrite)
    console.result(str(output))


@app.command("calibrate")
def calibrate_weights(
    source: Annotated[Path, typer.Argument(help="The checkpoint to start from.")],
    output: Output,
    data: Annotated[
        Path | None,
        typer.Option("--data", help="Folder with your datasets, or the dataset's own folder.", envvar="MGSEG_DATA"),
    ] = None,
    dataset: Annotated[str, typer.Option("--dataset", help="Name of the dataset, as for `mgseg eval`.")] = "davis16",
    split: Annotated[
        str, typer.Option("--split", help="Split of the dataset. Never use one that you report scores on.")
    ] = "train",
    device: Device = "auto",
    overwrite: Overwrite = False,
) -> None:
    """Fit the confidence model of a checkpoint on clips with known masks; write the checkpoint with the model.

    Needs scipy: pip install 'mgseg\\[calibrate]'
    """
    from mgseg.data.catalog import find_split
    from mgseg.evaluation.calibration import calibrate

    clips = find_split(dataset, split, data)
    with console.progress("calibrate") as progress:
        figures = calibrate(source, output, clips, device=device, overwrite=overwrite, progress=progress)
    console.result(str(output))
    message = f"Spearman {figures.spearman:.2f}, AUROC for J < 0.5 {figures.auroc:.2f}, regret {figures.regret:.3f}"
    console.message(f"on sequences that were left out of the fit: {message}")


def _row(entry: "ReleasedWeights") -> dict[str, Any]:
    present = entry.path.is_file()
    return {
        "name": entry.name,
        "path": str(entry.path),
        "bytes": entry.path.stat().st_size if present else None,
        "sha256": entry.sha256,
        "state": "missing" if not present else "ok" if entry.is_intact() else "differs",
        "scores": entry.scores,
    }
