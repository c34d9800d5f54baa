"""Tables of `mgseg eval`: the scores and the settings of the run."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from mgseg.cli import console

if TYPE_CHECKING:
    from mgseg.evaluation.corrections import Round
    from mgseg.evaluation.report import Report

_HEADS = ("J&F", "J", "recall", "decay", "F", "recall", "decay")  # of report.FIGURES


def show_scores(report: "Report") -> None:
    """Print the figures of sequences, of objects where a sequence has several, and of all, in percent."""
    from mgseg.evaluation.report import FIGURES

    settings = report.settings
    title = f"{settings['dataset']} {settings['split']}, percent"
    table = Table(title=title, title_justify="left", caption_justify="left", box=SIMPLE_HEAD)
    table.caption = "\n".join(_conditions(report))
    table.add_column("sequence", no_wrap=True)
    for head in _HEADS:
        table.add_column(head, justify="right")

    def add(name: str, figures: Mapping[str, float], **more: Any) -> None:
        table.add_row(name, *(f"{100 * figures[figure]:.1f}" for figure in FIGURES), **more)

    for name, figures in report.sequences.items():
        members = [score for score in report.objects if score.sequence == name]
        add(name, figures)
        for score in members if len(members) > 1 else ():
            add(f"  object {score.object_id}", score.figures, style="dim")
    table.add_section()
    add(f"all ({len(report.objects)} objects)", report.mean, style="bold")
    console.table(table)
    if report.confidence:
        console.table(_confidence(report))
    if "overall" in report.mean:
        groups = [name for name in report.mean if name not in FIGURES]
        console.table(_groups({name: report.mean[name] for name in groups}))


def _confidence(report: "Report") -> Table:
    """How well the network knew which of its masks are bad."""
    table = Table("confidence", box=SIMPLE_HEAD, title_justify="left", caption_justify="left")
    for head in ("Spearman", "AUROC J<0.5", "regret"):
        table.add_column(head, justify="right")
    for name, figures in report.confidence.items():
        table.add_row(name, *(f"{value:.3f}" for value in figures))
    table.caption = "regret: J of the frame that it would have corrected, less the lowest J; mean over objects"
    return table


def _groups(figures: Mapping[str, float]) -> Table:
    table = Table(*(name.replace("_", " ") for name in figures), box=SIMPLE_HEAD)
    table.add_row(*(f"{100 * value:.1f}" for value in figures.values()), style="bold")
    return table


def _conditions(report: "Report") -> list[str]:
    """Say under what conditions the figures hold."""
    settings = report.settings
    code = f"mgseg {settings['mgseg'] or ''} {(settings['commit'] or '')[:9]}".strip()
    lines = [settings["protocol"]]
    run = settings["masks"]
    if run is None:
        return [*lines, f"masks: given, not known how they were made; scored by {code}"]
    weights = run["weights"]
    what = f"{weights['name']} (sha256 {weights['sha256'][:12]})" if weights else "a model in memory"
    memory = f"every {run['memory_every']}, at most {run['memory_size'] or 'all'}"
    more = ", flip" if run["flip"] else ""
    more += f", scales {', '.join(map(str, run['scales']))}" if "scales" in run else ""
    more += f", reference weight {run['reference_weight']:g}" if "reference_weight" in run else ""
    more += f", adapted to each first mask by {run['adapt']} steps" if "adapt" in run else ""
    lines.append(f"weights: {what}; size {run['size']}, {run['precision']}, memory {memory}{more}")
    if speed := run.get("speed"):
        rates = f"{speed['network_fps']:.2f} frames/s in the network, {speed['fps']:.2f} over all"
        lines.append(f"speed: {rates}, on {run['device']}" + (f" x {speed['processes']}" * (speed["processes"] > 1)))
    return [*lines, f"code: {code}, torch {run['torch']}"]


def show_corrections(title: str, rounds: "dict[str, list[Round]]", caption: str, corrections: int) -> None:
    """Print J&F of each sequence after each correction, and what was corrected."""
    from mgseg.evaluation.corrections import mean_rounds

    table = Table(title=title, title_justify="left", caption=caption, caption_justify="left", box=SIMPLE_HEAD)
    for head in ("sequence", *map(str, range(corrections + 1)), "seconds", "corrected frames"):
        table.add_column(head, justify="left" if head in ("sequence", "corrected frames") else "right", no_wrap=True)
    for name, members in (*rounds.items(), ("mean", mean_rounds(rounds))):
        figures = [f"{100 * made.j_and_f:.1f}" for made in members] + [""] * (corrections + 1 - len(members))
        seconds = f"{sum(made.seconds for made in members):.0f}"
        table.add_row(name, *figures, seconds, ", ".join(map(str, members[-1].frames)))
    console.table(table)
