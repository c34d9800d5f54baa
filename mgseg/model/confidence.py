"""Confidence: predicted J of each object in a frame, from by-products of its segmentation. No ground truth, no
second pass; a logistic model turns a few features into the prediction.

Shapes: N objects, H x W the network's input (multiples of 16), H/4 x W/4 the maps that features are taken from,
h x w = H/16 x W/16 the key map, L = T * h * w memory positions, Ck key channels.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from mgseg.model.memory import LabelledMemory

# Each feature is larger for a right mask than for a wrong one, so a fitted model has no negative weight.
FEATURES = (
    "soft_iou",  # logit of the IoU of the soft mask with the hard one
    "margin",  # mean |p - (1 - p)| in the cells that the contour crosses
    "inside",  # minus the log of the probability outside of the mask, as a part of its area
    "label",  # logit of the object's share in what the mask's cells match in memory
    "given_label",  # the same, of the given frames alone
    "neighbours",  # minus the logit of the object's share in what the cells round the mask match
    "given_share",  # part of the read that comes from given frames
    "found_again",  # logit of the share of the given mask's cells that match inside the mask
    "outline",  # minus the growth of the log of contour length by root of area since the given mask
    "area",  # minus the loss of log area since the given mask
    "parts",  # minus the log of the number of parts
)
SAMPLES = 64  # cells of a mask that are matched; a whole mask would take as long as the read itself
LEAST = 0.01  # shares are kept within LEAST and 1 - LEAST before the logit


@dataclass(frozen=True)
class ConfidenceModel:
    """A logistic model of J, fitted for one set of weights; plain numbers that a checkpoint keeps.

    Attributes:
        centre, scale, weight: of each of FEATURES, by name.
        bias: bias of the logit.
        empty: J predicted of an object of which nothing is found in a frame.
        fitted_on: what data it was fitted on, in words.
    """

    centre: Mapping[str, float]
    scale: Mapping[str, float]
    weight: Mapping[str, float]
    bias: float
    empty: float
    fitted_on: str

    def __post_init__(self) -> None:
        for name, numbers in (("centre", self.centre), ("scale", self.scale), ("weight", self.weight)):
            if set(numbers) != set(FEATURES):
                raise ValueError(f"{name} of the confidence model: expected {', '.join(FEATURES)}")

    def predict(self, features: Tensor, areas: Tensor) -> Tensor:
        """Predict J.

        Args:
            features: float (N, F), in the order of FEATURES.
            areas: float (N,), of the masks; what is 0 is empty.

        Returns:
            float (N,) in [0, 1].
        """
        logit = features.new_full(features.shape[:1], self.bias)
        for column, name in enumerate(FEATURES):
            logit = logit + (features[:, column] - self.centre[name]) * (self.weight[name] / self.scale[name])
        return torch.where(areas > 0, logit.sigmoid(), self.empty)

    def to_dict(self) -> dict[str, Any]:
        """Return the model as plain values for a checkpoint."""
        return asdict(self)


class Shape(NamedTuple):
    """What the shape of N masks says, each float (N,)."""

    soft_iou: Tensor
    margin: Tensor
    outside: Tensor
    area: Tensor  # in cells of stride 4
    outline: Tensor  # log of contour length by the root of the area
    parts: Tensor  # less holes, 1 at least


def measure_shape(prob: Tensor) -> Shape:
    """Measure masks.

    Args:
        prob: probabilities of the objects at stride 4, float (N, H/4, W/4).
    """
    hard = (prob > 0.5).to(prob.dtype)
    area = hard.sum((1, 2))
    around = F.pad(hard.unsqueeze(1), (1, 1, 1, 1), mode="replicate")
    grown = F.max_pool2d(around, 3, 1).squeeze(1)
    contour = grown + F.max_pool2d(-around, 3, 1).squeeze(1)  # 1 in the cells that touch it, on both sides
    length = contour.sum((1, 2))
    inside, outside = (prob * hard).sum((1, 2)), (prob * (1 - hard)).sum((1, 2))
    return Shape(
        soft_iou=(inside + 1e-3) / (area + outside + 1e-3),
        margin=((2 * prob - 1).abs() * contour).sum((1, 2)) / (length + 1e-3),
        outside=(prob * (1 - grown)).sum((1, 2)) / (area + 1),
        area=area,
        outline=torch.log((length + 1) / (area + 1).sqrt()),
        parts=_euler_number(hard).clamp(min=1),
    )


def _euler_number(hard: Tensor) -> Tensor:
    """Return parts (8-connected) less holes of masks of 0 and 1 (N, h, w), by counting squares of 2x2 (Gray, 1971)."""
    x = F.pad(hard, (1, 1, 1, 1))
    a, b, c, d = x[:, :-1, :-1], x[:, :-1, 1:], x[:, 1:, :-1], x[:, 1:, 1:]
    count = a + b + c + d
    diagonal = (count == 2) & (a == d)
    one, three = ((count == n).sum((1, 2)) for n in (1, 3))
    return (one - three - 2 * diagonal.sum((1, 2))).to(hard.dtype) / 4


def measure_match(mask: Tensor, key: Tensor, memory: LabelledMemory) -> Tensor:
    """Compare what a mask's cells match in memory with the masks there, and the other way round.

    Args:
        mask: the object's share of each cell, float (h, w).
        key: key of the frame, float (Ck, h, w).
        memory: memory of the object.

    Returns:
        float (5,): label, given_label, neighbours, given_share, found_again as in FEATURES, without logit and sign.
    """
    around = F.max_pool2d(mask[None, None], 3, 1, 1)[0, 0]
    flat, query = mask.flatten(), key.flatten(1) / key.shape[0] ** 0.5
    cells, importance = _sample(flat)
    keys = memory.keys.float()
    weights = torch.softmax(query[:, cells].t() @ keys, dim=1)
    of_given = weights * memory.given
    given_share = of_given.sum(1)
    label = _mean(weights @ memory.labels, importance)
    given_label = _mean((of_given @ memory.labels) / (given_share + 1e-6), importance)
    ring, ring_importance = _sample((around - mask).flatten())
    neighbours = _mean(torch.softmax(query[:, ring].t() @ keys, dim=1) @ memory.labels, ring_importance)
    given_cells, given_importance = _sample(memory.labels[memory.newest_given])
    given_keys = keys[:, memory.newest_given][:, given_cells]
    found_again = _mean(torch.softmax(given_keys.t() @ query, dim=1) @ flat, given_importance)
    return torch.stack((label, given_label, neighbours, _mean(given_share, importance), found_again))


def _sample(shares: Tensor) -> tuple[Tensor, Tensor]:
    """Choose cells in which much of an object lies, spread over it: indices (S,) and their shares (S,)."""
    golden = torch.arange(shares.shape[0], device=shares.device) * 0.6180339887
    _, cells = (shares + 0.3 * golden.frac()).topk(min(SAMPLES, shares.shape[0]))
    return cells, shares[cells]


def _mean(values: Tensor, importance: Tensor) -> Tensor:
    return (values * importance).sum() / (importance.sum() + 1e-6)


def join_features(shape: Shape, given: Shape, matches: Tensor) -> Tensor:
    """Return the FEATURES of N objects, float (N, F).

    Args:
        shape: shape of the masks.
        given: shapes of their last given masks.
        matches: `measure_match` of each, (N, 5).
    """
    label, given_label, neighbours, given_share, found_again = matches.unbind(1)
    loss = torch.log((given.area + 1) / (shape.area + 1))
    features = (
        *(_logit(shape.soft_iou), shape.margin, -torch.log(shape.outside + 3e-3)),
        *(_logit(label), _logit(given_label), -_logit(neighbours), given_share, _logit(found_again)),
        *(given.outline - shape.outline, -loss.clamp(min=0), -torch.log(shape.parts)),
    )
    return torch.stack(features, dim=1)


def _logit(share: Tensor) -> Tensor:
    return torch.logit(share, eps=LEAST)
