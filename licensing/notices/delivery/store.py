"""Who is told of notices, and what is on its way to them (docs/adr/0005).

Beside a publisher's partition there are two more, which no version guards, since nothing else depends on them:

    <publisherId>|subscribers   subscriber||<id>          who is told
    <publisherId>|outbox        spread|<notice>|<key>     how far an announcement has been made into deliveries
                                pending|<channel>-<n>|<delivery>   one on its way; the urgent ones (n) first
                                sent||<delivery>          one that has arrived
                                dead||<delivery>          one that was given up
                                parked||<delivery>       one whose moment was moved away before it went out
                                pace||<channel>           how many were claimed this minute

A delivery is named by notice, announcement and subscriber: there is one of each, whatever happens in between.
"""

import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from licensing.fields import instant
from licensing.notices.model import ChannelKind, Notice, Subscriber, urgency
from licensing.storage.batches import MAX_OPERATIONS, Operation, Row
from licensing.storage.errors import ConcurrencyConflict
from licensing.storage.keys import row_key
from licensing.storage.table import Table, etag

FAN_OUT_BATCH = 90
"""Deliveries made in one transaction, beside the row that tells how far it has come."""
_PENDING, _SENT, _DEAD, _PARKED = "pending", "sent", "dead", "shelved"
CLAIM_LASTS = timedelta(minutes=5)


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """One message to one subscriber. `etag`: the state in which it was read."""

    notice_id: str
    announcement: str
    subscriber_id: str
    channel: ChannelKind
    urgency: int = 0
    """What goes first: 0 before 1."""
    attempts: int = 0
    next_at: datetime
    reason: str = ""
    """Why it was not delivered the last time: a code, nothing of what a receiver said."""
    etag: str = ""

    @property
    def id(self) -> str:
        """The same for each repeat of this message."""
        return f"{self.notice_id}.{self.announcement}.{self.subscriber_id}"

    @property
    def pending_key(self) -> str:
        """A channel's deliveries lie together, the most urgent ones first."""
        return row_key(_PENDING, f"{self.channel}-{self.urgency}", self.id)

    @classmethod
    def from_row(cls, row: Row) -> "Delivery":
        return cls(
            notice_id=row["noticeId"],
            announcement=row["announcement"],
            subscriber_id=row["subscriberId"],
            channel=ChannelKind(row["channel"]),
            urgency=row["urgency"],
            attempts=row["attempts"],
            next_at=datetime.fromisoformat(row["nextAt"]),
            reason=row["reason"],
            etag=etag(row),
        )

    def to_row(self, state: str) -> dict[str, Any]:
        return {
            "RowKey": self.pending_key if state == _PENDING else row_key(state, "", self.id),
            "noticeId": self.notice_id,
            "announcement": self.announcement,
            "subscriberId": self.subscriber_id,
            "channel": str(self.channel),
            "urgency": self.urgency,
            "attempts": self.attempts,
            "nextAt": instant(self.next_at),
            "reason": self.reason,
        }


class FanOutProgress(NamedTuple):
    """How far an announcement has been made into deliveries: up to the subscriber of that row key, or to the end."""

    after: str
    done: bool
    etag: str


