"""Plain form of the network and the clip loop, as published; the faster implementations are compared with it.

Every object goes through the whole of every part; the memory is padded to the most objects there may be and
concatenated anew each frame; the correlation map is stored whole and the prior multiplied onto it. That is how the
paper describes it and STM was published. Same modules, same weights. Used by tests and the benchmark, never to segment.

Shapes: N objects, H x W the input (multiples of 16), h x w = H / 16 x W / 16, T memory frames. One clip: B = 1.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from mgseg.model.decoder import EPSILON, Refinement
from mgseg.model.motion_prior import gaussian_heatmap
from mgseg.model.network import MotionGuidedSTM

STM_MAX_OBJECTS = 11  # to which STM pads its memory


def encode_memory(model: MotionGuidedSTM, image: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
    """Encode each object by itself: image (1, 3, H, W), masks (N, H, W) -> (N, Ck, h, w), (N, Cv, h, w)."""
    encoder = model.memory_encoder
    keys, values = [], []
    for slot in range(len(masks)):
        mask = masks[slot][None, None]
        rest = torch.cat((masks[:slot], masks[slot + 1 :])).sum(0).clamp(0, 1)[None, None]
        picture = encoder.trunk.stem((image - model.mean) / model.std)
        stem = picture + encoder.conv_mask(mask) + encoder.conv_others(rest)
        key, value = model.memory_key_value(encoder.trunk(encoder.trunk.after_stem(stem)).feat16)
        keys.append(key)
        values.append(value)
    return torch.cat(keys), torch.cat(values)


def read(model: MotionGuidedSTM, query_key: Tensor, keys: Tensor, values: Tensor, previous: Tensor) -> Tensor:
    """Read one object's memory with the whole map in store.

    Args:
        query_key: (1, Ck, h, w).
        keys: (Ck, T, h, w); values: (Cv, T, h, w).
        previous: the object's hard mask on the previous frame, (H, W).

    Returns:
        (1, Cv, h, w).
    """
    height, width = query_key.shape[-2:]
    correlation = keys.flatten(1).T @ query_key[0].flatten(1) / math.sqrt(len(keys))  # (T * h * w, h * w)
    correlation = correlation.softmax(dim=0)
    if model.motion_prior is not None:
        heat = gaussian_heatmap(previous[None, None])  # (1, 1, h, w)
        weights = model.motion_prior.conv(torch.cat((query_key, heat.to(query_key.dtype)), dim=1)).sigmoid()
        prior = weights[:, :1] * heat + weights[:, 1:]  # W * Gauss(M) + b
        correlation = correlation * prior.reshape(1, -1)
    return (values.flatten(1) @ correlation).view(1, -1, height, width)


def _refine(part: Refinement, feature: Tensor, coarse: Tensor) -> Tensor:
    skip = part.skip_block(part.conv(feature))
    return part.block(skip + F.interpolate(coarse, scale_factor=2, mode="bilinear", align_corners=False))


def segment(model: MotionGuidedSTM, image: Tensor, keys: Tensor, values: Tensor, previous: Tensor) -> Tensor:
    """Segment a frame, object after object.

    Args:
        image: (1, 3, H, W) in [0, 1].
        keys: (N, Ck, T, h, w); values: (N, Cv, T, h, w).
        previous: hard masks of the previous frame (N, H, W).

    Returns:
        Probabilities (N + 1, H, W), background first.
    """
    features = model.query_encoder((image - model.mean) / model.std)
    query_key, query_value = model.query_key_value(features.feat16)
    decoder = model.decoder
    probs = []
    for slot in range(len(previous)):
        readout = read(model, query_key, keys[slot], values[slot], previous[slot])
        x = decoder.block16(decoder.compress(torch.cat((readout, query_value), dim=1)))
        x = _refine(decoder.refine8, features.feat8, x)
        x = _refine(decoder.refine4, features.feat4, x)
        pair = F.interpolate(decoder.predict(F.relu(x)), scale_factor=4, mode="bilinear", align_corners=False)
        probs.append(pair.softmax(dim=1)[:, 1])
    prob = torch.cat(probs)
    prob = torch.cat(((1 - prob).prod(dim=0, keepdim=True), prob)).clamp(EPSILON, 1 - EPSILON)
    return torch.log(prob / (1 - prob)).softmax(dim=0)


class PlainSegmenter:
    """The clip loop of the published STM: frames of one size, a multiple of 16, all objects on the first frame.

    Args:
        model: in evaluation mode.
        memory_every: every how many frames one is kept, beside the first and the previous.
    """

    def __init__(self, model: MotionGuidedSTM, memory_every: int = 5) -> None:
        self.model = model
        self.memory_every = memory_every

    @torch.inference_mode()
    def start(self, image: Tensor, masks: Tensor) -> None:
        """Begin with `image` (1, 3, H, W) in [0, 1] and its hard masks (N, H, W)."""
        self.number, self.image, self.prob = 0, image, torch.cat((1 - masks.sum(0, keepdim=True), masks))
        self.keys = self.values = image.new_empty(0)

    @torch.inference_mode()
    def step(self, image: Tensor) -> Tensor:
        """Return the probabilities (N + 1, H, W) of the next frame."""
        num_objects = len(self.prob) - 1
        keys, values = (self._pad(x).unsqueeze(2) for x in encode_memory(self.model, self.image, self.prob[1:]))
        if self.number:
            keys, values = torch.cat((self.keys, keys), dim=2), torch.cat((self.values, values), dim=2)
        if self.number % self.memory_every == 0:
            self.keys, self.values = keys, values
        winner = self.prob.argmax(0)
        previous = torch.stack([(winner == slot + 1).float() for slot in range(num_objects)])
        self.prob = segment(self.model, image, keys, values, previous)
        self.number, self.image = self.number + 1, image
        return self.prob

    @staticmethod
    def _pad(x: Tensor) -> Tensor:
        """Pad (N, ...) with zeros to the most objects that there may be."""
        return torch.cat((x, x.new_zeros(max(0, STM_MAX_OBJECTS - len(x)), *x.shape[1:])))
