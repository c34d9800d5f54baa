"""Evaluation of a split: segment and score it, or score masks that are there already."""

import tempfile
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from mgseg.data.catalog import Split
from mgseg.evaluation.protocols import PROTOCOLS, frame_pairs, score_split
from mgseg.evaluation.record import code_version, read_run
from mgseg.evaluation.report import Report

if TYPE_CHECKING:  # torch is not needed to score given masks, and takes long to load
    import torch

    from mgseg.model.network import MotionGuidedSTM
    from mgseg.segmenter import SegmenterOptions


def evaluate_split(
    split: Split,
    model: "MotionGuidedSTM | None" = None,
    options: "SegmenterOptions | None" = None,
    *,
    weights: str | Path = "auto",
    device: "torch.device | str | None" = None,
    sequences: Iterable[str] | None = None,
    results: Path | None = None,
    output: Path | None = None,
    resume: bool = False,
    overwrite: bool = False,
    score: bool = True,
    shared: bool = False,
    workers: int = 1,
    progress: Callable[[str, int, int], None] | None = None,
) -> Report:
    """Segment a split and score the masks, or score masks that are there.

    Args:
        split: from `catalog.find_split`.
        model: the network; loaded from `weights` by default.
        options: of the Segmenter.
        weights: a released name, a file, or "auto"; used where no model is given.
        device: where the network runs; by default the model's, or CUDA where there is one.
        sequences: names of the sequences wanted; all by default.
        results: folder of masks to score; nothing is segmented.
        output: folder for the masks; by default they are kept only until they are scored.
        resume: leave sequences that are done in `output` as they are.
        overwrite: replace results in `output`.
        score: score where there is ground truth; False: only segment.
        shared: share the sequences out over torch.distributed's default group; its first process alone scores.
            Needs an `output` that all processes see.
        workers: processes that score; with more than 1, a script that calls this needs the usual
            `if __name__ == "__main__":`.
        progress: called with ("segment" or "score", frames done, frames in all).

    Returns:
        The report; without scores where nothing was scored.

    Raises:
        DatasetError: a sequence, picture or ground truth is missing or damaged.
        InputError: a mask to be scored is missing, unreadable, of another size, or holds an extra object.
        OutputError: `output` holds results already, other ones than `resume` needs, or cannot be written.
        WeightsError: see `weights.load_model`.
    """
    split = split if sequences is None else split.only(sequences)
    score = score and split.has_truth
    if score:
        frame_pairs(split, Path())  # what is wrong with the ground truth is found before hours are spent
    with ExitStack() as stack:
        if results is not None:
            folder, run = results, read_run(results)
        else:
            from mgseg.evaluation.running import run_split

            folder = output or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mgseg-")))
            run = run_split(
                split,
                folder,
                model,
                options,
                weights=weights,
                device=device,
                resume=resume,
                overwrite=overwrite,
                shared=shared,
                progress=partial(progress, "segment") if progress else None,
            )
            score = run.pop("process") == 0 and score
        settings = {
            "dataset": split.dataset,
            "split": split.name,
            "protocol": PROTOCOLS[split.protocol],
            "sequences": len(split.sequences),
            **code_version(),
            "masks": run,
        }
        if not score:
            return Report(settings)
        told = partial(progress, "score") if progress else None
        objects, notes = score_split(split, folder, workers=workers, progress=told)
        return Report(settings, tuple(objects), tuple(notes))
