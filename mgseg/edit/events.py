"""Server-sent events: changes by the worker and by other tabs are sent to every open page."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

_HELD = 4096  # events queued for one slow page; on overflow the page reloads everything
_ALIVE = 15.0  # seconds between two comments that keep the connection


class Events:
    """Sends events from any thread to every open page."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._pages: set[asyncio.Queue[dict[str, Any]]] = set()

    def publish(self, clip_id: str, event: dict[str, Any]) -> None:
        """Send an event of a clip to all pages; may be called from any thread."""
        if self._loop and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._spread, {"clip": clip_id} | event)

    def _spread(self, event: dict[str, Any]) -> None:
        for page in self._pages:
            if page.full():
                while not page.empty():
                    page.get_nowait()
                event = {"type": "reload"}
            page.put_nowait(event)

    async def stream(self) -> AsyncIterator[str]:
        """Yield events as text/event-stream to one page; after the first, {"type": "open"}, none is missed."""
        self._loop = asyncio.get_running_loop()
        page: asyncio.Queue[dict[str, Any]] = asyncio.Queue(_HELD)
        self._pages.add(page)
        try:
            yield _message({"type": "open"})  # what happens from now on is sent
            while True:
                try:
                    event = await asyncio.wait_for(page.get(), _ALIVE)
                    yield _message(event)
                except TimeoutError:
                    yield ": alive\n\n"
        finally:
            self._pages.discard(page)


def _message(event: dict[str, Any]) -> str:
    return f"data: {json.dumps(event)}\n\n"
