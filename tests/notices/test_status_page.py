"""What the status page makes of health and notices."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from licensing.health import Status
from licensing.notices.model import Impact, Notice, NoticeKind, NoticeStatus
from licensing.notices.public.feeds import Published, worth_showing
from licensing.notices.public.status_page import Severity, StatusPage, parts, summary_of
from tests.notices.samples import NoticeSamples, a_publisher, ordinary

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
HEALTHY_CHECKS = {"storage": Status.HEALTHY, "signing": Status.HEALTHY}
S = NoticeStatus


def status_page(notices: list[Notice]) -> StatusPage:
    return StatusPage.of(
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
    return NoticeSamples(NOW).add(kind, status, "Title", age, **fields)


MAINTENANCE: dict[str, Any] = {"starts_at": NOW - HOUR, "ends_at": NOW + HOUR}


@pytest.mark.parametrize(
    ("checks", "notices", "severity", "sentence"),
    [
        ({}, [], Severity.GOOD, "The license server is working"),
        ({"storage": Status.DEGRADED}, [], Severity.MAJOR, "The license server is only partly working"),
        ({"signing": Status.UNHEALTHY}, [], Severity.CRITICAL, "The license server is down"),
        (
            {},
            [a_notice(NoticeKind.INCIDENT, S.INVESTIGATING, impact=Impact.MINOR)],
            Severity.MINOR,
            "There is a minor disruption",
        ),
        (
            {"storage": Status.DEGRADED},
            [a_notice(NoticeKind.INCIDENT, S.MONITORING, impact=Impact.CRITICAL)],
            Severity.CRITICAL,
            "There is a critical disruption",
        ),
        ({}, [a_notice(NoticeKind.INCIDENT, S.RESOLVED, impact=Impact.CRITICAL)], Severity.GOOD, ""),
        (
            {},
            [a_notice(NoticeKind.MAINTENANCE, S.IN_PROGRESS, **MAINTENANCE)],
            Severity.PLANNED,
            "Maintenance is under way",
        ),
        (
            {},
            [a_notice(NoticeKind.MAINTENANCE, S.IN_PROGRESS, starts_at=NOW - 2 * HOUR, ends_at=NOW - HOUR)],
            Severity.MINOR,
            "Maintenance is taking longer than planned",
        ),
        ({}, [a_notice(NoticeKind.MAINTENANCE, S.SCHEDULED, **MAINTENANCE)], Severity.GOOD, ""),
        ({}, [a_notice(NoticeKind.ANNOUNCEMENT, S.PUBLISHED)], Severity.GOOD, ""),
    ],
)
def test_summary_has_highest_severity_of_health_checks_and_notices(
    checks: dict[str, Status], notices: list[Notice], severity: Severity, sentence: str
) -> None:
    found = summary_of(tuple(notices), HEALTHY_CHECKS | checks, NOW, readable=True)
    assert found.severity is severity
    assert sentence in found.sentence


def test_summary_with_unreadable_records_is_major() -> None:
    assert summary_of((), HEALTHY_CHECKS, NOW, readable=False).severity is Severity.MAJOR


def test_parts_have_display_name_severity_and_state_text() -> None:
    told = parts({**HEALTHY_CHECKS, "storage": Status.DEGRADED, "telemetry": Status.UNHEALTHY})
    assert [(part.name, part.severity) for part in told] == [
        ("License records", Severity.MAJOR),
        ("License validation", Severity.GOOD),
        ("Telemetry", Severity.CRITICAL),
    ]
    assert len({part.state for part in told}) == 3


def test_status_page_groups_and_sorts_notices() -> None:
    shown = status_page(ordinary(NOW))
    assert [notice.title for notice in shown.under_way] == [
        "Validations are slow in Europe",
        "Signing keys are renewed",
    ]
    assert [notice.title for notice in shown.announced] == ["Move to a new region", "ForexRates 4 comes in January"]
    assert [(day, len(notices)) for day, notices in shown.history] == [(date(2026, 11, 12), 1), (date(2026, 10, 21), 2)]


def test_status_page_lists_late_scheduled_maintenance_as_announced() -> None:
    late = a_notice(NoticeKind.MAINTENANCE, S.SCHEDULED, **MAINTENANCE)
    assert status_page([late]).announced == [late]


def severity_by_day(*notices: Notice) -> dict[date, Severity]:
    """The days that were not quiet."""
    days = status_page(list(notices)).days
    assert (len(days), days[-1].date) == (90, NOW.date())
    return {day.date: day.severity for day in days if day.severity is not Severity.GOOD}


def test_status_page_days_show_highest_severity_of_each_of_90_days() -> None:
    minor = a_notice(NoticeKind.INCIDENT, S.MONITORING, 2 * DAY, impact=Impact.MINOR)
    major = a_notice(NoticeKind.INCIDENT, S.MONITORING, DAY, impact=Impact.MAJOR)
    assert severity_by_day(minor, major) == {date(2026, 11, 22): 2, date(2026, 11, 23): 3, date(2026, 11, 24): 3}


def test_status_page_days_ignore_cancelled_future_and_withdrawn_notices() -> None:
    cancelled, ahead = ordinary(NOW)[-1], ordinary(NOW)[2]
    withdrawn = a_notice(NoticeKind.ANNOUNCEMENT, S.WITHDRAWN, DAY)
    assert not severity_by_day(cancelled, ahead, withdrawn)


def test_status_page_describes_days_with_and_without_disruption_in_text() -> None:
    incident = a_notice(NoticeKind.INCIDENT, S.RESOLVED, DAY, impact=Impact.MAJOR)
    assert status_page([incident]).summary == "89 days without a disruption, 1 with one"
    assert status_page([replace(ordinary(NOW)[1], ends_at=NOW + HOUR)]).summary == "No disruption"
