"""Training clips before rendering (layers and all random numbers), and their rendering to tensors.

Drawing is NumPy's work on the CPU (`stills`, `clips`, `transforms`); rendering is torch operations only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from mgseg.files.masks import VOID

UInt8Array = NDArray[np.uint8]
FloatArray = NDArray[np.float32]
BoolArray = NDArray[np.bool_]

Box = tuple[slice, slice]  # rows, columns

# Share of the first frame that an object needs to be followed: a square of 4 pixels in a crop of 192.
MIN_SEEN = 1 / 2304


@dataclass(frozen=True)
class ClipRequest:
    """What a training step requests: number of frames, most objects, side of the crop in pixels, maximum skip."""

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
    """Camera effects on the finished frames: colour, blur, noise.

    Attributes:
        colour: float32 (T, 3, 4), RGB in [0, 1] to RGB: matrix and offset.
        kernels: float32 (T, k, k) blur of each frame, k odd, or None.
        noise: float32 (T, size, size) added to all channels, or None.
        hidden: bool (T, n, n), cells of the frames that show their frame's mean colour, or None. Their pixels are 255
            in all masks but the first.
    """

    colour: FloatArray
    kernels: FloatArray | None = None
    noise: FloatArray | None = None
    hidden: BoolArray | None = None


@dataclass(frozen=True)
class Scene:
    """One training clip, drawn but not rendered: the full picture first, then cut-outs from back to front.

    Attributes:
        slip: float32 (G, G, 2), how far each part of the mask that is given is off, in crop sides; None: it is right.
    """

    name: str
    layers: tuple[Layer, ...]
    look: Look
    size: int
    num_objects: int
    slip: FloatArray | None = None


@dataclass
class ClipBatch:
    """Rendered clips.

    Attributes:
        images: float32 (B, T, 3, size, size) in [0, 1].
        masks: uint8 (B, T, size, size): 0 background, 1..num_objects, 255 ignore.
        given: uint8 (B, size, size), the first masks as whoever marks the objects gives them: those of `masks`, or a
            little wrong.
        num_objects: the slots of every sample, at least 1; a slot may be empty.
        names: where each sample comes from.
    """

    images: Tensor
    masks: Tensor
    given: Tensor
    num_objects: int
    names: list[str]


def render(scenes: Sequence[Scene], device: torch.device | str) -> ClipBatch:
    """Render drawn clips; the result is the same on every device up to rounding.

    An object that the first frame does not show is background in the later ones: nobody could have named it. One of
    which the first frame shows a sliver (MIN_SEEN) is ignored: too little to follow, and no background either.

    Args:
        scenes: at least one, all of one size and number of frames.
        device: where the warps run and the result lies.
    """
    device = torch.device(device)
    with torch.autocast(device.type, enabled=False):  # coordinates in half precision would be off by pixels
        rendered = [_render_scene(scene, device) for scene in scenes]
    num_objects = max(scene.num_objects for scene in scenes)
    masks = torch.stack([labels for _, labels in rendered])
    for slot in range(1, num_objects + 1):
        owned = masks == slot
        area = owned[:, 0].sum((1, 2))
        label = torch.where(area < MIN_SEEN * scenes[0].size ** 2, VOID, slot).masked_fill(area == 0, 0)
        masks = torch.where(owned, label.to(torch.uint8)[:, None, None, None], masks)
    images = torch.stack([frames for frames, _ in rendered])
    given = torch.stack([_slipped(mask[0], scene) for mask, scene in zip(masks, scenes, strict=True)])
    return ClipBatch(images, masks, given, num_objects, [scene.name for scene in scenes])


def _slipped(mask: Tensor, scene: Scene) -> Tensor:
    """The mask (size, size) that is given in place of the right one."""
    if scene.slip is None:
        return mask
    line = np.linspace(-1, 1, scene.slip.shape[0], dtype=np.float32) * (1 - 1 / scene.size)
    points = np.stack(np.meshgrid(line, line), -1) + 2 * scene.slip
    everywhere = slice(0, scene.size)
    grid = _dense_grid(points[None].astype(np.float32), scene.size, (everywhere, everywhere), mask.device)
    return _sample(mask[None, None].float(), grid, "border", mode="nearest")[0, 0].to(mask.dtype)


def _render_scene(scene: Scene, device: torch.device) -> tuple[Tensor, Tensor]:
    frames, labels = _render_full(scene.layers[0], scene.size, device)
    for layer in scene.layers[1:]:
        box = _visible_box(layer.grids, scene.size)
        if box is None:
            continue
        colour, alpha = _render_cutout(layer, scene.size, box, device)
        part = frames[:, :, box[0], box[1]]
        part.mul_(1 - alpha).add_(colour)
        # A pixel belongs to the layer that gives at least half of its colour, so labels match the picture.
        labels[:, box[0], box[1]].masked_fill_(alpha[:, 0] >= 0.5, layer.slot or 0)
    if scene.look.hidden is not None:
        hidden = F.interpolate(torch.from_numpy(scene.look.hidden).to(device)[:, None].float(), scene.size)[:, 0] > 0
        frames = torch.where(hidden[:, None], frames.mean((2, 3), keepdim=True), frames)
        labels[1:].masked_fill_(hidden[1:], VOID)
    return _apply_look(frames, scene.look, device), labels


def _render_full(layer: Layer, size: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Warp a full picture: float (T, 3, size, size) in 0..255 and uint8 (T, size, size).

    Outside the picture the colours are mirrored, which keeps natural statistics, and the mask is 255: a mirrored
    object is no object, and training it as background would punish a right match.
    """
    grid = _dense_grid(layer.grids, size, (slice(0, size), slice(0, size)), device)
    pictures = torch.from_numpy(layer.pictures).to(device).permute(0, 3, 1, 2).float()
    frames = _sample(pictures, grid, "reflection")
    # Shifted so that ignore is 0, which is what sampling gives outside the picture.
    masks = torch.from_numpy(layer.masks).to(device)[:, None].float() - VOID
    labels = _sample(masks, grid, "zeros", mode="nearest") + VOID
    return frames, labels[:, 0].to(torch.uint8)


