"""What is on its way: announcements become deliveries, and deliveries go out, each at least once and mostly just once.

Everything that it knows lies in storage, so it may die at any moment. An announcement is made into deliveries in
transactions that also tell how far it has come. A delivery is claimed before it is sent, and marked after; where
nobody lives to mark it, the claim runs out, and it is sent again under the same id.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Protocol

from licensing.catalogue.publisher_cache import PublisherCache
from licensing.catalogue.records import Product, Publisher
from licensing.errors import Conflict, NotFound
from licensing.notices.delivery.store import FAN_OUT_BATCH, Delivery, DeliveryStore
from licensing.notices.model import (
    BOUNCES_TO_PAUSE,
    Announcement,
    ChannelKind,
    Notice,
    Subscriber,
    SubscriberState,
    announcements,
    is_due,
    is_for,
    is_obsolete,
    is_rescheduled,
    pause_after,
)
from licensing.notices.subscriptions.store import SubscriberStore
from licensing.storage.errors import ConcurrencyConflict
from licensing.telemetry.service import Telemetry

_CLAIM_AT_ONCE = 25
_SEND_AT_ONCE = 8
_MESSAGE_SECONDS = 60
_LOOK_BACK = timedelta(days=3)
"""An announcement that could not be made for so long is not made any more: it would be news to nobody."""

_log = logging.getLogger(__name__)


class DeliveryFailed(Exception):
    """A message could not be delivered. `code` says why, in words of ours: nothing that a receiver said."""

    def __init__(self, code: str, *, refused_for_good: bool = False, channel_is_down: bool = False) -> None:
        super().__init__(code)
        self.code = code
        self.refused_for_good = refused_for_good
        """The receiver will never take it: an address that does not exist."""
        self.channel_is_down = channel_is_down
        """It is not this receiver: nothing goes out this way now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """All that a channel has to know to tell one subscriber."""

    delivery: Delivery
    publisher: Publisher
    notice: Notice
    announcement: Announcement
    subscriber: Subscriber
    products: Mapping[str, Product]
    now: datetime


class Channel(Protocol):
    """One channel."""

    async def send(self, message: Message) -> None:
        """Deliver the message. Raises DeliveryFailed; whatever else this raises, it may have been delivered."""


