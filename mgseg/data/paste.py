"""Composition of training scenes: a crop of a picture or clip, with objects of other pictures pasted over it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mgseg.data.attach import attach, split
from mgseg.data.cutout import Cutout, Donor, cut_out
from mgseg.data.scene import ClipRequest, FloatArray, Layer, Scene, UInt8Array
from mgseg.data.transforms import Augmentation, draw_elastic, draw_look, draw_poses, draw_slip, warp_grids
from mgseg.files.masks import VOID

# Crop pixels per source pixel, at most, where the picture is large enough for the crop.
MAX_ENLARGEMENT = 1.6


def compose(
    rng: np.random.Generator,
    request: ClipRequest,
    options: Augmentation,
    donors: Sequence[Donor],
    *,
    name: str,
    pictures: Sequence[UInt8Array],
    masks: Sequence[UInt8Array],
    objects: Sequence[int],
) -> Scene:
    """Compose a scene from a picture or clip, some of its objects, and randomly pasted objects.

    Args:
        pictures: P of uint8 (h, w, 3), P = 1 or the request's frames, all of one size; masks: P of uint8 (h, w).
        objects: ids in the masks that may become targets, each visible in the first mask; the others
            become background, as at test time what nobody marked.
    """
    slots = request.num_objects
    some = int(rng.integers(1, slots + 1))
    targets = rng.permutation(np.asarray(objects))[: some if options.choose else slots]
    window = _draw_window(rng, masks[0], int(targets[0]), request.size, options.resize)
    dice = rng.random(3 + slots)
    num_objects = len(targets)
    if slots > 1 and options.nested and rng.random() < options.nested:
        targets = targets[: slots - 1]
        masks, num_objects = [_relabel(mask, targets) for mask in masks], len(targets) + 1
        pictures, masks = _nest(rng, pictures, masks, num_objects, donors)
        targets = np.arange(1, num_objects + 1)
    pasted = list(range(num_objects + 1, slots + 1)) if donors else []
    pasted = [slot for slot in pasted if dice[2 + slot] < options.paste]
    if donors and dice[0] < options.replace:
        targets, pasted = targets[:0], pasted or [1]
    full = _full_layer(rng, request, options, pictures, masks, window)
    full = replace(full, masks=_relabel(full.masks, targets))
    last = None
    if options.twin and len(targets) and (masks[0] == targets[0]).any():  # what sits on it may hide it
        last = _Pasted(cut_out(pictures[0], masks[0], int(targets[0])), *_in_crop(window, request))
    cutouts = []
    for slot in pasted:
        twin = last if options.twin and rng.random() < options.twin else None
        last = _draw_pasted(rng, request, donors, twin)
        cutouts.append(_paste(rng, request, options, last, slot))
    if donors and dice[1] < options.occluder:
        at = int(rng.integers(len(cutouts) + 1))
        cutouts.insert(at, _paste(rng, request, options, _draw_pasted(rng, request, donors), 0))
    if cutouts and dice[2] < options.behind:
        front = [_front_layer(full, slot) for slot in range(1, len(targets) + 1)]
        at = int(rng.integers(len(cutouts)))
        cutouts[at + 1 : at + 1] = front
    look = draw_look(rng, request.num_frames, request.size, options)
    return Scene(name, (full, *cutouts), look, request.size, slots, draw_slip(rng, options))


def _nest(
    rng: np.random.Generator,
    pictures: Sequence[UInt8Array],
    masks: Sequence[UInt8Array],
    slot: int,
    donors: Sequence[Donor],
) -> tuple[Sequence[UInt8Array], Sequence[UInt8Array]]:
    """Put an object on one of the objects 1..slot - 1, or make a part of it one; a part of a video cannot be told."""
    carrier = int(rng.integers(1, slot))
    if len(masks) == 1 and (not donors or rng.random() < 1 / 3):
        return pictures, [split(rng, masks[0], carrier, slot)]
    if not donors:
        return pictures, masks
    cutout = donors[int(rng.integers(len(donors)))].draw_cutout(rng)
    return attach(rng, pictures, masks, carrier, cutout, slot)


@dataclass(frozen=True)
class _Window:
    """Square crop of a picture, in its pixels: upper left corner, side, a point on the object, the object's extent."""

    left: float
    top: float
    side: float
    point: tuple[float, float]
    extent: float


