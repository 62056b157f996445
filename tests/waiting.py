"""Wait for an event in a test, however slow the machine is."""

import time
from collections.abc import Callable

HANG_SECONDS = 60.0
"""A step that takes so long hangs. It only limits how long a test waits; no test measures anything with it."""


def until(happened: Callable[[], object]) -> None:
    """Wait until the condition holds. Raises AssertionError where it does not within HANG_SECONDS."""
    end = time.monotonic() + HANG_SECONDS
    while not happened():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.02)
