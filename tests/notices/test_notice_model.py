"""What a notice becomes, and when it is announced."""

from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from licensing.errors import Conflict, RuleBroken
from licensing.notices.model import (
    TRANSITIONS,
    ChannelKind,
    Moment,
    Notice,
    NoticeKind,
    NoticeStatus,
    Plan,
    Subscriber,
    SubscriberState,
    Update,
    announcements,
    begun,
    check_notice,
    concerns,
    earlier_plans,
    is_due,
    is_for,
    is_obsolete,
    is_overdue,
    is_relevant,
    is_rescheduled,
    is_to_begin,
    pause_after,
    started,
    subscriber_id,
    updated,
)

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
S = NoticeStatus
FINAL = {S.COMPLETED, S.CANCELLED, S.RESOLVED, S.WITHDRAWN}


def a_notice(kind: NoticeKind = NoticeKind.MAINTENANCE, **fields: Any) -> Notice:
    """A maintenance in ten days, made now."""
    given: dict[str, Any] = {
        "id": "n-1",
        "created_at": NOW,
        "updated_at": NOW,
        "title": "Storage is moved",
        "body": "For an hour.",
        **fields,
    }
    if kind is NoticeKind.MAINTENANCE:
        given = {"starts_at": NOW + timedelta(days=10), "ends_at": NOW + timedelta(days=10, hours=1), **given}
    return (
        begun(Notice(notice_kind=kind, **given), kind) if "status" not in fields else Notice(notice_kind=kind, **given)
    )


def an_update(status: NoticeStatus, minutes: int = 5) -> Update:
    return Update(at=NOW + timedelta(minutes=minutes), author="support@example.com", status=status, body="News.")


# --- the state machine


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        (NoticeKind.MAINTENANCE, S.SCHEDULED),
        (NoticeKind.INCIDENT, S.INVESTIGATING),
        (NoticeKind.ANNOUNCEMENT, S.PUBLISHED),
    ],
)
def test_begun_sets_initial_status_of_notice_kind(kind: NoticeKind, status: NoticeStatus) -> None:
    assert a_notice(kind).status == status


@pytest.mark.parametrize(
    ("kind", "path"),
    [
        (NoticeKind.MAINTENANCE, [S.IN_PROGRESS, S.IN_PROGRESS, S.COMPLETED]),
        (NoticeKind.MAINTENANCE, [S.SCHEDULED, S.CANCELLED]),
        (NoticeKind.MAINTENANCE, [S.IN_PROGRESS, S.CANCELLED]),
        (NoticeKind.INCIDENT, [S.IDENTIFIED, S.MONITORING, S.INVESTIGATING, S.RESOLVED]),
        (NoticeKind.INCIDENT, [S.RESOLVED]),
        (NoticeKind.ANNOUNCEMENT, [S.PUBLISHED, S.WITHDRAWN]),
    ],
)
def test_updated_follows_allowed_transitions_until_notice_is_closed(kind: NoticeKind, path: list[NoticeStatus]) -> None:
    notice = a_notice(kind)
    for number, status in enumerate(path, 1):
        assert notice.is_open
        notice = updated(notice, an_update(status, number))
        assert (notice.status, len(notice.updates)) == (status, number)
    assert not notice.is_open


@pytest.mark.parametrize(
    ("kind", "status", "to"),
    [
        (NoticeKind.MAINTENANCE, S.SCHEDULED, S.COMPLETED),
        (NoticeKind.MAINTENANCE, S.IN_PROGRESS, S.SCHEDULED),
        (NoticeKind.MAINTENANCE, S.COMPLETED, S.COMPLETED),
        (NoticeKind.MAINTENANCE, S.CANCELLED, S.SCHEDULED),
        (NoticeKind.MAINTENANCE, S.SCHEDULED, S.RESOLVED),
        (NoticeKind.INCIDENT, S.RESOLVED, S.INVESTIGATING),
        (NoticeKind.INCIDENT, S.INVESTIGATING, S.CANCELLED),
        (NoticeKind.ANNOUNCEMENT, S.WITHDRAWN, S.PUBLISHED),
    ],
)
def test_updated_with_forbidden_transition_raises_conflict(
    kind: NoticeKind, status: NoticeStatus, to: NoticeStatus
) -> None:
    with pytest.raises(Conflict, match=f"{status}"):
        updated(a_notice(kind, status=status), an_update(to))


