"""What a short clip and a whole video are trained on: forward passes in the order of the test, and their loss."""

from dataclasses import dataclass

import torch
from torch import Tensor

from mgseg.data.scene import ClipBatch
from mgseg.model.network import MotionGuidedSTM
from mgseg.training.losses import cross_entropy, mean_iou, objects_of, soft_jaccard


@dataclass(frozen=True)
class Outcome:
    """Of one clip batch: the loss to go back through, the training IoU, the arg-max masks of its last frame.

    Attributes:
        loss: scalar, with its graph.
        iou: scalar, of all predicted frames.
        prediction: (B, H, W) integers 0..N, of the last frame.
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

    Frame 0 is memorised with its ground truth, every later one with the soft prediction, gradients included
    (STM, section 3.4).

    Args:
        model: in training mode.
        batch: of two frames or more.
        keep: share of the pixels in the cross-entropy.
        jaccard: weight of the soft Jaccard loss.
    """
    num_frames = batch.images.shape[1]
    masks = previous = objects_of(batch.masks[:, 0], batch.num_objects)  # (B, N, H, W)
    keys: list[Tensor] = []
    values: list[Tensor] = []
    losses, ious = [], []
    for t in range(1, num_frames):
        key, value = model.encode_memory(batch.images[:, t - 1], masks)
        keys.append(key.flatten(3))  # (B, N, Ck, h * w)
        values.append(value.flatten(3))
        logits = model.segment(batch.images[:, t], torch.cat(keys, 3), torch.cat(values, 3), previous)
        target = batch.masks[:, t]
        losses.append(frame_loss(logits, target, keep, jaccard))
        ious.append(mean_iou(logits, target))
        prediction = logits.detach().argmax(1)
        masks = logits.softmax(1)[:, 1:]
        previous = objects_of(prediction, batch.num_objects)
    return Outcome(torch.stack(losses).mean(), torch.stack(ious).mean(), prediction)
