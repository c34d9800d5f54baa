"""A simulated annotator: segment a sequence, take the true mask of one more frame, segment it again."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mgseg.data.split import Split, VideoSequence
from mgseg.errors import DatasetError, InputError
from mgseg.evaluation.metrics import boundary_accuracy, region_similarity
from mgseg.files.masks import VOID, read_index_map
from mgseg.network import Network
from mgseg.outputs.table import Outputs
from mgseg.segment.clip import segment_clip
from mgseg.segment.confidence import confidence_model
from mgseg.segment.options import SegmenterOptions

Masks = list[NDArray[np.uint8]]


class Pick(StrEnum):
    """Rule that chooses the next frame to correct."""

    confidence = "confidence"  # the one that a run suggests, from its confidence
    oracle = "oracle"  # the one of lowest true J
    uniform = "uniform"  # frames spread evenly, chosen anew for each number of them


@dataclass(frozen=True)
class Round:
    """Scores of a sequence after a number of corrections.

    Attributes:
        frames: the corrected frames, by number.
        j, f: means over objects and over the frames that count, corrected ones included.
        seconds: that segmenting took; frames that the newest correction does not change are not segmented again.
    """

    frames: tuple[int, ...]
    j: float
    f: float
    seconds: float

    @property
    def j_and_f(self) -> float:
        """Mean of J and F."""
        return (self.j + self.f) / 2


def simulate_corrections(
    split: Split,
    corrections: int,
    pick: Pick = Pick.confidence,
    network: Network | None = None,
    options: SegmenterOptions | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> dict[str, list[Round]]:
    """Segment each sequence from its first mask, then again and again with one more true mask.

    Args:
        split: of DAVIS's kind: a true mask for every frame. Objects that the first mask does not show are left out.
        corrections: how many true masks are given at most beside the first.
        pick: which frames they are of.
        network: what segments; by default `Network()`.
        options: options of the segmenter.
        progress: called with ("correct", sequences and rounds done, in all).

    Returns:
        For each sequence a round for 0, 1, ... `corrections` corrections.

    Raises:
        DatasetError: a frame of the split has no mask.
        InputError: frames are picked by confidence, but the weights contain no confidence model.
    """
    network = network or Network()
    if pick is Pick.confidence and confidence_model(network) is None:
        hint = "fit one with mgseg weights calibrate, or use --pick uniform, which needs none"
        raise InputError(f"the weights {network.name} contain no confidence model, which --pick confidence needs", hint)
    truths = {sequence.name: _frames(sequence) for sequence in split.sequences}
    found: dict[str, list[Round]] = {}
    for number, sequence in enumerate(split.sequences):
        rounds = found[sequence.name] = []
        picked: tuple[int, ...] = ()
        truth = _read_truth(sequence, truths[sequence.name], binary=split.single_object)
        with TemporaryDirectory(prefix="mgseg-") as folder:
            outputs = Outputs(Path(folder), resume=True)  # so that a round keeps what its correction does not change
            for count in range(min(corrections, len(truth) - 1) + 1):
                if pick is Pick.uniform:
                    picked = tuple(int(1 + (i + 0.5) * (len(truth) - 1) / count) for i in range(count))
                made, worst = _round(sequence, truth, picked, outputs, network, options or SegmenterOptions(), pick)
                rounds.append(made)
                picked = (*picked, worst)
                if progress:
                    progress("correct", number * (corrections + 1) + count + 1, len(truths) * (corrections + 1))
    return found


def mean_rounds(rounds: dict[str, list[Round]]) -> list[Round]:
    """The mean over sequences for each number of corrections."""
    columns = zip(*rounds.values(), strict=False)
    return [
        Round((), *(float(np.mean([getattr(r, name) for r in column])) for name in ("j", "f", "seconds")))
        for column in columns
    ]


def rounds_to_dict(rounds: dict[str, list[Round]]) -> dict[str, Any]:
    """Return everything in plain types."""

    def plain(made: Round) -> dict[str, Any]:
        return {"J&F": made.j_and_f, "J": made.j, "F": made.f, "frames": list(made.frames), "seconds": made.seconds}

    return {
        "mean": [plain(made) for made in mean_rounds(rounds)],
        "sequences": {name: [plain(made) for made in members] for name, members in rounds.items()},
    }


def _frames(sequence: VideoSequence) -> list[str]:
    """Names of the frames, each of which must have a mask."""
    names = [path.stem for path in sequence.frames]
    if missing := [name for name in names if name not in sequence.masks]:
        what = f"{sequence.name} has no ground truth for {len(missing)} frames; the first is {missing[0]}"
        raise DatasetError(what, "--corrections needs a dataset with a mask for every frame, such as DAVIS")
    return names


def _read_truth(sequence: VideoSequence, names: list[str], *, binary: bool) -> Masks:
    masks = [read_index_map(sequence.masks[name], binary=binary) for name in names]
    ids = [i for i in np.unique(masks[0]) if i not in (0, VOID)]
    return [np.where(np.isin(mask, (*ids, VOID)), mask, np.uint8(0)) for mask in masks]


def _round(
    sequence: VideoSequence,
    truth: Masks,
    corrected: tuple[int, ...],
    outputs: Outputs,
    network: Network,
    options: SegmenterOptions,
    pick: Pick,
) -> tuple[Round, int]:
    """Segment with the masks of frame 0 and the corrected ones, and say which frame to correct next."""
    made: dict[int, NDArray[np.uint8]] = {}
    begin = time.perf_counter()
    result = segment_clip(
        sequence.frames[0].parent,
        {number: truth[number] for number in (0, *corrected)},
        outputs,
        network=network,
        options=options,
        zero_is_background=True,
        on_mask=made.__setitem__,
    )
    seconds = time.perf_counter() - begin
    ids = [int(i) for i in np.unique(truth[0]) if i not in (0, VOID)]
    voids = [mask == VOID for mask in truth]
    j = np.array([[region_similarity(made[t] == i, m == i, voids[t]) for i in ids] for t, m in enumerate(truth)])
    counted = range(1, max(2, len(truth) - 1))  # DAVIS counts neither the first frame nor the last
    f = [boundary_accuracy(made[t] == i, truth[t] == i, voids[t]) for t in counted for i in ids]
    values = j.min(axis=1)
    values[[0, *corrected]] = np.inf
    worst = int(np.argmin(values))
    if pick is Pick.confidence:
        suggested = result.timeline.suggest()
        worst = worst if suggested is None else suggested
    return Round(corrected, float(j[list(counted)].mean()), float(np.mean(f)), seconds), worst
