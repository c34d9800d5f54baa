"""The HTTP interface of `mgseg edit`. Every path begins with the token; see `security.py`."""

import contextlib
import html
import json
import zlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp

from mgseg.edit.actions import Actions
from mgseg.edit.clips import Clips
from mgseg.edit.events import Events
from mgseg.edit.export import Exporter
from mgseg.edit.frames import shrink
from mgseg.edit.project import ConflictError, checksum
from mgseg.edit.security import MAX_BODY, Guard
from mgseg.edit.worker import Worker
from mgseg.errors import InputError, MgsegError

PAGE = Path(__file__).parent / "page"
_KEPT = {"Cache-Control": "private, max-age=86400"}  # a frame never changes


class _Handlers:
    def __init__(self, clips: Clips, actions: Actions, events: Events, token: str) -> None:
        self.clips, self.actions, self.events, self.token = clips, actions, events, token

    def page(self, request: Request) -> Response:
        clip = request.path_params.get("clip", "0" if len(self.clips.paths) == 1 else None)
        text = (PAGE / ("clips.html" if clip is None else "editor.html")).read_text("utf-8")
        text = text.replace("BASE", f"/{self.token}/").replace("CLIP", html.escape(clip or ""))
        return Response(text, media_type="text/html")

    def listing(self, request: Request) -> Response:
        return JSONResponse({"clips": self.clips.listing()})

    async def stream(self, request: Request) -> Response:
        return StreamingResponse(self.events.stream(), media_type="text/event-stream")

    def state(self, request: Request) -> Response:
        return JSONResponse(self.actions.state(request.path_params["clip"]))

    def frame(self, request: Request) -> Response:
        store, number = self.clips[request.path_params["clip"]].store, request.path_params["frame"]
        preview = request.query_params.get("size") == "preview"
        return Response(store.preview(number) if preview else store.full(number), 200, _KEPT, "image/jpeg")

    def mask(self, request: Request) -> Response:
        mask = self.clips[request.path_params["clip"]].project.mask(request.path_params["frame"])
        version = checksum(mask)
        if request.query_params.get("size") == "preview":
            mask = shrink(mask)
        headers = {"X-Version": version, "X-Size": f"{mask.shape[1]}x{mask.shape[0]}", "Content-Encoding": "deflate"}
        return Response(zlib.compress(mask.tobytes(), 1), 200, headers, "application/octet-stream")

    async def put_mask(self, request: Request) -> Response:
        clip_id, frame = request.path_params["clip"], request.path_params["frame"]
        body, version = await _body(request), request.headers.get("if-match")
        answer = await run_in_threadpool(self.actions.put_mask, clip_id, frame, version, body)
        self._tell(request)
        return JSONResponse(answer)

    async def act(self, request: Request) -> Response:
        name, clip_id = request.path_params["action"], request.path_params["clip"]
        action = self.actions.changes.get(name) or self.actions.others.get(name)
        if action is None:
            return JSONResponse({"error": f"there is no action {name}"}, 404)
        try:
            values = json.loads(await _body(request) or b"{}")
            if not isinstance(values, dict):
                raise InputError("the request is not a JSON object")
            answer = await run_in_threadpool(action, clip_id, values)
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"the request is not understood: {error!r}") from error
        if name in self.actions.changes:
            self._tell(request)
        return JSONResponse(answer)

    def _tell(self, request: Request) -> None:
        """Let the other pages know that a clip changed."""
        event: dict[str, Any] = {"type": "project", "by": request.headers.get("x-page")}
        self.events.publish(request.path_params["clip"], event)


def make_app(clips: Clips, worker: Worker, events: Events, token: str, hosts: list[str]) -> ASGIApp:
    """Make the application.

    Args:
        clips: what is edited.
        worker: the network's; both are closed when the server ends.
        events: where clips and worker say what happens.
        token: first part of every path.
        hosts: allowed Host headers.
    """
    handlers = _Handlers(clips, Actions(clips, worker, Exporter(events.publish)), events, token)

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        yield
        await run_in_threadpool(worker.close)
        await run_in_threadpool(clips.close)

    routes = [
        Route("/", handlers.page),
        Route("/clips", handlers.listing),
        Route("/events", handlers.stream),
        Route("/c/{clip}/", handlers.page),
        Route("/c/{clip}/state", handlers.state),
        Route("/c/{clip}/frame/{frame:int}.jpg", handlers.frame),
        Route("/c/{clip}/mask/{frame:int}", handlers.mask, methods=["GET"]),
        Route("/c/{clip}/mask/{frame:int}", handlers.put_mask, methods=["PUT"]),
        Route("/c/{clip}/{action}", handlers.act, methods=["POST"]),
        Mount("/page", StaticFiles(directory=PAGE)),
    ]
    return Guard(Starlette(routes=routes, exception_handlers={MgsegError: _explain}, lifespan=lifespan), token, hosts)


async def _body(request: Request) -> bytes:
    """The body of a request, of bounded size also where it does not tell its length."""
    data = bytearray()
    async for chunk in request.stream():
        data += chunk
        if len(data) > MAX_BODY:
            raise InputError(f"the upload is larger than {MAX_BODY} bytes")
    return bytes(data)


def _explain(request: Request, error: Exception) -> Response:
    status = 409 if isinstance(error, ConflictError) else 400
    return JSONResponse({"error": str(error), "hint": getattr(error, "hint", None)}, status)
