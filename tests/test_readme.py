"""The README's commands parse, its Python names what exists, and with the shipped weights both run."""

import ast
import contextlib
import importlib
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer
import typer.main

from mgseg.cli import app

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SHORT = ["--size", "160", "--end", "6"]  # enough to see a command work


def blocks(language: str) -> list[str]:
    return [text for name, text in BLOCK.findall(README.read_text("utf-8")) if name == language]


def commands() -> list[list[str]]:
    """What follows `mgseg` in every line of the ```sh blocks, `-m mgseg` under torchrun included."""
    lines = "\n".join(blocks("sh")).replace("\\\n", " ").splitlines()
    words = [shlex.split(line, comments=True) for line in lines]
    starts = [(line, line.index("mgseg")) for line in words if "mgseg" in line]
    return [line[at + 1 :] for line, at in starts if at == 0 or line[at - 1] == "-m"]


@pytest.mark.parametrize("arguments", commands(), ids=" ".join)
def test_a_command_of_the_readme_is_understood(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    command: Any = typer.main.get_command(app)
    rest = list(arguments)
    while rest and rest[0] in getattr(command, "commands", {}):
        command = command.commands[rest.pop(0)]
    assert not hasattr(command, "commands") or rest[0] == "--version", f"no such command: {arguments}"
    with contextlib.suppress(typer.Exit):
        command.make_context("mgseg", rest)


@pytest.mark.parametrize("code", blocks("python"))
def test_python_of_the_readme_imports_names_that_exist(code: str) -> None:
    tree = ast.parse(code)
    used = [n for n in ast.walk(tree) if isinstance(n, ast.Attribute) and ast.unparse(n.value) == "mgseg"]
    names = {("mgseg", node.attr) for node in used}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            names |= {(node.module, alias.name) for alias in node.names}
    for module, name in names:
        assert hasattr(importlib.import_module(module), name), f"{module} has no {name}"


def test_the_readme_shows_a_command_and_python() -> None:
    assert ["segment", "examples/bunny.mp4"] in [line[:2] for line in commands()]
    assert blocks("python")


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.weights
@pytest.mark.parametrize("line", [c for c in commands() if c[:2] == ["segment", "examples/bunny.mp4"]], ids=" ".join)
def test_a_command_of_the_readme_runs(line: list[str], workplace: Path) -> None:
    subprocess.run([sys.executable, "-m", "mgseg", *line, *SHORT], check=True, timeout=600)
    assert [path for path in workplace.iterdir() if path.name != "examples"]


@pytest.mark.weights
@pytest.mark.slow
@pytest.mark.usefixtures("workplace")
@pytest.mark.parametrize("code", blocks("python"))
def test_python_of_the_readme_runs(code: str) -> None:
    subprocess.run([sys.executable, "-c", code], check=True, timeout=1800)
