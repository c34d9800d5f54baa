"""Scoring of mask files against ground truth, frame by frame, in one or more processes.

Kept apart from `evaluate.py` because its processes import this module and little else.
"""

import multiprocessing
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mgseg.errors import InputError
from mgseg.evaluation.metrics import boundary_accuracy, region_similarity
from mgseg.files.masks import VOID, read_confidence, read_index_map

CHUNK = 16  # frames in one task: less than a tenth of a second's work, so all processes end together
WORTH_A_PROCESS = 64  # with fewer frames, starting a process takes longer than scoring


class FramePair(NamedTuple):
    """One frame's files: ground truth, and the mask to be scored (None: only the ids of the truth are wanted)."""

    truth: Path
    prediction: Path | None


@dataclass(frozen=True)
class FrameScore:
    """Scores and objects of one frame.

    Attributes:
        truth_ids: objects in the ground truth, void left out.
        predicted_ids: objects in the prediction.
        scores: J and F by object id, for all of both.
        areas: pixels of each object in the prediction.
        confidence: J that was predicted of each object; empty where the mask's file holds none.
    """

    truth_ids: tuple[int, ...]
    predicted_ids: tuple[int, ...]
    scores: Mapping[int, tuple[float, float]]
    areas: Mapping[int, int] = field(default_factory=dict)
    confidence: Mapping[int, float] = field(default_factory=dict)


def result_path(results: Path, sequence: str, frame: str) -> Path:
    """Return the file of a mask to score: FRAME.png, or FRAME.PNG if only that exists."""
    path = results / sequence / f"{frame}.png"
    upper = path.with_suffix(".PNG")
    return upper if upper.is_file() and not path.is_file() else path


def ids_of(mask: NDArray[np.uint8]) -> tuple[int, ...]:
    """Return the values of a mask except 0, ascending; includes 255."""
    highest = int(mask.max(initial=0))
    if highest <= 1:
        return (1,) * highest
    found, left = [], mask.tobytes()
    while left:  # one value's pixels are taken out each time: twice as fast as counting all
        found.append(left[0])
        left = left.translate(None, left[:1])
    return tuple(sorted(value for value in found if value))


def score_pair(pair: FramePair, *, single_object: bool) -> FrameScore:
    """Score one frame.

    Args:
        pair: the frame's files.
        single_object: every positive value is the one object 1, on both sides (DAVIS 2016). Otherwise 255 in the ground
            truth is void, and counts neither for nor against.

    Raises:
        InputError: a file cannot be read, or the mask is not of the ground truth's size.
    """
    truth = read_index_map(pair.truth)
    truth = (truth > 0).view(np.uint8) if single_object else truth
    truth_ids = ids_of(truth)
    void = truth == VOID if VOID in truth_ids else None
    truth_ids = tuple(i for i in truth_ids if i != VOID)
    if pair.prediction is None:
        return FrameScore(truth_ids, (), {})
    prediction = read_index_map(pair.prediction, as_stored=True)
    if prediction.shape != truth.shape:
        sizes = [f"{shape[1]}x{shape[0]}" for shape in (prediction.shape, truth.shape)]
        raise InputError(f"{pair.prediction} is {sizes[0]}, its ground truth is {sizes[1]}")
    prediction = (prediction > 0).view(np.uint8) if single_object else prediction
    predicted_ids = ids_of(prediction)
    if predicted_ids == (VOID,) and truth_ids in ((), (1,)):  # black and white; of several objects it is an error
        prediction, predicted_ids = (prediction > 0).view(np.uint8), (1,)
    scores = {}
    for i in sorted({*truth_ids, *predicted_ids}):
        masks = prediction == i, truth == i
        scores[i] = region_similarity(*masks, void), boundary_accuracy(*masks, void)
    areas = {i: int(np.count_nonzero(prediction == i)) for i in predicted_ids}
    return FrameScore(truth_ids, predicted_ids, scores, areas, read_confidence(pair.prediction) or {})


def score_pairs(pairs: Sequence[FramePair], single_object: bool) -> list[FrameScore]:
    """Score several frames in this process; see `score_pair`."""
    return [score_pair(pair, single_object=single_object) for pair in pairs]


def score_frames(
    pairs: Sequence[FramePair],
    *,
    single_object: bool,
    workers: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> list[FrameScore]:
    """Score frames, in their order.

    Args:
        pairs: the frames' files.
        single_object: see `score_pair`.
        workers: processes; 1 is this one alone. With more, a script that calls this needs the usual
            `if __name__ == "__main__":`.
        progress: called with (frames done, frames in all).

    Raises:
        InputError: see `score_pair`.
    """
    chunks = [pairs[start : start + CHUNK] for start in range(0, len(pairs), CHUNK)]
    scores: list[FrameScore] = []
    for chunk in _on_processes(chunks, single_object, min(workers, len(pairs) // WORTH_A_PROCESS + 1)):
        scores += chunk
        if progress:
            progress(len(scores), len(pairs))
    return scores


def _on_processes(
    chunks: Sequence[Sequence[FramePair]], single_object: bool, workers: int
) -> Iterator[list[FrameScore]]:
    if workers <= 1:
        yield from (score_pairs(chunk, single_object) for chunk in chunks)
        return
    # Not "fork": a process with torch's threads in it must not be forked.
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, spawn, signal.signal, (signal.SIGINT, signal.SIG_IGN)) as pool:
        futures = [pool.submit(score_pairs, chunk, single_object) for chunk in chunks]
        try:
            for future in futures:
                yield future.result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
