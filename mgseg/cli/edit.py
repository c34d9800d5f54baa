"""`mgseg edit`: flags only; the work is `mgseg.edit.serve.serve`."""

from pathlib import Path
from typing import Annotated

import typer

from mgseg.cli import console
from mgseg.cli.options import Adapt, Arithmetic, Device, Precision, Size, Threads, Weights, find_network, option
from mgseg.errors import MgsegError

_SERVER = "Server"


def edit(
    clip: Annotated[Path, typer.Argument(help="Video file, folder of pictures, or folder of clips.")],
    project: Annotated[
        Path | None, typer.Option("--project", help="Folder for the masks and edits.", show_default="CLIP.mgseg")
    ] = None,
    port: Annotated[
        int, option("--port", panel=_SERVER, text="Network port of the page; 0: any free port.", min=0, max=65535)
    ] = 0,
    host: Annotated[
        str,
        option(
            "--host",
            panel=_SERVER,
            text="Network address to listen on; others than 127.0.0.1 open the page to other computers.",
        ),
    ] = "127.0.0.1",
    no_browser: Annotated[
        bool, option("--no-browser", panel=_SERVER, text="Print the address without opening a browser.")
    ] = False,
    weights: Weights = "auto",
    device: Device = "auto",
    threads: Threads = None,  # by its callback
    precision: Arithmetic = Precision.auto,
    size: Size = 480,
    adapt: Adapt = 0,
) -> None:
    """Paint, segment and correct masks in the browser.

    [dim]mgseg edit clip.mp4[/dim]

    Every change is saved at once, in CLIP.mgseg beside the clip. Repeat the command to continue. Ctrl-C ends it.
    """
    try:
        from mgseg.edit.serve import serve
    except ImportError as error:
        raise MgsegError(f"mgseg edit needs {error.name}", "pip install 'mgseg[edit]'") from error

    from mgseg.segment.options import SegmenterOptions

    network = find_network(weights, device, precision)
    if host not in ("127.0.0.1", "localhost", "::1"):
        console.warning(f"anyone who can reach {host} and knows the full address can see and change the masks")
    serve(clip, project, host, port, not no_browser, network, SegmenterOptions(size, adapt=adapt), console.result)
