"""Atomic file writing: a file is written under another name, then renamed, so it is complete or absent."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from mgseg.errors import OutputError

PART = ".part"  # ends the name of a file that is not finished


@contextmanager
def whole_file(path: Path, *, durable: bool = False) -> Iterator[Path]:
    """Yield the name to write to; rename that file to `path` when the block ends.

    On an error the unfinished file is deleted, and what was at `path` before stays.

    Args:
        path: where the file shall appear.
        durable: wait until the file is on the disk, so that it also survives a power cut.

    Yields:
        `path` with `.part` behind its name.

    Raises:
        OutputError: for an OSError in the block or while renaming.
    """
    part = path.with_name(path.name + PART)
    try:
        yield part
        if durable:
            _flush(part)
        part.replace(path)
        if durable and os.name == "posix":  # Windows opens no folders
            _flush(path.parent)
    except BaseException as error:
        with suppress(OSError):
            part.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise cannot_write(path, error) from error
        raise


def write_whole(path: Path, content: bytes | memoryview | str) -> None:
    """Write a whole file; text as UTF-8.

    Raises:
        OutputError: the file cannot be written; an existing file is kept.
    """
    with whole_file(path) as part:
        part.write_bytes(content.encode() if isinstance(content, str) else content)


def make_folder(folder: Path) -> Path:
    """Make a folder and those above it, where they are missing; returns it.

    Raises:
        OutputError: the folder cannot be created.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot make the folder {folder}: {error.strerror}") from error
    return folder


def cannot_write(path: Path, error: Exception) -> OutputError:
    """Return the error for a file that cannot be written, with the system's reason."""
    return OutputError(f"cannot write {path}: {getattr(error, 'strerror', None) or error}")


def _flush(path: Path) -> None:
    """Wait until a file's content, or a folder's names, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
