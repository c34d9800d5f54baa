"""How near alpha comes to the true masks of DAVIS 2016 train: the scores as they are, cut at a half, and refined.

    python tests/benchmark_mattes.py DAVIS WEIGHTS [--sequences 30]

Of each sequence, frame 10 is given and frames 13, 16 and 19 are segmented at a network size of 240. Once the clip has
480 rows and is compared with its masks; once it is halved to the network's size, and the masks are averaged over 2x2
pixels, so that the truth has soft edges, too. The band holds the pixels within 6 of the true contour.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mgseg import Network, Segmenter, SegmenterOptions
from mgseg.files.guided_filter import follow_edges

BAND = 6  # pixels
Floats = NDArray[np.float32]


def segmented(
    davis: Path, name: str, segmenter: Segmenter, halved: bool
) -> Iterator[tuple[NDArray[np.uint8], Floats, Floats]]:
    """Frame, true alpha and score of the segmented frames of a sequence."""
    for number in (10, 13, 16, 19):
        with Image.open(davis / "JPEGImages/480p" / name / f"{number:05d}.jpg") as picture:
            frame = np.asarray(picture.convert("RGB"))
        with Image.open(davis / "Annotations/480p" / name / f"{number:05d}.png") as picture:
            truth = (np.asarray(picture.convert("L")) > 0).astype(np.float32)
        if halved:
            size = (frame.shape[1] // 2, frame.shape[0] // 2)
            frame = np.asarray(Image.fromarray(frame).resize(size, Image.Resampling.BOX))
            truth = np.asarray(Image.fromarray(truth).resize(size, Image.Resampling.BOX))
        if number == 10:
            segmenter.start(frame, (truth > 0.5).astype(np.uint8))
        else:
            segmenter.step(frame)
            yield frame, truth, segmenter.probabilities[1]


def band(truth: Floats) -> NDArray[np.bool_]:
    """Pixels whose square neighbourhood holds both sides of the contour."""
    inside = np.pad(truth > 0.5, BAND, mode="edge")
    windows = np.lib.stride_tricks.sliding_window_view(inside, (2 * BAND + 1, 2 * BAND + 1))
    return windows.any(axis=(2, 3)) & ~windows.all(axis=(2, 3))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("davis", type=Path)
    parser.add_argument("weights")
    parser.add_argument("--sequences", type=int, default=30)
    args = parser.parse_args()
    lines = (args.davis / "ImageSets/2016/train.txt").read_text().split()
    names = list(dict.fromkeys(lines))[: args.sequences]
    segmenter = Segmenter(Network(args.weights, "cpu"), SegmenterOptions(size=240))
    for halved in (False, True):
        rows: dict[str, list[tuple[float, float, float]]] = {}
        for name in names:
            for frame, truth, score in segmented(args.davis, name, segmenter, halved):
                near = band(truth)
                refined = follow_edges(score, frame, scale=1 if halved else 2)
                for kind, alpha in {"scores": score, "cut at 0.5": np.float32(score > 0.5), "refined": refined}.items():
                    error, both = abs(alpha - truth)[near], (alpha > 0.5) & (truth > 0.5)
                    union = ((alpha > 0.5) | (truth > 0.5)).sum()
                    rows.setdefault(kind, []).append((error.mean(), (error**2).mean(), both.sum() / max(1, union)))
        print("clip of 240 rows, soft truth" if halved else "clip of 480 rows", f"({len(rows['scores'])} frames)")
        for kind, values in rows.items():
            print(f"  {kind:12} error in the band %.4f, its square %.4f, J %.4f" % tuple(np.mean(values, axis=0)))


if __name__ == "__main__":
    main()
