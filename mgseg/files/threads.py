"""Background reading and writing: a thread and a bounded queue each, so that disk, codec and network overlap.

An error in a thread is raised in the caller's at the next call; nothing waits for a thread that has ended.
"""

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Self, TypeVar

T = TypeVar("T")


def read_ahead(items: Iterable[T], depth: int = 3) -> Generator[T, None, None]:
    """Yield items while a thread fetches up to `depth` more; an error in the thread is raised at its item.

    Args:
        items: anything but None.
        depth: how many are held at most.
    """
    source = iter(items)
    pool = ThreadPoolExecutor(1, "read-ahead")
    try:
        waiting = deque(pool.submit(next, source, None) for _ in range(depth))
        while (item := waiting.popleft().result()) is not None:
            waiting.append(pool.submit(next, source, None))
            yield item
    finally:
        pool.shutdown(cancel_futures=True)


class WriteBehind:
    """Calls functions in order in a thread, none after one that failed. As a context manager it waits for all of them.

    Args:
        depth: how many calls wait at most; `put` blocks when there are more.
    """

    def __init__(self, depth: int = 6) -> None:
        self._depth = depth
        self._pool = ThreadPoolExecutor(1, "write-behind")
        self._waiting: deque[Future[None]] = deque()
        self._failed = False

    def put(self, write: Callable[[T], None], item: T) -> None:
        """Queue `write(item)`; raises the error of an earlier call."""
        self._waiting.append(self._pool.submit(self._call, write, item))
        while len(self._waiting) > self._depth:
            self._waiting.popleft().result()

    def _call(self, write: Callable[[T], None], item: T) -> None:
        if self._failed:
            return
        self._failed = True
        write(item)
        self._failed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            while self._waiting:
                self._waiting.popleft().result()
        finally:
            self._pool.shutdown(cancel_futures=True)
