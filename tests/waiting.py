"""How long tests wait: so long that only what never happens fails, on a slow and busy machine too."""

import asyncio
import time
from collections.abc import Callable
from functools import partial

import httpx

from licensing.tables import Table

PATIENCE_SECONDS = 120
"""For one answer, or for something that follows from it."""
PROGRAM_SECONDS = 300
"""For a program, from its start to its end or until it serves."""
_POLL_SECONDS = 0.02

patient_table = partial(Table, connect_seconds=PATIENCE_SECONDS, read_seconds=PATIENCE_SECONDS)

http_get = partial(httpx.get, timeout=PATIENCE_SECONDS, trust_env=False)
http_post = partial(httpx.post, timeout=PATIENCE_SECONDS, trust_env=False)


def until[T](condition: Callable[[], T]) -> T:
    """Call the condition until it returns something true, and return that."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not (found := condition()):
        assert time.monotonic() < deadline, f"it did not happen within {PATIENCE_SECONDS} s"
        time.sleep(_POLL_SECONDS)
    return found


async def until_async[T](condition: Callable[[], T]) -> T:
    """Like `until`, for what happens in this event loop."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not (found := condition()):
        assert time.monotonic() < deadline, f"it did not happen within {PATIENCE_SECONDS} s"
        await asyncio.sleep(_POLL_SECONDS)
    return found