def _draw_window(rng: np.random.Generator, mask: UInt8Array, target: int, size: int, resize: int) -> _Window:
    height, width = mask.shape
    shorter = min(height, width)
    pixels = np.flatnonzero(mask.ravel() == target)
    extent = float(np.sqrt(len(pixels)))
    # Neither all object nor hardly any, and not enlarged to a blur, as far as the picture allows it.
    smallest = min(shorter, max(shorter * size / max(resize, size), size / MAX_ENLARGEMENT, 1.3 * extent))
    largest = max(smallest, min(shorter, 14 * extent))
    side = float(np.exp(rng.uniform(np.log(smallest), np.log(largest))))
    y, x = divmod(int(pixels[rng.integers(len(pixels))]), width)
    # A random pixel of the object lies in the middle three fifths, as far as the picture's edge lets it.
    left, top = np.array([x, y]) + 0.5 - side * rng.uniform(0.2, 0.8, 2)
    left, top = float(np.clip(left, 0, width - side)), float(np.clip(top, 0, height - side))
    return _Window(left, top, side, (x + 0.5, y + 0.5), extent)


def _full_layer(
    rng: np.random.Generator,
    request: ClipRequest,
    options: Augmentation,
    pictures: Sequence[UInt8Array],
    masks: Sequence[UInt8Array],
    window: _Window,
) -> Layer:
    scale = window.side / request.size
    x, y = (window.point[0] - window.left) / scale, (window.point[1] - window.top) / scale
    flip = bool(rng.random() < options.flip)
    grids = warp_grids(
        draw_poses(rng, request.num_frames, options.start, options.step),
        draw_elastic(rng, request.num_frames, options.start.elastic, options.step.elastic),
        size=request.size,
        source=pictures[0].shape[:2],
        pivot=window.point,
        place=(request.size - x if flip else x, y),
        scale=scale,
        flip=flip,
    )
    layer = cut_layer(pictures, masks, grids, scale)
    if rng.random() < options.compress:
        return replace(layer, pictures=_compress(layer.pictures, int(rng.integers(15, 50))))
    return layer


def _compress(pictures: UInt8Array, quality: int) -> UInt8Array:
    """Write and read each picture as JPEG."""
    compressed = np.empty_like(pictures)
    for picture, result in zip(pictures, compressed, strict=True):
        file = BytesIO()
        Image.fromarray(picture).save(file, "JPEG", quality=quality)
        result[:] = np.asarray(Image.open(file))
    return compressed


@dataclass(frozen=True)
class _Pasted:
    """A cut-out over the crop: its longer side and its middle (x, y) in the first frame, in the crop's pixels."""

    cutout: Cutout
    longest: float
    place: tuple[float, float]


def _in_crop(window: _Window, request: ClipRequest) -> tuple[float, tuple[float, float]]:
    """Extent and place of the picture's own object, roughly: where the window's point on it is."""
    scale = request.size / window.side
    return window.extent * scale, ((window.point[0] - window.left) * scale, (window.point[1] - window.top) * scale)


def _draw_pasted(
    rng: np.random.Generator, request: ClipRequest, donors: Sequence[Donor], twin: _Pasted | None = None
) -> _Pasted:
    """Draw an object of another picture, somewhere in the crop; or `twin` again, next to it and as large."""
    if twin:
        angle, distance = rng.uniform(0, 2 * np.pi), rng.uniform(0.5, 1.2) * twin.longest
        x, y = twin.place[0] + distance * np.cos(angle), twin.place[1] + distance * np.sin(angle)
        x, y = (float(np.clip(value, 0.1 * request.size, 0.9 * request.size)) for value in (x, y))
        return replace(twin, longest=twin.longest * float(rng.uniform(0.8, 1.2)), place=(x, y))
    cutout = donors[int(rng.integers(len(donors)))].draw_cutout(rng)
    # Longer side a sixth to two thirds of the crop, but never enlarged more than twice.
    share = float(np.exp(rng.uniform(np.log(1 / 6), np.log(2 / 3))))
    longest = min(share * request.size, 2.0 * max(cutout.mask.shape))
    x, y = rng.uniform(0.1, 0.9, 2) * request.size
    return _Pasted(cutout, longest, (float(x), float(y)))