@pytest.mark.parametrize(
    ("body", "code"), [("", "mandatory"), (" \n", "mandatory"), ("x" * 5001, "tooLong"), ("\x07", "controlCharacter")]
)
def test_updated_with_invalid_body_raises_rule_broken(body: str, code: str) -> None:
    with pytest.raises(RuleBroken) as refused:
        updated(a_notice(), replace(an_update(S.SCHEDULED), body=body))
    assert [(fault.field, fault.code) for fault in refused.value.errors] == [("body", code)]


def test_transitions_of_every_notice_kind_have_final_statuses() -> None:
    for kind, transitions in TRANSITIONS.items():
        ends = {status for status, following in transitions.items() if not following}
        assert ends
        assert ends <= FINAL, kind
        assert {status for following in transitions.values() for status in following} <= transitions.keys()


@pytest.mark.parametrize(
    ("fields", "field", "code"),
    [
        ({"starts_at": None}, "startsAt", "mandatory"),
        ({"ends_at": None}, "endsAt", "mandatory"),
        ({"ends_at": NOW}, "endsAt", "datesOutOfOrder"),
        ({"product_ids": ("p-1", "another publisher's")}, "productIds", "unknown"),
        ({"status": S.RESOLVED}, "kind", "unknown"),
    ],
)
def test_check_notice_with_invalid_maintenance_field_raises_rule_broken(
    fields: dict[str, Any], field: str, code: str
) -> None:
    check_notice(a_notice(), ["p-1"])
    with pytest.raises(RuleBroken) as refused:
        check_notice(replace(a_notice(), **fields), ["p-1"])
    assert [(fault.field, fault.code) for fault in refused.value.errors] == [(field, code)]


@pytest.mark.parametrize(
    ("status", "after", "expected"),
    [
        (S.SCHEDULED, timedelta(days=10), True),
        (S.SCHEDULED, timedelta(days=10, seconds=-1), False),
        (S.CANCELLED, timedelta(days=10), False),
        (S.IN_PROGRESS, timedelta(days=10), False),
    ],
)
def test_is_to_begin_is_true_only_for_scheduled_maintenance_from_its_start(
    status: NoticeStatus, after: timedelta, *, expected: bool
) -> None:
    notice = a_notice(status=status)
    assert is_to_begin(notice, NOW + after) is expected
    if expected:
        assert started(notice).status is S.IN_PROGRESS


def test_started_leaves_cancelled_maintenance_unchanged() -> None:
    notice = a_notice(status=S.CANCELLED)
    assert started(notice) == notice


def test_is_overdue_is_true_after_planned_end_until_completed() -> None:
    after = NOW + timedelta(days=10, hours=1, seconds=1)
    assert is_overdue(a_notice(status=S.IN_PROGRESS), after)
    assert not is_overdue(a_notice(status=S.IN_PROGRESS), after - timedelta(seconds=2))
    assert not is_overdue(a_notice(status=S.COMPLETED), after)


# --- who is told


