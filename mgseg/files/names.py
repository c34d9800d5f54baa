"""File names: Unicode forms, names that Windows reserves, the standard input."""

import os
import unicodedata
from pathlib import Path

from mgseg.errors import InputError, OutputError

STDIN = Path("-")
ON_WINDOWS = os.name == "nt"
_DEVICES = {"CON", "PRN", "AUX", "NUL", *(f"{name}{n}" for name in ("COM", "LPT") for n in "123456789¹²³")}


def reads_once(path: Path) -> bool:
    """Whether a clip can be read a single time only: the standard input, a named pipe, a device."""
    return path == STDIN or (path.exists() and not path.is_file() and not path.is_dir())


def in_words(path: Path) -> str:
    """Return a clip's name for use in a message."""
    return "the standard input" if path == STDIN else str(path)


def same_form(name: str) -> str:
    """Return a name in Unicode form NFC, for comparison: "é" may be one character or two."""
    return unicodedata.normalize("NFC", name)


def find_path(path: Path, what: str = "file or folder") -> Path:
    """Find a file or folder, also under a name of the same letters in another Unicode form.

    Args:
        path: as given; "-" is the standard input.
        what: what is looked for, for the error.

    Raises:
        InputError: there is no such file or folder.
    """
    try:
        found = path if path == STDIN else _existing(path)
    except OSError as error:  # a name that the file system does not take
        raise InputError(f"{path}: {error.strerror}") from error
    if found is None:
        raise InputError(f"no such {what}: {path}")
    return found


def _existing(path: Path) -> Path | None:
    if path.exists():
        return path
    folder = None if path.parent == path else _existing(path.parent)
    if folder is None or str(path).isascii():
        return None
    try:
        wanted = same_form(path.name)
        return next((entry for entry in folder.iterdir() if same_form(entry.name) == wanted), None)
    except OSError:
        return None


def masks_folder(clip: Path) -> Path:
    """Return the default folder for the masks of a clip, in the current folder: CLIP_masks."""
    absolute = clip.absolute()
    if clip == STDIN or absolute.parent in (Path("/dev"), Path("/dev/fd")):
        stem = "stdin"
    else:
        absolute = clip.resolve() if clip.is_dir() or clip.is_file() else absolute
        stem = absolute.name if clip.is_dir() else absolute.stem
    name = f"{stem}_masks"
    return Path(f"_{name}" if _is_device(name) else name)


def check_name(path: Path) -> None:
    """Raise an OutputError for a name that Windows reserves for a device or would change.

    Raises:
        OutputError: on Windows only.
    """
    if ON_WINDOWS and _is_device(path.name):
        raise OutputError(f"cannot write {path}: Windows reserves this name for a device", "choose another name")
    if ON_WINDOWS and path.name != path.name.rstrip(". "):
        raise OutputError(
            f"cannot write {path}: Windows removes a dot or space at the end of a name", "choose a name without it"
        )


def _is_device(name: str) -> bool:
    return name.partition(".")[0].rstrip(" ").upper() in _DEVICES
