"""Losses against loops, and what they must not depend on."""

import math

import pytest
import torch
from torch import Tensor

from mgseg.segment.scaling import arg_max
from mgseg.training.losses import cross_entropy, mean_iou, objects_of, soft_jaccard

pytestmark = pytest.mark.numeric


def example(batch: int = 3, num_objects: int = 2, size: int = 6) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    logits = 2 * torch.randn(batch, num_objects + 1, size, size, generator=generator)
    target = torch.randint(0, num_objects + 1, (batch, size, size), generator=generator).to(torch.uint8)
    target[:, :2, :3] = 255
    return logits, target


def pixel_losses(logits: Tensor, target: Tensor) -> list[float]:
    """Of one sample: minus the logarithm of the right class's probability, wherever it is known."""
    prob = logits.softmax(0)
    known = [(y, x) for y in range(target.shape[0]) for x in range(target.shape[1]) if target[y, x] != 255]
    return [-math.log(float(prob[int(target[y, x]), y, x])) for y, x in known]


@pytest.mark.parametrize("keep", [1.0, 0.5, 0.1])
def test_cross_entropy_is_the_mean_of_the_hardest_known_pixels(keep: float) -> None:
    logits, target = example()
    losses = cross_entropy(logits, target, keep)
    for sample, loss in enumerate(losses):
        expected = sorted(pixel_losses(logits[sample], target[sample]), reverse=True)[: max(1, int(keep * 36))]
        assert float(loss) == pytest.approx(sum(expected) / len(expected), rel=1e-5)


def test_soft_jaccard_of_hard_masks_is_one_minus_intersection_over_union() -> None:
    target = torch.zeros(1, 40, 40, dtype=torch.uint8)
    target[:, :20] = 1
    predicted = torch.zeros(1, 40, 40, dtype=torch.long)
    predicted[:, 10:30] = 1
    logits = 100 * torch.nn.functional.one_hot(predicted, 2).permute(0, 3, 1, 2).float()
    assert float(soft_jaccard(logits, target)) == pytest.approx(1 - 1 / 3, abs=1e-3)
    target[:, 20:] = 255  # what was predicted there is no mistake any more
    assert float(soft_jaccard(logits, target)) == pytest.approx(1 / 2, abs=2e-3)


def test_soft_jaccard_leaves_out_objects_that_are_not_shown() -> None:
    target = torch.ones(1, 8, 8, dtype=torch.uint8)
    logits = torch.full((1, 3, 8, 8), -100.0)
    logits[:, 1] = 100
    assert float(soft_jaccard(logits, target)) == pytest.approx(0, abs=1e-5)
    assert float(soft_jaccard(logits, torch.zeros_like(target))) == 0


@pytest.mark.parametrize("loss", [lambda x, y: cross_entropy(x, y, 0.3), soft_jaccard])
def test_a_sample_of_ignored_pixels_has_neither_loss_nor_gradient(loss: object) -> None:
    logits, target = example()
    logits.requires_grad_()
    target[1] = 255
    values = loss(logits, target)  # type: ignore[operator]
    values.sum().backward()
    assert float(values.detach()[1]) == 0
    assert logits.grad is not None
    assert float(logits.grad[1].abs().max()) == 0
    assert float(logits.grad[0].abs().max()) > 0


@pytest.mark.parametrize("loss", [cross_entropy, lambda x, y: cross_entropy(x, y, 0.3), soft_jaccard])
def test_each_sample_counts_by_itself(loss: object) -> None:
    logits, target = example()
    whole = loss(logits, target)  # type: ignore[operator]
    parts = [loss(logits[i : i + 1], target[i : i + 1]) for i in range(3)]  # type: ignore[operator]
    torch.testing.assert_close(whole, torch.cat(parts))


def test_objects_have_a_plane_each_and_ignored_pixels_are_in_none() -> None:
    mask = torch.tensor([[[0, 1, 2, 255]]], dtype=torch.uint8)
    assert objects_of(mask, 3).tolist() == [[[[0, 1, 0, 0]], [[0, 0, 1, 0]], [[0, 0, 0, 0]]]]


def test_mean_iou_is_of_the_objects_that_are_shown() -> None:
    target = torch.tensor([[[1, 1, 0, 255]], [[2, 2, 2, 0]]], dtype=torch.uint8)
    predicted = torch.tensor([[[1, 0, 1, 1]], [[2, 2, 0, 0]]])
    assert float(mean_iou(predicted, target, 2)) == pytest.approx((1 / 3 + 2 / 3) / 2)
    assert float(mean_iou(predicted, torch.zeros_like(target), 2)) == 1


def test_arg_max_is_torchs() -> None:
    logits, _ = example(num_objects=3)
    logits[0] = 0
    assert torch.equal(arg_max(logits).long(), logits.argmax(1))
