"""The kit for a borrowed machine: data there and weights back in pieces, by hash; a run in several parts."""

import sys
from pathlib import Path

import pytest
from training_data import make_davis, make_stills

sys.path.insert(0, str(Path(__file__).parents[1] / "tools"))
import gpu_day
from gpu_day import KitError, cut, join, pack, train, unpack

from mgseg.data.catalog import find_split
from mgseg.data.stills import Stills

SAVES_WHEN_STOPPED = """
import signal, sys, time
from pathlib import Path
run = Path(sys.argv[1])
assert sys.argv[2:] == ["--resume"]
if (run / "checkpoint").exists():
    (run / "weights.pth").touch()
    sys.exit()
signal.signal(signal.SIGTERM, lambda *_: ((run / "checkpoint").touch(), sys.exit(1)))
time.sleep(600)
"""
MGSEG = [sys.executable, "-m", "mgseg", "train"]


@pytest.fixture
def sources(tmp_path: Path) -> list[Path]:
    davis = make_davis(tmp_path / "DAVIS", ("bear", "goat", "kept"))
    (davis / "ImageSets" / "2016" / "train.txt").write_text("bear\ngoat\n")
    return [davis, make_stills(tmp_path / "stills", 4)]


def test_datasets_travel_in_shards_and_are_laid_out_as_they_were(
    sources: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu_day, "MIB", 2**16)  # shards of 64 KiB
    shards = pack(tmp_path / "shards", sources, 1, 480, 0)["shards"]
    assert len(shards) > 1
    for shard in shards:
        assert (tmp_path / "shards" / shard["name"]).stat().st_size == shard["bytes"] <= 2**16
    assert unpack(tmp_path / "shards", tmp_path / "data") == []
    for source in sources:
        there = tmp_path / "data" / source.name
        for path in there.rglob("*.*g"):
            assert path.read_bytes() == (source / path.relative_to(there)).read_bytes()
    assert find_split("davis16", "train", tmp_path / "data" / "DAVIS").names == ("bear", "goat")
    assert len(Stills(tmp_path / "data" / "stills")) == 4


def test_only_training_sequences_travel(sources: list[Path], tmp_path: Path) -> None:
    pack(tmp_path / "shards", sources, 60, 480, 90)
    unpack(tmp_path / "shards", tmp_path / "data")
    frames = tmp_path / "data" / "DAVIS" / "JPEGImages" / "480p"
    assert sorted(path.name for path in frames.iterdir()) == ["bear", "goat"]


def test_shards_may_come_one_by_one_and_damaged_ones_are_named(
    sources: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu_day, "MIB", 2**16)
    shards = [shard["name"] for shard in pack(tmp_path / "shards", sources, 1, 480, 0)["shards"]]
    last = tmp_path / "shards" / shards[-1]
    content = last.read_bytes()
    last.unlink()
    assert unpack(tmp_path / "shards", tmp_path / "data") == [shards[-1]]
    last.write_bytes(content[:-1] + b"x")
    with pytest.raises(KitError, match=r"damaged"):
        unpack(tmp_path / "shards", tmp_path / "data")
    for shard in shards[:-1]:
        (tmp_path / "shards" / shard).unlink()  # laid out already: they need not come again
    last.write_bytes(content)
    assert unpack(tmp_path / "shards", tmp_path / "data") == []


def test_frames_are_made_smaller_and_masks_stay(sources: list[Path], tmp_path: Path) -> None:
    pack(tmp_path / "shards", sources[:1], 60, 48, 80)
    unpack(tmp_path / "shards", tmp_path / "data")
    frame, mask = (Path("DAVIS") / kind / "480p" / "bear" for kind in ("JPEGImages", "Annotations"))
    assert (tmp_path / "data" / frame / "00000.jpg").stat().st_size < (tmp_path / frame / "00000.jpg").stat().st_size
    assert (tmp_path / "data" / mask / "00000.png").read_bytes() == (tmp_path / mask / "00000.png").read_bytes()


def test_a_file_comes_back_in_pieces_of_several_transfers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_day, "MIB", 1000)
    content = bytes(range(256)) * 14
    (tmp_path / "weights.pth").write_bytes(content)
    cut(tmp_path / "weights.pth", tmp_path / "a", 1, 0, 2)
    cut(tmp_path / "weights.pth", tmp_path / "b", 1, 2, 0)
    assert sorted(path.name for path in (tmp_path / "a").glob("piece*")) == ["piece-000", "piece-001"]
    with pytest.raises(KitError, match=r"piece-002 of weights.pth is missing"):
        join([tmp_path / "a"], tmp_path / "home")
    assert join([tmp_path / "a", tmp_path / "b"], tmp_path / "home").read_bytes() == content
    (tmp_path / "b" / "piece-003").write_bytes(b"another run's")
    with pytest.raises(KitError, match=r"piece-003 of weights.pth is damaged or of another file"):
        join([tmp_path / "a", tmp_path / "b"], tmp_path / "home")


def test_a_run_is_stopped_resumed_and_comes_to_its_end(tmp_path: Path) -> None:
    """In place of `mgseg train` a script that does what it promises: save when told to stop, go on by --resume."""
    script = tmp_path / "run.py"
    script.write_text(SAVES_WHEN_STOPPED, encoding="utf-8")
    run = tmp_path / "run"
    run.mkdir()
    command = [sys.executable, str(script), str(run)]
    seconds = 1.0
    while not (run / "checkpoint").exists():  # a start may take longer than a short part
        assert not train(seconds / 60, run, command)
        seconds *= 2
    assert train(5, run, command)


def test_the_run_is_one_of_mgseg(sources: list[Path], tmp_path: Path) -> None:
    command = [*MGSEG, "--stage", "static", "--static", str(sources[1]), "--model", "lite", "--init", "random"]
    command += ["--size", "32", "--batch", "1", "--steps", "1", "--device", "cpu", "--out", str(tmp_path / "run")]
    assert train(10, tmp_path / "run", command)


def test_a_command_that_fails_is_told(tmp_path: Path) -> None:
    with pytest.raises(KitError, match=r"ended by itself with 1"):
        train(1, tmp_path, [*MGSEG, "--stage", "static", "--static", str(tmp_path / "none"), "--out", str(tmp_path)])
