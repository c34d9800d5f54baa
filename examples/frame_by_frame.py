"""Segment frames one at a time, as they would come from a camera.

python frame_by_frame.py [CLIP MASK RESULTS [WEIGHTS]]
"""

import sys
from pathlib import Path

import imageio.v3 as iio

import mgseg

HERE = Path(__file__).parent


def main(clip: str, mask: str, results: str, weights: str = "auto") -> None:
    Path(results).mkdir(parents=True, exist_ok=True)
    first = mgseg.read_mask(mask).mask  # uint8 (H, W): 0 background, 1 the first object
    options = mgseg.SegmenterOptions(size=240)  # the network sees 240 lines: faster, coarser
    segmenter = mgseg.Segmenter(mgseg.Network(weights), options)
    for number, frame in enumerate(iio.imiter(clip, plugin="pyav")):  # uint8 (H, W, 3), RGB
        result = segmenter.step(frame) if number else segmenter.start(frame, first)
        mgseg.write_mask(Path(results) / f"{number:05d}.png", result)


if __name__ == "__main__":
    main(*sys.argv[1:] or (str(HERE / "bunny.mp4"), str(HERE / "bunny.png"), "bunny_masks"))
