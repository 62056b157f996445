"""What the status page makes of health and notices."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from licensing.health import Status
from licensing.notices.board import Board, Tone, parts, verdict
from licensing.notices.feeds import Published, worth_showing
from licensing.notices.model import Impact, Notice, NoticeKind, NoticeStatus
from tests.notices.gallery import Gallery, a_publisher, ordinary

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
WELL = {"storage": Status.HEALTHY, "signing": Status.HEALTHY}
S = NoticeStatus


def board(notices: list[Notice]) -> Board:
    return Board.of(
        Published(
            publisher=a_publisher(NOW),
            products={},
            notices=worth_showing(notices, NOW),
            now=NOW,
            read_at=NOW,
            public_url="https://licenses.example.com",
            support_email="",
        )
    )


def a_notice(kind: NoticeKind, status: NoticeStatus, age: timedelta = HOUR, **fields: Any) -> Notice:
    return Gallery(NOW).add(kind, status, "Title", age, **fields)


MAINTENANCE: dict[str, Any] = {"starts_at": NOW - HOUR, "ends_at": NOW + HOUR}


@pytest.mark.parametrize(
    ("checks", "notices", "tone", "sentence"),
    [
        ({}, [], Tone.GOOD, "The license server is working"),
        ({"storage": Status.DEGRADED}, [], Tone.MAJOR, "The license server is only partly working"),
        ({"signing": Status.UNHEALTHY}, [], Tone.CRITICAL, "The license server is down"),
        (
            {},
            [a_notice(NoticeKind.INCIDENT, S.INVESTIGATING, impact=Impact.MINOR)],
            Tone.MINOR,
            "There is a minor disruption",
        ),
        (
            {"storage": Status.DEGRADED},
            [a_notice(NoticeKind.INCIDENT, S.MONITORING, impact=Impact.CRITICAL)],
            Tone.CRITICAL,
            "There is a critical disruption",
        ),
        ({}, [a_notice(NoticeKind.INCIDENT, S.RESOLVED, impact=Impact.CRITICAL)], Tone.GOOD, ""),
        (
            {},
            [a_notice(NoticeKind.MAINTENANCE, S.IN_PROGRESS, **MAINTENANCE)],
            Tone.PLANNED,
            "Maintenance is under way",
        ),
        (
            {},
            [a_notice(NoticeKind.MAINTENANCE, S.IN_PROGRESS, starts_at=NOW - 2 * HOUR, ends_at=NOW - HOUR)],
            Tone.MINOR,
            "Maintenance is taking longer than planned",
        ),
        ({}, [a_notice(NoticeKind.MAINTENANCE, S.SCHEDULED, **MAINTENANCE)], Tone.GOOD, ""),
        ({}, [a_notice(NoticeKind.ANNOUNCEMENT, S.PUBLISHED)], Tone.GOOD, ""),
    ],
)
def test_the_verdict_is_the_gravest_of_all_that_is_true(
    checks: dict[str, Status], notices: list[Notice], tone: Tone, sentence: str
) -> None:
    found = verdict(tuple(notices), WELL | checks, NOW, readable=True)
    assert found.tone is tone
    assert sentence in found.sentence


def test_records_that_cannot_be_read_are_no_good_news() -> None:
    assert verdict((), WELL, NOW, readable=False).tone is Tone.MAJOR


def test_every_part_has_a_name_and_a_state_in_words() -> None:
    told = parts({**WELL, "storage": Status.DEGRADED, "telemetry": Status.UNHEALTHY})
    assert [(part.name, part.tone) for part in told] == [
        ("License records", Tone.MAJOR),
        ("License validation", Tone.GOOD),
        ("Telemetry", Tone.CRITICAL),
    ]
    assert len({part.state for part in told}) == 3


def test_what_is_shown_where_and_in_which_order() -> None:
    shown = board(ordinary(NOW))
    assert [notice.title for notice in shown.under_way] == [
        "Validations are slow in Europe",
        "Signing keys are renewed",
    ]
    assert [notice.title for notice in shown.announced] == ["Move to a new region", "ForexRates 4 comes in January"]
    assert [(day, len(notices)) for day, notices in shown.history] == [(date(2026, 11, 12), 1), (date(2026, 10, 21), 2)]


def test_a_maintenance_that_is_late_to_begin_is_still_announced() -> None:
    late = a_notice(NoticeKind.MAINTENANCE, S.SCHEDULED, **MAINTENANCE)
    assert board([late]).announced == [late]


def gravest(*notices: Notice) -> dict[date, Tone]:
    """The days that were not quiet."""
    days = board(list(notices)).days
    assert (len(days), days[-1].date) == (90, NOW.date())
    return {day.date: day.tone for day in days if day.tone is not Tone.GOOD}


def test_each_of_the_last_90_days_shows_the_gravest_that_went_on() -> None:
    minor = a_notice(NoticeKind.INCIDENT, S.MONITORING, 2 * DAY, impact=Impact.MINOR)
    major = a_notice(NoticeKind.INCIDENT, S.MONITORING, DAY, impact=Impact.MAJOR)
    assert gravest(minor, major) == {date(2026, 11, 22): 2, date(2026, 11, 23): 3, date(2026, 11, 24): 3}


def test_what_never_went_on_marks_no_day() -> None:
    cancelled, ahead = ordinary(NOW)[-1], ordinary(NOW)[2]
    withdrawn = a_notice(NoticeKind.ANNOUNCEMENT, S.WITHDRAWN, DAY)
    assert not gravest(cancelled, ahead, withdrawn)


def test_the_days_are_told_in_words_too() -> None:
    incident = a_notice(NoticeKind.INCIDENT, S.RESOLVED, DAY, impact=Impact.MAJOR)
    assert board([incident]).summary == "89 days without a disruption, 1 with one"
    assert board([replace(ordinary(NOW)[1], ends_at=NOW + HOUR)]).summary == "No disruption"
