"""Pictures of a run, drawn with Pillow: training curves, and predictions beside the ground truth."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from torch import Tensor

from mgseg.files.masks import VOID
from mgseg.files.pictures import write_png
from mgseg.training.log import Record

_SIZE = (900, 460)
_MARGIN = 46
_CURVES = (("step", "loss", "#d62728"), ("step", "iou", "#1f77b4"), ("validation", "score", "#2ca02c"))
# Distinct on photographs: red, green, blue, then their mixtures.
_COLOURS = np.array([(0, 0, 0), (230, 40, 40), (40, 190, 60), (60, 90, 240), (230, 200, 40), (200, 60, 200)])


def draw_curve(records: Sequence[Record], path: Path) -> None:
    """Draw loss, training IoU and validation J&F over the steps into a PNG file.

    Each curve has its own scale: the loss from 0 to its largest value, IoU and J&F from 0 to 1.

    Args:
        records: records of the log.
        path: path of the PNG.
    """
    image = Image.new("RGB", _SIZE, "white")
    draw = ImageDraw.Draw(image)
    width, height = _SIZE[0] - 2 * _MARGIN, _SIZE[1] - 2 * _MARGIN
    last = max((record["step"] for record in records), default=0) or 1
    draw.rectangle((_MARGIN, _MARGIN, _MARGIN + width, _MARGIN + height), outline="#888888")
    for tenth in range(11):
        y = _MARGIN + height * (1 - tenth / 10)
        draw.line((_MARGIN, y, _MARGIN + width, y), fill="#e4e4e4")
        draw.text((_MARGIN - 26, y - 6), f"{tenth / 10:.1f}", fill="black")
        draw.text((_MARGIN + width * tenth / 10 - 12, _MARGIN + height + 8), f"{last * tenth // 10}", fill="black")
    for index, (event, name, colour) in enumerate(_CURVES):
        points = [(r["step"], r[name]) for r in records if r["event"] == event and name in r]
        scale = max(value for _, value in points) if name == "loss" and points else 1.0
        line = [
            (_MARGIN + width * step / last, _MARGIN + height * (1 - value / (scale or 1.0))) for step, value in points
        ]
        draw.line(line, fill=colour, width=2)
        if event == "validation" or len(line) == 1:  # few: each one is marked
            for x, y in line:
                draw.ellipse((x - 3, y - 3, x + 3, y + 3), fill=colour)
        newest = f" {points[-1][1]:.3f}" if points else ""
        title = f"{event} {name}{newest}" + (f" (of {scale:.2f})" if name == "loss" else "")
        draw.text((_MARGIN + 250 * index, _MARGIN - 24), title, fill=colour)
    write_png(path, image)


@dataclass(frozen=True)
class Picture:
    """Frames and masks of a training step, for a picture.

    Attributes:
        images: float (B, T, 3, H, W) in [0, 1].
        masks: the truth, (B, T, H, W) integers; 255 is ignored.
        prediction: (B, H, W) integers, of the last frame.
    """

    images: Tensor
    masks: Tensor
    prediction: Tensor


def draw_predictions(picture: Picture, path: Path, rows: int = 4) -> None:
    """Draw the first frame with its mask, the last with its truth and with its prediction; a row a clip.

    Args:
        picture: picture of a step; pixels that are ignored become grey.
        path: path of the PNG.
        rows: clips at most.
    """
    pictures = picture.images[:rows].detach().float().cpu().permute(0, 1, 3, 4, 2).numpy() * 255
    masks = picture.masks[:rows].cpu().numpy()
    predicted = picture.prediction[:rows].cpu().numpy()
    lines = [
        np.concatenate([_tint(clip[0], m[0]), _tint(clip[-1], m[-1]), _tint(clip[-1], p)], axis=1)
        for clip, m, p in zip(pictures, masks, predicted, strict=True)
    ]
    write_png(path, Image.fromarray(np.concatenate(lines, axis=0).round().astype(np.uint8)))


def _tint(picture: NDArray[np.float32], mask: NDArray[np.integer]) -> NDArray[np.float32]:
    slots = np.where(mask == VOID, 0, mask)
    colours = _COLOURS[slots % len(_COLOURS)]
    colours = np.where((mask == VOID)[..., None], 128, colours)
    share = np.where(mask > 0, 0.5, 0.0)[..., None]
    return (picture * (1 - share) + colours * share).astype(np.float32)
