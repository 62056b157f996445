"""Notices: what they are, how they go on, and when they are announced. Pure: time is an argument."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import ClassVar, NamedTuple, Self

from licensing.catalogue.records import Record
from licensing.catalogue.rules import field_faults, normalized
from licensing.errors import Conflict, FieldError, RuleBroken
from licensing.fields import derived, inner, text, value
from licensing.identifiers import fold

SOON = timedelta(days=7)
"""How long before its start a notice is shown to those who validate."""
HISTORY = timedelta(days=90)


class NoticeKind(StrEnum):
    MAINTENANCE = "maintenance"
    INCIDENT = "incident"
    ANNOUNCEMENT = "announcement"


class NoticeStatus(StrEnum):
    SCHEDULED = "scheduled"
    IN_PROGRESS = "inProgress"
    COMPLETED = "completed"
    CANCELLED = "cancelled"
    INVESTIGATING = "investigating"
    IDENTIFIED = "identified"
    MONITORING = "monitoring"
    RESOLVED = "resolved"
    PUBLISHED = "published"
    WITHDRAWN = "withdrawn"


class Impact(StrEnum):
    NONE = "none"
    MINOR = "minor"
    MAJOR = "major"
    CRITICAL = "critical"


class Moment(StrEnum):
    """When a notice is announced. Those before a start and an end are a maintenance's."""

    AT_ONCE = "atOnce"
    WEEK_BEFORE = "weekBefore"
    DAY_BEFORE = "dayBefore"
    HOUR_BEFORE = "hourBefore"
    AT_START = "atStart"
    AT_END = "atEnd"


_BEFORE_START = {
    Moment.WEEK_BEFORE: timedelta(days=7),
    Moment.DAY_BEFORE: timedelta(days=1),
    Moment.HOUR_BEFORE: timedelta(hours=1),
    Moment.AT_START: timedelta(0),
}
_REMINDERS = (Moment.WEEK_BEFORE, Moment.DAY_BEFORE, Moment.HOUR_BEFORE)

_S = NoticeStatus
_INCIDENT_GOES_ON = (_S.INVESTIGATING, _S.IDENTIFIED, _S.MONITORING, _S.RESOLVED)
TRANSITIONS: Mapping[NoticeKind, Mapping[NoticeStatus, tuple[NoticeStatus, ...]]] = {
    NoticeKind.MAINTENANCE: {
        _S.SCHEDULED: (_S.SCHEDULED, _S.IN_PROGRESS, _S.CANCELLED),
        _S.IN_PROGRESS: (_S.IN_PROGRESS, _S.COMPLETED, _S.CANCELLED),
        _S.COMPLETED: (),
        _S.CANCELLED: (),
    },
    NoticeKind.INCIDENT: {
        _S.INVESTIGATING: _INCIDENT_GOES_ON,
        _S.IDENTIFIED: _INCIDENT_GOES_ON,
        _S.MONITORING: _INCIDENT_GOES_ON,
        _S.RESOLVED: (),
    },
    NoticeKind.ANNOUNCEMENT: {_S.PUBLISHED: (_S.PUBLISHED, _S.WITHDRAWN), _S.WITHDRAWN: ()},
}
"""What a status may become, by an update that may also leave it as it is. The first one is the status of a new notice,
one that becomes nothing is final."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """From when to when a notice is planned to go on, as far as it says."""

    starts_at: datetime | None = inner(default=None)
    ends_at: datetime | None = inner(default=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Update:
    """What was said of a notice later. It is only ever added."""

    at: datetime = value("At", settable=False)
    author: str = text("Author", settable=False)
    status: NoticeStatus = value("Status", hint="What the notice's status is from now on.")
    body: str = text("Text", most=5000, mandatory=True, lines=True, hint="Plain text, with a little Markdown.")
    previous_plan: Plan | None = inner(default=None, name="insteadOf")
    """What was planned before, where the update says that the plan has changed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice(Record):
    """Something that customers should know of: a maintenance, an incident, or an announcement."""

    kind: ClassVar[str] = "notice"

    notice_kind: NoticeKind = value("Kind", name="kind")
    title: str = text("Title", most=300, mandatory=True)
    body: str = text("Text", most=5000, mandatory=True, lines=True, hint="Plain text, with a little Markdown.")
    product_ids: tuple[str, ...] = value("Products", default=(), hint="Those that it is about; none means all.")
    impact: Impact = value("Impact", default=Impact.NONE)
    starts_at: datetime | None = value("Starts at", default=None, hint="Mandatory for a maintenance.")
    ends_at: datetime | None = value("Ends at", default=None, hint="Mandatory for a maintenance: the planned end.")
    announce: tuple[Moment, ...] = value(
        "Announce", default=tuple(Moment), hint="When subscribers are told; those round its start and end need one."
    )
    held: bool = value("Held", default=False, hint="An incident that was opened by itself is not closed by itself.")
    status: NoticeStatus = value("Status", default=NoticeStatus.SCHEDULED, settable=False)
    updates: tuple[Update, ...] = value("Updates", default=(), settable=False)
    author: str = text("Author", settable=False)
    overdue: bool = derived("Overdue", default=False, hint="Not completed at its planned end.")
    automatic: bool = inner(default=False)
    """Opened by the service itself, and closed by it."""

    @property
    def label(self) -> str:
        return self.title

    @property
    def is_open(self) -> bool:
        return bool(TRANSITIONS[self.notice_kind][self.status])

    @property
    def plan(self) -> Plan:
        return Plan(starts_at=self.starts_at, ends_at=self.ends_at)

    @property
    def last_updated_at(self) -> datetime:
        return self.updates[-1].at if self.updates else self.created_at

    def as_of(self, now: datetime) -> Self:
        return replace(self, overdue=is_overdue(self, now))


