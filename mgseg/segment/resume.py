"""Going on with an interrupted run: every mask carries the settings it was made with, and only its equals are taken up.

The frames that are done are not segmented again; they enter the memory with the masks that were written.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mgseg.errors import InputError, OutputError
from mgseg.files.masks import read_index_map
from mgseg.files.pictures import read_note

Settings = dict[str, Any]


class Found:
    """The masks that a run left in a folder, taken up one after another until the first that is not there.

    Args:
        folder: of the masks; None finds nothing.
        settings: of this run; masks of others are none of its own.
    """

    def __init__(self, folder: Path | None, settings: Settings) -> None:
        self._folder = folder
        self._note = to_note(settings)

    def take(self, name: str) -> NDArray[np.uint8] | None:
        """The mask of the next frame, uint8 (H, W); None if it is missing or not whole, and from then on."""
        if self._folder is None:
            return None
        path = self._folder / f"{name}.png"
        try:
            if read_note(path) == self._note:
                return read_index_map(path)
        except InputError:
            pass
        self._folder = None
        return None


def to_note(settings: Settings) -> str:
    """The text that a mask carries about how it was made."""
    return json.dumps(settings, sort_keys=True)


def check_settings(folder: Path, settings: Settings) -> None:
    """Refuse to go on in a folder of masks none of which was made with these settings.

    Raises:
        OutputError: with what differs.
    """
    ours = to_note(settings)
    note: str | None = ours
    for path in sorted(folder.glob("*.png")):
        try:
            note = read_note(path)
        except InputError:  # not whole: it is made again
            continue
        if note == ours:
            return
    if note != ours:
        raise OutputError(f"cannot resume in {folder}: {_differences(note, settings)}", "--overwrite begins anew")


def _differences(note: str | None, settings: Settings) -> str:
    try:
        theirs = json.loads(note or "")
    except ValueError:
        theirs = None
    if not isinstance(theirs, dict):
        return "its masks do not tell how they were made"
    absent = "not written"  # only the keys of outputs may be absent
    pairs = {key: (theirs.get(key, absent), settings.get(key, absent)) for key in (*settings, *theirs)}
    differing = [f"{key} was {then}, now {now}" for key, (then, now) in pairs.items() if then != now]
    return "its masks were made in another way: " + ("; ".join(differing) or "by another version")
