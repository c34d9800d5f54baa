"""The Gaussian of a mask is OSMN's; the prior commutes with the read-out."""

import numpy as np
import pytest
import torch

from mgseg.model import reference
from mgseg.model.motion_prior import MotionPrior, gaussian_heatmap
from mgseg.model.network import ModelConfig, MotionGuidedSTM, QueryFeatures

pytestmark = pytest.mark.numeric


def slow_heatmap(mask: np.ndarray) -> np.ndarray:
    """OSMN's formula with NumPy's medians, at the centres of the 16 x 16 cells."""
    ys, xs = np.nonzero(mask)
    cells = [np.arange(length // 16) * 16 + 7.5 for length in mask.shape]
    if len(ys) == 0:
        return np.ones([len(c) for c in cells])
    z = []
    for places, centres in ((ys, cells[0]), (xs, cells[1])):
        middle = np.median(places)
        sigma = max(1.4826 * np.median(np.abs(places - middle)), 5)
        z.append((centres - middle) / sigma)
    return np.exp(-0.5 * (z[0][:, None] ** 2 + z[1][None] ** 2))


@pytest.mark.parametrize("density", [0.0, 0.0005, 0.01, 0.3, 1.0])
def test_heatmap_equals_numpy_medians(density):
    rng = np.random.default_rng(7)
    masks = rng.random((2, 3, 64, 112)) < density
    masks[0, 0] = False
    masks[0, 0, 5:9, 100:103] = True  # smaller than the least sigma
    heat = gaussian_heatmap(torch.from_numpy(masks))
    expected = np.stack([[slow_heatmap(m) for m in sample] for sample in masks])
    np.testing.assert_allclose(heat.numpy(), expected, rtol=0, atol=1e-5)


def test_heatmap_is_one_everywhere_for_an_empty_mask():
    assert (gaussian_heatmap(torch.zeros(1, 2, 32, 32)) == 1).all()


def test_jitter_stays_within_osmn_s_bounds_and_is_off_outside_training():
    mask = torch.zeros(1, 1, 160, 160)
    mask[..., 40:120, 40:120] = 1
    still = gaussian_heatmap(mask)
    torch.manual_seed(3)
    moved = torch.cat([gaussian_heatmap(mask, jitter=True) for _ in range(50)])
    sigma = 1.4826 * 20
    centres = (torch.arange(10) * 16 + 7.5 - 79.5).abs()
    z = (centres + 0.2 * sigma) / (sigma / 1.4)
    lowest = torch.exp(-0.5 * (z[:, None] ** 2 + z[None] ** 2))
    assert (moved >= lowest - 1e-6).all()
    assert (moved - still).abs().max() > 0.05
    prior = MotionPrior(4).eval()
    prior.jitter = True
    of_key = prior.of_key(torch.rand(1, 4, 10, 10))
    assert torch.equal(prior(of_key, mask), prior(of_key, mask))


def test_prior_is_w_times_gauss_plus_b_of_one_convolution():
    torch.manual_seed(0)
    prior = MotionPrior(6).double()
    key, masks = torch.rand(2, 6, 4, 5).double(), torch.rand(2, 3, 64, 80) > 0.5
    heat = gaussian_heatmap(masks).double()
    result = prior(prior.of_key(key), masks)
    assert result.shape == (2, 3, 1, 4, 5)
    for i in range(3):
        w, b = prior.conv(torch.cat((key, heat[:, i : i + 1]), dim=1)).sigmoid().unbind(1)
        torch.testing.assert_close(result[:, i, 0], w * heat[:, i] + b, rtol=0, atol=1e-12)
    assert (result > 0).all()
    assert (result < 2).all()


@torch.inference_mode()
def test_weighing_the_read_out_equals_weighing_the_map():
    torch.manual_seed(1)
    model = MotionGuidedSTM(ModelConfig(trunk="mobilenet_v2", key_dim=8, value_dim=12, decoder_dim=6)).double().eval()
    key, previous = torch.rand(1, 8, 4, 6).double(), (torch.rand(1, 1, 64, 96) > 0.6).double()
    keys, values = torch.rand(1, 1, 8, 3 * 24).double() * 9, torch.rand(1, 1, 12, 3 * 24).double()
    ours = model.read(QueryFeatures(key, model.motion_prior.of_key(key), None), keys, values, previous)
    plain = reference.read(
        model, key, keys[0, 0].unflatten(-1, (3, 4, 6)), values[0, 0].unflatten(-1, (3, 4, 6)), previous[0, 0]
    )
    torch.testing.assert_close(ours[0], plain, rtol=0, atol=1e-12)
