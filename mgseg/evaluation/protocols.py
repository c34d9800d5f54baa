"""Evaluation protocols: which frames and objects are scored, and which masks are errors.

DAVIS 2016 and 2017 semi-supervised as the official DAVIS 2017 evaluation code has it; YouTube-VOS.
"""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from mgseg.data.catalog import Split, VideoSequence, seen_categories
from mgseg.errors import DatasetError, InputError
from mgseg.evaluation.report import SEEN, UNSEEN, ObjectScore
from mgseg.evaluation.scoring import FramePair, FrameScore, result_path, score_frames
from mgseg.files.masks import VOID

PROTOCOLS = {
    "davis16": "DAVIS 2016, semi-supervised: any positive value is the one object; frames 1 to N-2",
    "davis17": "DAVIS 2017, semi-supervised: mean over objects; frames 1 to N-2",
    "youtube-vos": "YouTube-VOS: each object in meta.json's frames after the one it is given in",
}
ZERO_255 = "0/255 masks have an object in DAVIS 2016's protocol alone; elsewhere 255 is void"


def score_split(
    split: Split, results: Path, *, workers: int = 1, progress: Callable[[int, int], None] | None = None
) -> tuple[tuple[ObjectScore, ...], tuple[str, ...]]:
    """Score masks against the ground truth of a split.

    Args:
        split: with ground truth.
        results: folder of `SEQUENCE/FRAME.png`.
        workers: processes; see `scoring.score_frames`.
        progress: called with (frames done, frames in all).

    Returns:
        The scores of all objects, and notes on objects that a reader should know of.

    Raises:
        DatasetError: ground truth is missing or shows no object.
        InputError: a mask is missing, unreadable, of another size, or contains an unknown object.
    """
    pairs = frame_pairs(split, results)
    _check_all_there(pair.prediction for members in pairs.values() for pair in members.values())
    flat = [pair for members in pairs.values() for pair in members.values()]
    scores = iter(score_frames(flat, single_object=split.single_object, workers=workers, progress=progress))
    seen = seen_categories(split) if split.protocol == "youtube-vos" else None
    objects: list[ObjectScore] = []
    notes: list[str] = []
    for sequence in split.sequences:
        members = pairs[sequence.name]
        by_frame = {name: next(scores) for name in members}
        _check_ids(sequence, members, by_frame)
        found, remarks = _objects(sequence, by_frame, seen)
        objects += found
        notes += remarks
    if not objects:
        raise DatasetError(f"{split.dataset} {split.name} has no object with a frame to score")
    return tuple(objects), tuple(notes)


def frame_pairs(split: Split, results: Path) -> dict[str, dict[str, FramePair]]:
    """Return the files to score, by sequence and by frame.

    A sequence's first frame has no prediction: objects are given there.

    Raises:
        DatasetError: ground truth is missing, or a sequence has no frame to score.
    """
    return {sequence.name: _pairs(sequence, split.protocol, results) for sequence in split.sequences}


def _pairs(sequence: VideoSequence, protocol: str, results: Path) -> dict[str, FramePair]:
    """Return the frames to look at of a sequence by name."""
    names = sequence.saved if protocol == "youtube-vos" else sequence.saved[:-1]
    if len(names) < 2:
        raise DatasetError(f"{sequence.name} has no frame to score: it has {len(sequence.saved)} frame(s) in all")
    if missing := [name for name in names if name not in sequence.masks]:
        folder = next(iter(sequence.masks.values())).parent if sequence.masks else sequence.name
        raise DatasetError(f"the ground truth in {folder} lacks {_list(missing)}")
    predictions = [None, *(result_path(results, sequence.name, name) for name in names[1:])]
    return {name: FramePair(sequence.masks[name], path) for name, path in zip(names, predictions, strict=True)}


def _check_all_there(paths: Iterable[Path | None]) -> None:
    missing = [path for path in paths if path is not None and not path.is_file()]
    folders = {path.parent for path in missing if not path.parent.is_dir()}
    if folders:
        raise InputError(
            f"missing sequences: {_list(sorted(map(str, folders)))}",
            "each mask must be stored as SEQUENCE/FRAME.png in the --results folder",
        )
    if missing:
        raise InputError(f"missing masks: {_list(list(map(str, missing)))}")


def _check_ids(sequence: VideoSequence, pairs: dict[str, FramePair], scores: dict[str, FrameScore]) -> None:
    known = {i for score in scores.values() for i in score.truth_ids}
    if not known:
        raise DatasetError(f"the ground truth of {sequence.name} contains no object", ZERO_255)
    for name, score in scores.items():
        if extra := set(score.predicted_ids) - known:
            found = f"holds {_list(sorted(extra), 'id')}; the sequence has {_list(sorted(known), 'object')}"
            raise InputError(f"{pairs[name].prediction} {found}", ZERO_255 if VOID in extra else None)


def _objects(
    sequence: VideoSequence, scores: dict[str, FrameScore], seen: frozenset[str] | None
) -> tuple[list[ObjectScore], list[str]]:
    """Gather the scores of each object over the frames after the one in which it is given."""
    names, frames = list(scores), list(scores.values())
    objects, notes = [], []
    for i in sorted({i for frame in frames for i in frame.truth_ids}):
        first = next(k for k, frame in enumerate(frames) if i in frame.truth_ids)
        scored = frames[first + 1 :]
        what = f"{sequence.name}, object {i}"
        if not scored:
            notes.append(f"{what}: not scored, because it first appears in the last frame that could be scored")
            continue
        if not any(i in frame.truth_ids for frame in scored):
            notes.append(
                f"{what}: absent from all scored frames; its score only measures how few pixels were predicted for it"
            )
        values = np.array([frame.scores.get(i, (1.0, 1.0)) for frame in scored])  # absent on both sides: right
        if seen is not None and i not in sequence.categories:
            raise DatasetError(f"{what}: meta.json has no category for it")
        group = None if seen is None else SEEN if sequence.categories[i] in seen else UNSEEN
        areas = np.array([frame.areas.get(i, 0) for frame in scored], np.float64)
        predicted = np.array([frame.confidence.get(i, np.nan) for frame in scored])
        confidence = None if np.isnan(predicted).any() else predicted
        score = (sequence.name, i, group, tuple(names[first + 1 :]), values[:, 0], values[:, 1], areas, confidence)
        objects.append(ObjectScore(*score))
    return objects, notes


def _list(things: list[Any], noun: str = "") -> str:
    shown = ", ".join(map(str, things[:5])) + (f" and {len(things) - 5} more" if len(things) > 5 else "")
    return f"{noun}{'s' if noun and len(things) > 1 else ''} {shown}".strip()
