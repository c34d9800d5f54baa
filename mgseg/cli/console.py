"""The only place that prints: results to stdout; progress, messages and errors to stderr."""

import codecs
import io
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from json import dumps
from typing import Any, Protocol, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from mgseg.errors import MgsegError

_LINE_EVERY = 10.0  # seconds

_stdout = Console(highlight=False, soft_wrap=True)
_stderr = Console(stderr=True, highlight=False, soft_wrap=True)


def accept_any_name() -> None:
    """Let stdout and stderr print any file name, whatever their encoding: Windows redirects into cp1252."""
    codecs.register_error("any-name", _encode_anyway)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="any-name")


def _encode_anyway(error: UnicodeError) -> tuple[bytes, int]:
    """Write undecodable bytes of a name unchanged, and other characters that cannot be encoded as \\u escapes."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    part = error.object[error.start : error.end]
    coded = [
        bytes([ord(char) - 0xDC00]) if "\udc80" <= char <= "\udcff" else char.encode("ascii", "backslashreplace")
        for char in part
    ]
    return b"".join(coded), error.end


class Advance(Protocol):
    """Function that `progress` yields: takes the number done and the total, if known."""

    def __call__(self, done: int, total: int | None = None) -> None: ...


def result(text: str) -> None:
    """Print one result to stdout exactly as it is: a path, JSON."""
    _stdout.out(text)


def json(content: Any) -> None:
    """Print plain values as JSON to stdout; in ASCII where stdout cannot encode them as they are."""
    text = dumps(content, indent=2, ensure_ascii=False)
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        text = dumps(content, indent=2)
    result(text)


def table(content: Table) -> None:
    """Print a table of results to stdout."""
    _stdout.print(content)


def message(text: str) -> None:
    """Print a message to stderr exactly as it is."""
    _stderr.print(Text(text))


def warning(text: str) -> None:
    """Print a warning to stderr."""
    _stderr.print(Text.assemble(("warning: ", "yellow"), text))


def error(problem: MgsegError) -> None:
    """Print an error, and its hint on a line of its own, to stderr."""
    _stderr.print(Text.assemble(("error: ", "bold red"), str(problem)))
    if problem.hint:
        _stderr.print(Text.assemble((" hint: ", "cyan"), problem.hint))


class _Rate(ProgressColumn):
    """Units a second."""

    def __init__(self, unit: str) -> None:
        super().__init__()
        self.unit = unit

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text(f"{speed:.1f} {self.unit}/s" if speed else f"- {self.unit}/s")


class _Lines:
    """Progress in lines, one every `_LINE_EVERY` seconds."""

    def __init__(self, title: str, unit: str) -> None:
        self.title, self.unit = title, unit
        self.begin = self.last = time.monotonic()
        self.first = 0  # how many were done at the first call

    def __call__(self, done: int, total: int | None = None) -> None:
        now = time.monotonic()
        if not self.first:
            self.begin = self.last = now
            self.first = done
        if now - self.last < _LINE_EVERY:
            return
        self.last = now
        speed = (done - self.first) / (now - self.begin)
        message(f"{self.title}: {done}/{'?' if total is None else total} {self.unit}, {speed:.1f} {self.unit}/s")


@contextmanager
def progress(title: str, unit: str = "frames") -> Iterator[Advance]:
    """Show a progress bar on stderr from the first call to the block's end; a line now and then if it is no terminal.

    Args:
        title: what is going on, before the bar.
        unit: what is counted, for the rate.

    Yields:
        a function of (done, total) to call as often as one likes.
    """
    if not sys.stderr.isatty():
        yield _Lines(title, unit)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:.0f}/{task.fields[of]}"),
        _Rate(unit),
        TimeRemainingColumn(),
    )
    bar = Progress(*columns, console=_stderr, transient=True)
    with bar:
        task = bar.add_task(title, total=None, of="?", visible=False)

        def advance(done: int, total: int | None = None) -> None:
            bar.update(task, completed=done, total=total, of="?" if total is None else str(total), visible=True)

        yield advance


class Bars:
    """Several progress bars, one after another. A context manager, which ends the last one."""

    def __init__(self) -> None:
        self._title = ""
        self._advance: Advance | None = None
        self._bar = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.close()

    def __call__(self, title: str, done: int, total: int | None = None, unit: str = "frames") -> None:
        """Advance the bar of this title; a new one begins where the title is another one; see `progress`."""
        if title != self._title:
            self._bar.close()
            self._title, self._advance = title, self._bar.enter_context(progress(title, unit))
        assert self._advance
        self._advance(done, total)
