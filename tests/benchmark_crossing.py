"""Do identities swap where objects cross? Clips with exact masks, composed of pictures of yours, segmented and counted.

    python tests/benchmark_crossing.py PICTURES OUT --weights lite

PICTURES is a folder of still pictures with masks in a layout that `mgseg train --static` reads. In each clip two to
four cut-out objects move over a picture, meet in the middle, one behind the other, and part again. "twins" are one
object twice, mirrored: only where it was tells which is which. "nested" is an object that carries a small one and
passes in front of a third; "small" are four of a tenth of the height. OUT becomes a dataset in the layout of DAVIS
2017, for `mgseg eval --dataset davis17 --data OUT` too; the same pictures and seed give the same clips.

An object of the last frames is "kept" when the mask of its number overlaps it more than the other objects, "swapped"
when another object more, "lost" when nothing by a tenth (Jaccard index).
"""

import argparse
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mgseg.data.catalog import find_split
from mgseg.data.cutout import Cutout
from mgseg.data.layouts import find_pairs
from mgseg.data.stills import Stills
from mgseg.evaluation.evaluate import Files, evaluate_split
from mgseg.files.masks import read_index_map, write_mask
from mgseg.network import Network
from mgseg.segment.options import SegmenterOptions

HEIGHT, WIDTH = 384, 640
LAST_FRAMES = 5  # after the objects have parted, that are looked at
LOST = 0.1  # Jaccard index under which an object is lost
KINDS = ("two", "three", "twins", "nested", "small")
STARTS = (0.15, 0.85, 0.3, 0.7)
Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Path2D:
    """Where a cut-out is over the clip: from one side to the other, on a wave, while it grows and turns a little."""

    cutout: Cutout
    height: float  # of the cut-out in the middle of the clip, pixels
    mirrored: bool
    start: float  # x at the beginning, as a share of the width; the end is on the other side
    row: float  # mean y, as a share of the height
    wave: tuple[float, float]  # height of the wave, as a share of the frame's, and its phase
    growth: float  # size at the end over size at the beginning
    turn: float  # degrees over the clip
    offset: tuple[float, float] = (0.0, 0.0)  # of what is carried from its carrier's middle, pixels in mid-clip

    def at(self, progress: float) -> tuple[Pixels, Pixels]:
        """The object's colours (H, W, 3) and coverage 0..255 (H, W) in the frame at 0..1 of the clip."""
        growth, turn = self.growth ** (progress - 0.5), self.turn * (progress - 0.5)
        scale = self.height / self.cutout.mask.shape[0] * growth
        carried = complex(*self.offset) * growth * np.exp(-1j * np.deg2rad(turn))  # y points down
        size = tuple(max(8, round(side * scale)) for side in self.cutout.mask.shape[::-1])
        layers = [Image.fromarray(self.cutout.picture), Image.fromarray(self.cutout.mask * np.uint8(255))]
        frames = []
        for layer in layers:
            if self.mirrored:
                layer = layer.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
            layer = layer.resize(size, Image.Resampling.BILINEAR)
            layer = layer.rotate(turn, Image.Resampling.BILINEAR, expand=True)
            x = (self.start + (1 - 2 * self.start) * progress) * WIDTH + carried.real
            y = (self.row + self.wave[0] * np.sin(2 * np.pi * progress + self.wave[1])) * HEIGHT + carried.imag
            frame = Image.new(layer.mode, (WIDTH, HEIGHT))
            frame.paste(layer, (round(x - layer.width / 2), round(y - layer.height / 2)))
            frames.append(np.asarray(frame))
        return frames[0], frames[1]


def draw_paths(rng: np.random.Generator, stills: Stills, kind: str) -> list[Path2D]:
    """Draw the objects of a clip, from back to front; they all cross the middle at the same time."""
    count = {"three": 3, "small": 4}.get(kind, 2)
    first = stills.draw_cutout(rng)
    cutouts = [first] + [first if kind == "twins" else stills.draw_cutout(rng) for _ in range(count - 1)]
    low, high = {"twins": (0.38, 0.38), "small": (0.08, 0.14)}.get(kind, (0.3, 0.45))
    spread = 0.2 if kind == "small" else 1.0  # of their rows; small ones would miss each other
    paths = [
        Path2D(
            cutout,
            height=float(rng.uniform(low, high)) * HEIGHT if low < high else low * HEIGHT,
            mirrored=bool(slot % 2),
            start=start,
            row=0.5 + spread * float(rng.uniform(-0.1, 0.1)),
            wave=(spread * float(rng.uniform(0, 0.08)), float(rng.uniform(0, 2 * np.pi))),
            growth=float(rng.uniform(0.8, 1.25)),
            turn=float(rng.uniform(-20, 20)),
        )
        for slot, (cutout, start) in enumerate(zip(cutouts, STARTS, strict=False))
    ]
    return [*paths, draw_carried(rng, stills, paths[-1])] if kind == "nested" else paths


def draw_carried(rng: np.random.Generator, stills: Stills, carrier: Path2D) -> Path2D:
    """Draw a small object that sits on another one, with its middle on it, and goes where it goes."""
    mask = carrier.cutout.mask[:, ::-1] if carrier.mirrored else carrier.cutout.mask
    row, column = rng.choice(np.argwhere(mask))
    scale = carrier.height / mask.shape[0]
    offset = ((column - mask.shape[1] / 2) * scale, (row - mask.shape[0] / 2) * scale)
    cutout = stills.draw_cutout(rng)
    height = 0.35 * carrier.height * min(1.0, cutout.mask.shape[0] / cutout.mask.shape[1])  # its longer side is 0.35
    return replace(carrier, cutout=cutout, height=height, offset=offset)