@pytest.mark.parametrize(
    ("case", "notice", "expected"),
    [
        ("starts in more than a week", a_notice(), False),
        ("starts in a week", a_notice(starts_at=NOW + timedelta(days=7)), True),
        ("is under way", a_notice(status=S.IN_PROGRESS, starts_at=NOW - timedelta(hours=1)), True),
        ("was to end yesterday, and nobody said it did", a_notice(starts_at=NOW - timedelta(days=2)), True),
        ("is over", a_notice(status=S.COMPLETED, starts_at=NOW - timedelta(hours=1)), False),
        ("is an incident", a_notice(NoticeKind.INCIDENT), True),
        ("is an incident that is resolved", a_notice(NoticeKind.INCIDENT, status=S.RESOLVED), False),
    ],
)
def test_is_relevant_includes_notices_in_progress_or_starting_within_a_week(
    case: str, notice: Notice, *, expected: bool
) -> None:
    assert is_relevant(notice, NOW) is expected, case


def test_concerns_matches_listed_products_or_all_if_none_are_listed() -> None:
    assert concerns(a_notice(), ["p-1"])
    assert concerns(a_notice(), [])
    assert concerns(a_notice(product_ids=("p-1", "p-2")), ["p-2"])
    assert not concerns(a_notice(product_ids=("p-1",)), ["p-2"])


def a_subscriber(**fields: Any) -> Subscriber:
    made = {"id": "s-1", "created_at": NOW, "updated_at": NOW, "address": "a@example.com", **fields}
    return Subscriber(**{"state": SubscriberState.CONFIRMED, **made})


@pytest.mark.parametrize(
    ("case", "subscriber", "expected"),
    [
        ("asked for all products", a_subscriber(), True),
        ("asked for this product", a_subscriber(product_ids=("p-1",)), True),
        ("asked for another", a_subscriber(product_ids=("p-2",)), False),
        ("has not confirmed", a_subscriber(state=SubscriberState.UNCONFIRMED), False),
        ("is paused", a_subscriber(state=SubscriberState.PAUSED), False),
    ],
)
def test_is_for_matches_confirmed_subscribers_of_the_product(
    case: str, subscriber: Subscriber, *, expected: bool
) -> None:
    assert is_for(a_notice(product_ids=("p-1",)), subscriber) is expected, case


def test_subscriber_id_ignores_case_and_whitespace_and_hides_the_address() -> None:
    one = subscriber_id(ChannelKind.EMAIL, "Ann@Example.com ")
    assert one == subscriber_id(ChannelKind.EMAIL, "ann@example.com")
    assert one != subscriber_id(ChannelKind.WEBHOOK, "ann@example.com")
    assert "ann" not in one


# --- when it is announced


def keys(notice: Notice, now: datetime) -> list[str]:
    """What is due by then, by moment or update."""
    return [each.key.partition("-1")[0] for each in announcements(notice) if is_due(each, notice, now)]


@pytest.mark.parametrize(
    ("case", "after", "expected"),
    [
        ("at once", timedelta(0), ["posted"]),
        ("a week before", timedelta(days=3), ["posted", "weekBefore"]),
        ("a day before", timedelta(days=9), ["posted", "dayBefore"]),
        ("an hour before", timedelta(days=9, hours=23), ["posted", "hourBefore"]),
        ("at its start: the reminders are no news any more", timedelta(days=10), ["posted", "atStart"]),
        ("at its end", timedelta(days=10, hours=1), ["posted", "atStart", "atEnd"]),
    ],
)
def test_announcements_of_maintenance_become_due_at_their_moments(
    case: str, after: timedelta, expected: list[str]
) -> None:
    assert keys(a_notice(), NOW + after) == expected, case


def test_announcements_omit_reminders_that_precede_posting() -> None:
    soon = a_notice(starts_at=NOW + timedelta(minutes=30))
    assert keys(soon, NOW + timedelta(minutes=29)) == ["posted"]
    assert keys(soon, NOW + timedelta(minutes=30)) == ["posted", "atStart"]


def test_announcements_include_only_selected_moments() -> None:
    chosen = a_notice(announce=(Moment.HOUR_BEFORE,))
    assert keys(chosen, NOW) == []
    assert keys(chosen, NOW + timedelta(days=9, hours=23)) == ["hourBefore"]


