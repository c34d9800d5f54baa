"""Training checkpoints: weights files for `segment --weights` that also contain the state to resume from."""

from pathlib import Path
from typing import Any

from mgseg.errors import WeightsError
from mgseg.weights import TRAINING, read_checkpoint

_PATTERN = "checkpoint-" + 8 * "[0-9]" + ".pth"


def checkpoint_path(folder: Path, step: int) -> Path:
    """Return the path of the checkpoint after `step` steps; names sort by step."""
    return folder / f"checkpoint-{step:08d}.pth"


def find_checkpoint(folder: Path) -> Path | None:
    """The newest checkpoint of a run, None without one."""
    return max(folder.glob(_PATTERN), default=None)


def drop_old(folder: Path, keep: int) -> None:
    """Delete all but the newest `keep` checkpoints."""
    for path in sorted(folder.glob(_PATTERN))[:-keep]:
        path.unlink()


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint onto the CPU: "training" is the state, "state_dict" the weights that are saved and scored.

    Raises:
        WeightsError: the file is damaged, or contains only weights.
    """
    content = read_checkpoint(path)
    if TRAINING not in content:
        raise WeightsError(
            f"{path} contains no training state, only weights", "start from it with --init instead of --resume"
        )
    return content
