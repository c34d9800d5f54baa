"""A round of `mgseg edit` by a scripted user: a first mask, then a correction of the frame that the tool doubts most.

    python tests/benchmark_edit.py DAVIS SEQUENCE [--corrections 3] [--size 480] [--weights auto]

The user's masks are the ground truth of DAVIS 2016. Printed after each run: J&F over the frames that the protocol
scores (all but the first and the last), masks made, seconds.
"""

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from starlette.testclient import TestClient
from test_edit_server import HOST, TOKEN, Page

from mgseg.edit.clips import Clips
from mgseg.edit.events import Events
from mgseg.edit.server import make_app
from mgseg.edit.worker import Worker
from mgseg.evaluation.metrics import boundary_accuracy, region_similarity
from mgseg.files.masks import read_index_map
from mgseg.network import Network
from mgseg.segment.options import SegmenterOptions


class User(Page):
    """The page of a real clip with real weights."""

    def __init__(self, clip: Path, project: Path, network: Network, size: int) -> None:
        events = Events()
        self.heard: list[dict[str, Any]] = []
        self.stop_after = None

        def hear(clip_id: str, event: dict[str, Any]) -> None:
            self.heard.append({"clip": clip_id} | event)
            events.publish(clip_id, event)

        self.clips = Clips([clip], project, hear)
        worker = Worker(network, SegmenterOptions(size=size), hear)
        self.http = TestClient(make_app(self.clips, worker, events, TOKEN, [HOST]), base_url=f"http://{HOST}")

    def wait(self) -> str:
        while not (ends := [e for e in self.heard if e["type"] == "run" and e["state"] != "running"]):
            time.sleep(0.1)
        return str(ends[-1]["state"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("sequence")
    parser.add_argument("--corrections", type=int, default=3)
    parser.add_argument("--size", type=int, default=480)
    parser.add_argument("--weights", default="auto")
    args = parser.parse_args()
    frames = args.data / "JPEGImages" / "480p" / args.sequence
    truth = [read_index_map(p) > 0 for p in sorted((args.data / "Annotations" / "480p" / args.sequence).glob("*.png"))]
    network = Network(args.weights)
    with tempfile.TemporaryDirectory() as folder:
        user = User(frames, Path(folder) / "project", network, args.size)
        with user.http:
            corrected = 0
            for number in range(args.corrections + 1):
                assert user.put(corrected, truth[corrected].astype(np.uint8)).status_code == 200
                start = time.perf_counter()
                state = user.run()
                seconds = time.perf_counter() - start
                end = next(e for e in user.heard if e.get("state") == state)
                made = [(user.mask(n) > 0, truth[n]) for n in range(1, len(truth) - 1)]
                j = np.mean([region_similarity(mask, true) for mask, true in made])
                f = np.mean([boundary_accuracy(mask, true) for mask, true in made])
                what = f"frame {corrected}" if number else "first mask"
                score = f"J&F {50 * (j + f):.1f} (J {100 * j:.1f}, F {100 * f:.1f})"
                print(f"{number}  {what:<12}{score}  {end['made']} masks made in {seconds:.0f} s", flush=True)
                corrected = suggestion(user.state())
    print(f"{args.sequence}, {network.name}, sha256 {network.sha256[:12]}, {network.precision}, size {args.size}")


def suggestion(state: dict[str, Any]) -> int:
    """The worst frame of the worst doubtful stretch; without one, the frame of least confidence."""
    if state["doubtful"]:
        return int(state["doubtful"][0]["worst"])
    known = {int(n): min(v.values()) for n, v in state["confidence"].items() if v and int(n) not in state["given"]}
    return min(known, key=lambda n: known[n])


if __name__ == "__main__":
    main()
