"""Decoder: from the read-out to masks by refinement, and soft aggregation of objects.

Shapes: B pictures, N objects, h x w the key map at stride 16, D decoder channels.
Source: STM, section 3.3 (decoder) and section 3.4 (soft aggregation).
"""

from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mgseg.model.encoders import add_to_objects
from mgseg.model.fast.convolve import convolve

HALVED_FROM = 4 * 2**20  # numbers of a map; 16 MB
EPSILON = 1e-7  # probabilities are clamped to [EPSILON, 1 - EPSILON] before the logit (STM)


def _upsample(x: Tensor, factor: int) -> Tensor:
    return F.interpolate(x, scale_factor=factor, mode="bilinear", align_corners=False)


class ResidualBlock(nn.Module):
    """x + conv(relu(conv(relu(x)))), without batch norm."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(dim, dim, 3, padding=1)
        self.conv2 = nn.Conv2d(dim, dim, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, D, h, w) to the same shape; in inference `x` may serve as the result's storage."""
        return convolve(convolve(F.relu(x), self.conv1, activation="relu"), self.conv2, onto=x)


class Refinement(nn.Module):
    """Join a skip connection and the coarser map, upsampled."""

    def __init__(self, skip_dim: int, dim: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(skip_dim, dim, 3, padding=1)
        self.skip_block = ResidualBlock(dim)
        self.block = ResidualBlock(dim)

    def skip(self, feature: Tensor) -> Tensor:
        """Return the skip branch (B, D, 2h, 2w), which depends on the frame alone and not on the object."""
        return self.skip_block(self.conv(feature))

    def forward(self, skip: Tensor, coarse: Tensor) -> Tensor:
        """Join `skip` (B, D, 2h, 2w), shared by the objects, with `coarse` (B * N, D, h, w)."""
        with torch.autocast(coarse.device.type, enabled=False):  # which on CUDA makes this largest map float32
            finer = _upsample(coarse, 2)
        return self.block(add_to_objects(finer, skip))  # (B * N, D, 2h, 2w)


class JoiningConv2d(nn.Conv2d):
    """A 3x3 convolution of two maps joined along their channels, which is the sum of one of each.

    Args:
        dim: channels of each map.
        out_dim: number of channels of the result.
    """

    def __init__(self, dim: int, out_dim: int) -> None:
        super().__init__(2 * dim, out_dim, 3, padding=1)

    def of_first(self, x: Tensor) -> Tensor:
        """Convolve the first map (B, C, h, w), without the bias."""
        return F.conv2d(x, self.weight[:, : x.shape[1]], padding=1)

    def of_second(self, x: Tensor) -> Tensor:
        """Convolve the second map (B, C, h, w), with the bias."""
        return F.conv2d(x, self.weight[:, -x.shape[1] :], self.bias, padding=1)


class FrameTerms(NamedTuple):
    """Decoder inputs that depend on the frame alone, computed once and shared by its objects."""

    compressed: Tensor  # (B, D, h, w): the query value's part of the first convolution, with its bias
    skip8: Tensor  # (B, D, 2h, 2w)
    skip4: Tensor  # (B, D, 4h, 4w)


class Decoder(nn.Module):
    """Read-out and query features -> one logit plane for each object."""

    def __init__(self, value_dim: int, skip_dims: tuple[int, int], dim: int) -> None:
        super().__init__()
        self.compress = JoiningConv2d(value_dim, dim)  # of read-out and query value
        self.block16 = ResidualBlock(dim)
        self.refine8 = Refinement(skip_dims[1], dim)
        self.refine4 = Refinement(skip_dims[0], dim)
        self.predict = nn.Conv2d(dim, 2, 3, padding=1)  # background, object

    def frame_terms(self, value: Tensor, skip8: Tensor, skip4: Tensor) -> FrameTerms:
        """Join the query value's (B, Cv, h, w) part of the first convolution and the skip branches."""
        return FrameTerms(self.compress.of_second(value), skip8, skip4)

    def forward(self, readout: Tensor, terms: FrameTerms) -> Tensor:
        """Decode every object.

        Args:
            readout: float (B, N, Cv, h, w).
            terms: frame terms of the same B frames.

        Returns:
            Logits of the objects' probabilities, float (B, N, 16h, 16w). The softmax over (background, object) is
            the sigmoid of their difference, which commutes with the upsampling.
        """
        x = self.compress.of_first(readout.flatten(0, 1))
        x = self.block16(add_to_objects(x, terms.compressed))  # (B * N, D, h, w)
        x = self.refine8(terms.skip8, x)  # (B * N, D, 2h, 2w)
        pair = self._finest(terms.skip4, x)
        logits = _upsample((pair[:, 1:] - pair[:, :1]).float(), 4)  # (B * N, 1, 16h, 16w)
        return logits.squeeze(1).unflatten(0, readout.shape[:2])

    def _finest(self, skip4: Tensor, coarse: Tensor) -> Tensor:
        """Refine (B * N, D, 2h, 2w) to stride 4 and predict: (B * N, 2, 4h, 4w).

        In inference on a CPU, maps of many numbers are made in an upper and a lower half, each with as many rows of
        the other one as upsampling and three convolutions see, and one tile of theirs has: the results are the same,
        but in int8 by rounding, where each half has bounds of its own.
        """
        height = coarse.shape[2]
        whole = torch.is_grad_enabled() or coarse.device.type != "cpu" or 4 * coarse.numel() < HALVED_FROM
        middle = 0 if whole else height // 4 * 2

        def predict(top: int, bottom: int) -> Tensor:
            first, last = max(top - 2, 0), bottom + 2
            x = self.refine4(skip4[:, :, 2 * first : 2 * last], coarse[:, :, first:last])
            pair: Tensor = self.predict(F.relu_(x))
            return pair[:, :, 2 * (top - first) : 2 * (bottom - first)]

        return torch.cat([predict(top, bottom) for top, bottom in pairwise(sorted({0, middle, height}))], dim=2)


def soft_aggregate(logits: Tensor) -> Tensor:
    """Join independent objects so that their probabilities and the background's sum to one.

    The background's probability is the product of (1 - p) over the objects; each probability becomes the odds
    p / (1 - p), normalised over background and objects.

    Args:
        logits: float (B, N, H, W); sigmoid(logits) is each object's probability.

    Returns:
        float32 (B, N + 1, H, W), background first; its softmax over dim 1 are the joint probabilities.
    """
    return _odds(logits).log()


def joint_probabilities(logits: Tensor) -> Tensor:
    """The softmax of `soft_aggregate` in fewer passes, for inference: (B, N, H, W) to (B, N + 1, H, W)."""
    odds = _odds(logits)
    return odds / odds.sum(dim=1, keepdim=True)


def _odds(logits: Tensor) -> Tensor:
    prob = logits.float().sigmoid()
    background = (1 - prob).prod(dim=1, keepdim=True)
    prob = torch.cat((background, prob), dim=1).clamp(EPSILON, 1 - EPSILON)
    return prob / (1 - prob)