class DeliveryStore:
    """Deliveries of all publishers. `table(publisher_id)` says where a publisher's are.

    `raise_if_frozen` raises where nothing of a publisher may be changed. It is called before changes by people; the
    timer checks for itself.
    """

    def __init__(self, table: Callable[[str], Table], raise_if_frozen: Callable[[str], Awaitable[None]]) -> None:
        self._table = table
        self.raise_if_frozen = raise_if_frozen

    async def fan_out_progress(self, publisher_id: str, notice_id: str, announcement: str) -> FanOutProgress | None:
        """How far the announcement has come; None where nobody has begun."""
        row = await self._table(publisher_id).find(_outbox(publisher_id), _fan_out_key(notice_id, announcement))
        return None if row is None else FanOutProgress(row["after"], row["done"], etag(row))

    async def fan_out(  # noqa: PLR0913 - an announcement, whom it has come to, and how far
        self,
        publisher_id: str,
        notice: Notice,
        announcement: str,
        subscribers: Sequence[Subscriber],
        *,
        since: FanOutProgress | None,
        last: str,
        done: bool,
        now: datetime,
    ) -> None:
        """Create a delivery for each subscriber and record the progress in one transaction.

        Raises ConcurrencyConflict where another run has.
        """
        row = {"RowKey": _fan_out_key(notice.id, announcement), "after": last, "done": done, "at": instant(now)}
        told = Operation("put", row, since.etag) if since else Operation("create", row)
        made = [
            Delivery(
                notice_id=notice.id,
                announcement=announcement,
                subscriber_id=each.id,
                channel=each.channel,
                urgency=urgency(notice),
                next_at=now,
            )
            for each in subscribers
        ]
        operations = [told, *(Operation("create", each.to_row(_PENDING)) for each in made)]
        await self._table(publisher_id).commit(_outbox(publisher_id), operations)

    async def due(self, publisher_id: str, channel: ChannelKind, now: datetime, limit: int) -> list[Delivery]:
        """The first so many deliveries that are due: neither claimed nor waiting for their next attempt."""
        rows = self._table(publisher_id).rows(
            _outbox(publisher_id), f"{_PENDING}|{channel}-", where=[("nextAt", "le", instant(now))], limit=limit
        )
        return [Delivery.from_row(row) async for row in rows]

    async def claim(
        self,
        publisher_id: str,
        channel: ChannelKind,
        deliveries: Sequence[Delivery],
        now: datetime,
        send_quota: "SendQuota",
    ) -> list[Delivery]:
        """Claim the deliveries: no other run sends them until the claim expires.

        Raises ConcurrencyConflict where another run has claimed one.

        Whoever dies with a claim leaves deliveries that are due again when it has run out.
        """
        claimed = [replace(each, attempts=each.attempts + 1, next_at=now + CLAIM_LASTS) for each in deliveries]
        operations = [Operation("put", each.to_row(_PENDING), each.etag) for each in claimed]
        counted = {
            "RowKey": _send_quota_key(channel),
            "minute": _minute(now),
            "claimed": send_quota.claimed + len(claimed),
        }
        told = Operation("put", counted, send_quota.etag) if send_quota.etag else Operation("create", counted)
        await self._table(publisher_id).commit(_outbox(publisher_id), [told, *operations])
        return claimed

    async def send_quota(self, publisher_id: str, channel: ChannelKind, now: datetime) -> "SendQuota":
        """How many deliveries were claimed in this minute."""
        row = await self._table(publisher_id).find(_outbox(publisher_id), _send_quota_key(channel))
        if row is None:
            return SendQuota(0, "")
        return SendQuota(row["claimed"] if row["minute"] == _minute(now) else 0, etag(row))

    async def mark_sent(self, publisher_id: str, delivery: Delivery, now: datetime) -> None:
        await self._move(publisher_id, delivery, replace(delivery, next_at=now, reason=""), _SENT)

    async def dead_letter(self, publisher_id: str, claimed: Delivery, failed: Delivery) -> None:
        """Give the delivery up, until somebody replays it; unless the claim ran out, and somebody else has it now."""
        if await self._is_ours(publisher_id, claimed) is not None:
            await self._move(publisher_id, claimed, failed, _DEAD)

    async def drop(self, publisher_id: str, delivery: Delivery) -> None:
        """There is nothing to say any more."""
        await self._move(publisher_id, delivery, None, "")

    async def park(self, publisher_id: str, claimed: Delivery) -> None:
        """There is nothing to say unless its moment is moved back; nor was this an attempt."""
        if await self._is_ours(publisher_id, claimed) is not None:
            await self._move(publisher_id, claimed, replace(claimed, attempts=claimed.attempts - 1), _PARKED)

    async def unpark(self, publisher_id: str, notice_id: str, announcement: str, now: datetime) -> None:
        """Make the parked deliveries of the announcement pending again."""
        key = row_key(_PARKED, "", f"{notice_id}.{announcement}.")
        rows = [row async for row in self._table(publisher_id).rows(_outbox(publisher_id), key)]
        for some in itertools.batched(rows, MAX_OPERATIONS // 2, strict=False):
            again = [replace(Delivery.from_row(row), next_at=now) for row in some]
            operations = [Operation("delete", {"RowKey": row["RowKey"]}) for row in some]
            operations += [Operation("create", each.to_row(_PENDING)) for each in again]
            with suppress(ConcurrencyConflict):  # somebody else is at it
                await self._table(publisher_id).commit(_outbox(publisher_id), operations)

    async def reschedule(self, publisher_id: str, claimed: Delivery, failed: Delivery) -> None:
        """The delivery comes again when it says; unless the claim ran out, and somebody else has it now."""
        state = await self._is_ours(publisher_id, claimed)
        if state is not None:
            with suppress(ConcurrencyConflict):
                await self._table(publisher_id).commit(
                    _outbox(publisher_id), [Operation("put", failed.to_row(_PENDING), state)]
                )

    async def _is_ours(self, publisher_id: str, claimed: Delivery) -> str | None:
        """The ETag of what was claimed; None where it is gone, or was claimed anew."""
        row = await self._table(publisher_id).find(_outbox(publisher_id), claimed.pending_key)
        return etag(row) if row is not None and row["nextAt"] == instant(claimed.next_at) else None

    async def dead(self, publisher_id: str, *, after: str = "", limit: int | None = None) -> AsyncIterator[Delivery]:
        """The deliveries that were given up; those after that one."""
        rows = self._table(publisher_id).rows(
            _outbox(publisher_id),
            f"{_DEAD}|",
            after=row_key(_DEAD, "", after) if after else "",
            limit=limit,
        )
        async for row in rows:
            yield Delivery.from_row(row)

    async def find_dead(self, publisher_id: str, delivery_id: str) -> Delivery | None:
        row = await self._table(publisher_id).find(_outbox(publisher_id), row_key(_DEAD, "", delivery_id))
        return None if row is None else Delivery.from_row(row)

    async def replay(self, publisher_id: str, delivery: Delivery, now: datetime) -> None:
        """Send a dead delivery again, as if it had not been tried yet.

        Raises ConcurrencyConflict where it is not dead, and Frozen.
        """
        await self.raise_if_frozen(publisher_id)
        again = replace(delivery, attempts=0, next_at=now, reason="")
        operations = [
            Operation("delete", {"RowKey": row_key(_DEAD, "", delivery.id)}),
            Operation("put", again.to_row(_PENDING)),
        ]
        await self._table(publisher_id).commit(_outbox(publisher_id), operations)

    async def _move(self, publisher_id: str, delivery: Delivery, to: Delivery | None, state: str) -> None:
        operations = [Operation("delete", {"RowKey": delivery.pending_key})]
        operations += [Operation("put", to.to_row(state))] if to else []
        # Where it is gone, somebody else has brought it to its end.
        with suppress(ConcurrencyConflict):
            await self._table(publisher_id).commit(_outbox(publisher_id), operations)


class SendQuota(NamedTuple):
    """How many deliveries of a publisher were claimed in the minute that is going on."""

    claimed: int
    etag: str


def _minute(now: datetime) -> str:
    return instant(now)[:16]


def _send_quota_key(channel: ChannelKind) -> str:
    return row_key("pace", "", channel)


def _outbox(publisher_id: str) -> str:
    return f"{publisher_id}|outbox"


def _fan_out_key(notice_id: str, announcement: str) -> str:
    return row_key("spread", notice_id, announcement)
