"""What the command says to torch before it is imported, and that the library itself says nothing."""

import json
import os
import subprocess
import sys
from typing import Any

import pytest
from typer.testing import CliRunner

from mgseg.cli import app

ABOUT_THREADS = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY", "OMP_NUM_THREADS", "MKL_NUM_THREADS")
RUN_COMMAND = """
import os, sys
from mgseg.cli import main
sys.argv = ["mgseg", "--version"]
try:
    main()
finally:
    print(os.environ.get("GOMP_SPINCOUNT"), "torch" in sys.modules)
"""
USE_LIBRARY = """
import os, sys
before = dict(os.environ)
import torch
threads = torch.get_num_threads()
import mgseg
mgseg.Segmenter, mgseg.segment_clip
print(dict(os.environ) == before, torch.get_num_threads() == threads)
"""


def last_line(program: str, *arguments: str, **environment: str) -> str:
    clean = {name: value for name, value in os.environ.items() if name not in ABOUT_THREADS}
    command = [sys.executable, "-c", program, *arguments]
    found = subprocess.run(command, env=clean | environment, capture_output=True, text=True, check=True)
    return found.stdout.splitlines()[-1]


def test_the_command_lets_idle_threads_sleep_soon() -> None:
    spins, torch_is_there = last_line(RUN_COMMAND).split()
    assert int(spins) > 0
    assert torch_is_there == "False"  # it reads the variable when it is imported


@pytest.mark.parametrize(
    ("name", "value", "spins"), [("OMP_WAIT_POLICY", "PASSIVE", "None"), ("GOMP_SPINCOUNT", "7", "7")]
)
def test_what_the_environment_says_of_waiting_holds(name: str, value: str, spins: str) -> None:
    assert last_line(RUN_COMMAND, **{name: value}).split()[0] == spins


def test_the_library_leaves_the_environment_and_the_threads_as_they_are() -> None:
    assert last_line(USE_LIBRARY) == "True True"


@pytest.mark.parametrize("first", ["os", "torch"])
def test_threads_are_as_many_as_asked_for(first: str) -> None:
    arguments = "bench --weights random:lite --size 32x32 --repeats 1 --no-plain --json --threads 1"
    program = f"import {first}; from mgseg.cli import main; main()"
    environment = os.environ | {"OMP_NUM_THREADS": "2"}
    command = [sys.executable, "-c", program, *arguments.split()]
    found = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert json.loads(found.stdout)["threads"] == 1


@pytest.mark.parametrize("command", ["segment", "edit", "eval", "train", "bench"])
def test_every_command_that_computes_takes_a_number_of_threads(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")  # the message on one line
    result: Any = CliRunner().invoke(app, [command, "--threads", "0"])
    assert result.exit_code == 2
    assert "Invalid value for '--threads'" in result.stderr
