"""Windows and reminders: the rules, without storage."""

import itertools
from datetime import date, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from licensing.catalogue.records import LicenseType
from licensing.reports.model import (
    OVERDUE,
    THRESHOLDS,
    ExpiryItem,
    ExpiryWindow,
    Reminded,
    last_day,
    recipient,
    reminders,
)
from tests.support.records import a_publisher

DAYS = st.dates(date(1900, 1, 1), date(9000, 1, 1))
TODAY = date(2026, 11, 24)


@pytest.mark.parametrize(
    ("window", "today", "last"),
    [
        pytest.param("thisWeek", "2026-11-24", "2026-11-29", id="from a Tuesday to Sunday"),
        pytest.param("thisWeek", "2026-11-23", "2026-11-29", id="a Monday begins the week"),
        pytest.param("thisWeek", "2026-11-29", "2026-11-29", id="a Sunday ends it"),
        pytest.param("thisWeek", "2026-12-31", "2027-01-03", id="a week goes over the end of a year"),
        pytest.param("thisMonth", "2026-11-24", "2026-11-30", id="a month of 30 days"),
        pytest.param("thisMonth", "2026-12-31", "2026-12-31", id="the last day of a month"),
        pytest.param("thisMonth", "2027-02-01", "2027-02-28", id="a February"),
        pytest.param("thisMonth", "2028-02-01", "2028-02-29", id="a February of a leap year"),
        pytest.param("nextThreeMonths", "2026-11-24", "2027-02-24", id="three months, over the end of a year"),
        pytest.param("nextThreeMonths", "2026-09-30", "2026-12-30", id="three months to December"),
        pytest.param("nextThreeMonths", "2026-11-30", "2027-02-28", id="a day that February has not"),
        pytest.param("nextThreeMonths", "2027-11-30", "2028-02-29", id="nor that of a leap year"),
        pytest.param("nextThreeMonths", "2026-01-31", "2026-04-30", id="a 31st where there is a 30th"),
        pytest.param("nextThreeMonths", "2026-02-28", "2026-05-28", id="a month's last day stays what it is"),
        pytest.param("nextSixMonths", "2026-11-24", "2027-05-24", id="six months, over the end of a year"),
        pytest.param("nextSixMonths", "2026-06-30", "2026-12-30", id="six months to December"),
        pytest.param("nextSixMonths", "2027-08-31", "2028-02-29", id="six months to the 29th of February"),
        pytest.param("nextSixMonths", "2028-02-29", "2028-08-29", id="six months from it"),
        pytest.param("thisYear", "2026-11-24", "2026-12-31", id="a year"),
        pytest.param("thisYear", "2028-02-29", "2028-12-31", id="a leap year"),
        pytest.param("thisYear", "2026-12-31", "2026-12-31", id="its last day"),
    ],
)
def test_last_day_returns_end_of_window(window: str, today: str, last: str) -> None:
    assert last_day(ExpiryWindow(window), date.fromisoformat(today)) == date.fromisoformat(last)


@given(DAYS)
def test_windows_include_today_and_are_nested(today: date) -> None:
    week, month, three, six, year = (last_day(window, today) for window in ExpiryWindow)
    assert today <= week <= three <= six
    assert today <= month <= three
    assert month <= year


