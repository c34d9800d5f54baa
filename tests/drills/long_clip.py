"""Segment a made clip of many frames on which objects come and go, and watch the resident memory.

    python tests/drills/long_clip.py WEIGHTS FOLDER [--frames 3000] [--write-ms 0] [--whole]

--write-ms makes each mask slow to write, as on a slow disk. --whole runs segment_clip with masks, overlay and cut-outs,
in which objects do not go. Prints the peak of each third of the run, after the first 100 frames, which fill the
memory's slots.
"""

import argparse
import resource
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np

WARM_UP = 100
EVERY = 50  # frames between two objects that come; each goes after LIFE
LIFE = 120
SIZE = (64, 96)


def picture(number: int, ids: range) -> tuple[Any, Any]:
    """A frame with a square for each object, and its mask."""
    height, width = SIZE
    frame = np.full((height, width, 3), 90, np.uint8)
    frame[::8] = 60
    mask = np.zeros(SIZE, np.uint8)
    for k in ids:
        x, y = (7 * k + number) % (width - 14), 11 * k % (height - 14)
        frame[y : y + 14, x : x + 14] = (50 * k % 200 + 50, 30 * k % 256, 80 * k % 256)
        mask[y : y + 14, x : x + 14] = k % 254 + 1
    return frame, mask


def alive(number: int) -> range:
    return range(max(0, (number - LIFE) // EVERY + 1), number // EVERY + 1)


def make(path: Path, num_frames: int) -> dict[int, Any]:
    """Write the clip; returns a mask of the new object for each frame in which one comes."""
    masks = {}
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("libx264", rate=25)
        stream.height, stream.width, stream.pix_fmt = *SIZE, "yuv420p"
        for number in range(num_frames):
            frame, mask = picture(number, alive(number))
            if number % EVERY == 0:
                masks[number] = np.where(mask == number // EVERY % 254 + 1, mask, np.uint8(0))
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode(None))
    return masks


def resident() -> int:
    """Bytes of this process in memory now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def run(clip: Path, masks: dict[int, Any], network: Any, num_frames: int) -> Iterator[int]:
    """Follow the objects, forgetting each after its life; yields the resident memory."""
    from mgseg.files.masks import write_mask
    from mgseg.files.threads import WriteBehind, read_ahead
    from mgseg.files.video import read_frames
    from mgseg.segment.segmenter import Segmenter

    segmenter = Segmenter(network)
    with WriteBehind() as sink:
        for frame in read_ahead(read_frames(clip)):
            given = masks.get(frame.index)
            mask = segmenter.step(frame.image, given) if frame.index else segmenter.start(frame.image, given)
            wanted = {k % 254 + 1 for k in alive(frame.index)}
            segmenter.remove(set(segmenter.object_ids) - wanted)
            sink.put(lambda mask, name=frame.name: write_mask(clip.parent / f"{name}.png", mask), mask)
            yield resident()
    assert frame.index == num_frames - 1


def run_whole(clip: Path, mask: Any, network: Any) -> list[int]:
    """Segment the clip as the command does; returns the resident memory at each frame."""
    from mgseg.outputs.table import Outputs
    from mgseg.segment.clip import segment_clip

    seen: list[int] = []
    outputs = Outputs(clip.parent, overlay=clip.parent / "overlay.mkv", cut_outs=clip.parent / "cut_outs")
    segment_clip(clip, mask, outputs, network, on_mask=lambda *_: seen.append(resident()))
    return seen


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--frames", type=int, default=3000)
    parser.add_argument("--write-ms", type=float, default=0)
    parser.add_argument("--whole", action="store_true")
    args = parser.parse_args()
    import torch

    import mgseg.files.masks
    from mgseg.network import Network

    torch.set_num_threads(1)
    if args.write_ms:
        quick = mgseg.files.masks.write_png

        def slow(*items: Any) -> None:
            time.sleep(args.write_ms / 1000)
            quick(*items)

        mgseg.files.masks.write_png = slow
    args.folder.mkdir(parents=True, exist_ok=True)
    clip = args.folder / "long.mp4"
    masks = make(clip, args.frames)
    network = Network(args.weights, "cpu")
    seen = run_whole(clip, masks[0], network) if args.whole else list(run(clip, masks, network, args.frames))
    seen = seen[WARM_UP:]
    came = 1 if args.whole else len(masks)
    went = 0 if args.whole else came - len(alive(args.frames - 1))
    third = len(seen) // 3
    first, second, last = (max(seen[i * third : (i + 1) * third]) for i in range(3))
    growth = (last - first) / first * 100
    print(
        f"{args.frames} frames, {came} objects came and {went} went; "
        f"resident {first / 1e6:.1f} MB in the first third, "
        f"{second / 1e6:.1f} in the second, {last / 1e6:.1f} in the last: {growth:+.2f} %"
    )
    assert growth <= 2
    assert len(list(args.folder.glob("*.png"))) == args.frames


if __name__ == "__main__":
    main()
