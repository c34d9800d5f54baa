"""The drills of tests/drills in full, by `pytest -m slow`; the cheap ones in small always."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from drills.mutate import try_all
from made_datasets import make_youtube_vos, shapes

from mgseg.files.masks import write_mask

DRILLS = Path(__file__).parent / "drills"
linux = pytest.mark.skipif(sys.platform != "linux", reason="watches memory by /proc")


def drill(name: str, *arguments: object, minutes: float = 30) -> str:
    """Run a drill; returns what it tells."""
    words = [sys.executable, str(DRILLS / f"{name}.py"), *map(str, arguments)]
    alone = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(words, capture_output=True, text=True, timeout=60 * minutes, env=alone)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture
def target(tmp_path: Path, make_clip: Any, request: pytest.FixtureRequest) -> Path:
    """The good file that a drill damages."""
    kind = request.param
    if kind == "meta":
        videos = {"a": shapes(3), "b": shapes(2)}
        return make_youtube_vos(tmp_path, "valid", videos, {"a": {1: "cat", 2: "dog"}}) / "valid" / "meta.json"
    if kind == "mask":
        write_mask(tmp_path / "mask.png", make_clip(tmp_path / "c.mp4").masks[0], note="{}")
        return tmp_path / "mask.png"
    if kind == "weights":
        return Path(shutil.copy(request.getfixturevalue("tiny_weights"), tmp_path))
    return Path(make_clip(tmp_path / f"clip.{kind}", num_frames=12, audio="aac").path)


KINDS = {"mask": "mask", "mp4": "video", "mkv": "video", "weights": "weights", "meta": "meta"}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("target", "kind"), KINDS.items(), ids=KINDS, indirect=["target"])
def test_damaged_files_are_read_or_refused(target: Path, kind: str) -> None:
    assert f"{kind}: 12 tried" in try_all(kind, target, range(12))


@linux
@pytest.mark.slow
@pytest.mark.parametrize(("target", "kind"), KINDS.items(), ids=KINDS, indirect=["target"])
def test_a_thousand_damaged_files_are_read_or_refused(target: Path, kind: str) -> None:
    assert f"{kind}: 1000 tried" in drill("mutate", kind, target)


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
@pytest.mark.parametrize("kind", ["KILL", "INT", "TERM"])
def test_fifty_kills_lose_no_mask(tmp_path: Path, make_clip: Any, tiny_weights: Path, kind: str) -> None:
    made = make_clip(tmp_path / "clip.mp4", num_frames=60)
    write_mask(tmp_path / "first.png", made.masks[0])
    (tmp_path / "out").mkdir()
    told = drill(
        "kill", made.path, tmp_path / "first.png", tiny_weights, tmp_path / "out", "--frames", 60, "--signal", kind
    )
    assert "50 kills" in told


@linux
@pytest.mark.slow
@pytest.mark.parametrize("way", [[], ["--whole"]], ids=["objects come and go", "segment_clip"])
def test_three_thousand_frames_take_no_more_memory_than_one_thousand(
    tmp_path: Path, tiny_weights: Path, way: list[str]
) -> None:
    assert drill("long_clip", tiny_weights, tmp_path, *way).startswith("3000 frames")


@linux
@pytest.mark.slow
def test_a_slow_disk_slows_the_run_and_does_not_grow_it(tmp_path: Path, tiny_weights: Path) -> None:
    assert drill("long_clip", tiny_weights, tmp_path, "--frames", 700, "--write-ms", 100).startswith("700 frames")