def check_notice(notice: Notice, product_ids: Iterable[str]) -> None:
    """Raise RuleBroken, naming every field at fault, where the notice does not say what its kind has to."""
    faults = []
    if notice.notice_kind is NoticeKind.MAINTENANCE:
        for name, at in (("startsAt", notice.starts_at), ("endsAt", notice.ends_at)):
            if at is None:
                faults.append(FieldError(name, "mandatory", "A maintenance has a start and a planned end."))
    if notice.status not in TRANSITIONS[notice.notice_kind]:
        faults.append(FieldError("kind", "unknown", "The kind of a notice stays as it is."))
    if notice.starts_at and notice.ends_at and notice.starts_at >= notice.ends_at:
        faults.append(FieldError("endsAt", "datesOutOfOrder", "The end lies after the start."))
    if set(notice.product_ids) - set(product_ids):
        faults.append(FieldError("productIds", "unknown", "Choose products of this publisher."))
    if faults:
        raise RuleBroken(" ".join(fault.message for fault in faults), errors=faults)


def updated(notice: Notice, update: Update) -> Notice:
    """The notice with one update more. Raises Conflict where its status cannot become that, and RuleBroken."""
    if faults := [*field_faults(update)]:
        raise RuleBroken(" ".join(fault.message for fault in faults), errors=faults)
    if update.status not in TRANSITIONS[notice.notice_kind][notice.status]:
        possible = ", ".join(TRANSITIONS[notice.notice_kind][notice.status]) or "nothing any more"
        raise Conflict(f"A notice that is {notice.status} becomes {possible}, not {update.status}.")
    return replace(notice, status=update.status, updates=(*notice.updates, update))


def earlier_plans(notice: Notice, replaced: Plan) -> list[Plan]:
    """What was planned before: what has just been replaced, and what that had replaced; newest first, each once."""
    before = (each.previous_plan for each in reversed(notice.updates) if each.previous_plan)
    return [plan for plan in dict.fromkeys((replaced, *before)) if plan != notice.plan]


def begun(notice: Notice, kind: NoticeKind) -> Notice:
    """The notice with the status that one of its kind begins with."""
    return replace(normalized(notice), status=next(iter(TRANSITIONS[kind])))


def is_to_begin(notice: Notice, now: datetime) -> bool:
    """Whether it is a maintenance whose start has come."""
    return notice.status is NoticeStatus.SCHEDULED and notice.starts_at is not None and notice.starts_at <= now


def started(notice: Notice) -> Notice:
    """Under way, unless somebody has cancelled it meanwhile. Not an update: the announcement of its start tells."""
    if notice.status is not NoticeStatus.SCHEDULED:
        return notice
    return replace(notice, status=NoticeStatus.IN_PROGRESS)


def is_overdue(notice: Notice, now: datetime) -> bool:
    return notice.is_open and notice.ends_at is not None and notice.ends_at < now


def is_relevant(notice: Notice, now: datetime) -> bool:
    """Whether those who validate are told: it is under way, or starts soon."""
    return notice.is_open and (notice.starts_at is None or notice.starts_at <= now + SOON)


def concerns(notice: Notice, product_ids: Iterable[str]) -> bool:
    """Whether it is about one of the products, or about all there are."""
    return not notice.product_ids or bool(set(notice.product_ids) & set(product_ids))


def urgency(notice: Notice) -> int:
    """What is told first: 0 before 1."""
    return [*reversed(Impact)].index(notice.impact)


class Announcement(NamedTuple):
    """One message to all whom a notice concerns. `key` tells it from the notice's others, whatever is edited later."""

    key: str
    at: datetime
    moment: Moment | None
    """None for an update."""
    update: int | None
    """Which update, from 0."""


