"""Evaluation of a split: segment and score it, or score masks that are there already."""

import tempfile
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mgseg.data.catalog import Split
from mgseg.errors import OutputError
from mgseg.evaluation.page import write_page
from mgseg.evaluation.protocols import PROTOCOLS, frame_pairs, score_split
from mgseg.evaluation.provenance import code_version, read_run
from mgseg.evaluation.report import Report
from mgseg.evaluation.submission import write_submission

if TYPE_CHECKING:  # torch is not needed to score given masks, and takes long to load
    import torch

    from mgseg.model.network import MotionGuidedSTM
    from mgseg.segment.segmenter import SegmenterOptions

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Files:
    """What an evaluation writes.

    Attributes:
        masks: folder of the masks, `SEQUENCE/FRAME.png`; None: they are kept only until they are scored.
        resume: leave sequences that are done in `masks` as they are.
        overwrite: replace results in `masks`.
        archive: zip for the dataset's server.
        page: HTML page of the scores, with the worst objects and frames.
    """

    masks: Path | None = None
    resume: bool = False
    overwrite: bool = False
    archive: Path | None = None
    page: Path | None = None


def evaluate_split(
    split: Split,
    model: "MotionGuidedSTM | None" = None,
    options: "SegmenterOptions | None" = None,
    *,
    weights: str | Path = "auto",
    device: "torch.device | str | None" = None,
    precision: str | None = None,
    sequences: Iterable[str] | None = None,
    results: Path | None = None,
    files: Files | None = None,
    score: bool = True,
    shared: bool = False,
    workers: int = 1,
    progress: Progress | None = None,
) -> Report:
    """Segment a split and score the masks, or score masks that are there.

    Args:
        split: from `catalog.find_split`.
        model: the network; loaded from `weights` by default.
        options: of the Segmenter.
        weights: a released name, a file, or "auto"; used where no model is given.
        device: where the network runs; by default the model's, or the best there is.
        precision: in place of the options', or "auto" for what suits the device.
        sequences: names of the sequences wanted; all by default.
        results: folder of masks to score; nothing is segmented.
        files: what to write; nothing by default.
        score: score where there is ground truth; False: only segment.
        shared: share the sequences out over torch.distributed's default group, made from torchrun's variables if
            need be; its first process alone scores. Needs a folder of masks that all of them see.
        workers: processes that score; with more than 1, a script that calls this needs the usual
            `if __name__ == "__main__":`.
        progress: called with ("segment" or "score", frames done, frames in all).

    Returns:
        The report; without scores where nothing was scored.

    Raises:
        MgsegError: a file of the dataset, a mask to be scored, the weights or an output is not as it must be. What
            can be checked is checked before anything is segmented.
    """
    split = split if sequences is None else split.only(sequences)
    files = files or Files()
    score = score and split.has_truth
    _check(split, files, score)
    to_segment, to_score = (partial(progress, step) if progress else None for step in ("segment", "score"))
    with ExitStack() as exits:
        if results is not None:
            report = Report(_settings(split, read_run(results)))
        else:
            from mgseg.evaluation.inference import run_split

            results = files.masks or Path(exits.enter_context(tempfile.TemporaryDirectory(prefix="mgseg-")))
            run, is_first = run_split(
                split,
                results,
                model,
                options,
                weights=weights,
                device=device,
                precision=precision,
                resume=files.resume,
                overwrite=files.overwrite,
                shared=shared,
                progress=to_segment,
            )
            report = Report(_settings(split, run))
            if not is_first:
                return report
        if score:
            objects, notes = score_split(split, results, workers=workers, progress=to_score)
            report = Report(report.settings, objects, notes)
        if files.archive:
            write_submission(split, results, files.archive)
        if files.page:
            write_page(report, split, results, files.page)
    return report


def _check(split: Split, files: Files, score: bool) -> None:
    """Refuse what would else be found out after hours."""
    if score:
        frame_pairs(split, Path())
    for path in (files.archive, files.page):
        if path and not path.resolve().parent.is_dir():
            raise OutputError(f"cannot write {path}: there is no folder {path.parent}")


def _settings(split: Split, run: dict[str, Any] | None) -> dict[str, Any]:
    """Return what stands in every result; `run` is how the masks were made, if that is known."""
    dataset = {"dataset": split.dataset, "split": split.name, "sequences": len(split.sequences)}
    return {**dataset, "protocol": PROTOCOLS[split.protocol], **code_version(), "masks": run}
