"""What a drawn training clip is (layers and every random number) and how it becomes tensors.

Drawing is NumPy's work on the CPU (`stills`, `clips`, `transforms`); rendering is torch operations only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

UInt8Array = NDArray[np.uint8]
FloatArray = NDArray[np.float32]

IGNORE = 255


@dataclass(frozen=True)
class ClipRequest:
    """What a step wants of a source: frames, objects at most, side of the square crop in pixels, maximum skip."""

    num_frames: int
    num_objects: int
    size: int
    max_skip: int


@dataclass(frozen=True)
class Layer:
    """A picture (P = 1) or a clip (P = T) with its warps into the crop.

    Attributes:
        pictures: uint8 (P, h, w, 3) RGB.
        masks: uint8 (P, h, w). Of a full picture: 0 background, slot numbers from 1, 255 ignore. Of a cut-out: 1 where
            it is, 0 where it is transparent.
        grids: float32 (T, G, G, 2), x and y in the source for GxG even points from the first to the last pixel centre
            of the crop; -1 and 1 are the outer edges of the source picture. Between the points it is bilinear.
        slot: None for a full picture; the number that a cut-out has in the result's masks (0: part of the background).
    """

    pictures: UInt8Array
    masks: UInt8Array
    grids: FloatArray
    slot: int | None = None


@dataclass(frozen=True)
class Look:
    """What the camera does to the finished frames.

    Attributes:
        colour: float32 (T, 3, 4), RGB in [0, 1] to RGB: matrix and offset.
        kernels: float32 (T, k, k) blur of each frame, k odd, or None.
        noise: float32 (T, size, size) added to all channels, or None.
    """

    colour: FloatArray
    kernels: FloatArray | None = None
    noise: FloatArray | None = None


@dataclass(frozen=True)
class Scene:
    """One training clip, drawn but not rendered: the full picture first, then cut-outs from back to front."""

    name: str
    layers: tuple[Layer, ...]
    look: Look
    size: int
    num_objects: int


@dataclass
class ClipBatch:
    """Rendered clips.

    Attributes:
        images: float32 (B, T, 3, size, size) in [0, 1].
        masks: uint8 (B, T, size, size): 0 background, 1..num_objects, 255 ignore.
        num_objects: the slots of every sample, at least 1; a slot may be empty.
        names: where each sample comes from.
    """

    images: Tensor
    masks: Tensor
    num_objects: int
    names: list[str]


class ClipSource(Protocol):
    """Anything that training clips can be drawn from."""

    name: str

    def __len__(self) -> int: ...

    def draw(self, rng: np.random.Generator, request: ClipRequest) -> Scene: ...


def render(scenes: Sequence[Scene], device: torch.device | str) -> ClipBatch:
    """Render drawn clips; the result is the same on every device up to rounding.

    An object that the first frame does not show is background in the later ones: nobody could have named it.

    Args:
        scenes: at least one, all of one size and number of frames.
        device: where the warps run and the result lies.
    """
    device = torch.device(device)
    rendered = [_render_scene(scene, device) for scene in scenes]
    num_objects = max(scene.num_objects for scene in scenes)
    masks = torch.stack([labels for _, labels in rendered])
    for slot in range(1, num_objects + 1):
        unseen = ~(masks[:, :1] == slot).flatten(1).any(1)[:, None, None, None]
        masks = masks.masked_fill(unseen & (masks == slot), 0)
    images = torch.stack([frames for frames, _ in rendered])
    return ClipBatch(images, masks, num_objects, [scene.name for scene in scenes])


def _render_scene(scene: Scene, device: torch.device) -> tuple[Tensor, Tensor]:
    frames, labels = _render_full(scene.layers[0], scene.size, device)
    for layer in scene.layers[1:]:
        colour, alpha = _render_cutout(layer, scene.size, device)
        frames = torch.addcmul(colour, frames, 1 - alpha)
        # Whoever gives at least half of a pixel's colour owns it: labels and picture cannot disagree.
        labels = labels.masked_fill(alpha[:, 0] >= 0.5, layer.slot or 0)
    return _apply_look(frames, scene.look, device), labels


def _render_full(layer: Layer, size: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Warp a full picture: float (T, 3, size, size) in 0..255 and uint8 (T, size, size).

    Outside the picture the colours are mirrored, which keeps natural statistics, and the mask is 255: a mirrored
    object is no object, and training it as background would punish a right match.
    """
    grid = _dense_grid(layer, size, device)
    pictures = torch.from_numpy(layer.pictures).to(device).permute(0, 3, 1, 2).float()
    frames = _sample(pictures, grid, "reflection")
    masks = torch.from_numpy(layer.masks).to(device)
    count, height, width = masks.shape
    x = ((grid[..., 0] + 1) * (width / 2)).floor().clamp(0, width - 1).long()
    y = ((grid[..., 1] + 1) * (height / 2)).floor().clamp(0, height - 1).long()
    index = y * width + x
    if count > 1:
        index = index + torch.arange(count, device=device)[:, None, None] * (height * width)
    labels = masks.flatten()[index]
    outside = (grid.abs() > 1).any(-1)
    return frames, labels.masked_fill(outside, IGNORE)


def _render_cutout(layer: Layer, size: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Warp a cut-out: colours multiplied by coverage (T, 3, size, size) in 0..255, and coverage (T, 1, size, size)."""
    grid = _dense_grid(layer, size, device)
    pictures = torch.from_numpy(layer.pictures).to(device).permute(0, 3, 1, 2).float()
    alpha = torch.from_numpy(layer.masks).to(device)[:, None].float()
    sampled = _sample(torch.cat([pictures * alpha, alpha], 1), grid, "zeros")
    return sampled[:, :3], sampled[:, 3:]


def _dense_grid(layer: Layer, size: int, device: torch.device) -> Tensor:
    points = torch.from_numpy(layer.grids).to(device).permute(0, 3, 1, 2)
    dense = F.interpolate(points, (size, size), mode="bilinear", align_corners=True)
    return dense.permute(0, 2, 3, 1)  # (T, size, size, 2)


def _sample(pictures: Tensor, grid: Tensor, padding: str) -> Tensor:
    frames, size = grid.shape[0], grid.shape[1]
    count, channels = pictures.shape[:2]
    # One picture serves all frames: they are sampled as one tall grid, and the picture is never repeated.
    grid = grid.reshape(count, frames // count * size, size, 2)
    sampled = F.grid_sample(pictures, grid, mode="bilinear", padding_mode=padding, align_corners=False)
    tall = sampled.view(count, channels, frames // count, size, size)
    return tall.transpose(1, 2).reshape(frames, channels, size, size)


def _apply_look(frames: Tensor, look: Look, device: torch.device) -> Tensor:
    num_frames, _, height, width = frames.shape
    if look.kernels is not None:
        kernels = torch.from_numpy(look.kernels).to(device).repeat_interleave(3, 0)[:, None]
        pad = kernels.shape[-1] // 2
        padded = F.pad(frames.reshape(1, num_frames * 3, height, width), (pad,) * 4, mode="replicate")
        frames = F.conv2d(padded, kernels, groups=num_frames * 3).view(num_frames, 3, height, width)
    colour = torch.from_numpy(look.colour).to(device)
    flat = torch.baddbmm(colour[:, :, 3:], colour[:, :, :3] / 255, frames.reshape(num_frames, 3, -1))
    frames = flat.view(num_frames, 3, height, width)
    if look.noise is not None:
        frames = frames + torch.from_numpy(look.noise).to(device)[:, None]
    return frames.clamp(0, 1)