def announcements(notice: Notice) -> Iterator[Announcement]:
    """Everything that is to be announced of the notice as it is now, in no order, whether past or ahead.

    Moments that lay in the past when the notice was made are no more; nor is anything that lies ahead of a notice that
    has come to its end. Where a start is moved, the reminders are those of the new one; but not those whose time came
    while another start was planned: that it was moved is told by itself.
    """
    if Moment.AT_ONCE in notice.announce:
        yield Announcement("posted", notice.created_at, Moment.AT_ONCE, None)
    for number, update in enumerate(notice.updates):
        yield Announcement(f"update-{number}", update.at, None, number)
    for moment, at in _moments(notice):
        if moment not in notice.announce or (moment in _REMINDERS and _planned_start(notice, at) != notice.starts_at):
            continue
        if at > notice.created_at and (notice.is_open or at <= notice.last_updated_at):
            yield Announcement(f"{moment}-{int(at.timestamp())}", at, moment, None)


def _planned_start(notice: Notice, at: datetime) -> datetime | None:
    """The start as it was planned at that instant."""
    changed_later = (each.previous_plan for each in notice.updates if each.previous_plan and each.at >= at)
    return next(changed_later, notice.plan).starts_at


def _moments(notice: Notice) -> Iterator[tuple[Moment, datetime]]:
    if notice.notice_kind is not NoticeKind.MAINTENANCE or notice.starts_at is None or notice.ends_at is None:
        return
    begun_early = any(each.status is _S.IN_PROGRESS and each.at <= notice.starts_at for each in notice.updates)
    if not begun_early:
        yield from ((moment, notice.starts_at - before) for moment, before in _BEFORE_START.items())
    yield Moment.AT_END, notice.ends_at


def is_due(announcement: Announcement, notice: Notice, now: datetime) -> bool:
    """Whether the announcement is to go out now.

    A reminder helps nobody once the next one, or the start, has come; nor does a change of plan once there is another.
    """
    if announcement.at > now:
        return False
    if announcement.update is not None and notice.updates[announcement.update].previous_plan:
        return not any(each.previous_plan for each in notice.updates[announcement.update + 1 :])
    if announcement.moment not in _REMINDERS:
        return True
    later = (at for moment, at in _moments(notice) if moment in _BEFORE_START and at > announcement.at)
    return not any(at <= now for at in later)


class ChannelKind(StrEnum):
    """How a subscriber is told."""

    EMAIL = "email"
    TEAMS = "teams"
    WEBHOOK = "webhook"


class SubscriberState(StrEnum):
    UNCONFIRMED = "unconfirmed"
    """Somebody gave the address; its owner has not said yes."""
    CONFIRMED = "confirmed"
    PAUSED = "paused"
    """The address refused our mail too often."""


BOUNCES_TO_PAUSE = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Subscriber(Record):
    """Who is told of a publisher's notices. The id follows from the address, so nobody is there twice."""

    kind: ClassVar[str] = "subscriber"

    channel: ChannelKind = value("Channel", default=ChannelKind.EMAIL)
    address: str = text("Address", most=2000, mandatory=True, hint="An email address, or the URL of a webhook.")
    product_ids: tuple[str, ...] = value("Products", default=(), hint="Those to be told of; none means all.")
    state: SubscriberState = value("State", default=SubscriberState.UNCONFIRMED, settable=False)
    bounces: int = value("Bounces", default=0, settable=False)
    secret: str = inner("")
    """What signs what goes to a webhook."""
    unsubscribe_key: str = inner("")
    """Who has it may unsubscribe: it stands in every mail to the subscriber, and goes with the row."""

    @property
    def is_active(self) -> bool:
        return self.state is SubscriberState.CONFIRMED


def subscriber_id(channel: ChannelKind, address: str) -> str:
    """The same for the same address; tells nothing of it to who does not know it."""
    plain = fold(address) if channel is ChannelKind.EMAIL else address
    return hashlib.sha256(f"{channel}|{plain}".encode()).hexdigest()[:32]


def is_for(notice: Notice, subscriber: Subscriber) -> bool:
    """Whether the subscriber is told of the notice."""
    if not subscriber.is_active:
        return False
    return not subscriber.product_ids or concerns(notice, subscriber.product_ids)


_PAUSES = (
    timedelta(minutes=1),
    timedelta(minutes=5),
    timedelta(minutes=30),
    timedelta(hours=2),
    timedelta(hours=6),
    timedelta(hours=12),
)


def pause_after(attempts: int) -> timedelta | None:
    """How long to wait after so many attempts that failed; None once there were enough."""
    return _PAUSES[attempts - 1] if attempts <= len(_PAUSES) else None


def is_obsolete(notice: Notice | None, announcement_key: str, now: datetime) -> bool:
    """Whether there is no point any more in telling: the notice is gone, cancelled, or says something newer."""
    if notice is None:
        return True
    known = {each.key: each for each in announcements(notice)}
    announcement = known.get(announcement_key)
    if announcement is None:
        return True  # its moment was moved
    if notice.is_open:
        return not is_due(announcement, notice, now)
    # What has come to its end is told of by its last update alone.
    return announcement.update != len(notice.updates) - 1


def is_rescheduled(notice: Notice | None, announcement_key: str) -> bool:
    """Whether the announcement's moment was moved away, and might be moved back."""
    return (
        notice is not None and notice.is_open and announcement_key not in {each.key for each in announcements(notice)}
    )