@given(DAYS)
def test_last_day_of_each_window_matches_its_calendar_unit(today: date) -> None:
    week, month, three, six, year = (last_day(window, today) for window in ExpiryWindow)
    assert (week.isoweekday(), (week - today).days // 7) == (7, 0)
    following = month + timedelta(days=1)
    assert (following.day, month.month, month.year) == (1, today.month, today.year)
    for end, months in ((three, 3), (six, 6)):
        assert end.year * 12 + end.month - today.year * 12 - today.month == months
        # The same day; or a smaller one, and then the last that there is.
        assert end.day == today.day or (end.day < today.day and (end + timedelta(days=1)).day == 1)
    assert (year.month, year.day, year.year) == (12, 31, today.year)


@given(st.sampled_from(ExpiryWindow), DAYS)
def test_last_day_never_moves_back_on_the_next_day(window: ExpiryWindow, today: date) -> None:
    assert last_day(window, today) <= last_day(window, today + timedelta(days=1))


def an_item(end_date: date, today: date = TODAY, customer_product_id: str = "1", *, enabled: bool = True) -> ExpiryItem:
    return ExpiryItem(
        license_type=LicenseType.ANNUAL,
        end_date=end_date,
        enabled=enabled,
        days_left=(end_date - today).days,
        expired=end_date < today,
        customer_product_id=customer_product_id,
    )


def thresholds(end_date: date, *reminded: int, today: date = TODAY) -> list[int]:
    """At which threshold the publisher is reminded today, who was reminded at those already."""
    before = {Reminded(end_date, "1", threshold) for threshold in reminded}
    return [each.threshold for each in reminders([an_item(end_date, today)], before)]


@pytest.mark.parametrize(
    ("days_left", "threshold"),
    [(-900, OVERDUE), (-1, OVERDUE), (0, 0), (1, 1), (2, 7), (7, 7), (8, 14), (14, 14), (15, 30), (30, 30), (31, 60)],
)
def test_reminders_use_smallest_reached_threshold(days_left: int, threshold: int) -> None:
    assert thresholds(TODAY + timedelta(days=days_left)) == [threshold]


def test_reminders_omit_items_beyond_largest_threshold() -> None:
    assert thresholds(TODAY + timedelta(days=61)) == []


@pytest.mark.parametrize(
    ("reminded", "expected"),
    [
        pytest.param([], [14], id="never yet"),
        pytest.param([60, 30], [14], id="at larger ones"),
        pytest.param([60, 30, 14], [], id="at this one"),
        pytest.param([7], [], id="at a smaller one"),
        pytest.param([60, 0], [], id="at the smallest"),
    ],
)
def test_reminders_skip_thresholds_already_sent(reminded: list[int], expected: list[int]) -> None:
    assert thresholds(TODAY + timedelta(days=10), *reminded) == expected


@pytest.mark.parametrize(
    ("reminded", "expected"),
    [
        pytest.param([], [OVERDUE], id="never yet"),
        pytest.param([7, 0], [OVERDUE], id="before it ended"),
        pytest.param([0, OVERDUE], [], id="after it ended"),
    ],
)
def test_reminders_include_overdue_item_once(reminded: list[int], expected: list[int]) -> None:
    assert thresholds(TODAY - timedelta(days=1), *reminded) == expected


@pytest.mark.parametrize("days_left", [-5, 0, 10])
def test_reminders_omit_disabled_items(days_left: int) -> None:
    assert [*reminders([an_item(TODAY + timedelta(days=days_left), enabled=False)], set())] == []


def test_reminders_ignore_those_sent_for_other_end_date_or_customer_product() -> None:
    end_date = TODAY + timedelta(days=10)
    before = {Reminded(end_date, "2", 14), Reminded(end_date + timedelta(days=1), "1", 14)}
    (reminder,) = reminders([an_item(end_date)], before)
    assert reminder.reminded == Reminded(end_date, "1", 14)


@given(st.sets(st.integers(-9, 70), min_size=1), st.dates(date(2020, 1, 1), date(2030, 1, 1)))
def test_reminders_on_any_schedule_reach_each_threshold_once_in_order(days_left: set[int], end_date: date) -> None:
    told: list[int] = []
    for days in sorted(days_left, reverse=True):
        now = thresholds(end_date, *told, today=end_date - timedelta(days=days))
        reached = [OVERDUE] if days < 0 else [threshold for threshold in THRESHOLDS if threshold >= days]
        assert now == ([] if not reached or reached[0] in told else [reached[0]])
        told += now
    assert all(earlier > later for earlier, later in itertools.pairwise(told))


@pytest.mark.parametrize(
    ("licensing_email", "support_email", "expected"),
    [
        ("licensing@contoso.example", "support@contoso.example", "licensing@contoso.example"),
        ("", "support@contoso.example", "support@contoso.example"),
        ("", "", ""),
    ],
)
def test_recipient_is_licensing_email_or_else_support_email(
    licensing_email: str, support_email: str, expected: str
) -> None:
    assert recipient(a_publisher(licensing_email=licensing_email, support_email=support_email)) == expected
