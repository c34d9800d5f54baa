"""The network's view of a clip at one size. It holds nothing of the clip; the Segmenter does.

Shapes: V pictures (1, or 2 with the mirrored one), N objects, H x W the clip, h' x w' the view, h x w the view padded
to multiples of 16.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from mgseg.model.decoder import joint_probabilities
from mgseg.model.memory import MemoryBank
from mgseg.model.motion_prior import STRIDE
from mgseg.model.network import MotionGuidedSTM, Padding, other_objects, pad_to_stride, padding_of
from mgseg.segment.scaling import arg_max, resize


@dataclass(frozen=True)
class View:
    """What the network sees of a clip, and what it makes of it.

    Attributes:
        model: the network.
        size: (h', w').
        flip: see the mirrored clip as well, and average both.
        reference_weight: factor on the weight of given frames in a read of the memory.
    """

    model: MotionGuidedSTM
    size: tuple[int, int]
    flip: bool = False
    reference_weight: float = 1.0

    @property
    def padding(self) -> Padding:
        """Padding of the pictures."""
        return padding_of(self.size)

    def see(self, image: Tensor) -> Tensor:
        """Return a frame, float (1, 3, H, W) in [0, 1], as the network takes it, (V, 3, h, w)."""
        return self._both(pad_to_stride(resize(image, self.size))[0])

    def encode(self, image: Tensor, masks: Tensor, groups: Iterable[slice]) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Encode a frame for the memory, object by object.

        Args:
            image: (V, 3, h, w), from `see`.
            masks: masks of the objects, float (1, N, any size) in [0, 1], soft.
            groups: which objects go through the network together.

        Yields:
            Key (V, Ck, h / 16, w / 16), value (V, Cv, h / 16, w / 16) and the object's share of each cell
            (h / 16, w / 16).
        """
        masks = self._both(pad_to_stride(resize(masks, self.size))[0])
        others, stem = other_objects(masks), self.model.memory_stem(image)
        labels = F.avg_pool2d(masks[0], STRIDE)
        for group in groups:
            keys, values = self.model.encode_memory(image, masks[:, group], others[:, group], stem)
            yield from zip(keys.unbind(1), values.unbind(1), labels[group], strict=True)

    def predict(
        self, image: Tensor, previous: Tensor, banks: Sequence[MemoryBank], groups: Iterable[slice], max_elements: int
    ) -> tuple[Tensor, Tensor]:
        """Segment a frame.

        Args:
            image: (V, 3, h, w), from `see`.
            previous: probabilities of the previous frame, float (1, N + 1, any size), background first.
            banks: memories of the objects.
            groups: which objects go through the network together.
            max_elements: see `read_memory`.

        Returns:
            Probabilities, float (1, N + 1, h, w), background first, and the key of the frame, (Ck, h / 16, w / 16).
        """
        query = self.model.encode_query(image)
        winner = self._both(pad_to_stride(arg_max(previous, self.size)[None])[0])  # (V, 1, h, w)
        logits = []
        for group in groups:
            slots = torch.arange(group.start + 1, group.stop + 1, device=image.device).view(1, -1, 1, 1)
            masks = winner == slots  # (V, n, h, w)
            readouts = []
            for index, bank in enumerate(banks[group]):
                keys, values = (x.unsqueeze(1) for x in bank.read_views())
                mask = masks[:, index : index + 1]
                readouts.append(self.model.read(query, keys, values, mask, max_elements, self._bias(bank)))
            logits.append(self.model.decode(query, torch.cat(readouts, dim=1)))
        prob = joint_probabilities(torch.cat(logits, dim=1))
        return (prob[:1] + prob[1:].flip(-1)) / 2 if self.flip else prob, query.key[0]

    def _bias(self, bank: MemoryBank) -> Tensor | None:
        """Return what is added to the logits of the read, (1, 1, L): a factor on a weight is a term of its logit."""
        return None if self.reference_weight == 1 else math.log(self.reference_weight) * bank.given_positions()

    def _both(self, x: Tensor) -> Tensor:
        """Return (1, ...) as (V, ...): the mirrored one behind, with flip."""
        return torch.cat((x, x.flip(-1))) if self.flip else x
