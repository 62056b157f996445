"""One read for all who ask at the same time."""

import asyncio
from collections.abc import Awaitable, Callable
from contextvars import Context


class CoalescedRead[T]:
    """One read for all callers that called before it began, and for none that called later.

    Reads follow one another. While they are shared, their starts are `min_interval_seconds` or more apart, so that many
    callers cause few reads. A caller waits about `timeout_seconds` at most. Belongs to one event loop.
    """

    def __init__(
        self, read: Callable[[], Awaitable[T]], *, min_interval_seconds: float, timeout_seconds: float
    ) -> None:
        self._read = read
        self._min_interval_seconds = min_interval_seconds
        self._timeout_seconds = timeout_seconds
        self._next_at = 0.0
        self._waiting: list[asyncio.Future[T]] = []
        self._serving: asyncio.Task[None] | None = None

    def get(self) -> asyncio.Future[T]:
        """What the next read brings. Raises what the read raises, and TimeoutError."""
        loop = asyncio.get_running_loop()
        if not self._waiting:
            # One clock for all who share a read: the first of them has waited longest.
            loop.call_later(self._timeout_seconds, _time_out, self._waiting)
        if self._serving is None:
            # In nobody's trace: it is the read of all who wait.
            self._serving = loop.create_task(self._serve(), context=Context())
        future: asyncio.Future[T] = loop.create_future()
        self._waiting.append(future)
        return future

    async def _serve(self) -> None:
        """Read for those who wait, again and again until nobody does."""
        loop = asyncio.get_running_loop()
        try:
            while self._waiting:
                await asyncio.sleep(self._next_at - loop.time())
                served, self._waiting = self._waiting, []
                # Whoever asks alone is not kept waiting.
                self._next_at = loop.time() + self._min_interval_seconds if len(served) > 1 else 0
                await self._resolve(served)
        finally:
            # However this ends, whoever asks next starts it anew.
            self._serving = None

    async def _resolve(self, served: list[asyncio.Future[T]]) -> None:
        try:
            # A read that hangs, on a connection that has died say, must not hold up the next one too.
            async with asyncio.timeout(self._timeout_seconds):
                result = await self._read()
        except BaseException as error:
            for future in served:
                if not future.done():
                    future.set_exception(error if isinstance(error, Exception) else TimeoutError())
            if not isinstance(error, Exception):
                raise
        else:
            for future in served:
                if not future.done():
                    future.set_result(result)


def _time_out[T](waiting: list[asyncio.Future[T]]) -> None:
    for future in waiting:
        if not future.done():
            future.set_exception(TimeoutError())
    # Whoever comes now waits by a clock of their own.
    waiting.clear()
