"""The network: encode, read, decode. Pure functions of tensors; the state of a clip lives in the segmenter.

Shapes: B pictures, N objects a picture (a slot may be empty), H x W the input (multiples of 16),
h x w = H / 16 x W / 16, L = T * h * w memory positions, Ck key, Cv value, D decoder channels.
Source: the paper (motion prior), STM (everything else).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mgseg.model.decoder import Decoder, FrameTerms, soft_aggregate
from mgseg.model.encoders import IMAGENET_MEAN, IMAGENET_STD, MemoryEncoder, QueryEncoder
from mgseg.model.memory import CHUNK_ELEMENTS, read_memory
from mgseg.model.motion_prior import STRIDE, MotionPrior
from mgseg.model.trunks import TRUNKS


@dataclass(frozen=True)
class ModelConfig:
    """Configuration of a network, stored in every checkpoint, so that the model can be rebuilt from it.

    Attributes:
        trunk: a name in `TRUNKS`.
        stride_in_1x1: ResNet "v1" stride placement; published STM weights need False (torchvision's "v1.5").
        key_dim: key channels.
        value_dim: value channels.
        decoder_dim: decoder channels.
        motion_prior: weigh the read-out by the motion-guided prior; False is plain STM.
    """

    trunk: str = "resnet50"
    stride_in_1x1: bool = False
    key_dim: int = 128
    value_dim: int = 512
    decoder_dim: int = 256
    motion_prior: bool = True

    def __post_init__(self) -> None:
        if self.trunk not in TRUNKS:
            raise ValueError(f"unknown trunk {self.trunk!r}: expected one of {', '.join(TRUNKS)}")
        if min(self.key_dim, self.value_dim, self.decoder_dim) < 1:
            raise ValueError("key_dim, value_dim and decoder_dim must be positive")


# The networks that can be trained by name: one on each trunk.
PRESETS = {
    spec.preset: ModelConfig(trunk=name, key_dim=spec.key_dim, value_dim=spec.value_dim, decoder_dim=spec.decoder_dim)
    for name, spec in TRUNKS.items()
}


class QueryFeatures(NamedTuple):
    """The current frame, encoded once for all its objects."""

    key: Tensor  # (B, Ck, h, w)
    prior: Tensor | None  # (B, 2, h, w), the key's part of the motion prior
    terms: FrameTerms


class KeyValue(nn.Module):
    """Feature map -> key and value, by one 3x3 convolution each."""

    def __init__(self, dim: int, key_dim: int, value_dim: int) -> None:
        super().__init__()
        self.key = nn.Conv2d(dim, key_dim, 3, padding=1)
        self.value = nn.Conv2d(dim, value_dim, 3, padding=1)

    def forward(self, feat16: Tensor) -> tuple[Tensor, Tensor]:
        """Map (B, C, h, w) to key (B, Ck, h, w) and value (B, Cv, h, w)."""
        return self.key(feat16), self.value(feat16)


class MotionGuidedSTM(nn.Module):
    """A space-time memory network whose read is weighted by a Gaussian prior of the previous mask."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.query_encoder = QueryEncoder(config.trunk, config.stride_in_1x1)
        self.memory_encoder = MemoryEncoder(config.trunk, config.stride_in_1x1)
        dim4, dim8, dim16 = self.query_encoder.trunk.channels
        self.query_key_value = KeyValue(dim16, config.key_dim, config.value_dim)
        self.memory_key_value = KeyValue(dim16, config.key_dim, config.value_dim)
        self.decoder = Decoder(config.value_dim, (dim4, dim8), config.decoder_dim)
        self.motion_prior = MotionPrior(config.key_dim) if config.motion_prior else None
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(IMAGENET_STD).view(3, 1, 1), persistent=False)

    def train(self, mode: bool = True) -> "MotionGuidedSTM":
        """Set training mode; batch norm stays in evaluation mode throughout, as in STM."""
        super().train(mode)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
        return self

    def trunk_parameters(self) -> Iterator[nn.Parameter]:
        """Iterate over the parameters that ImageNet weights fill (both trunks)."""
        yield from self.query_encoder.trunk.parameters()
        yield from self.memory_encoder.trunk.parameters()

    def new_parameters(self) -> Iterator[nn.Parameter]:
        """Iterate over all other parameters."""
        of_trunks = {id(p) for p in self.trunk_parameters()}
        return (p for p in self.parameters() if id(p) not in of_trunks)

    def encode_query(self, image: Tensor) -> QueryFeatures:
        """Encode the current frame.

        Args:
            image: float (B, 3, H, W), RGB in [0, 1]; zeros where padded.
        """
        feat4, feat8, feat16 = self.query_encoder((image - self.mean) / self.std)
        key, value = self.query_key_value(feat16)
        del feat16  # smaller maps first, each freed as early as possible: memory use peaks here
        skip8 = self.decoder.refine8.skip(feat8)
        del feat8
        skip4 = self.decoder.refine4.conv(feat4)
        del feat4
        skip4 = self.decoder.refine4.skip_block(skip4)
        prior = self.motion_prior.of_key(key) if self.motion_prior else None
        return QueryFeatures(key, prior, self.decoder.frame_terms(value, skip8, skip4))

    def memory_stem(self, image: Tensor) -> Tensor:
        """Return the memory encoder's stem of `image` (B, 3, H, W) in [0, 1], before masks are added."""
        return self.memory_encoder.stem_of_image((image - self.mean) / self.std)

    def encode_memory(
        self, image: Tensor, masks: Tensor, others: Tensor | None = None, stem: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Encode a frame and its masks for the memory.

        Args:
            image: float (B, 3, H, W), RGB in [0, 1].
            masks: float (B, N, H, W) in [0, 1], soft.
            others: float (B, N, H, W), for each object the sum of all others, clamped to 1; from `masks` if None.
            stem: `memory_stem` of the image, for callers that encode its objects in several calls.

        Returns:
            Key (B, N, Ck, h, w) and value (B, N, Cv, h, w).
        """
        if others is None:
            others = other_objects(masks)
        feat16 = self.memory_encoder(self.memory_stem(image) if stem is None else stem, masks, others)
        key, value = self.memory_key_value(feat16)
        lead = masks.shape[:2]
        return key.unflatten(0, lead), value.unflatten(0, lead)

    def read(
        self,
        query: QueryFeatures,
        keys: Tensor,
        values: Tensor,
        previous: Tensor,
        max_elements: int = CHUNK_ELEMENTS,
        bias: Tensor | None = None,
    ) -> Tensor:
        """Read the memory and weigh the read-out by the prior, with which it commutes.

        Args:
            query: query features of B frames.
            keys: (B, N, Ck, L); values: (B, N, Cv, L).
            previous: hard masks of the previous frame, 0 and 1, (B, N, H, W).
            max_elements: number of elements of the correlation map held at a time; see `read_memory`.
            bias: added to the logits of the memory positions, broadcast to (B, N, L); see `read_memory`.

        Returns:
            (B, N, Cv, h, w).
        """
        readout = read_memory(query.key, keys, values, max_elements, bias)
        if self.motion_prior is None:
            return readout
        return readout * self.motion_prior(query.prior, previous)

    def decode(self, query: QueryFeatures, readout: Tensor) -> Tensor:
        """Decode the read-out (B, N, Cv, h, w) to the logits of the objects' probabilities (B, N, H, W)."""
        return self.decoder(readout, query.terms)

    def segment(self, image: Tensor, keys: Tensor, values: Tensor, previous: Tensor) -> Tensor:
        """Segment a frame: `encode_query`, `read`, `decode`, `soft_aggregate`.

        Returns:
            float32 logits (B, N + 1, H, W), background first; softmax over dim 1 gives the probabilities.
        """
        query = self.encode_query(image)
        return soft_aggregate(self.decode(query, self.read(query, keys, values, previous)))


def other_objects(masks: Tensor) -> Tensor:
    """Return for each object the sum of the other objects' masks, clamped to [0, 1]: (B, N, H, W), same shape."""
    return (masks.sum(dim=1, keepdim=True) - masks).clamp(0, 1)


class Padding(NamedTuple):
    """Padding added by `pad_to_stride`, in the order of torch.nn.functional.pad."""

    left: int
    right: int
    top: int
    bottom: int


def padding_of(size: Sequence[int]) -> Padding:
    """Return the padding of (H, W) to multiples of 16: half (rounded down) before and the rest after, as in STM."""
    extra_h, extra_w = (-side % STRIDE for side in size)
    return Padding(extra_w // 2, extra_w - extra_w // 2, extra_h // 2, extra_h - extra_h // 2)


def pad_to_stride(x: Tensor) -> tuple[Tensor, Padding]:
    """Zero-pad (..., H, W) to multiples of 16; see `padding_of`."""
    padding = padding_of(x.shape[-2:])
    return F.pad(x, padding), padding


def unpad(x: Tensor, padding: Padding) -> Tensor:
    """Undo `pad_to_stride` on (..., H, W)."""
    height, width = x.shape[-2:]
    return x[..., padding.top : height - padding.bottom, padding.left : width - padding.right]
