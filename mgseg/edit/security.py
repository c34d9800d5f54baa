"""Access control of the server: only pages that it served itself, checked by token, Host and Origin."""

import hmac
from collections.abc import Iterable

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

MAX_BODY = 2**27  # bytes of an upload; the largest frame's mask, uncompressed, is half of that
_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' blob: data:; style-src 'self' 'unsafe-inline'; "
    "frame-ancestors 'none'; base-uri 'self'; form-action 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class Guard:
    """Rejects every request that does not come from the page itself.

    The first part of each path is a random token that only the printed address holds. Host must be one of the
    server's own names, against DNS rebinding; Origin, where it is sent, too, against other sites' pages.

    Args:
        app: what to guard.
        token: first part of all paths.
        hosts: allowed Host headers, such as "127.0.0.1:8000".
    """

    def __init__(self, app: ASGIApp, token: str, hosts: Iterable[str]) -> None:
        self._app, self._token, self._hosts = app, token, set(hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return
        refusal = self._refuse(Request(scope))
        if refusal:
            await refusal(scope, receive, send)
            return

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                sent = message.setdefault("headers", [])
                names = {name.lower() for name, _ in sent}
                for name, value in _HEADERS.items():
                    if name.lower().encode() not in names:
                        sent.append((name.lower().encode(), value.encode()))
            await send(message)

        rest = scope["path"].removeprefix(f"/{self._token}") or "/"
        await self._app({**scope, "path": rest, "raw_path": rest.encode()}, receive, with_headers)

    def _refuse(self, request: Request) -> Response | None:
        host, origin = request.headers.get("host", ""), request.headers.get("origin")
        if host not in self._hosts:
            return PlainTextResponse("this server does not answer to that name", 403)
        if origin is not None and origin not in {f"http://{name}" for name in self._hosts}:
            return PlainTextResponse("requests from other sites are refused", 403)
        given = request.url.path.split("/")[1]
        if not hmac.compare_digest(given.encode(), self._token.encode()):
            return PlainTextResponse("open the address that mgseg edit printed: it holds a token", 403)
        if request.method not in {"GET", "HEAD"} and origin is None and "sec-fetch-site" in request.headers:
            return PlainTextResponse("requests that change something name their Origin", 403)
        length = request.headers.get("content-length", "0")
        if not length.isdecimal() or int(length) > MAX_BODY:
            return PlainTextResponse("the upload is too large", 413)
        return None
