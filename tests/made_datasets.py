"""Small datasets in the layouts of DAVIS and YouTube-VOS, and results for them, for the tests of evaluation."""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mgseg.files.masks import write_mask

Masks = NDArray[np.uint8]


def shapes(num_frames: int, size: tuple[int, int] = (40, 60), ids: tuple[int, ...] = (1, 2)) -> Masks:
    """Discs that move to the right at different speeds, later ones in front: uint8 (T, H, W)."""
    y, x = np.mgrid[: size[0], : size[1]]
    masks = np.zeros((num_frames, *size), np.uint8)
    for k, object_id in enumerate(ids):
        for t in range(num_frames):
            centre = 10 + 14 * k, 12 + (2 + k) * t % (size[1] - 20)
            masks[t][(y - centre[0]) ** 2 + (x - centre[1]) ** 2 <= (7 - k) ** 2] = object_id
    return masks


def shifted(masks: Masks, right: int = 2) -> Masks:
    """The same masks some pixels to the right: a prediction that is nearly right."""
    moved = np.zeros_like(masks)
    moved[:, :, right:] = masks[:, :, :-right]
    return moved


def names_of(masks: Masks, step: int = 1) -> list[str]:
    return [f"{index * step:05d}" for index in range(len(masks))]


def write_masks(folder: Path, masks: Masks, names: list[str] | None = None) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, mask in zip(names or names_of(masks), masks, strict=True):
        write_mask(folder / f"{name}.png", mask)


def write_pictures(folder: Path, masks: Masks, names: list[str] | None = None) -> None:
    """Pictures in which each object has a grey of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, mask in zip(names or names_of(masks), masks, strict=True):
        Image.fromarray(40 + 60 * (mask % 4)).convert("RGB").save(folder / f"{name}.jpg")


def make_davis(
    root: Path, truth: Mapping[str, Masks], *, year: str = "2017", split: str = "val", pictures: bool = True
) -> Path:
    """DAVIS's layout: ImageSets/YEAR/SPLIT.txt, JPEGImages/480p/NAME, Annotations/480p/NAME."""
    listing = root / "ImageSets" / year / f"{split}.txt"
    listing.parent.mkdir(parents=True, exist_ok=True)
    listing.write_text("".join(f"{name}\n" for name in truth))
    for name, masks in truth.items():
        write_masks(root / "Annotations" / "480p" / name, masks)
        if pictures:
            write_pictures(root / "JPEGImages" / "480p" / name, masks)
    return root


def make_youtube_vos(
    root: Path,
    split: str,
    videos: Mapping[str, Masks],
    categories: Mapping[str, Mapping[int, str]] | None = None,
    *,
    truth: bool = True,
    step: int = 5,
) -> Path:
    """YouTube-VOS's layout: SPLIT/meta.json, SPLIT/JPEGImages/NAME, SPLIT/Annotations/NAME, every fifth frame.

    Without `truth`, annotations show each object in its first frame alone, as in the official valid split.
    """
    meta: dict[str, object] = {}
    for video, masks in videos.items():
        names = names_of(masks, step)
        objects = {}
        for i in [int(i) for i in np.unique(masks) if i]:
            first = int(np.flatnonzero((masks == i).any(axis=(1, 2)))[0])
            category = (categories or {}).get(video, {}).get(i)
            objects[str(i)] = {"frames": names[first:]} | ({"category": category} if category else {})
        meta[video] = {"objects": objects}
        write_pictures(root / split / "JPEGImages" / video, masks, names)
        firsts = {entry["frames"][0]: int(key) for key, entry in objects.items()}
        for name, mask in zip(names, masks, strict=True):
            if truth:
                write_masks(root / split / "Annotations" / video, mask[None], [name])
            elif name in firsts:
                new = [int(key) for key, entry in objects.items() if entry["frames"][0] == name]
                shown = np.where(np.isin(mask, new), mask, np.uint8(0))
                write_masks(root / split / "Annotations" / video, shown[None], [name])
    (root / split / "meta.json").write_text(json.dumps({"videos": meta}))
    return root
