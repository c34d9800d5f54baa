"""The command line: the app, the error handler, --version. `mgseg X` lives in `mgseg/cli/X.py`.

Each command is one function of its module that calls one library function. Modules here import typer and
rich at the top and the rest inside functions, so that `mgseg --help` answers at once.
"""

import errno
import signal
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from mgseg.cli import bench, console, edit, eval, export, frame, segment, threads, train, weights
from mgseg.errors import MgsegError

INTERRUPTED = 130  # the shells' 128 + SIGINT


class _Commands(TyperGroup):
    """Turns errors into messages and exit codes: 1 for MgsegError, 130 for Ctrl-C; typer itself gives 2."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except MgsegError as error:
            console.error(error)
            raise typer.Exit(1) from None
        except KeyboardInterrupt:
            console.message("interrupted; finished results are kept")
            raise typer.Exit(INTERRUPTED) from None
        except OSError as error:  # a place in the file system that is not as needed; a closed pipe is typer's matter
            if error.filename is None or error.errno == errno.EPIPE:
                raise
            console.error(MgsegError(f"{error.filename}: {error.strerror}"))
            raise typer.Exit(1) from None


app = typer.Typer(
    name="mgseg",
    cls=_Commands,
    help="Give it a video and the mask of the objects in one frame; get their masks in every frame.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(wanted: bool) -> None:
    if wanted:
        from mgseg import __version__

        console.result(f"mgseg {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    pass


for _command in (segment.segment, frame.frame, edit.edit, export.export, eval.evaluate, train.train, bench.bench):
    app.command(_command.__module__.rpartition(".")[2])(_command)
app.add_typer(weights.app, name="weights")


def main() -> None:
    """Run the command line and exit. SIGTERM ends it like Ctrl-C."""
    threads.sleep_soon()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    console.accept_any_name()
    app(prog_name="mgseg")