def test_announcements_of_incident_include_posting_and_every_update() -> None:
    notice = updated(a_notice(NoticeKind.INCIDENT), an_update(S.IDENTIFIED))
    assert keys(notice, NOW + timedelta(minutes=5)) == ["posted", "update-0"]


def test_announcements_after_reschedule_have_new_reminder_keys() -> None:
    notice = a_notice()
    moved = replace(notice, starts_at=NOW + timedelta(days=9), ends_at=NOW + timedelta(days=10))

    def reminders(of: Notice) -> set[str]:
        return {each.key for each in announcements(of) if each.moment is Moment.HOUR_BEFORE}

    assert reminders(notice)
    assert reminders(notice).isdisjoint(reminders(moved))


def moved(notice: Notice, to: datetime, minutes: int) -> Notice:
    """The notice with another start, and with what is said of that, so many minutes after it was made."""
    told = replace(an_update(notice.status, minutes), previous_plan=notice.plan)
    return updated(replace(notice, starts_at=to, ends_at=to + timedelta(hours=1)), told)


A, B, C = (NOW + timedelta(hours=hours) for hours in (48, 72, 96))


def test_is_obsolete_is_true_for_superseded_reschedule_update() -> None:
    def told(notice: Notice) -> list[int | None]:
        now = NOW + timedelta(minutes=8)
        return [each.update for each in announcements(notice) if not is_obsolete(notice, each.key, now)]

    once = moved(a_notice(starts_at=A), B, 5)
    assert told(once) == [None, 0]
    assert told(moved(updated(once, an_update(S.SCHEDULED, 6)), C, 7)) == [None, 1, 2]


def test_earlier_plans_returns_newest_first_without_current_plan() -> None:
    notice = moved(moved(a_notice(starts_at=A), B, 5), C, 6)
    again = replace(notice, starts_at=A, ends_at=a_notice(starts_at=A).ends_at)
    assert [plan.starts_at for plan in earlier_plans(again, notice.plan)] == [C, B]


@pytest.mark.parametrize(
    ("case", "moves", "at", "expected"),
    [
        ("moved to before the reminder's time", [(A, 60)], A - timedelta(hours=24), {"dayBefore"}),
        ("moved so near that its time has passed", [(A, 24 * 60 + 30)], NOW + timedelta(minutes=24 * 60 + 31), set()),
        ("moved away", [(A, 60), (C, 120)], A - timedelta(hours=24), set()),
        ("moved away and back in time", [(A, 60), (B, 120), (A, 180)], A - timedelta(hours=24), {"dayBefore"}),
        (
            "moved away and back when it had been due",
            [(A, 60), (B, 24 * 60 + 10), (A, 24 * 60 + 20)],
            NOW + timedelta(minutes=24 * 60 + 21),
            {"dayBefore"},
        ),
        (
            "back only when its time had passed: that is told by itself",
            [(A, 60), (B, 120), (A, 24 * 60 + 20)],
            NOW + timedelta(minutes=24 * 60 + 21),
            set(),
        ),
    ],
)
def test_reminder_after_reschedules_is_due_only_for_start_planned_at_its_time(
    case: str, moves: list[tuple[datetime, int]], at: datetime, expected: set[str]
) -> None:
    notice = a_notice(starts_at=NOW + timedelta(days=30), ends_at=NOW + timedelta(days=31))
    for start, minutes in moves:
        notice = moved(notice, start, minutes)
    due = {each.moment for each in announcements(notice) if each.moment and is_due(each, notice, at)}
    assert due - {Moment.AT_ONCE} == expected, case


def test_is_rescheduled_is_true_only_for_moved_reminder_of_open_notice() -> None:
    before, after = a_notice(), moved(a_notice(), A, 5)
    (key,) = (each.key for each in announcements(before) if each.moment is Moment.DAY_BEFORE)
    assert is_rescheduled(after, key)
    assert is_obsolete(after, key, NOW)
    assert not is_rescheduled(before, key)
    assert not is_rescheduled(updated(after, an_update(S.CANCELLED, 6)), key)
    assert not is_rescheduled(None, key)