def _paste(rng: np.random.Generator, request: ClipRequest, options: Augmentation, pasted: _Pasted, slot: int) -> Layer:
    """A cut-out that moves by itself; slot 0 is an occluder without a label."""
    cutout = pasted.cutout
    height, width = cutout.mask.shape
    poses = draw_poses(rng, request.num_frames, options.start, options.paste_step)
    if rng.random() < options.leave and request.num_frames > 2:
        first = int(rng.integers(1, request.num_frames - 1))
        last = int(rng.integers(first, request.num_frames - 1))
        angle = rng.uniform(0, 2 * np.pi)
        # One and a half crop sides away nothing of it is seen.
        poses[first : last + 1, :2] += 1.5 * np.array([np.cos(angle), np.sin(angle)], np.float32)
    scale = max(height, width) / pasted.longest
    grids = warp_grids(
        poses,
        draw_elastic(rng, request.num_frames, options.start.elastic, options.paste_step.elastic),
        size=request.size,
        source=(height, width),
        pivot=(width / 2, height / 2),
        place=pasted.place,
        scale=scale,
        flip=bool(rng.random() < 0.5),
    )
    return cut_layer([cutout.picture], [cutout.mask], grids, scale, slot)


def _front_layer(full: Layer, slot: int) -> Layer:
    """Lift an object off the full picture, to lie over what was pasted; it moves with the picture."""
    return Layer(full.pictures, (full.masks == slot).astype(np.uint8), full.grids, slot)


def _relabel(masks: UInt8Array, targets: NDArray[np.integer[Any]]) -> UInt8Array:
    """Give the targets the slots 1..n; other objects become background, 255 stays."""
    table = bytearray(256)
    table[VOID] = VOID
    for slot, target in enumerate(targets, start=1):
        table[target] = slot
    # Bytes are translated an order of magnitude faster than NumPy looks them up.
    return np.frombuffer(bytearray(masks).translate(table), np.uint8).reshape(masks.shape)


def cut_layer(
    pictures: Sequence[UInt8Array],
    masks: Sequence[UInt8Array],
    grids: FloatArray,
    scale: float,
    slot: int | None = None,
) -> Layer:
    """Make a layer of the part of the source that the crop shows.

    Pictures much finer than the crop are reduced, against aliasing.

    Args:
        pictures: P of uint8 (h, w, 3); masks: P of uint8 (h, w); grids: (T, G, G, 2); see `Layer`.
        scale: source pixels per crop pixel.
        slot: see `Layer`.
    """
    height, width = masks[0].shape
    factor = max(1, int(scale / 1.2 + 0.2))  # 2 from 2.2 source pixels on, and so on
    corners = (grids.reshape(-1, 2) + 1) / 2 * (width, height)
    margin = 2 * factor
    (left, top), (right, bottom) = corners.min(0) - margin, corners.max(0) + margin
    left, right = _span(left, right, width, factor)
    top, bottom = _span(top, bottom, height, factor)
    size = np.array([right - left, bottom - top], np.float32)
    grids = (grids + 1) * (np.array([width, height], np.float32) / size)
    grids = (grids - np.array([2 * left, 2 * top], np.float32) / size - 1).astype(np.float32)
    shown = [picture[top:bottom, left:right] for picture in pictures]
    if factor > 1:
        shown = [np.asarray(Image.fromarray(picture).reduce(factor)) for picture in shown]
    # Of a reduced mask each pixel is the middle one of those that it stands for.
    middle = factor // 2
    cut = np.stack([mask[top + middle : bottom : factor, left + middle : right : factor] for mask in masks])
    return Layer(np.stack(shown), cut, grids, slot)


def _span(low: FloatArray | float, high: FloatArray | float, length: int, factor: int) -> tuple[int, int]:
    """Whole pixels from low to high inside 0..length, a multiple of factor long, never empty."""
    start = int(np.clip(np.floor(low), 0, length - factor))
    count = int(np.ceil((np.clip(high, start + 1, length) - start) / factor)) * factor
    stop = start + count
    return start, stop if stop <= length else stop - factor
