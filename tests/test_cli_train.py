"""`mgseg train` as it is called: flags become options, a stopped run says how to go on, two processes are one run."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from training_data import make_davis, make_stills
from typer.testing import CliRunner

from mgseg.cli import app
from mgseg.training import train as training
from mgseg.training.build import TrainOptions
from mgseg.training.stages import StageConfig, configure
from mgseg.training.train import TrainResult


def run(*arguments: str) -> Any:
    return CliRunner().invoke(app, ["train", *arguments])


def test_flags_become_stage_and_options(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []

    def fake(config: StageConfig, options: TrainOptions, notify: Any) -> TrainResult:
        seen.extend((config, options))
        return TrainResult(options.out / "weights.pth", 5, False, 0.5)

    monkeypatch.setattr(training, "train_stage", fake)
    words = "--stage clips --preset faithful --static a --static b --clips davis16=c --hold-out bear,goat --seed 3"
    more = "--model lite --no-motion-prior --minutes 5 --size 192,256@0.5 --steps 9 --resume --precision bfloat16"
    more += " --set max_skip=5,10@0.4 --set ema=0.9 --set optimizer=adamw"
    more += " --set object_weights=1:0.6,2:0.4 --set cosine=true --set log_every=5 --set checkpoint_minutes=0.5"
    result = run(*words.split(), *more.split(), "--out", str(tmp_path))
    assert result.exit_code == 0, result.output
    assert result.stdout.strip() == str(tmp_path / "weights.pth")
    config, options = seen
    changes = {"max_skip": "5,10@0.4", "ema": 0.9, "optimizer": "adamw", "object_weights": ((1, 0.6), (2, 0.4))}
    expected = {"size": "192,256@0.5", "num_steps": 9, "cosine": True, **changes}
    assert config == configure("clips", "faithful", expected)
    assert options == TrainOptions(
        out=tmp_path,
        stills=(Path("a"), Path("b")),
        clips=("davis16=c",),
        hold_out=("bear", "goat"),
        model="lite",
        motion_prior=False,
        minutes=5,
        seed=3,
        resume=True,
        precision="bfloat16",
        log_every=5,
        checkpoint_minutes=0.5,
    )


def test_a_stopped_run_exits_1_and_says_how_to_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stopped = TrainResult(tmp_path / "checkpoint-00000007.pth", 7, True, None)
    monkeypatch.setattr(training, "train_stage", lambda *args, **kwargs: stopped)
    result = run("--stage", "static", "--out", str(tmp_path))
    assert result.exit_code == 1
    assert "--resume" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "word"),
    [
        (["--stage", "static", "--out", "run", "--size", "100"], 1, "16"),
        (["--stage", "static", "--out", "run"], 1, "--static"),
        (["--stage", "main", "--out", "run"], 2, "main"),
        (["--stage", "static", "--set", "log_every=0"], 1, "log_every must be 1 or more"),
        (["--stage", "static", "--set", "nonsense=1"], 1, "max_skip"),
        (["--stage", "static", "--set", "ema"], 1, "FIELD=VALUE"),
        (["--stage", "static", "--set", "stage=clips"], 1, "FIELD=VALUE"),
        (["--stage", "static", "--set", "ema=much"], 1, "ema: expected a number, found 'much'"),
        (["--stage", "static", "--set", "ema=nan"], 1, "expected a number"),
        (["--stage", "static", "--set", "max_frames=1.5"], 1, "expected a whole number"),
        (["--stage", "static", "--set", "cosine=perhaps"], 1, "true or false"),
        (["--stage", "static", "--set", "optimizer=sgd"], 1, "adam or adamw"),
        (["--stage", "static", "--set", "object_weights=1"], 1, "COUNT:WEIGHT"),
        (["--stage", "static", "--set", "object_weights=0:1"], 1, "counts are from 1 to 254"),
        (["--stage", "static", "--set", "max_skip=nan"], 1, "a schedule as"),
        (["--stage", "static", "--set", "max_skip=0"], 1, "one frame or more"),
        (["--stage", "static", "--set", "jaccard=-1"], 1, "jaccard is 0 or more"),
        (["--stage", "static", "--rate", "0.1", "--set", "rate=0.2"], 1, "twice"),
        (["--stage", "static", "--rate", "inf"], 1, "rate"),
        (["--stage", "static", "--minutes", "inf"], 1, "minutes must be 0 or more"),
        (["--stage", "static", "--seed", str(2**40)], 1, "seed must be 0 to 2147483647"),
        (["--stage", "static", "--batch", "1.5"], 1, "a whole number"),
        (["--stage", "static", "--set", "num_steps=-1"], 1, "steps are 0 or more"),
        (["--stage", "static", "--size", "0"], 1, "16 pixels"),
        (["--stage", "static", "--out", "run", "--steps", "0", "--static", "x"], 1, "--minutes"),
    ],
)
def test_what_cannot_be_is_told(
    arguments: list[str], code: int, word: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MGSEG_DATA", raising=False)
    result = run(*arguments)
    assert result.exit_code == code, result.stderr
    assert word in result.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.numeric
def test_two_processes_train_as_one_does(tmp_path: Path, tiny_weights: Path) -> None:
    davis = make_davis(tmp_path / "davis", ("bear", "goat", "lion"), length=4)
    stills = make_stills(tmp_path / "stills")
    data = f"--static {stills} --clips davis16={davis} --init {tiny_weights} --device cpu --workers 0"
    # Of two frames: at the first step two slots are empty, and which of them has the larger logit is chance. With a
    # third frame that would count, since its prior sees the mask.
    stage = "--stage static --preset faithful --steps 2 --batch 2 --size 32 --rate 0.001 --set num_frames=2"
    stage += " --set clip_share=0.5 --hold-out bear,lion --validate-every 2 --set validate_size=32"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        sys.executable,
        str(Path(__file__).with_name("float64_cli.py")),
        "train",
        *stage.split(),
        *data.split(),
        "--out",
    ]
    pair = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    processes = [
        subprocess.Popen(
            [*command, str(tmp_path / out)],
            env=os.environ | {"OMP_NUM_THREADS": "1"} | environment,
            stdout=subprocess.PIPE,
            text=True,
        )
        for out, environment in (("one", {}), ("two", pair | {"RANK": "0"}), ("two", pair | {"RANK": "1"}))
    ]
    printed = [process.communicate(timeout=600)[0] for process in processes]
    assert printed == [f"{tmp_path}/one/weights.pth\n", f"{tmp_path}/two/weights.pth\n", ""]
    assert [process.returncode for process in processes] == [0, 0, 0]
    start, one, two = (
        torch.load(path, weights_only=True)["state_dict"]
        for path in (tiny_weights, tmp_path / "one" / "weights.pth", tmp_path / "two" / "weights.pth")
    )
    assert any(float((one[name] - start[name]).abs().max()) > 1e-4 for name in start)
    logs = [(tmp_path / out / "log.jsonl").read_text().splitlines() for out in ("one", "two")]
    scores = [[json.loads(line)["sequences"] for line in log if "validation" in line[:24]] for log in logs]
    assert scores[0][0].keys() == scores[1][0].keys() == {"bear", "lion"}
    for name, tensor in one.items():
        assert tensor.dtype in (torch.float64, torch.int64)
        torch.testing.assert_close(two[name], tensor, rtol=0, atol=1e-9)
