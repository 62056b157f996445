"""How often one environment may ask."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from licensing.errors import TooManyRequests
from licensing.validation.rate import RateLimit


class Clock:
    """Time that passes when it is told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def allowed_calls(limit: RateLimit, key: str, times: int) -> int:
    """How many of so many calls at once were let through."""
    let_through = 0
    for _ in range(times):
        try:
            limit.take(key)
        except TooManyRequests:
            continue
        let_through += 1
    return let_through


# At 6 a minute a call is paid off in 10 s. A step: so many seconds pass, so many ask at once, so many are let through.
CASES: list[tuple[str, int, list[tuple[float, int, int]]]] = [
    ("who asks for the first time may ask a minute's worth at once", 6, [(0, 6, 6)]),
    ("and not one more", 6, [(0, 7, 6)]),
    ("a refused call costs nothing", 6, [(0, 100, 6), (10, 1, 1)]),
    ("just before the next is paid off it is refused", 6, [(0, 6, 6), (9.999, 1, 0)]),
    ("once it is paid off it is let through, and only it", 6, [(0, 6, 6), (10, 2, 1)]),
    ("in half a minute half a minute's worth is paid off", 6, [(0, 6, 6), (30, 6, 3)]),
    ("after a minute all is paid off", 6, [(0, 6, 6), (60, 7, 6)]),
    ("after a year no more than a minute's worth", 6, [(0, 6, 6), (31_536_000, 100, 6)]),
    ("who keeps the pace is never refused", 6, [(10, 1, 1)] * 100),
    ("one a minute is one a minute", 1, [(0, 2, 1), (59.9, 1, 0), (0.1, 1, 1), (0, 1, 0)]),
    ("a rate that binary fractions do not hold exactly", 7, [(0, 8, 7), (60 / 7, 2, 1), (60, 8, 7)]),
]


@pytest.mark.parametrize(("per_minute", "steps"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_rate_limit_allows_expected_number_of_calls(per_minute: int, steps: list[tuple[float, int, int]]) -> None:
    clock = Clock()
    limit = RateLimit(per_minute, clock=clock)
    for passing, asking, let_through in steps:
        clock.now += passing
        assert allowed_calls(limit, "environment", asking) == let_through


@pytest.mark.parametrize(("passed", "wait"), [(0, 10), (0.5, 10), (1, 9), (9, 1), (9.9, 1)])
def test_rate_limit_when_exceeded_reports_retry_after_seconds(passed: float, wait: int) -> None:
    clock = Clock()
    limit = RateLimit(6, clock=clock)
    allowed_calls(limit, "environment", 6)
    clock.now += passed
    with pytest.raises(TooManyRequests) as caught:
        limit.take("environment")
    assert caught.value.retry_after_seconds == wait
    clock.now += wait
    limit.take("environment")


def test_rate_limit_is_independent_for_each_environment() -> None:
    limit = RateLimit(3, clock=Clock())
    assert allowed_calls(limit, "one", 10) == 3
    assert allowed_calls(limit, "other", 10) == 3


def test_rate_limit_at_capacity_forgets_oldest_environments() -> None:
    limit = RateLimit(1, capacity=100, clock=Clock())
    for number in range(10_000):
        limit.take(number)
    assert len(limit._theoretical_arrival_at) == 100
    assert allowed_calls(limit, "0", 2) == 1
    with pytest.raises(TooManyRequests):
        limit.take(9_999)


def test_rate_limit_with_known_environment_evicts_no_other() -> None:
    limit = RateLimit(10, capacity=2, clock=Clock())
    for key in ("one", "two", "two", "two"):
        limit.take(key)
    assert set(limit._theoretical_arrival_at) == {"one", "two"}


@given(
    st.integers(1, 400),
    st.lists(st.floats(0, 20, allow_nan=False) | st.just(0.0), min_size=1, max_size=100),
    st.floats(0.001, 600),
)
def test_rate_limit_in_any_window_allows_at_most_burst_plus_rate(
    per_minute: int, pauses: list[float], window_seconds: float
) -> None:
    clock = Clock()
    limit = RateLimit(per_minute, clock=clock)
    let_through_at: list[float] = []
    for pause in pauses:
        clock.now += pause
        let_through_at += [clock.now] * allowed_calls(limit, "environment", 7)
    most = per_minute * (1 + window_seconds / 60)
    for start in let_through_at:
        within = sum(start <= at < start + window_seconds for at in let_through_at)
        assert within <= math.floor(most + 1e-3)


@given(st.integers(1, 400), st.lists(st.floats(0, 5), min_size=1, max_size=50))
def test_rate_limit_at_even_or_slower_pace_never_rejects(per_minute: int, delays: list[float]) -> None:
    clock = Clock()
    limit = RateLimit(per_minute, clock=clock)
    for delay in delays:
        limit.take("environment")
        clock.now += 60 / per_minute + delay
