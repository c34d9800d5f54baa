"""Record of how masks were made, kept beside them; version of the code."""

import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mgseg import __version__
from mgseg.files.whole_file import make_folder, write_whole

RUN_FILE = "run.json"


FIELDS = {"dataset", "split", "weights", "size", "memory_every", "memory_size", "flip", "precision", "device", "torch"}
PARTS = {"weights": {"name", "sha256"}, "speed": {"network_fps", "fps", "frames", "processes"}}


def read_run(folder: Path) -> dict[str, Any] | None:
    """Read the record of a folder of masks; None if there is none or it has another form."""
    try:
        record = json.loads((folder / RUN_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(record, dict) or not record.keys() >= FIELDS:
        return None
    for name, fields in PARTS.items():
        part = record.get(name)
        if part is not None and not (isinstance(part, dict) and part.keys() >= fields):
            return None
    return record


def write_run(folder: Path, record: Mapping[str, Any]) -> None:
    """Write the record of a folder of masks; creates the folder if it is missing.

    Raises:
        OutputError: it cannot be written.
    """
    write_whole(make_folder(folder) / RUN_FILE, json.dumps(dict(record), indent=1) + "\n")


def code_version() -> dict[str, str | None]:
    """Return the version of mgseg and, in a git checkout, the commit ("+" where files differ from it)."""
    return {"mgseg": __version__, "commit": _commit(Path(__file__).resolve().parents[2])}


def _commit(checkout: Path) -> str | None:
    if not (checkout / ".git").exists():
        return None
    try:
        git = ["git", "-C", str(checkout)]
        done = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True, timeout=10)
        status = [*git, "status", "--porcelain", "--untracked-files=no", "--", "mgseg"]
        changed = subprocess.run(status, capture_output=True, text=True, check=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() + ("+" if changed.stdout.strip() else "")
