"""The only place that prints: results to stdout; progress, messages and errors to stderr."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from mgseg.errors import MgsegError

_stdout = Console(highlight=False, soft_wrap=True)
_stderr = Console(stderr=True, highlight=False, soft_wrap=True)


class Advance(Protocol):
    """What `progress` hands out: how many are done, and of how many if that is known."""

    def __call__(self, done: int, total: int | None = None) -> None: ...


def result(text: str) -> None:
    """Print one result to stdout exactly as it is: a path, JSON."""
    _stdout.out(text)


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


@contextmanager
def progress(title: str, unit: str = "frames") -> Iterator[Advance]:
    """Show a progress bar on stderr from the first call to the block's end; nothing when stderr is no terminal.

    Args:
        title: what is going on, before the bar.
        unit: what is counted, for the rate.

    Yields:
        a function of (done, total) to call as often as one likes.
    """
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:.0f}/{task.fields[of]}"),
        _Rate(unit),
        TimeRemainingColumn(),
    )
    bar = Progress(*columns, console=_stderr, disable=not sys.stderr.isatty(), transient=True)
    with bar:
        task = bar.add_task(title, total=None, of="?", visible=False)

        def advance(done: int, total: int | None = None) -> None:
            bar.update(task, completed=done, total=total, of="?" if total is None else str(total), visible=True)

        yield advance