def _render_cutout(layer: Layer, size: int, box: Box, device: torch.device) -> tuple[Tensor, Tensor]:
    """Warp a cut-out: colours multiplied by coverage (T, 3, h, w) in 0..255, and coverage (T, 1, h, w), in the box."""
    grid = _dense_grid(layer.grids, size, box, device)
    pictures = torch.from_numpy(layer.pictures).to(device).permute(0, 3, 1, 2)
    alpha = torch.from_numpy(layer.masks).to(device)[:, None]
    sampled = _sample(torch.cat([pictures * alpha, alpha], 1).float(), grid, "zeros")
    return sampled[:, :3], sampled[:, 3:]


def _visible_box(grids: FloatArray, size: int) -> Box | None:
    """Rows and columns of the crop outside which a layer is not seen in any frame; None where it is never seen."""
    corners = [grids[:, i : i - 1 or None, j : j - 1 or None] for i in (0, 1) for j in (0, 1)]
    low, high = np.minimum.reduce(corners), np.maximum.reduce(corners)  # bilinear stays between its corners
    # Interpolation shows a cut-out up to half a pixel outside its source: 0.1 from ten pixels of width on.
    seen = ((low < 1.1) & (high > -1.1)).all(-1).any(0)
    rows, columns = np.flatnonzero(seen.any(1)), np.flatnonzero(seen.any(0))
    if len(rows) == 0:
        return None
    step = (size - 1) / (grids.shape[1] - 1)
    return (
        slice(int(rows[0] * step), min(size, int((rows[-1] + 1) * step) + 2)),
        slice(int(columns[0] * step), min(size, int((columns[-1] + 1) * step) + 2)),
    )


def _dense_grid(grids: FloatArray, size: int, box: Box, device: torch.device) -> Tensor:
    """Interpolate a coarse grid at the box's pixels: (T, h, w, 2)."""
    # TF32 products on a GPU would be wrong by whole pixels, so double precision there.
    dtype = torch.float64 if device.type == "cuda" else torch.float32
    points = torch.from_numpy(grids).to(device, dtype).permute(0, 3, 1, 2)  # (T, 2, G, G)
    rows, columns = (_hat_weights(span, size, grids.shape[1], device).to(dtype) for span in box)
    dense = rows @ (points @ columns.T)
    return dense.float().permute(0, 2, 3, 1)


def _hat_weights(span: slice, size: int, num_points: int, device: torch.device) -> Tensor:
    """Weights of linear interpolation: (pixels of the span, points)."""
    position = torch.arange(span.start, span.stop, device=device) * ((num_points - 1) / (size - 1))
    return (1 - (position[:, None] - torch.arange(num_points, device=device)).abs()).clamp(min=0)


def _sample(pictures: Tensor, grid: Tensor, padding: str, mode: str = "bilinear") -> Tensor:
    frames, height, width = grid.shape[:3]
    count, channels = pictures.shape[:2]
    # One picture serves all frames: they are sampled as one tall grid, and the picture is never repeated.
    grid = grid.reshape(count, frames // count * height, width, 2)
    sampled = F.grid_sample(pictures, grid, mode=mode, padding_mode=padding, align_corners=False)
    tall = sampled.view(count, channels, frames // count, height, width)
    return tall.transpose(1, 2).reshape(frames, channels, height, width)


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
