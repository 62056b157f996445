"""When dates take effect: to the second, and in the customer's favour."""

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from licensing.catalogue.dates import Dates, boundaries, has_ended, has_started, is_disabled

DAY = date(2026, 11, 24)
SECOND = timedelta(seconds=1)
BEGINS_FIRST = datetime(2026, 11, 23, 10, tzinfo=UTC)
BEGUN_EVERYWHERE = datetime(2026, 11, 24, 12, tzinfo=UTC)
OVER_EVERYWHERE = datetime(2026, 11, 25, 12, tzinfo=UTC)

CHANGES: dict[str, tuple[datetime, Callable[[Dates], bool]]] = {
    "a start date": (BEGINS_FIRST, lambda dates: has_started(DAY, dates)),
    "an end date": (OVER_EVERYWHERE, lambda dates: has_ended(DAY, dates)),
    "a feature disable date after the end date": (
        BEGUN_EVERYWHERE,
        lambda dates: is_disabled(date(2026, 11, 1), DAY, dates),
    ),
    "a feature disable date on the end date": (OVER_EVERYWHERE, lambda dates: is_disabled(DAY, DAY, dates)),
    "a feature disable date before the end date": (
        OVER_EVERYWHERE,
        lambda dates: is_disabled(DAY, date(2026, 11, 1), dates),
    ),
}


@pytest.mark.parametrize(("instant", "rule"), CHANGES.values(), ids=CHANGES)
def test_date_rule_takes_effect_at_its_instant_and_not_a_second_before(
    instant: datetime, rule: Callable[[Dates], bool]
) -> None:
    assert not rule(Dates.at(instant - SECOND))
    assert rule(Dates.at(instant))


@pytest.mark.parametrize("day", [date.min, DAY, date.max])
def test_has_started_without_date_returns_true_and_has_ended_returns_false(day: date) -> None:
    dates = Dates(day, day)
    assert has_started(None, dates)
    assert not has_ended(None, dates)


@pytest.mark.parametrize(("end", "disable"), [(None, DAY), (DAY, None), (None, None)])
def test_is_disabled_without_both_dates_returns_false(end: date | None, disable: date | None) -> None:
    assert not is_disabled(end, disable, Dates.at(datetime(2030, 1, 1, tzinfo=UTC)))


type Days = tuple[date | None, date | None, date | None]
BOUNDARIES: dict[str, tuple[Days, datetime]] = {
    "start": ((DAY, None, None), BEGINS_FIRST),
    "end": ((None, DAY, None), OVER_EVERYWHERE),
    "feature disable": ((None, None, DAY), BEGUN_EVERYWHERE),
}


@pytest.mark.parametrize(("days", "instant"), BOUNDARIES.values(), ids=BOUNDARIES)
def test_boundaries_excludes_first_instant_and_includes_last(days: Days, instant: datetime) -> None:
    def found(after: datetime, until: datetime) -> list[datetime]:
        return [*boundaries(*days, Dates.at(after), Dates.at(until))]

    year = timedelta(days=365)
    assert found(instant - SECOND, instant) == [instant]
    assert found(instant - year, instant + year) == [instant]
    assert found(instant, instant + year) == []
    assert found(instant - year, instant - SECOND) == []


@pytest.mark.parametrize("day", [date.min, date.max])
def test_boundaries_for_first_and_last_possible_date_returns_nothing(day: date) -> None:
    until = Dates.at(BEGINS_FIRST + timedelta(days=400))
    assert [*boundaries(day, day, day, Dates.at(BEGINS_FIRST), until)] == []


days = st.none() | st.dates(DAY - timedelta(days=9), DAY + timedelta(days=9))
instants = st.integers(-10 * 86_400, 10 * 86_400).map(lambda seconds: BEGUN_EVERYWHERE + timedelta(seconds=seconds))


@given(days, days, days, instants, instants)
def test_date_rules_return_same_results_between_boundaries(
    start: date | None, end: date | None, disable: date | None, one: datetime, other: datetime
) -> None:
    def results(at: datetime) -> tuple[bool, ...]:
        dates = Dates.at(at)
        return has_started(start, dates), has_ended(end, dates), is_disabled(end, disable, dates)

    after, until = sorted((one, other))
    found = {*boundaries(start, end, disable, Dates.at(after), Dates.at(until))}
    assert results(max(found | {after})) == results(until)
    assert results(min(found | {until + SECOND}) - SECOND) == results(after)
