"""Results of the backward pass, kept on disk until the forward pass joins them."""

from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray

from mgseg.segment.segmenter import Segmenter

_STEPS = 255  # probabilities are kept in 8 bits: they are only averaged
_LEAST = 1e-6  # trust in a pass without the object: if no pass has it, only the distance counts


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
        """Average the stored probabilities with those of the forward pass, object by object.

        The nearer, more confident pass has the larger weight. A pass that lost an object has none for it if the other
        pass still shows it.

        Returns:
            The mask, uint8 (H, W), and the confidence; unchanged if the backward pass did not segment the same objects.
        """
        path = self._folder / f"{number}.npz"
        confidence = segmenter.confidence
        if not path.exists():
            return mask, confidence
        with np.load(path) as kept:
            ids, prob, values = kept["ids"].tolist(), kept["prob"], kept["confidence"]
        path.unlink()
        if not ids or sorted(ids) != sorted(segmenter.object_ids):
            return mask, confidence
        order = [ids.index(i) for i in segmenter.object_ids]
        theirs, behind = prob[[0, *(slot + 1 for slot in order)]].astype(np.float32) / _STEPS, values[order]
        ahead = np.array([(confidence or {}).get(i, np.nan) for i in segmenter.object_ids])
        share = (number - self._start) / (self._end - self._start)
        forward = (1 - share) ** 2 * _trust(segmenter.network_probabilities, ahead)
        backward = share**2 * _trust(theirs, behind)
        weights = backward / (forward + backward)
        mask = segmenter.blend(theirs, weights.tolist())
        if confidence:
            joined = (1 - weights) * ahead + weights * behind
            confidence = dict(zip(segmenter.object_ids, joined.tolist(), strict=True))
        return mask, confidence


def _trust(prob: NDArray[np.float32], confidence: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the trust in each object of a pass: its confidence, 1 where it is unknown; next to 0 for an empty mask."""
    is_shown = np.isin(np.arange(1, len(prob)), prob.argmax(0))
    return np.where(is_shown, np.nan_to_num(confidence, nan=1.0), 0) + _LEAST
