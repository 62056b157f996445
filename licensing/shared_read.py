"""One read for all who ask at the same time."""

import asyncio
import time
from collections.abc import Awaitable, Callable


class SharedRead[T]:
    """A read whose answer is newer than the question: it serves all who asked before it began, and none later.

    Reads follow one another, `spacing_seconds` or more from start to start, so that their number stays small however
    many ask.
    """

    def __init__(self, read: Callable[[], Awaitable[T]], spacing_seconds: float) -> None:
        self._read = read
        self._spacing_seconds = spacing_seconds
        self._started_at = float("-inf")
        self._running: asyncio.Task[T] | None = None
        self._next: asyncio.Task[T] | None = None

    async def get(self) -> T:
        if self._next is None:
            self._next = asyncio.create_task(self._run(self._running))
            self._next.add_done_callback(retrieve)
        # Shielded: one who gives up waiting must not end the read for the others.
        return await asyncio.shield(self._next)

    async def _run(self, before: asyncio.Task[T] | None) -> T:
        if before is not None and not before.done():
            await asyncio.wait([before])
        pause = self._started_at + self._spacing_seconds - time.monotonic()
        if pause > 0:
            await asyncio.sleep(pause)
        self._started_at = time.monotonic()
        self._running, self._next = self._next, None
        return await self._read()


def retrieve(task: asyncio.Task[object]) -> None:
    """Look at the outcome, since all who waited for it may have given up."""
    if not task.cancelled():
        task.exception()
