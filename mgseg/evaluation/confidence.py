"""Quality of predicted J: rank correlation with true J, detection of bad frames, choice of the frame to correct."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

BAD = 0.5  # a J below it is a mask that needs a look

Array = NDArray[np.float64]


class ConfidenceFigures(NamedTuple):
    """Quality of a prediction of J.

    `spearman`: rank correlation with the true J over all frames; `auroc`: the probability that a frame of J < 0.5 is
    given less confidence than another one (NaN where there is no such frame, or no other); `regret`: J of the frame of
    least confidence less the lowest J of the same object, mean over objects.
    """

    spearman: float
    auroc: float
    regret: float


def confidence_figures(predicted: Sequence[Array], true: Sequence[Array]) -> ConfidenceFigures:
    """Compare predictions with the truth.

    Args:
        predicted: for each object, the larger, the better the mask should be, (num_frames,).
        true: its J, (num_frames,).
    """
    p, j = np.concatenate(predicted), np.concatenate(true)
    regrets = [float(b[np.argmin(a)] - b.min()) for a, b in zip(predicted, true, strict=True)]
    return ConfidenceFigures(_correlation(_ranks(p), _ranks(j)), _auroc(p, j < BAD), float(np.mean(regrets)))


def random_figures(true: Sequence[Array]) -> ConfidenceFigures:
    """Return the expected figures of a random prediction."""
    return ConfidenceFigures(0.0, 0.5, float(np.mean([j.mean() - j.min() for j in true])))


def area_change(areas: Array) -> Array:
    """A simple prediction to compare with: minus the change of the log of a mask's area since the frame before."""
    return -np.abs(np.diff(np.log(areas + 1), prepend=np.log(areas[:1] + 1)))


def _ranks(values: Array) -> Array:
    """Ranks from 0, (n,); equal values share their mean rank."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = counts.cumsum()
    return (ends - (counts + 1) / 2)[inverse]


def _correlation(a: Array, b: Array) -> float:
    a, b = a - a.mean(), b - b.mean()
    spread = float(np.sqrt((a * a).sum() * (b * b).sum()))
    return float((a * b).sum()) / spread if spread else float("nan")


def _auroc(predicted: Array, bad: NDArray[np.bool_]) -> float:
    num_bad, num_good = int(bad.sum()), int((~bad).sum())
    if not num_bad or not num_good:
        return float("nan")
    below = _ranks(predicted)[~bad].sum() - num_good * (num_good - 1) / 2  # pairs in which the good frame is above
    return float(below / (num_bad * num_good))
