"""Motion-guided prior: a Gaussian of the previous mask, weighted by a function of the key map.

Shapes: B pictures, N objects, H x W the network's input, h x w = H / 16 x W / 16 its key map.
Source: paper, section 2.1 and figure 2 (W * Gauss(M) + b, with W and b from a convolution and a sigmoid); the
Gaussian is that of OSMN (Yang et al., CVPR 2018): robust centre and deviation of the mask's pixels.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

MAD_TO_SIGMA = 1.4826  # median absolute deviation -> standard deviation of a normal distribution
MIN_SIGMA = 5.0  # pixels (OSMN)
STRIDE = 16
JITTER_CENTRE, JITTER_SIGMA = 0.2, 1.4  # OSMN's training: up to 0.2 sigma; factor between 1 / 1.4 and 1.4


def _median(positions: Tensor, counts: Tensor) -> Tensor:
    """Return the median of sorted `positions` (..., L), each of which occurs `counts` (..., L) times: (...,).

    As numpy.median: the mean of the two middle values where their number is even. No synchronisation.
    """
    below = counts.cumsum(-1)
    total = below[..., -1:]
    middle = [torch.div(total + 1, 2, rounding_mode="floor"), torch.div(total, 2, rounding_mode="floor") + 1]
    last = counts.shape[-1] - 1
    places = [(below < rank).sum(-1, keepdim=True).clamp(max=last) for rank in middle]
    return (positions.gather(-1, places[0]) + positions.gather(-1, places[1])).squeeze(-1) / 2


def robust_moments(counts: Tensor) -> tuple[Tensor, Tensor]:
    """Return centre and sigma along one axis from the mask's histogram on that axis.

    Args:
        counts: float (B, N, L), the mask's pixels at each of L positions.

    Returns:
        Median and max(1.4826 * median absolute deviation, 5), float (B, N), in pixels.
    """
    positions = torch.arange(counts.shape[-1], device=counts.device, dtype=counts.dtype).expand_as(counts)
    centre = _median(positions, counts)
    distances, order = (positions - centre.unsqueeze(-1)).abs().sort(dim=-1)
    deviation = _median(distances, counts.gather(-1, order))
    return centre, (MAD_TO_SIGMA * deviation).clamp(min=MIN_SIGMA)


def _jittered(centre: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
    shift = (torch.rand_like(centre) * 2 - 1) * JITTER_CENTRE
    scale = JITTER_SIGMA ** (torch.rand_like(sigma) * 2 - 1)
    return centre + shift * sigma, sigma * scale


def gaussian_heatmap(masks: Tensor, jitter: bool = False) -> Tensor:
    """Return the Gaussian of each mask at the centres of the stride-16 cells.

    Args:
        masks: hard masks of 0 and 1, any dtype, (B, N, H, W).
        jitter: move and scale each Gaussian at random, as OSMN does in training.

    Returns:
        float32 (B, N, h, w) in [0, 1]; 1 everywhere for an empty mask (paper, section 2.1).
    """
    masks = masks.float()
    heat = masks.new_ones(())
    for axis, size in ((-2, masks.shape[-2]), (-1, masks.shape[-1])):
        centre, sigma = robust_moments(masks.sum(-1 if axis == -2 else -2))  # (B, N)
        if jitter:
            centre, sigma = _jittered(centre, sigma)
        cells = torch.arange(size // STRIDE, device=masks.device) * STRIDE + (STRIDE - 1) / 2
        z = (cells - centre.unsqueeze(-1)) / sigma.unsqueeze(-1)  # (B, N, h) or (B, N, w)
        heat = heat * torch.exp(-0.5 * z * z).unsqueeze(-1 if axis == -2 else -2)
    empty = masks.amax((-2, -1), keepdim=True) == 0
    return torch.where(empty, torch.ones_like(heat), heat)


class MotionPrior(nn.Module):
    """W * Gauss(M) + b: one weight in (0, 2) for each query position and object."""

    def __init__(self, key_dim: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(key_dim + 1, 2, 3, padding=1)
        self.jitter = False  # in training mode only; the training stage says whether

    def of_key(self, key: Tensor) -> Tensor:
        """Return the key's part of the convolution, which is linear: once a frame, for all of its objects.

        Args:
            key: float (B, C, h, w), the current frame's key.

        Returns:
            float (B, 2, h, w).
        """
        return F.conv2d(key, self.conv.weight[:, :-1], self.conv.bias, padding=1)

    def forward(self, of_key: Tensor, masks: Tensor) -> Tensor:
        """Compute the prior.

        Args:
            of_key: float (B, 2, h, w), of the current frame.
            masks: hard masks of the previous frame, (B, N, H, W).

        Returns:
            float (B, N, 1, h, w).
        """
        heat = gaussian_heatmap(masks, jitter=self.jitter and self.training).to(of_key.dtype)
        planes = heat.flatten(0, 1).unsqueeze(1)
        of_heat = F.conv2d(planes, self.conv.weight[:, -1:], padding=1)  # (B * N, 2, h, w)
        logits = of_key.unsqueeze(1) + of_heat.unflatten(0, heat.shape[:2])  # (B, N, 2, h, w)
        w, b = logits.sigmoid().split(1, dim=2)
        return w * heat.unsqueeze(2) + b