def compose(
    rng: np.random.Generator, background: Image.Image, paths: list[Path2D], num_frames: int
) -> list[tuple[Pixels, Pixels]]:
    """Compose a clip: frames (H, W, 3) and exact masks (H, W), ids 1..N from back to front."""
    scale = 1.15 * max(HEIGHT / background.height, WIDTH / background.width)  # room to move
    scene = background.convert("RGB").resize((round(background.width * scale), round(background.height * scale)))
    shift = rng.uniform(0, 1, (2, 2)) * (scene.width - WIDTH, scene.height - HEIGHT)  # from here, to there
    clip = []
    for progress in np.linspace(0, 1, num_frames):
        left, top = (shift[0] + (shift[1] - shift[0]) * progress).round().astype(int)
        frame = np.asarray(scene.crop((left, top, left + WIDTH, top + HEIGHT))).astype(np.float32)
        mask = np.zeros((HEIGHT, WIDTH), np.uint8)
        for slot, path in enumerate(paths, start=1):
            colours, coverage = path.at(float(progress))
            alpha = coverage[..., None] / np.float32(255)
            frame += alpha * (colours - frame)
            mask[coverage >= 128] = slot
        clip.append((frame.round().astype(np.uint8), mask))
    return clip


def make_dataset(pictures: Path, out: Path, clips_a_kind: int, num_frames: int, seed: int) -> None:
    """Write the clips in the layout of DAVIS 2017; nothing is done where they are there already."""
    index = out / "ImageSets" / "2017" / "val.txt"
    if index.exists():
        return
    stills, pairs, names = Stills(pictures), find_pairs(pictures), []
    for kind in KINDS:
        for number in range(clips_a_kind):
            rng = np.random.default_rng((seed, KINDS.index(kind), number))
            name = f"{kind}-{number:02d}"
            background = pairs[int(rng.integers(len(pairs)))].read(HEIGHT)[0]
            clip = compose(rng, Image.fromarray(background), draw_paths(rng, stills, kind), num_frames)
            for frame, (picture, mask) in enumerate(clip):
                for folder, suffix in (("JPEGImages", "jpg"), ("Annotations", "png")):
                    path = out / folder / "480p" / name / f"{frame:05d}.{suffix}"
                    path.parent.mkdir(parents=True, exist_ok=True)
                    if suffix == "jpg":
                        Image.fromarray(picture).save(path, quality=95)
                    else:
                        write_mask(path, mask)
            names.append(name)
    index.parent.mkdir(parents=True, exist_ok=True)
    index.write_text("".join(f"{name}\n" for name in names), encoding="utf-8")


def jaccard(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> float:
    """The Jaccard index of two masks, 0 for two empty ones."""
    return float((a & b).sum() / max(1, (a | b).sum()))


def fate(masks: list[Pixels], truth: list[Pixels], slot: int, count: int) -> str:
    """What became of an object: "kept", "swapped" or "lost"."""
    overlaps = [
        float(np.mean([jaccard(mask == slot, exact == other) for mask, exact in zip(masks, truth, strict=True)]))
        for other in range(1, count + 1)
    ]
    if max(overlaps) < LOST:
        return "lost"
    return "kept" if int(np.argmax(overlaps)) == slot - 1 else "swapped"


def count_fates(data: Path, results: Path) -> dict[str, Counter[str]]:
    """Count what became of the objects of each kind of clip, on its last frames."""
    fates: dict[str, Counter[str]] = {kind: Counter() for kind in KINDS}
    for folder in sorted((data / "Annotations" / "480p").iterdir()):
        names = [path.name for path in sorted(folder.iterdir())][-LAST_FRAMES:]
        truth = [read_index_map(folder / name) for name in names]
        masks = [read_index_map(results / folder.name / name) for name in names]
        count = int(read_index_map(folder / "00000.png").max())
        fates[folder.name.partition("-")[0]].update(fate(masks, truth, slot, count) for slot in range(1, count + 1))
    return fates


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pictures", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--weights", default="auto")
    parser.add_argument("--clips", type=int, default=8, help="clips of each kind")
    parser.add_argument("--frames", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--adapt", type=int, default=0, help="steps of training on the first mask")
    arguments = parser.parse_args()
    make_dataset(arguments.pictures, arguments.out, arguments.clips, arguments.frames, arguments.seed)
    results = arguments.out / "results" / f"{Path(arguments.weights).stem}_adapt{arguments.adapt}"
    split = find_split("davis17", "val", arguments.out)
    options = SegmenterOptions(adapt=arguments.adapt)
    report = evaluate_split(split, Network(arguments.weights), options, Files(masks=results, resume=True))
    print(f"{'':8}   J&F  kept swapped lost")
    for kind, fates in count_fates(arguments.out, results).items():
        scores = [scores["J&F"] for name, scores in report.sequences.items() if name.startswith(kind)]
        counts = "".join(f"{fates[fate]:6d}" for fate in ("kept", "swapped", "lost"))
        print(f"{kind:8} {100 * np.mean(scores):5.1f}{counts}")


if __name__ == "__main__":
    main()
