"""Start of the server of `mgseg edit`."""

import secrets
import socket
import webbrowser
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from mgseg.edit.clips import Clips, find_clips
from mgseg.edit.events import Events
from mgseg.edit.server import make_app
from mgseg.edit.worker import Worker
from mgseg.errors import InputError, MgsegError
from mgseg.network import Network
from mgseg.segment.options import SegmenterOptions


def serve(
    path: Path,
    project: Path | None,
    host: str,
    port: int,
    browser: bool,
    network: Network,
    options: SegmenterOptions,
    announce: Callable[[str], None],
) -> None:
    """Serve the page until Ctrl-C.

    Args:
        path: a clip, or a folder of clips.
        project: folder that keeps the work on one clip; None: CLIP.mgseg beside each clip.
        host: address to listen on.
        port: 0 for any free one.
        browser: open the page.
        network: what segments; its weights are loaded when they are first needed.
        options: options of the segmenter.
        announce: called with the page's address once it answers.

    Raises:
        InputError: there is no clip, or it cannot be read.
        MgsegError: the address cannot be listened on.
    """
    import uvicorn

    paths = find_clips(path)
    if project and len(paths) > 1:
        raise InputError(
            f"--project is for one clip, but {path} contains {len(paths)}", "open one clip, or leave out --project"
        )
    token = secrets.token_urlsafe(24)
    events = Events()
    clips = Clips(paths, project, events.publish)
    if len(paths) == 1:
        clips["0"]  # report an unreadable clip here, not in the page
    with _listen(host, port) as listener:
        number = listener.getsockname()[1]
        names = {host, "localhost", "127.0.0.1"} if host in ("127.0.0.1", "localhost") else {host}
        hosts = [f"{f'[{name}]' if ':' in name else name}:{number}" for name in names]
        app = make_app(clips, Worker(network, options, events.publish), events, token, hosts)
        config = uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=2, server_header=False)
        address = f"http://{hosts[0] if host not in ('127.0.0.1', 'localhost') else f'127.0.0.1:{number}'}/{token}/"
        server = uvicorn.Server(config)
        announce(address)
        if browser:
            webbrowser.open(address)
        with suppress(KeyboardInterrupt):  # Ctrl-C is how it ends
            server.run(sockets=[listener])


def _listen(host: str, port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen()
    except OSError as error:
        listener.close()
        reason = error.strerror or error
        raise MgsegError(
            f"cannot listen on {host}, port {port}: {reason}", "use any free port with --port 0"
        ) from error
    return listener
