"""How long tests wait: so long that only what never happens fails, on a slow and busy machine too."""

import asyncio
import time
from collections.abc import Callable
from functools import partial

import httpx

from licensing.storage.table import Table

WAIT_TIMEOUT_SECONDS = 120
"""For one answer, or for something that follows from it."""
PROGRAM_TIMEOUT_SECONDS = 300
"""For a program, from its start to its end or until it serves."""
_POLL_SECONDS = 0.02

long_timeout_table = partial(Table, connect_seconds=WAIT_TIMEOUT_SECONDS, read_seconds=WAIT_TIMEOUT_SECONDS)

http_get = partial(httpx.get, timeout=WAIT_TIMEOUT_SECONDS, trust_env=False)
http_post = partial(httpx.post, timeout=WAIT_TIMEOUT_SECONDS, trust_env=False)


def until[T](condition: Callable[[], T]) -> T:
    """Call the condition until it returns something true, and return that."""
    deadline = time.monotonic() + WAIT_TIMEOUT_SECONDS
    while not (found := condition()):
        assert time.monotonic() < deadline, f"it did not happen within {WAIT_TIMEOUT_SECONDS} s"
        time.sleep(_POLL_SECONDS)
    return found


async def until_async[T](condition: Callable[[], T]) -> T:
    """Like `until`, for what happens in this event loop."""
    deadline = time.monotonic() + WAIT_TIMEOUT_SECONDS
    while not (found := condition()):
        assert time.monotonic() < deadline, f"it did not happen within {WAIT_TIMEOUT_SECONDS} s"
        await asyncio.sleep(_POLL_SECONDS)
    return found
