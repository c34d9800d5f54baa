"""Losses over logits of background and objects: pure functions, one number a sample, 255 ignored.

Each sample has its own mean, so the mean over a batch does not depend on how it is cut into processes.
"""

import torch
from torch import Tensor
from torch.nn import functional

from mgseg.files.masks import VOID


def cross_entropy(logits: Tensor, target: Tensor, keep: float = 1.0) -> Tensor:
    """Average the cross-entropy over the pixels of each sample, or over its hardest ones (bootstrapping).

    Args:
        logits: (B, N+1, H, W), background first.
        target: (B, H, W) integers 0..N; 255 is void: ignored.
        keep: the share of each sample's pixels that counts, the largest losses first; 1 for all.

    Returns:
        (B,) float32; 0 for a sample whose pixels are all ignored.
    """
    losses = functional.cross_entropy(logits.float(), target.long(), ignore_index=VOID, reduction="none")
    losses = losses.flatten(1)
    count = (target != VOID).flatten(1).sum(1)
    if keep < 1:
        hardest = max(1, int(keep * losses.shape[1]))
        losses = losses.topk(hardest, dim=1, sorted=False).values
        count = count.clamp(max=hardest)
    return losses.sum(1) / count.clamp(min=1)


def soft_jaccard(logits: Tensor, target: Tensor) -> Tensor:
    """One minus the soft Jaccard index, averaged over the objects that the target of a sample shows.

    The Jaccard index with probabilities p in place of a hard mask t: sum(p t) / sum(p + t - p t).

    Args:
        logits: (B, N+1, H, W), background first.
        target: (B, H, W) integers 0..N; 255 is void: ignored.

    Returns:
        (B,) float32 in [0, 1]; 0 for a sample that shows no object.
    """
    known = (target != VOID).unsqueeze(1)
    prob = logits.float().softmax(1)[:, 1:] * known  # (B, N, H, W)
    truth = objects_of(target, prob.shape[1])
    intersection = (prob * truth).sum((2, 3))  # (B, N)
    area = truth.sum((2, 3))
    union = prob.sum((2, 3)) + area - intersection
    shown = (area > 0).float()
    smooth = 1.0  # one pixel: tiny objects do not make the gradient explode
    loss = (1 - (intersection + smooth) / (union + smooth)) * shown
    return loss.sum(1) / shown.sum(1).clamp(min=1)


def objects_of(mask: Tensor, num_objects: int) -> Tensor:
    """Split an index map into one plane an object.

    Args:
        mask: (B, H, W) integers; 0 background, 255 void: both are in no plane.

    Returns:
        (B, N, H, W) float32, 0 or 1.
    """
    slots = torch.arange(1, num_objects + 1, device=mask.device).view(1, -1, 1, 1)
    return (mask.unsqueeze(1) == slots).float()


def mean_iou(prediction: Tensor, target: Tensor, num_objects: int) -> Tensor:
    """The Jaccard index of a mask, averaged over the objects that the targets show.

    Args:
        prediction: (B, H, W) integers 0..N.
        target: (B, H, W) integers 0..N; 255 is void: ignored.
        num_objects: N.

    Returns:
        a scalar; 1 where no object is shown.
    """
    predicted = objects_of(prediction.masked_fill(target == VOID, VOID), num_objects)
    truth = objects_of(target, num_objects)
    intersection = (predicted * truth).sum((2, 3))
    union = torch.maximum(predicted, truth).sum((2, 3))
    shown = truth.sum((2, 3)) > 0
    iou = torch.where(shown, intersection / union.clamp(min=1), 0.0)
    return torch.where(shown.any(), iou.sum() / shown.sum().clamp(min=1), 1.0)
