"""Time the scoring of masks (no network) against a plain form: OpenCV, Pillow, one process.

    python tests/benchmark_scoring.py                                         made-up masks, 854x480
    python tests/benchmark_scoring.py --data DAVIS --results STM_DAVIS_16val  DAVIS 2016 val

Needs opencv-python-headless, which mgseg itself does not. Both forms read the same files; the scores of every
frame must be equal to the last bit.
"""

import argparse
import os
import tempfile
from pathlib import Path
from time import perf_counter

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mgseg.data.catalog import Split, find_split
from mgseg.evaluation.protocols import score_split
from mgseg.files.masks import write_mask

Mask = NDArray[np.bool_]


def plain_boundary(mask: Mask) -> NDArray[np.uint8]:
    """Pixels that differ from their right, lower or lower right neighbour."""
    right, below, diagonal = (np.zeros_like(mask) for _ in range(3))
    right[:, :-1], below[:-1], diagonal[:-1, :-1] = mask[:, 1:], mask[1:], mask[1:, 1:]
    boundary = (mask ^ right) | (mask ^ below) | (mask ^ diagonal)
    boundary[-1] = mask[-1] ^ right[-1]
    boundary[:, -1] = mask[:, -1] ^ below[:, -1]
    boundary[-1, -1] = False
    return boundary.astype(np.uint8)


def plain_scores(prediction: Mask, truth: Mask) -> tuple[float, float]:
    """J and F as the DAVIS papers define them, by dilation of whole pictures."""
    union = np.sum(prediction | truth)
    j = np.sum(prediction & truth) / union if union else 1.0
    radius = int(np.ceil(0.008 * np.linalg.norm(truth.shape)))
    across = np.arange(-radius, radius + 1)
    element = (across**2 + across[:, None] ** 2 <= radius**2).astype(np.uint8)
    edges = plain_boundary(prediction), plain_boundary(truth)
    counts = edges[0].sum(), edges[1].sum()
    if not counts[0] or not counts[1]:
        return float(j), float(counts[0] == counts[1])
    precision = np.sum(edges[0] * cv2.dilate(edges[1], element)) / counts[0]
    recall = np.sum(edges[1] * cv2.dilate(edges[0], element)) / counts[1]
    return float(j), float(2 * precision * recall / (precision + recall)) if precision + recall else 0.0


def plain(split: Split, results: Path) -> list[tuple[float, float]]:
    """Score all frames but the first and the last of each sequence, one after another."""
    scores = []
    for sequence in split.sequences:
        for name in sequence.saved[1:-1]:
            truth = np.array(Image.open(sequence.masks[name])) > 0
            scores.append(plain_scores(np.array(Image.open(results / sequence.name / f"{name}.png")) > 0, truth))
    return scores


def make_dataset(root: Path, num_frames: int = 60) -> tuple[Path, Path]:
    """Blobs of several sizes on 854x480, and predictions with rough edges: DAVIS 2016's layout."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:480, :854]
    names = [f"blob{n}" for n in range(6)]
    (root / "ImageSets" / "2016").mkdir(parents=True)
    (root / "ImageSets" / "2016" / "val.txt").write_text("\n".join(names))
    for n, name in enumerate(names):
        folders = root / "Annotations" / "480p" / name, root / "results" / name
        for folder in folders:
            folder.mkdir(parents=True)
        angle = np.arctan2(y - 240, x - 427)
        for t in range(num_frames):
            for folder, roughness in zip(folders, (0, 1), strict=True):
                waves = sum(np.sin(k * angle + t / 9 + roughness * rng.normal(0, 0.2)) / k for k in range(2, 9))
                radius = (30 + 25 * n) * (1 + 0.25 * waves)
                write_mask(folder / f"{t:05d}.png", (np.hypot(y - 240, x - 427 + t) < radius).astype(np.uint8))
    return root, root / "results"


def main() -> None:
    """Time both forms in turn and print the best of each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder of DAVIS 2016")
    parser.add_argument("--results", type=Path, help="folder of masks to score")
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    parser.add_argument("--repeat", type=int, default=3)
    chosen = parser.parse_args()
    if bool(chosen.data) != bool(chosen.results):
        parser.error("--data and --results belong together")
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as folder:
        data, results = (chosen.data, chosen.results) if chosen.data else make_dataset(Path(folder))
        split = find_split("davis16", "val", data)
        plain_times, times = [], []
        for _ in range(chosen.repeat):
            start = perf_counter()
            expected = plain(split, results)
            middle = perf_counter()
            objects, _ = score_split(split, results, workers=chosen.workers)
            times.append(perf_counter() - middle)
            plain_times.append(middle - start)
    found = [pair for score in objects for pair in zip(score.j.tolist(), score.f.tolist(), strict=True)]
    if found != expected:
        raise SystemExit("the scores differ")
    print(f"{len(found)} frames, all scores equal; best of {chosen.repeat}, in turn")
    print(f"plain, 1 process        {min(plain_times):7.2f} s")
    print(f"mgseg, {chosen.workers} processes      {min(times):7.2f} s")
    print(f"ratio                   {min(times) / min(plain_times):7.2f}")


if __name__ == "__main__":
    main()