@dataclass(kw_only=True)
class Outbox:
    """Announces, and delivers."""

    store: DeliveryStore
    subscribers: SubscriberStore
    publisher_cache: PublisherCache
    channels: Mapping[ChannelKind, Channel]
    telemetry: Telemetry
    clock: Callable[[], datetime]
    per_minute: int

    async def run(self, publisher_id: str, until: float) -> int:
        """Do what is due for the publisher, until the loop's clock says `until`; how many deliveries were made.

        Raises StorageUnavailable, PublisherNotFound.
        """
        (notices,) = await self.publisher_cache.several(publisher_id, Notice)
        now = self.clock()
        for notice in notices.values():
            for announcement in announcements(notice):
                old = announcement.at < now - _LOOK_BACK
                if not old and is_due(announcement, notice, now) and not is_obsolete(notice, announcement.key, now):
                    await self._fan_out(publisher_id, notice, announcement.key)
                    if announcement.moment and any(update.previous_plan for update in notice.updates):
                        # Where its moment was moved away, and back.
                        await self.store.unpark(publisher_id, notice.id, announcement.key, now)
        return sum(await asyncio.gather(*(self._deliver(publisher_id, each, until) for each in self.channels)))

    async def replay(self, publisher_id: str, delivery_id: str) -> None:
        """Make a dead delivery pending again, as if it had not been tried yet.

        Raises NotFound where it is not dead, Conflict where it is obsolete or its subscriber gets nothing, and Frozen.
        """
        delivery = await self.store.find_dead(publisher_id, delivery_id)
        if delivery is None:
            raise _not_dead()
        now = self.clock()
        notices = await self.publisher_cache.get(publisher_id, Notice)
        if is_obsolete(notices.get(delivery.notice_id), delivery.announcement, now):
            raise Conflict("There is nothing to tell any more: the notice is over, or says something newer.")
        subscriber = await self.subscribers.find_subscriber(publisher_id, delivery.subscriber_id)
        if subscriber is None or not subscriber.is_active:
            raise Conflict("The subscriber gets nothing now: add the address again first.")
        try:
            await self.store.replay(publisher_id, delivery, now)
        except ConcurrencyConflict:
            raise _not_dead() from None

    async def _fan_out(self, publisher_id: str, notice: Notice, key: str) -> None:
        """Make a delivery for each subscriber whom the notice is for, once, from where the last attempt ended."""
        while True:
            since = await self.store.fan_out_progress(publisher_id, notice.id, key)
            if since is not None and since.done:
                return
            after = since.after if since else ""
            subscribers = self.subscribers.subscribers(publisher_id, after=after, limit=FAN_OUT_BATCH)
            some = [each async for each in subscribers]
            try:
                await self.store.fan_out(
                    publisher_id,
                    notice,
                    key,
                    [each for each in some if is_for(notice, each)],
                    since=since,
                    last=some[-1].id if some else after,
                    done=len(some) < FAN_OUT_BATCH,
                    now=self.clock(),
                )
            except ConcurrencyConflict:
                return  # somebody else is at it

    async def _deliver(self, publisher_id: str, channel: ChannelKind, until: float) -> int:
        """What is due on one channel: none waits for another."""
        made = 0
        down: set[ChannelKind] = set()
        loop = asyncio.get_running_loop()
        while loop.time() < until:
            now = self.clock()
            send_quota = await self.store.send_quota(publisher_id, channel, now)
            room = min(_CLAIM_AT_ONCE, self.per_minute - send_quota.claimed)
            due = await self.store.due(publisher_id, channel, now, room) if room > 0 else []
            if not due:
                break
            try:
                claimed = await self.store.claim(publisher_id, channel, due, now, send_quota)
            except ConcurrencyConflict:
                continue  # somebody else is at it
            made += await self._send_all(publisher_id, claimed, down)
            if channel in down:
                break
        return made

    async def _send_all(self, publisher_id: str, claimed: Sequence[Delivery], down: set[ChannelKind]) -> int:
        turn = asyncio.Semaphore(_SEND_AT_ONCE)

        async def one(delivery: Delivery) -> bool:
            async with turn:
                if self.clock() >= delivery.next_at:
                    return False  # the claim ran out while this waited: somebody else may have it
                # Now, and not when it was claimed: what is cancelled meanwhile does not go out.
                publishers, notices, products = await self.publisher_cache.several(
                    publisher_id, Publisher, Notice, Product
                )
                notice = notices.get(delivery.notice_id)
                subscriber = await self.subscribers.find_subscriber(publisher_id, delivery.subscriber_id)
                if notice is None or subscriber is None or not is_for(notice, subscriber):
                    await self.store.drop(publisher_id, delivery)
                    return False
                now = self.clock()
                if is_obsolete(notice, delivery.announcement, now):
                    finish = self.store.park if is_rescheduled(notice, delivery.announcement) else self.store.drop
                    await finish(publisher_id, delivery)
                    return False
                message = Message(
                    delivery=delivery,
                    publisher=publishers[publisher_id],
                    notice=notice,
                    announcement=next(each for each in announcements(notice) if each.key == delivery.announcement),
                    subscriber=subscriber,
                    products=products,
                    now=now,
                )
                return await self._send(publisher_id, message, down)

        outcomes = await asyncio.gather(*map(one, claimed), return_exceptions=True)
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                # It stays claimed, and is due again once the claim runs out.
                _log.warning(
                    "a delivery of publisher %s was not brought to its end: %s", publisher_id, type(outcome).__name__
                )
        return sum(outcome is True for outcome in outcomes)

    async def _send(self, publisher_id: str, message: Message, down: set[ChannelKind]) -> bool:
        delivery, subscriber = message.delivery, message.subscriber
        sender = self.channels.get(subscriber.channel)
        try:
            if sender is None or subscriber.channel in down:
                raise DeliveryFailed("channelIsDown", channel_is_down=True)
            async with asyncio.timeout(_MESSAGE_SECONDS):
                await sender.send(message)
        except DeliveryFailed as error:
            await self._failed(publisher_id, message, error, down)
            return False
        except TimeoutError:
            await self._failed(publisher_id, message, DeliveryFailed("timedOut"), down)
            return False
        except Exception as error:  # noqa: BLE001 - it is to come to an end too. Its message may hold an address
            _log.error("a message could not be sent: %s", type(error).__name__)
            await self._failed(publisher_id, message, DeliveryFailed("unexpected"), down)
            return False
        await self.store.mark_sent(publisher_id, delivery, self.clock())
        self.telemetry.record("NoticeDelivered", channel=subscriber.channel, attempts=delivery.attempts)
        if subscriber.bounces:
            await self._count_bounces(publisher_id, subscriber, 0)
        return True

    async def _failed(self, publisher_id: str, message: Message, error: DeliveryFailed, down: set[ChannelKind]) -> None:
        now, subscriber = self.clock(), message.subscriber
        failed = replace(message.delivery, reason=error.code)
        if error.channel_is_down:
            # No fault of this receiver: it costs no attempt.
            down.add(subscriber.channel)
            failed = replace(failed, attempts=failed.attempts - 1)
        pause = pause_after(max(failed.attempts, 1))
        given_up = error.refused_for_good or pause is None
        what = "DeliveryGivenUp" if given_up else "DeliveryFailed"
        self.telemetry.record(what, channel=subscriber.channel, code=error.code, attempts=failed.attempts)
        if given_up or pause is None:
            await self.store.dead_letter(publisher_id, message.delivery, replace(failed, next_at=now))
        else:
            await self.store.reschedule(publisher_id, message.delivery, replace(failed, next_at=now + pause))
        if error.refused_for_good:
            await self._count_bounces(publisher_id, subscriber, subscriber.bounces + 1)
        _log.warning(
            "a message of publisher %s was not delivered by %s: %s", publisher_id, subscriber.channel, error.code
        )

    async def _count_bounces(self, publisher_id: str, subscriber: Subscriber, bounces: int) -> None:
        state = SubscriberState.PAUSED if bounces >= BOUNCES_TO_PAUSE else subscriber.state
        with suppress(ConcurrencyConflict):  # it has changed meanwhile: the next bounce counts
            await self.subscribers.put_subscriber(publisher_id, replace(subscriber, bounces=bounces, state=state))


def _not_dead() -> NotFound:
    return NotFound("No such message is undelivered; it may have been replayed already.")
