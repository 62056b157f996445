"""How often one environment may ask."""

import math
import time
from collections.abc import Callable, Hashable

from licensing.errors import TooManyRequests

_PERIOD_SECONDS = 60.0


class RateLimit:
    """`per_minute` calls a minute for each key in the long run, and as many at once.

    The generic cell rate algorithm (ITU-T I.371): one number a key, the instant at which all its calls so far would be
    paid off at an even pace. It may lie a minute ahead at most, so that a minute that begins with all of them at once
    sees twice as many. Holds `capacity` keys; those that were first seen longest ago are forgotten first, in the
    caller's favour.
    """

    def __init__(
        self, per_minute: int, *, capacity: int = 100_000, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._interval_seconds = _PERIOD_SECONDS / per_minute
        self._capacity = capacity
        self._clock = clock
        self._theoretical_arrival_at: dict[Hashable, float] = {}

    def take(self, key: Hashable) -> None:
        """Count a call. Raises TooManyRequests, which says when the next one may come."""
        now = self._clock()
        theoretical_arrival_at = max(self._theoretical_arrival_at.get(key, now), now) + self._interval_seconds
        wait_seconds = theoretical_arrival_at - now - _PERIOD_SECONDS
        if wait_seconds > self._interval_seconds * 1e-6:  # sums of intervals are not exact
            raise TooManyRequests(
                "This environment asks too often. Its last reply goes on counting; wait before the next.",
                retry_after_seconds=max(1, math.ceil(wait_seconds)),
            )
        if key not in self._theoretical_arrival_at and len(self._theoretical_arrival_at) >= self._capacity:
            del self._theoretical_arrival_at[next(iter(self._theoretical_arrival_at))]
        self._theoretical_arrival_at[key] = theoretical_arrival_at
