"""Fitting of a confidence model on clips with known masks.

The clips are segmented under conditions that make masks drift: few lines, two of three frames left out, weights that
are disturbed. A network does better on clips that it was trained on than on new ones; without such conditions the model
would see too few bad masks, and trust too much.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from mgseg.data.split import Split, VideoSequence
from mgseg.errors import DatasetError, MgsegError
from mgseg.evaluation.confidence import ConfidenceFigures, confidence_figures
from mgseg.evaluation.metrics import region_similarity
from mgseg.files.masks import VOID, read_index_map
from mgseg.files.pictures import read_picture
from mgseg.model.confidence import FEATURES, ConfidenceModel
from mgseg.network import Network
from mgseg.segment.confidence import ENTRY
from mgseg.segment.segmenter import Segmenter, SegmenterOptions
from mgseg.weights import check_target, extra_entries, read_checkpoint, save_weights

FOLDS = 10  # of sequences, for the figures on sequences left out
PENALTY = 0.03  # L2 penalty on the weights: too small to change the scores, large enough to keep 11 weights stable
Array = NDArray[np.float64]


@dataclass(frozen=True)
class Condition:
    """Condition under which clips are segmented to fit the model.

    Attributes:
        size: see `SegmenterOptions`.
        every: one of so many frames is taken.
        noise: each weight of a convolution is multiplied by a random number of mean 1 and this deviation.
    """

    size: int
    every: int
    noise: float


CONDITIONS = (Condition(size=240, every=3, noise=0.0), Condition(size=320, every=3, noise=0.06))


@dataclass
class Track:
    """One object of one clip under one condition: features (n, F), areas in cells (n,) and true J (n,) by frame."""

    sequence: str
    features: list[Array] = field(default_factory=list)
    areas: list[float] = field(default_factory=list)
    j: list[float] = field(default_factory=list)


def calibrate(
    source: Path,
    target: Path,
    split: Split,
    *,
    device: str = "auto",
    overwrite: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> ConfidenceFigures:
    """Fit a confidence model for the weights `source`, and write weights and model to `target`.

    Args:
        source: a checkpoint.
        target: the file to write.
        split: with a mask for every frame that is taken.
        device: see `Network`.
        overwrite: replace a file that is there.
        progress: called with (frames done, frames in all).

    Returns:
        How well models fitted on nine tenths of the sequences do on the rest.

    Raises:
        MgsegError: the source is not a checkpoint, the split has too few sequences, or scipy is missing.
    """
    check_target(source, target, overwrite)
    if find_spec("scipy") is None:
        raise MgsegError("fitting a confidence model needs scipy", "pip install 'mgseg[calibrate]'")
    if len(split.sequences) < FOLDS:
        raise DatasetError(
            f"{split.dataset} {split.name} has {len(split.sequences)} sequences; at least {FOLDS} are needed"
        )
    entries = read_checkpoint(source)
    tracks: list[Track] = []
    counts = [sum(len(s.labelled_frames()[:: c.every]) for s in split.sequences) for c in CONDITIONS]
    for number, condition in enumerate(CONDITIONS):
        network = _disturbed(Network(source, device, "float32"), condition.noise)
        segmenter = Segmenter(network, SegmenterOptions(size=condition.size), _unfitted())
        done = sum(counts[:number])
        for sequence in split.sequences:
            for found in _segment(sequence, condition.every, segmenter, binary=split.single_object):
                tracks += found
                done += 1
                if progress:
                    progress(done, sum(counts))
    model = fit(tracks, f"{split.dataset} {split.name}, {len(split.sequences)} sequences")
    save_weights(
        target, network.config, entries["state_dict"], extra={**extra_entries(entries), ENTRY: model.to_dict()}
    )
    return cross_validate(tracks)


def fit(tracks: list[Track], fitted_on: str) -> ConfidenceModel:
    """Fit a logistic model whose weights are not negative; each J is a soft label of its frame."""
    from scipy.optimize import minimize

    features, areas, j = _joined(tracks)
    full = areas > 0
    x, y = features[full], j[full]
    centre, scale = x.mean(0), x.std(0) + 1e-6
    z = (x - centre) / scale

    def loss(parameters: Array) -> tuple[float, Array]:
        bias, weight = parameters[0], parameters[1:]
        logit = z @ weight + bias
        value = np.mean(np.logaddexp(0, logit) - y * logit) + PENALTY * (weight @ weight)
        slope = (1 / (1 + np.exp(-logit)) - y) / len(y)
        return float(value), np.concatenate(([slope.sum()], z.T @ slope + 2 * PENALTY * weight))

    begin = np.concatenate(([1.0], np.full(len(FEATURES), 0.1)))
    bounds = [(None, None)] + [(0, None)] * len(FEATURES)
    found = minimize(loss, begin, jac=True, method="L-BFGS-B", bounds=bounds).x
    empty = float(j[~full].mean()) if (~full).any() else 0.0
    return ConfidenceModel(_named(centre), _named(scale), _named(found[1:]), float(found[0]), empty, fitted_on)


def _named(numbers: Array) -> dict[str, float]:
    return dict(zip(FEATURES, map(float, numbers), strict=True))


def cross_validate(tracks: list[Track]) -> ConfidenceFigures:
    """Predict each sequence with a model that was fitted without the sequence's fold."""
    names = sorted({track.sequence for track in tracks})
    predicted, true = [], []
    for fold in range(FOLDS):
        held_out = set(names[fold::FOLDS])
        model = fit([track for track in tracks if track.sequence not in held_out], "")
        for track in tracks:
            if track.sequence in held_out:
                features = torch.from_numpy(np.stack(track.features))
                predicted.append(model.predict(features, torch.tensor(track.areas)).double().numpy())
                true.append(np.array(track.j))
    return confidence_figures(predicted, true)


def _joined(tracks: list[Track]) -> tuple[Array, Array, Array]:
    features = np.concatenate([np.stack(track.features) for track in tracks])
    return features, np.concatenate([track.areas for track in tracks]), np.concatenate([track.j for track in tracks])


def _segment(sequence: VideoSequence, every: int, segmenter: Segmenter, *, binary: bool) -> Iterator[list[Track]]:
    """Segment a clip from its first mask; yields once a frame, at the last one the objects' tracks."""
    frames = sequence.labelled_frames()[::every]
    tracks: dict[int, Track] = {}
    for number, (picture, mask) in enumerate(frames):
        image, truth = read_picture(picture), read_index_map(mask, binary=binary)
        if number == 0:
            segmenter.start(image, truth)
            tracks = {i: Track(sequence.name) for i in segmenter.object_ids}
        else:
            found, void = segmenter.step(image), truth == VOID
            measured = segmenter.measured
            assert measured is not None
            for row, object_id in enumerate(measured.object_ids):
                track = tracks[object_id]
                track.features.append(measured.features[row].double().cpu().numpy())
                track.areas.append(float(measured.areas[row]))
                track.j.append(region_similarity(found == object_id, truth == object_id, void))
        yield list(tracks.values()) if number == len(frames) - 1 and number else []


def _disturbed(network: Network, noise: float) -> Network:
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in network.model.parameters():
            if noise and parameter.dim() == 4:
                parameter.mul_(1 + noise * torch.randn(parameter.shape, generator=generator).to(parameter.device))
    return network


def _unfitted() -> ConfidenceModel:
    """Return a model without fitted numbers, so that the segmenter measures the features."""
    zero, one = dict.fromkeys(FEATURES, 0.0), dict.fromkeys(FEATURES, 1.0)
    return ConfidenceModel(zero, one, zero, bias=0.0, empty=0.0, fitted_on="nothing")
