"""Kill `mgseg segment` at random moments and go on with --resume, again and again.

    python tests/drills/kill.py CLIP MASK WEIGHTS FOLDER --frames N [--kills 50] [--seed 0] [--signal KILL|INT|TERM]

After each kill every PNG is whole, the masks are those of the first frames without a gap, and what was there before
is still there, byte for byte; INT and TERM leave no `.part` either, and exit code 130. A run that is not killed before
it ends must leave N masks and no `.part`; then the next folder begins. torch is loaded once: the runs are forks.
"""

import argparse
import os
import random
import signal
import sys
import time
from pathlib import Path

from PIL import Image

from mgseg.cli import app


def start(words: list[str]) -> int:
    """Fork a run; returns its process id."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            code = app(words, standalone_mode=False) or 0
        except KeyboardInterrupt:  # before the command began, or after it ended
            code = 130
        finally:
            sys.stderr.flush()
            os._exit(code)
    return pid


def wait(pid: int, seconds: float) -> int | None:
    """The exit status within a time, else None."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return status
        time.sleep(0.002)
    return None


def check(masks: Path, before: dict[str, bytes]) -> dict[str, bytes]:
    """Check what a killed run left, and return it."""
    found = {path.name: path.read_bytes() for path in sorted(masks.glob("*.png"))}
    for name in found:
        with Image.open(masks / name) as picture:
            picture.load()
    assert list(found) == [f"{i:05d}.png" for i in range(len(found))], "a gap"
    assert before.items() <= found.items(), "a mask that was there has changed"
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("clip", "mask", "weights", "folder"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--frames", type=int, required=True)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--signal", choices=("KILL", "INT", "TERM"), default="KILL")
    args = parser.parse_args()
    import torch

    import mgseg.segment.clip  # noqa: F401 loaded here, not in each fork

    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as mgseg.cli.main does
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it

    torch.set_num_threads(1)
    rng = random.Random(args.seed)
    kills = runs = caught_part = resumed_in_the_middle = 0
    length = 0.0  # seconds of the first run, which is not killed
    while kills < args.kills:
        masks, overlay = args.folder / f"masks{runs}", args.folder / f"overlay{runs}.mp4"
        words = ["segment", str(args.clip), "-m", str(args.mask), "--weights", str(args.weights), "--device", "cpu"]
        words += ["-o", str(masks), "--overlay", str(overlay), "--resume"]
        there: dict[str, bytes] = {}
        while True:
            begin, pid = time.monotonic(), start(words)
            left = rng.uniform(0, 0.7 * length) if length and kills < args.kills else None
            status = wait(pid, 600 if left is None else left)
            if status is not None:
                assert os.waitstatus_to_exitcode(status) == 0
                length = length or time.monotonic() - begin
                break
            assert left is not None, "the run hangs"
            os.kill(pid, signal.Signals[f"SIG{args.signal}"])
            status = wait(pid, 120)
            assert status is not None, "the signal does not end it"
            kills += 1
            if args.signal != "KILL":
                code = os.waitstatus_to_exitcode(status)
                assert code in (130, 0), f"exit code {code}"  # 0: it had just ended
                assert not list(args.folder.rglob("*.part"))
            there = check(masks, there)
            caught_part += any(args.folder.rglob("*.part"))
            resumed_in_the_middle += 0 < len(there) < args.frames
        assert len(check(masks, there)) == args.frames
        assert not list(args.folder.rglob("*.part"))
        assert overlay.is_file()
        assert kills < 10 or resumed_in_the_middle, "no signal came between the first mask and the last"
        runs += 1
    print(
        f"{kills} kills, {resumed_in_the_middle} of them between the first mask and the last, {caught_part} left a "
        f".part; {runs} clips of {args.frames} frames ended whole"
    )


if __name__ == "__main__":
    main()
