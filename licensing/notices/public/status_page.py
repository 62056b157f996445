"""What the status page shows, before it is HTML: how the service is, what goes on, and what went on. Pure."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from enum import IntEnum
from itertools import groupby
from typing import NamedTuple

from licensing.health import Status
from licensing.notices.model import HISTORY, Impact, Notice, NoticeKind, NoticeStatus, is_overdue
from licensing.notices.public.feeds import Published


class Severity(IntEnum):
    """How grave something is. Words always say it too."""

    GOOD = 0
    PLANNED = 1
    MINOR = 2
    MAJOR = 3
    CRITICAL = 4

    @property
    def word(self) -> str:
        return self.name.lower()


_OF_IMPACT = {
    Impact.NONE: Severity.MINOR,
    Impact.MINOR: Severity.MINOR,
    Impact.MAJOR: Severity.MAJOR,
    Impact.CRITICAL: Severity.CRITICAL,
}
_DISRUPTIONS = {
    Impact.NONE: "A problem without impact is being looked at",
    Impact.MINOR: "There is a minor disruption",
    Impact.MAJOR: "There is a major disruption",
    Impact.CRITICAL: "There is a critical disruption",
}
_OF_HEALTH = {Status.HEALTHY: Severity.GOOD, Status.DEGRADED: Severity.MAJOR, Status.UNHEALTHY: Severity.CRITICAL}
_PARTS = {"storage": "License records", "signing": "License validation"}
_STATES = {
    Status.HEALTHY: "working",
    Status.DEGRADED: "out of reach, known environments are served from memory",
    Status.UNHEALTHY: "not working",
}


class Summary(NamedTuple):
    """How things are, in one sentence."""

    severity: Severity
    sentence: str


class Part(NamedTuple):
    """A part of the service, and how it is."""

    name: str
    severity: Severity
    state: str


class Day(NamedTuple):
    """A day (UTC), and the gravest thing on it."""

    date: date
    severity: Severity


def parts(checks: Mapping[str, Status]) -> list[Part]:
    """The parts of the service in words."""
    return [Part(_PARTS.get(name, name.capitalize()), _OF_HEALTH[how], _STATES[how]) for name, how in checks.items()]


def summary_of(notices: tuple[Notice, ...], checks: Mapping[str, Status], now: datetime, *, readable: bool) -> Summary:
    """The gravest of all that is true now. `readable`: whether the records could be read."""
    return max(_verdicts(notices, checks, now, readable=readable), key=lambda each: each.severity)


def _verdicts(
    notices: tuple[Notice, ...], checks: Mapping[str, Status], now: datetime, *, readable: bool
) -> Iterator[Summary]:
    if Status.UNHEALTHY in checks.values():
        yield Summary(Severity.CRITICAL, "The license server is down")
    if Status.DEGRADED in checks.values() or not readable:
        yield Summary(Severity.MAJOR, "The license server is only partly working")
    for notice in notices:
        if is_under_way(notice):
            yield Summary(severity_of(notice, now), _sentence_of(notice, now))
    yield Summary(Severity.GOOD, "The license server is working")


def severity_of(notice: Notice, now: datetime) -> Severity:
    """How grave the notice is."""
    match notice.notice_kind:
        case NoticeKind.INCIDENT:
            return _OF_IMPACT[notice.impact]
        case NoticeKind.MAINTENANCE:
            return Severity.MINOR if is_overdue(notice, now) else Severity.PLANNED
        case NoticeKind.ANNOUNCEMENT:
            return Severity.PLANNED


def _sentence_of(notice: Notice, now: datetime) -> str:
    if notice.notice_kind is NoticeKind.INCIDENT:
        return _DISRUPTIONS[notice.impact]
    if is_overdue(notice, now):
        return "Maintenance is taking longer than planned"
    return "Maintenance is under way"


def is_under_way(notice: Notice) -> bool:
    """Whether it goes on now: an incident that is open, a maintenance that has begun and is not completed."""
    return notice.is_open and (
        notice.notice_kind is NoticeKind.INCIDENT or notice.status is NoticeStatus.IN_PROGRESS
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class StatusPage:
    """The notices in the order in which they are read."""

    under_way: list[Notice]
    """The gravest first."""
    announced: list[Notice]
    """What comes first, first; announcements without a start last."""
    history: list[tuple[date, list[Notice]]]
    """What has come to its end, by the day (UTC) on which it did, newest first."""
    days: list[Day]
    """HISTORY, oldest first: today is the last."""

    @classmethod
    def of(cls, published: Published) -> "StatusPage":
        notices, now = published.notices, published.now
        under_way = [each for each in notices if is_under_way(each)]
        announced = [each for each in notices if each.is_open and not is_under_way(each)]
        ended = sorted((each for each in notices if not each.is_open), key=_ended_at, reverse=True)
        return cls(
            under_way=sorted(under_way, key=lambda each: -severity_of(each, now)),
            announced=sorted(announced, key=lambda each: (each.starts_at is None, each.starts_at or now)),
            history=[(day, list(group)) for day, group in groupby(ended, lambda each: _ended_at(each).date())],
            days=list(_days(notices, now)),
        )

    @property
    def summary(self) -> str:
        """The days in words."""
        quiet = sum(day.severity < Severity.MINOR for day in self.days)
        disturbed = len(self.days) - quiet
        return "No disruption" if not disturbed else f"{quiet} days without a disruption, {disturbed} with one"


def _ended_at(notice: Notice) -> datetime:
    return notice.last_updated_at.astimezone(UTC)


def _days(notices: tuple[Notice, ...], now: datetime) -> Iterator[Day]:
    today = now.astimezone(UTC).date()
    spans = [(*_span(each, now), severity_of(each, now)) for each in notices]
    for ago in reversed(range(HISTORY.days)):
        day = today - timedelta(days=ago)
        yield Day(
            day, max((severity for first, last, severity in spans if first <= day <= last), default=Severity.GOOD)
        )


def _span(notice: Notice, now: datetime) -> tuple[date, date]:
    """The first and the last day on which it went on; in wrong order where it never did."""
    began_at = notice.starts_at or notice.created_at
    if notice.notice_kind is NoticeKind.ANNOUNCEMENT or (notice.is_open and not is_under_way(notice)):
        return date.max, date.min
    if not notice.is_open and _ended_at(notice) < began_at:
        return date.max, date.min
    return began_at.astimezone(UTC).date(), (now if notice.is_open else notice.last_updated_at).astimezone(UTC).date()
