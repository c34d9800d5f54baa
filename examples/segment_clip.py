"""Segment a whole clip in one call, with an overlay video and a number from each mask.

python segment_clip.py [CLIP MASK OVERLAY [WEIGHTS]]
"""

import sys
from pathlib import Path

import mgseg

HERE = Path(__file__).parent


def main(clip: str, mask: str, overlay: str, weights: str = "auto") -> None:
    shares: list[float] = []  # of the picture that the objects cover, frame by frame
    outputs = mgseg.Outputs(overlay=Path(overlay), overwrite=True)
    result = mgseg.segment_clip(
        clip, mask, outputs, mgseg.Network(weights), on_mask=lambda index, found: shares.append((found > 0).mean())
    )
    print(f"{result.num_frames} frames, objects {result.object_ids}, {overlay}")
    print(f"they cover {min(shares):.1%} to {max(shares):.1%} of the picture")


if __name__ == "__main__":
    main(*sys.argv[1:] or (str(HERE / "bunny.mp4"), str(HERE / "bunny.png"), "bunny_overlay.mp4"))
