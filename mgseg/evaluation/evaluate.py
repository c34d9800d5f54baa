"""Evaluation of a split: segment it and score the masks, or score existing masks."""

import tempfile
from collections.abc import Callable
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
from mgseg.evaluation.submission import check_given, write_submission

if TYPE_CHECKING:  # torch is not needed to score given masks, and takes long to load
    from mgseg.distributed import Processes
    from mgseg.network import Network
    from mgseg.segment.segmenter import SegmenterOptions

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Files:
    """Output files of an evaluation.

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
    network: "Network | None" = None,
    options: "SegmenterOptions | None" = None,
    files: Files | None = None,
    *,
    score: bool = True,
    processes: "Processes | None" = None,
    workers: int = 1,
    progress: Progress | None = None,
) -> Report:
    """Segment a split, then score the masks: `run_split`, then `evaluate_masks`.

    Args:
        split: from `catalog.find_split`.
        network: what segments; by default `Network()`. Its weights are loaded when all else is checked.
        options: options of the Segmenter.
        files: what to write; nothing by default.
        score, workers: see `evaluate_masks`.
        processes: from `distributed.join`; they share the sequences, see one folder of masks, and the first one scores.
        progress: called with ("segment" or "score", frames done, frames in all).

    Returns:
        The report; without scores where nothing was scored.

    Raises:
        MgsegError: a file is missing or wrong; most checks run before anything is segmented.
    """
    from mgseg.evaluation.inference import run_split

    files = files or Files()
    _check(split, files.archive, files.page, score)
    with ExitStack() as exits:
        masks = files.masks or Path(exits.enter_context(tempfile.TemporaryDirectory(prefix="mgseg-")))
        record = run_split(
            split,
            masks,
            network,
            options,
            resume=files.resume,
            overwrite=files.overwrite,
            processes=processes,
            progress=partial(progress, "segment") if progress else None,
        )
        if processes and not processes.is_main:
            return Report(_settings(split, record))
        return evaluate_masks(
            split, masks, archive=files.archive, page=files.page, score=score, workers=workers, progress=progress
        )


def evaluate_masks(
    split: Split,
    masks: Path,
    *,
    archive: Path | None = None,
    page: Path | None = None,
    score: bool = True,
    workers: int = 1,
    progress: Progress | None = None,
) -> Report:
    """Score existing masks.

    Args:
        split: from `catalog.find_split`.
        masks: folder of the masks, `SEQUENCE/FRAME.png`.
        archive, page: see `Files`.
        score: whether to score where there is ground truth.
        workers: processes that score; with more than 1, a script that calls this needs the usual
            `if __name__ == "__main__":`.
        progress: called with ("score", frames done, frames in all).

    Returns:
        The report; without scores where nothing was scored.

    Raises:
        MgsegError: a file of the dataset, a mask or an output is missing or wrong.
    """
    _check(split, archive, page, score)
    report = Report(_settings(split, read_run(masks)))
    if score and split.has_truth:
        objects, notes = score_split(
            split, masks, workers=workers, progress=partial(progress, "score") if progress else None
        )
        report = Report(report.settings, objects, notes)
    if archive:
        write_submission(split, masks, archive)
    if page:
        write_page(report, split, masks, page)
    return report


def _check(split: Split, archive: Path | None, page: Path | None, score: bool) -> None:
    """Check all inputs and outputs before the run, which may take hours."""
    if score and split.has_truth:
        frame_pairs(split, Path())
    if archive:
        check_given(split)
    for path in (archive, page):
        if path and path.is_dir():
            raise OutputError(f"cannot write {path}: it is a folder", "give the name of a file")
        if path and not path.resolve().parent.is_dir():
            raise OutputError(f"cannot write {path}: there is no folder {path.parent}", "create the folder first")


def _settings(split: Split, run: dict[str, Any] | None) -> dict[str, Any]:
    """Return the settings for the result; `run` is the record of how the masks were made, if known."""
    dataset = {"dataset": split.dataset, "split": split.name, "sequences": len(split.sequences)}
    return {**dataset, "protocol": PROTOCOLS[split.protocol], **code_version(), "masks": run}
