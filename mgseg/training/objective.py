"""Training objective: segments a batch of short clips, or a whole video, as in the test, and computes the loss."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mgseg.data.scene import ClipBatch
from mgseg.files.masks import VOID
from mgseg.model.memory import MemoryBank
from mgseg.model.network import MotionGuidedSTM, pad_to_stride, unpad
from mgseg.segment.options import SegmenterOptions
from mgseg.segment.scaling import arg_max
from mgseg.training.losses import cross_entropy, mean_iou, objects_of, soft_jaccard

VideoFrame = tuple[NDArray[np.uint8], NDArray[np.uint8]]  # frame (H, W, 3) RGB, mask (H, W)


@dataclass(frozen=True)
class Outcome:
    """Result for a batch of clips, or for one frame of a video.

    Attributes:
        loss: scalar, with its graph.
        iou: scalar, without.
        prediction: (B, H, W) integers 0..N, arg-max of the (last) frame.
    """

    loss: Tensor
    iou: Tensor
    prediction: Tensor


def frame_loss(logits: Tensor, target: Tensor, keep: float, jaccard: float) -> Tensor:
    """The loss of one frame, averaged over the samples: cross-entropy + `jaccard` * soft Jaccard."""
    loss = cross_entropy(logits, target, keep)
    if jaccard:
        loss = loss + jaccard * soft_jaccard(logits, target)
    return loss.mean()


def clip_outcome(model: MotionGuidedSTM, batch: ClipBatch, keep: float, jaccard: float) -> Outcome:
    """Segment a batch of clips frame by frame and take the loss of each predicted frame.

    Frame 0 is memorised with the mask that is given, every later one with the soft prediction, gradients included
    (STM, section 3.4).

    Args:
        model: in training mode.
        batch: batch of two frames or more.
        keep: share of the pixels in the cross-entropy.
        jaccard: weight of the soft Jaccard loss.
    """
    masks = previous = objects_of(batch.given, batch.num_objects)  # (B, N, H, W)
    keys: list[Tensor] = []
    values: list[Tensor] = []
    losses, ious = [], []
    for t in range(1, batch.images.shape[1]):
        key, value = model.encode_memory(batch.images[:, t - 1], masks)
        keys.append(key.flatten(3))  # (B, N, Ck, h * w)
        values.append(value.flatten(3))
        logits = model.segment(batch.images[:, t], torch.cat(keys, 3), torch.cat(values, 3), previous)
        target = batch.masks[:, t]
        losses.append(frame_loss(logits, target, keep, jaccard))
        prediction = arg_max(logits.detach())
        ious.append(mean_iou(prediction, target, batch.num_objects))
        masks = logits.softmax(1)[:, 1:]
        previous = objects_of(prediction, batch.num_objects)
    return Outcome(torch.stack(losses).mean(), torch.stack(ious).mean(), prediction)


class VideoPass:
    """One pass over a video, frame by frame; the graph of only one frame is held.

    Memory is as at test time: first frame, every n-th, the previous one, with the network's own detached predictions.
    The previous frame is encoded in the graph of the frame that first reads it, so that the memory encoder learns;
    once that frame's loss has been gone back through, it is cut off (the paper, section 2.2, leaves this open).

    Args:
        model: in training mode.
        frame, mask: the first frame and the objects to follow; later ones are background.
        device: device of the model.
        keep: share of the pixels in the cross-entropy.
        jaccard: weight of the soft Jaccard loss.
    """

    def __init__(
        self,
        model: MotionGuidedSTM,
        frame: NDArray[np.uint8],
        mask: NDArray[np.uint8],
        device: torch.device,
        keep: float,
        jaccard: float,
    ) -> None:
        rule = SegmenterOptions()
        self.model, self.device = model, device
        self.keep, self.jaccard = keep, jaccard
        self.ids = [int(i) for i in np.unique(mask) if i not in (0, VOID)]
        self._bank = MemoryBank(rule.memory_every, rule.memory_size)
        self._number = 0
        self._image = self._to_image(frame)
        self._masks = pad_to_stride(objects_of(self.to_slots(mask), len(self.ids)))[0]  # (1, N, h, w)
        self._previous = self._masks

    def step(self, frame: NDArray[np.uint8], mask: NDArray[np.uint8]) -> Outcome:
        """Segment the next frame; go back through its loss before the next call."""
        if self._number:
            self._bank.detach()
        key, value = self.model.encode_memory(self._image, self._masks)  # (1, N, C, h, w)
        self._bank.add(self._number, key[0], value[0], given=self._number == 0)
        keys, values = self._bank.read_views()  # (N, C, L)
        self._number += 1
        self._image = self._to_image(frame)
        padded = self.model.segment(self._image, keys[None], values[None], self._previous)
        _, padding = pad_to_stride(torch.empty(frame.shape[:2], device="meta"))
        logits, target = unpad(padded, padding), self.to_slots(mask)
        loss = frame_loss(logits, target, self.keep, self.jaccard)
        prediction = arg_max(logits.detach())
        self._masks = pad_to_stride(logits.detach().softmax(1)[:, 1:])[0]
        self._previous = pad_to_stride(objects_of(prediction, len(self.ids)))[0]
        return Outcome(loss, mean_iou(prediction, target, len(self.ids)), prediction)

    def _to_image(self, frame: NDArray[np.uint8]) -> Tensor:
        image = torch.tensor(frame, device=self.device).permute(2, 0, 1).unsqueeze(0).float() / 255
        return pad_to_stride(image)[0]

    def to_slots(self, mask: NDArray[np.uint8]) -> Tensor:
        """Map (H, W) of ids to one of slots, (1, H, W); 255 stays, what is not followed is background."""
        table = np.zeros(256, np.uint8)
        table[self.ids] = range(1, len(self.ids) + 1)
        table[VOID] = VOID
        return torch.tensor(table[mask], device=self.device).unsqueeze(0)


def shows_object(mask: NDArray[np.uint8]) -> bool:
    """Whether an index map has more than background and 255."""
    return bool(((mask > 0) & (mask < VOID)).any())
