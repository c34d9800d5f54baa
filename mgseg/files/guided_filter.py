"""The guided filter: moves the soft contour of an object to the edges of the frame that are near it.

He, Sun, Tang, "Guided image filtering", ECCV 2010, with a colour frame as the guide; its coefficients are computed at
the network's size, as in He, Sun, "Fast guided filter", 2015. Radius, smoothing and contrast are what came nearest to
the true masks of DAVIS 2016 train, see docs/mattes.md.
"""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Floats = NDArray[np.float32]

_RADIUS = 4  # pixels of the network: one cell of its finest features
_SMOOTHING = 1e-4  # added to the variance of colours in [0, 1]: how faint an edge still holds the contour
_CONTRAST = 2.0  # undoes the blur across the contour that the filter adds


def follow_edges(alpha: Floats, frame: NDArray[np.uint8], scale: float = 1) -> Floats:
    """Move a contour to the frame's edges.

    Args:
        alpha: float32 (H, W) in [0, 1].
        frame: uint8 (H, W, 3) RGB.
        scale: pixels of the frame for one of the network.

    Returns:
        float32 (H, W) in [0, 1].
    """
    height, width = alpha.shape
    guide = (frame / 255).astype(np.float32)
    size = (max(1, round(width / scale)), max(1, round(height / scale)))  # Pillow's order
    slope, offset = _coefficients(resize(alpha, size), resize(guide, size))
    slope, offset = resize(slope, (width, height)), resize(offset, (width, height))
    filtered = np.einsum("hwc,hwc->hw", slope, guide) + offset
    return np.clip((filtered - 0.5) * _CONTRAST + 0.5, 0, 1).astype(np.float32)


def _coefficients(alpha: Floats, guide: Floats) -> tuple[Floats, Floats]:
    """The linear function of the guide's colours that comes nearest to alpha around each pixel.

    Args:
        alpha: float32 (h, w).
        guide: float32 (h, w, 3).

    Returns:
        its slope, float32 (h, w, 3), and offset, (h, w).
    """
    mean, mean_alpha = box_mean(guide, _RADIUS), box_mean(alpha, _RADIUS)
    x, y, z = np.moveaxis(box_mean(guide * alpha[..., None], _RADIUS) - mean * mean_alpha[..., None], -1, 0)
    pairs = np.stack([guide[..., i] * guide[..., j] for i, j in ((0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2))], -1)
    means = np.stack([mean[..., i] * mean[..., j] for i, j in ((0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2))], -1)
    a, b, c, d, e, f = np.moveaxis(box_mean(pairs, _RADIUS) - means, -1, 0)  # the covariances of the colours
    a, d, f = a + _SMOOTHING, d + _SMOOTHING, f + _SMOOTHING
    # The inverse of the symmetric matrix [[a, b, c], [b, d, e], [c, e, f]] by its cofactors.
    aa, ab, ac, bb, bc, cc = d * f - e * e, c * e - b * f, b * e - c * d, a * f - c * c, b * c - a * e, a * d - b * b
    slope = np.stack([aa * x + ab * y + ac * z, ab * x + bb * y + bc * z, ac * x + bc * y + cc * z], axis=-1)
    slope /= (a * aa + b * ab + c * ac)[..., None]
    offset = mean_alpha - np.einsum("hwc,hwc->hw", slope, mean)
    return box_mean(slope, _RADIUS), box_mean(offset, _RADIUS)


def box_mean(x: Floats, radius: int) -> Floats:
    """The mean over the part of a square of 2 * radius + 1 pixels around each that lies inside; (H, W) or (H, W, C)."""
    for axis in (0, 1):
        length = x.shape[axis]
        places = np.arange(length)
        counts = np.minimum(places + radius, length - 1) - np.maximum(places - radius, 0) + 1
        padding = [(radius, radius) if axis == other else (0, 0) for other in range(x.ndim)]
        sums = np.moveaxis(_window_sums(np.moveaxis(np.pad(x, padding), axis, 0), 2 * radius + 1), 0, axis)
        x = sums / counts.astype(np.float32).reshape(-1, *[1] * (x.ndim - 1 - axis))
    return x


def _window_sums(x: Floats, width: int) -> Floats:
    """The sums of each `width` neighbours along the first axis, put together from sums of 1, 2, 4, ... neighbours."""
    count = len(x) - width + 1
    total, covered = np.zeros_like(x[:count]), 0
    power = 1
    while True:
        if width & power:
            total += x[covered : covered + count]
            covered += power
        if covered == width:
            return total
        x = x[:-power] + x[power:]
        power *= 2


def resize(x: Floats, size: tuple[int, int]) -> Floats:
    """Resize (H, W) or (H, W, C) to (width, height), bilinearly; averaging where it shrinks."""
    if x.shape[1::-1] == size:
        return x
    if x.ndim == 3:
        return np.stack([resize(np.ascontiguousarray(plane), size) for plane in np.moveaxis(x, -1, 0)], axis=-1)
    return np.asarray(Image.fromarray(x).resize(size, Image.Resampling.BILINEAR))