@given(
    moves=st.lists(st.tuples(st.integers(1, 4000), st.integers(30, 4000)), max_size=5),
    looked_at=st.lists(st.integers(0, 6000), min_size=1, max_size=30),
)
def test_due_announcements_after_any_reschedules_match_current_plan(
    moves: list[tuple[int, int]], looked_at: list[int]
) -> None:
    """Of the changes the last alone; of the reminders those that were due while that start was planned."""
    told: set[str] = set()
    for minute in sorted(looked_at):
        now, notice = NOW + timedelta(minutes=minute), a_notice()
        history = [(NOW, notice.plan)]
        for offset, ahead in sorted(moves):
            if offset <= minute:
                notice = moved(notice, NOW + timedelta(minutes=offset + ahead), offset)
                history.append((notice.updates[-1].at, notice.plan))
        due = [each for each in announcements(notice) if is_due(each, notice, now)]
        changes = [each.update for each in due if each.update is not None]
        assert changes == ([len(notice.updates) - 1] if notice.updates else [])
        for each in due:
            if each.moment in (Moment.WEEK_BEFORE, Moment.DAY_BEFORE, Moment.HOUR_BEFORE):
                planned: list[Plan] = [plan for since, plan in history if since < each.at]
                assert planned[-1].starts_at == notice.starts_at
        reminders = {each.key for each in due if each.moment} - told
        assert len(reminders) <= 4, "posted, one reminder, start and end"
        told |= reminders


def test_announcements_of_cancelled_maintenance_are_obsolete_except_cancellation() -> None:
    cancelled = updated(a_notice(), an_update(S.CANCELLED))
    later = NOW + timedelta(days=20)
    told = [each.key for each in announcements(cancelled) if not is_obsolete(cancelled, each.key, later)]
    assert told == ["update-0"]


@pytest.mark.parametrize(
    ("case", "notice", "key"),
    [
        ("it was deleted", None, "posted"),
        ("its start was moved", a_notice(), "hourBefore-0"),
        ("it is not due yet", a_notice(), next(e.key for e in announcements(a_notice()) if e.moment is Moment.AT_END)),
        ("it has been cancelled", updated(a_notice(), an_update(S.CANCELLED)), "posted"),
    ],
)
def test_is_obsolete_is_true_for_deleted_moved_undue_or_cancelled_announcement(
    case: str, notice: Notice | None, key: str
) -> None:
    assert is_obsolete(notice, key, NOW + timedelta(minutes=10)), case


@given(
    offsets=st.lists(st.integers(0, 15 * 24 * 60), max_size=6),
    statuses=st.lists(st.sampled_from([S.SCHEDULED, S.IN_PROGRESS]), max_size=3),
)
def test_due_announcements_except_reminders_stay_due(offsets: list[int], statuses: Iterable[S]) -> None:
    """Whenever one looks: what was due stays due, and has the same key, for as long as the notice is open."""
    notice = a_notice()
    for number, status in enumerate(statuses):
        if status in TRANSITIONS[notice.notice_kind][notice.status]:
            notice = updated(notice, an_update(status, number))
    before: set[str] = set()
    for offset in sorted(offsets):
        now = NOW + timedelta(minutes=offset)
        due = {each.key for each in announcements(notice) if is_due(each, notice, now)}
        assert {key for key in before if "Before" not in key} <= due
        before = due


def test_pause_after_grows_with_attempts_then_returns_none() -> None:
    pauses = [pause_after(attempts) for attempts in range(1, 8)]
    assert pauses == [*(timedelta(minutes=m) for m in (1, 5, 30)), *(timedelta(hours=h) for h in (2, 6, 12)), None]
