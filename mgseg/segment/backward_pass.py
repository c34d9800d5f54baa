"""Results of the backward pass, kept on disk until the forward pass joins them."""

from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray

from mgseg.segment.segmenter import Segmenter

_STEPS = 255  # probabilities are kept in 8 bits: they are only averaged


class BackwardPass:
    """Probabilities by frame number, in a temporary folder.

    Args:
        exits: what deletes the folder.
        ends: the frames with a given mask on both sides.
    """

    def __init__(self, exits: ExitStack, ends: tuple[int, int]) -> None:
        self._folder = Path(exits.enter_context(TemporaryDirectory(prefix="mgseg-")))
        self._start, self._end = ends

    def put(self, number: int, segmenter: Segmenter) -> None:
        """Store the segmenter's probabilities of a frame."""
        prob = (segmenter.network_probabilities * _STEPS + 0.5).astype(np.uint8)
        confidence = segmenter.confidence or {}
        values = [confidence.get(i, np.nan) for i in segmenter.object_ids]
        np.savez_compressed(self._folder / f"{number}.npz", prob=prob, ids=segmenter.object_ids, confidence=values)

    def join(
        self, number: int, mask: NDArray[np.uint8], segmenter: Segmenter
    ) -> tuple[NDArray[np.uint8], dict[int, float] | None]:
        """Join the stored probabilities with those of the forward pass; the nearer, more confident side weighs more.

        Returns:
            The mask, uint8 (H, W), and the confidence; as they were where nothing was kept of the same objects.
        """
        path = self._folder / f"{number}.npz"
        confidence = segmenter.confidence
        if not path.exists():
            return mask, confidence
        with np.load(path) as kept:
            ids, prob, values = kept["ids"].tolist(), kept["prob"], kept["confidence"]
        path.unlink()
        if sorted(ids) != sorted(segmenter.object_ids):
            return mask, confidence
        order = [0, *(ids.index(i) + 1 for i in segmenter.object_ids)]
        behind = dict(zip(ids, values.tolist(), strict=True))
        share = (number - self._start) / (self._end - self._start)
        weight = _weight(share, confidence, behind)
        mask = segmenter.blend(prob[order].astype(np.float32) / _STEPS, weight)
        if confidence:
            confidence = {i: (1 - weight) * value + weight * behind[i] for i, value in confidence.items()}
        return mask, confidence


def _weight(share: float, ahead: dict[int, float] | None, behind: dict[int, float]) -> float:
    """Return the weight of the backward pass between two masks: 0 at the first, 1 at the second."""
    forward, backward = (1 - share) ** 2, share**2
    if ahead:
        forward *= 1.01 - float(np.mean([behind[i] for i in ahead]))  # as the other side doubts
        backward *= 1.01 - float(np.mean(list(ahead.values())))
    return backward / (forward + backward)
