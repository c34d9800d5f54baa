"""Scores of the sequences held out of training, by the same Segmenter and the same protocol as `mgseg eval`."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mgseg.data.catalog import Split
from mgseg.distributed import Processes
from mgseg.evaluation.evaluate import Files, evaluate_split
from mgseg.model.network import MotionGuidedSTM
from mgseg.network import Network
from mgseg.segment.segmenter import SegmenterOptions


@dataclass(frozen=True)
class Scores:
    """Scores of one validation, 0..1.

    Attributes:
        mean: J&F, averaged over the sequences.
        sequences: J&F of each.
    """

    mean: float
    sequences: dict[str, float]


def validate(
    model: MotionGuidedSTM,
    precision: str,
    held_out: Sequence[Split],
    options: SegmenterOptions,
    masks: Path,
    processes: Processes,
) -> Scores | None:
    """Segment and score the held-out sequences.

    Args:
        model: on its device; left in the mode that it was in.
        precision: precision of the arithmetic.
        held_out: one sequence or more.
        options: options of the Segmenter.
        masks: folder of the masks, one in it for each dataset; those of the validation before are replaced.
        processes: processes of the run; they share the sequences out, and all of them call this.

    Returns:
        The scores; None on all processes but the first.

    Raises:
        MgsegError: a sequence cannot be read, or the masks not be written.
    """
    training = model.training
    network = Network.from_model(model, precision)
    sequences: dict[str, float] = {}
    for split in held_out:
        files = Files(masks=masks / split.dataset, overwrite=True)
        report = evaluate_split(split, network, options, files, processes=processes)
        sequences |= {name: round(figures["J&F"], 5) for name, figures in report.sequences.items()}
    model.train(training)
    return Scores(round(sum(sequences.values()) / len(sequences), 5), sequences) if sequences else None
