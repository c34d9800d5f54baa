"""Resuming a run: every mask carries its settings; masks are reused only if their recorded settings match.

The frames that are done are not segmented again; they enter the memory with the masks that were written.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mgseg.errors import InputError, OutputError
from mgseg.files.masks import read_confidence, read_index_map
from mgseg.files.pictures import read_note

Settings = dict[str, Any]
GIVEN, ZERO = "given masks", "zero is background"  # what differs between the stretches of a clip


class Found:
    """Finished masks in the folder of an interrupted run, read one after another until the first missing one.

    Args:
        folder: folder of the masks; None finds nothing.
        settings: settings of this run; masks with other settings are not reused.

    Attributes:
        note: the settings as masks carry them.
        confidence: J that was predicted for the mask taken up last, by object id; None if its file holds none.
    """

    def __init__(self, folder: Path | None, settings: Settings) -> None:
        self._folder = folder
        self.note = to_note(settings)
        self.confidence: dict[int, float] | None = None

    def take(self, name: str) -> NDArray[np.uint8] | None:
        """The mask of the next frame, uint8 (H, W); None if it is missing or not whole, and from then on."""
        if self._folder is None:
            return None
        path = self._folder / f"{name}.png"
        mask = self._read(path)
        if mask is None:
            self._folder = None
        else:
            self.confidence = read_confidence(path)
        return mask

    def holds(self, num_frames: int) -> bool:
        """Whether the folder holds so many whole masks of this run's."""
        paths = self._folder.glob("*.png") if self._folder else ()
        return sum(self._read(path) is not None for path in paths) == num_frames

    def _read(self, path: Path) -> NDArray[np.uint8] | None:
        try:
            return read_index_map(path, as_stored=True) if read_note(path) == self.note else None
        except InputError:
            return None


def to_note(settings: Settings) -> str:
    """Return the note that a mask file stores: the settings of its run."""
    return json.dumps(settings, sort_keys=True)


def check_settings(folder: Path, settings: Settings, stretches: list[Settings]) -> None:
    """Raise an OutputError if no mask in the folder was made with these settings and one of these given masks.

    Args:
        folder: folder of the masks.
        settings: settings of this run, without the given masks.
        stretches: what the notes of each stretch say of the given masks.

    Raises:
        OutputError: with what differs.
    """
    ours = {reference for stretch in stretches for reference in stretch[GIVEN].split(", ")}
    zero = stretches[0].get(ZERO)
    last: str | None = None
    for path in sorted(folder.glob("*.png")):
        try:
            last = read_note(path) or ""
        except InputError:  # not whole: it is made again
            continue
        theirs = _settings_of(last) or {}
        same = ours & set(str(theirs.pop(GIVEN, "")).split(", "))
        their_zero = theirs.pop(ZERO, None)
        if same and theirs == settings and (zero is None or their_zero in (None, zero)):
            return
    if last is not None:
        settings = {**settings, **stretches[0]}
        raise OutputError(
            f"cannot resume in {folder}: {_differences(last, settings)}",
            "use the same settings, or begin again with --overwrite",
        )


def _settings_of(note: str) -> Settings | None:
    try:
        settings = json.loads(note)
    except ValueError:
        return None
    return settings if isinstance(settings, dict) else None


def _differences(note: str, settings: Settings) -> str:
    theirs = _settings_of(note)
    if theirs is None:
        return "its masks do not record the settings of their run"
    absent = "not set"  # of outputs and options that are left out
    pairs = {key: (theirs.get(key, absent), settings.get(key, absent)) for key in (*settings, *theirs)}
    differing = [f"{key} was {then}, now {now}" for key, (then, now) in pairs.items() if then != now]
    return "its masks were made with other settings: " + ("; ".join(differing) or "by another version")
