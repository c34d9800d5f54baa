"""Small datasets for the tests of training: moving squares as a DAVIS folder, coloured shapes as stills."""

from pathlib import Path

import numpy as np
from PIL import Image

SIZE = (96, 128)


def make_davis(root: Path, names: tuple[str, ...] = ("bear", "goat"), length: int = 8) -> Path:
    """Videos of a bright square that moves over a dark gradient, listed as DAVIS 2016's training split."""
    for number, name in enumerate(names):
        for kind in ("JPEGImages", "Annotations"):
            (root / kind / "480p" / name).mkdir(parents=True)
        for index in range(length):
            frame, mask = _picture(12 + 4 * number + 2 * index, 14)
            Image.fromarray(frame).save(root / "JPEGImages" / "480p" / name / f"{index:05}.jpg", quality=95)
            Image.fromarray(mask * 255).save(root / "Annotations" / "480p" / name / f"{index:05}.png")
    lists = root / "ImageSets" / "2016"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("\n".join(names) + "\n")
    return root


def make_stills(root: Path, count: int = 3) -> Path:
    """Pictures of one bright square each, in images/ and masks/."""
    for kind in ("images", "masks"):
        (root / kind).mkdir(parents=True)
    for index in range(count):
        picture, mask = _picture(16 + 5 * index, 12)
        Image.fromarray(picture).save(root / "images" / f"{index}.png")
        Image.fromarray(mask).save(root / "masks" / f"{index}.png")
    return root


def _picture(left: int, top: int) -> tuple[np.ndarray, np.ndarray]:
    height, width = SIZE
    y, x = np.mgrid[:height, :width]
    mask = ((abs(x - left - 18) < 18) & (abs(y - top - 18) < 18)).astype(np.uint8)
    picture = np.stack([40 + y, 60 + x, np.full(SIZE, 50)], -1).astype(np.uint8)
    picture[mask > 0] = (230, 180, 60)
    return picture, mask
