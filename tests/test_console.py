"""What is printed on other systems, and what is printed when nobody watches."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from mgseg.cli import console

NAME = "日本 😀 é"
NO_TEXT = "no text \udcff"  # what Python makes of a byte that is no UTF-8


def run(command: list[str], encoding: str, place: Path) -> bytes:
    environment = {**os.environ, "PYTHONIOENCODING": encoding, "PYTHONPATH": str(Path(__file__).parents[1])}
    done = subprocess.run([sys.executable, *command], cwd=place, env=environment, capture_output=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("encoding", ["cp1252", "ascii", "utf-8"])
def test_any_name_can_be_printed_in_any_encoding(tmp_path: Path, encoding: str) -> None:
    code = f"""
import sys
from mgseg.cli import console
console.accept_any_name()
names = [{NAME!a}, {NO_TEXT!a}]
console.json(names)
for name in names:
    console.result(name)
    console.message(name)
"""
    printed = run(["-c", code], encoding, tmp_path)
    lines = printed.splitlines()
    assert json.loads(b"".join(lines[:-2])) == [NAME, NO_TEXT]
    assert lines[-1] == b"no text \xff"
    escaped = {
        "cp1252": b"\\u65e5\\u672c \\U0001f600 \xe9",
        "ascii": b"\\u65e5\\u672c \\U0001f600 \\xe9",
        "utf-8": NAME.encode(),
    }
    assert lines[-2] == escaped[encoding]


def test_a_clip_of_any_name_is_segmented_into_a_log_in_cp1252(clip: Any, tmp_path: Path, tiny_weights: Path) -> None:
    Image.fromarray(clip.masks[0]).save(tmp_path / "m.png")
    (tmp_path / f"{NAME}.mp4").write_bytes(clip.path.read_bytes())
    command = ["-m", "mgseg", "segment", f"{NAME}.mp4", "--mask", "m.png", "--end", "2", "--json"]
    printed = run([*command, "--weights", str(tiny_weights), "--device", "cpu"], "cp1252", tmp_path)
    assert json.loads(printed)["masks"] == f"{NAME}_masks"


def test_a_wrong_name_is_told_before_torch_is_imported(tmp_path: Path) -> None:
    code = """
import sys
from mgseg.cli import main
try:
    main()
except SystemExit as end:
    assert end.code == 1, end.code
assert "torch" not in sys.modules and "av" not in sys.modules
"""
    (tmp_path / "clip").mkdir()
    for arguments in (["absent.mp4", "--mask", "m.png"], ["clip", "--mask", "absent.png"]):
        command = [sys.executable, "-c", code, "segment", *arguments]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        assert "no such" in done.stderr
        assert "absent" in done.stderr


def test_a_log_gets_a_line_of_progress_every_ten_seconds(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = iter(range(0, 1000, 4))
    monkeypatch.setattr(console.time, "monotonic", lambda: next(clock))
    with console.progress("clip.mp4") as advance:
        for done in range(1, 9):
            advance(done, 300 if done < 7 else None)
    assert capsys.readouterr().err.splitlines() == [
        "clip.mp4: 4/300 frames, 0.2 frames/s",
        "clip.mp4: 7/? frames, 0.2 frames/s",
    ]
