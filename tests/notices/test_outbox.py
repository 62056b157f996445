"""From a notice to everybody whom it concerns: once each, whatever fails, dies or is cancelled in between."""

import asyncio
import math
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from devhost.azurite import Emulator
from licensing.catalogue.records import Product, Publisher
from licensing.notices.delivery.outbox import DeliveryFailed, Message, Outbox
from licensing.notices.delivery.store import CLAIM_LASTS, Delivery
from licensing.notices.model import (
    ChannelKind,
    Moment,
    Notice,
    NoticeKind,
    NoticeStatus,
    Subscriber,
    SubscriberState,
    begun,
    subscriber_id,
)
from licensing.services import Services
from licensing.settings import Settings
from licensing.signing.keys import KeySet
from tests.notices.subscribers import put_subscribers

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)


class Clock:
    """Time stands still until it is told to go on."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime:
        return self.now

    def advance(self, **span: float) -> None:
        self.now += timedelta(**span)


@dataclass
class FakeChannel:
    """Stands in for a channel: counts what arrives, and fails as it is told to."""

    arrived: list[str] = field(default_factory=list)
    before: Callable[[Message], Awaitable[None]] | None = None

    async def send(self, message: Message) -> None:
        if self.before is not None:
            await self.before(message)
        self.arrived.append(message.delivery.id)

    @property
    def repeated(self) -> set[str]:
        return {delivery for delivery, count in Counter(self.arrived).items() if count > 1}


@dataclass
class OutboxFixture:
    """A publisher with subscribers, and an outbox whose only channel is the receivers."""

    services: Services
    publisher_id: str
    outbox: Outbox
    receivers: FakeChannel
    clock: Clock

    async def run(self, outbox: Outbox | None = None) -> int:
        return await (outbox or self.outbox).run(self.publisher_id, math.inf)

    async def subscribe(self, count: int, **fields: Any) -> list[Subscriber]:
        """New subscribers. They are stored together: one by one takes longer than what is tested."""
        made = []
        for number in range(count):
            address = fields.get("address", f"user{number}@example.com")
            subscriber = Subscriber(
                **{
                    "id": subscriber_id(ChannelKind.EMAIL, address),
                    "created_at": self.clock.now,
                    "updated_at": self.clock.now,
                    "address": address,
                    "state": SubscriberState.CONFIRMED,
                    **fields,
                }
            )
            made.append(subscriber)
        await put_subscribers(self.services, self.publisher_id, made)
        return made

    async def post(self, kind: NoticeKind = NoticeKind.INCIDENT, **fields: Any) -> Notice:
        made = Notice(
            **{
                "id": str(uuid4()),
                "created_at": self.clock.now,
                "updated_at": self.clock.now,
                "notice_kind": kind,
                "title": "Validations are slow",
                "body": "We look into it.",
                **fields,
            }
        )
        return await self.services.catalogue.create(self.publisher_id, begun(made, kind), actor="test")

    async def say(self, notice: Notice, status: NoticeStatus) -> None:
        await self.services.notices.update(self.publisher_id, notice.id, status, "News.", actor="test")

    async def move(self, notice: Notice, to: datetime) -> Notice:
        """Give it another start, as support does."""
        times: dict[str, Any] = {"starts_at": to, "ends_at": to + timedelta(hours=1)}
        return await self.services.catalogue.update(
            self.publisher_id, Notice, notice.id, lambda before: replace(before, **times), actor="ada"
        )

    def told(self) -> list[str]:
        """What has arrived since this was last asked: moments without their times, and updates."""
        told = [each.split(".")[1].partition("-17")[0] for each in self.receivers.arrived]
        self.receivers.arrived.clear()
        return told

    async def dead(self) -> list[Delivery]:
        return [each async for each in self.services.delivery_store.dead(self.publisher_id)]

    def another(self) -> Outbox:
        """The outbox of another instance, with the same receivers."""
        return replace(self.outbox)


@pytest.fixture
async def post(tables: Emulator, key_set: KeySet) -> AsyncIterator[OutboxFixture]:
    clock, receivers = Clock(), FakeChannel()
    settings = Settings(storage=tables.connection_string, signing_keys=key_set.dump(), messages_per_minute=10_000)
    services = Services(settings, clock)
    await services.table("").create()
    publisher_id = str(uuid4())
    publisher = Publisher(id=publisher_id, created_at=NOW, updated_at=NOW, name="Contoso Apps")
    await services.catalogue.create_publisher(publisher, actor="test")
    outbox = replace(services.outbox, channels={ChannelKind.EMAIL: receivers})
    yield OutboxFixture(services, publisher_id, outbox, receivers, clock)
    await services.close()


async def test_outbox_run_sends_notice_once_to_every_subscriber(post: OutboxFixture) -> None:
    subscribers = await post.subscribe(200)  # more than are spread in one transaction
    notice = await post.post()
    assert await post.run() == 200
    assert sorted(post.receivers.arrived) == sorted(f"{notice.id}.posted.{each.id}" for each in subscribers)
    post.clock.advance(minutes=1)
    assert await post.run() == 0


async def test_outbox_run_skips_other_products_unconfirmed_and_paused_subscribers(post: OutboxFixture) -> None:
    made: dict[str, Any] = {"created_at": NOW, "updated_at": NOW}
    for name in ("SmartSend", "EdiConnect"):
        await post.services.catalogue.create(post.publisher_id, Product(id=name, name=name, **made), actor="test")
    (concerned,) = await post.subscribe(1, address="a@example.com", product_ids=("SmartSend",))
    await post.subscribe(1, address="b@example.com", product_ids=("EdiConnect",))
    await post.subscribe(1, address="c@example.com", state=SubscriberState.UNCONFIRMED)
    await post.subscribe(1, address="d@example.com", state=SubscriberState.PAUSED)
    notice = await post.post(product_ids=("SmartSend",))
    await post.run()
    assert post.receivers.arrived == [f"{notice.id}.posted.{concerned.id}"]


async def test_outbox_run_sends_one_message_per_update_and_reminder(post: OutboxFixture) -> None:
    await post.subscribe(1)
    notice = await post.post(
        NoticeKind.MAINTENANCE, starts_at=NOW + timedelta(hours=2), ends_at=NOW + timedelta(hours=3)
    )
    told = []
    for minutes in (0, 59, 1, 30, 30, 30, 30, 30):
        post.clock.advance(minutes=minutes)
        await post.services.notices._begin_maintenances(post.publisher_id)
        if minutes == 59:
            await post.say(notice, NoticeStatus.SCHEDULED)
        await post.run()
        told.append(post.told())
    assert told == [["posted"], ["update-0"], ["hourBefore"], [], ["atStart"], [], ["atEnd"], []]


async def test_outbox_sends_one_update_for_rescheduled_start_and_none_for_changed_title(post: OutboxFixture) -> None:
    await post.subscribe(1)
    start = NOW + timedelta(days=2)
    notice = await post.post(NoticeKind.MAINTENANCE, starts_at=start, ends_at=start + timedelta(hours=1))
    await post.run()
    assert post.told() == ["posted"]
    post.clock.advance(minutes=1)
    moved = await post.move(notice, start - timedelta(hours=2))
    assert moved.status is NoticeStatus.SCHEDULED
    assert [(each.author, each.status) for each in moved.updates] == [("ada", NoticeStatus.SCHEDULED)]
    assert moved.updates[0].body == (
        "The times have changed.\n\nNow: 26 Nov 2026, 10:00 UTC to 26 Nov 2026, 11:00 UTC\n\n"
        "Before: 26 Nov 2026, 12:00 UTC to 26 Nov 2026, 13:00 UTC"
    )
    await post.move(notice, start - timedelta(hours=2))  # no change at all
    await post.services.catalogue.update(
        post.publisher_id, Notice, notice.id, lambda before: replace(before, title="Other words"), actor="ada"
    )
    for _ in range(2):
        await post.run()
        post.clock.advance(minutes=1)
    assert post.told() == ["update-0"]


async def test_outbox_after_several_reschedules_sends_last_update_with_previous_plans(post: OutboxFixture) -> None:
    await post.subscribe(30)
    start = NOW + timedelta(days=2)
    notice = await post.post(NoticeKind.MAINTENANCE, starts_at=start, ends_at=start + timedelta(hours=1))
    await post.run()
    post.told()
    for hours in (1, 2, 3):
        post.clock.advance(seconds=5)
        moved = await post.move(notice, start + timedelta(hours=hours))
    await post.run()
    assert post.told() == ["update-2"] * 30
    assert [line.partition(", ")[2][:5] for line in moved.updates[-1].body.split("\n\n")[1:]] == [
        *("15:00", "14:00", "13:00", "12:00")
    ]


async def test_outbox_when_rescheduled_while_sending_stops_sending_obsolete_update(post: OutboxFixture) -> None:
    await post.subscribe(60)
    start = NOW + timedelta(days=2)
    notice = await post.post(NoticeKind.MAINTENANCE, starts_at=start, ends_at=start + timedelta(hours=1))
    await post.run()
    post.told()
    await post.move(notice, start + timedelta(hours=1))

    async def move_after_ten(message: Message) -> None:
        if message.announcement.update == 0 and len(post.receivers.arrived) == 10:
            await post.move(notice, start + timedelta(hours=2))

    post.receivers.before = move_after_ten
    await post.run()
    await post.run()
    told = Counter(post.told())
    assert told["update-0"] <= 10 + 8, "what was being sent at that moment may still go"
    assert told["update-1"] == 60


async def test_reschedule_of_cancelled_maintenance_adds_no_update(post: OutboxFixture) -> None:
    await post.subscribe(1)
    start = NOW + timedelta(days=2)
    notice = await post.post(NoticeKind.MAINTENANCE, starts_at=start, ends_at=start + timedelta(hours=1))
    await post.say(notice, NoticeStatus.CANCELLED)
    moved = await post.move(notice, start + timedelta(hours=1))
    assert [each.status for each in moved.updates] == [NoticeStatus.CANCELLED]


async def test_outbox_when_start_is_moved_back_resumes_reminders_without_duplicates(post: OutboxFixture) -> None:
    await post.subscribe(60)
    start = NOW + timedelta(days=1, minutes=10)
    notice = await post.post(
        NoticeKind.MAINTENANCE, starts_at=start, ends_at=start + timedelta(hours=1), announce=(Moment.DAY_BEFORE,)
    )
    post.clock.advance(minutes=10)

    async def move_after_ten(message: Message) -> None:
        if message.announcement.moment and len(post.receivers.arrived) == 10:
            await post.move(notice, start + timedelta(days=3))

    post.receivers.before = move_after_ten
    await post.run()
    post.receivers.before = None
    told = [each for each in post.receivers.arrived if "dayBefore" in each]
    assert 10 <= len(told) < 60
    post.clock.advance(minutes=1)
    await post.run()
    assert not [each for each in post.receivers.arrived if "dayBefore" in each][len(told) :]

    for to in (start, start + timedelta(days=3), start):  # and once more away, and back
        post.clock.advance(minutes=1)
        await post.move(notice, to)
    for _ in range(2):
        await asyncio.gather(post.run(), post.run(post.another()))
        post.clock.advance(minutes=1)
    reminded = [each for each in post.receivers.arrived if "dayBefore" in each]
    assert len(reminded) == len(set(reminded)) == 60, "everybody, and nobody twice"


async def test_outbox_does_not_send_earlier_notice_to_new_subscriber(post: OutboxFixture) -> None:
    await post.subscribe(1, address="early@example.com")
    await post.post()
    await post.run()
    await post.subscribe(1, address="late@example.com")
    assert await post.run() == 0


async def test_outbox_run_on_concurrent_instances_sends_no_duplicates(post: OutboxFixture) -> None:
    await post.subscribe(150)
    await post.post()
    counts = await asyncio.gather(*(post.run(post.another()) for _ in range(3)))
    await post.run()
    assert sum(counts) <= 150
    assert len(post.receivers.arrived) == 150
    assert not post.receivers.repeated


async def test_outbox_when_notice_is_withdrawn_while_sending_stops_sending_it(post: OutboxFixture) -> None:
    await post.subscribe(100)
    notice = await post.post(NoticeKind.ANNOUNCEMENT)
    went_out = until_withdrawn = 0

    async def withdraw_after_ten(message: Message) -> None:
        nonlocal went_out, until_withdrawn
        if message.announcement.key != "posted":
            return
        went_out += 1
        if went_out == 10:
            await post.say(notice, NoticeStatus.WITHDRAWN)
            until_withdrawn = went_out

    post.receivers.before = withdraw_after_ten
    await post.run()
    await post.run()
    by_announcement = Counter(each.split(".")[1] for each in post.receivers.arrived)
    assert by_announcement["posted"] <= until_withdrawn + 8 < 100, "what was being sent at that moment may still go"
    assert by_announcement["update-0"] == 100, "everybody hears that it is withdrawn"


async def test_outbox_after_cancelled_run_delivers_to_all_and_repeats_at_most_claimed_batch(
    post: OutboxFixture,
) -> None:
    subscribers = await post.subscribe(60)
    await post.post()

    running = asyncio.create_task(post.run(post.another()))

    async def die_at_the_tenth(_: Message) -> None:
        if len(post.receivers.arrived) == 10:
            running.cancel()
            await asyncio.Event().wait()

    post.receivers.before = die_at_the_tenth
    with pytest.raises(asyncio.CancelledError):
        await running
    post.receivers.before = None
    await post.run()
    post.clock.now += CLAIM_LASTS + timedelta(seconds=1)
    await post.run()
    assert {each.rpartition(".")[2] for each in post.receivers.arrived} == {each.id for each in subscribers}
    assert len(post.receivers.arrived) - 60 <= 25, "no more than were claimed together"


async def test_outbox_retries_failed_delivery_with_backoff_then_dead_letters_it(post: OutboxFixture) -> None:
    await post.subscribe(1)
    await post.post()

    async def fail(_: Message) -> None:
        raise DeliveryFailed("timeout")

    post.receivers.before = fail
    for pause in (1, 5, 30, 120, 360, 720):
        await post.run()
        assert not await post.dead()
        post.clock.advance(minutes=pause, seconds=-1)
        assert await post.run() == 0
        post.clock.advance(seconds=2)
    await post.run()
    (dead,) = await post.dead()
    assert (dead.reason, dead.attempts) == ("timeout", 7)

    post.receivers.before = None
    await post.services.delivery_store.replay(post.publisher_id, dead, post.clock.now)
    post.clock.advance(seconds=1)
    assert await post.run() == 1
    assert post.receivers.arrived == [dead.id], "the same id as before"
    assert not await post.dead()


async def test_outbox_pauses_subscriber_after_three_permanent_failures(post: OutboxFixture) -> None:
    (subscriber,) = await post.subscribe(1)

    async def refuse(_: Message) -> None:
        raise DeliveryFailed("noSuchAddress", refused_for_good=True)

    post.receivers.before = refuse
    for number in range(1, 4):
        await post.post()
        await post.run()
        known = await post.services.subscriber_store.find_subscriber(post.publisher_id, subscriber.id)
        assert known
        assert known.bounces == number
        assert known.state is (SubscriberState.PAUSED if number == 3 else SubscriberState.CONFIRMED)
    assert len(await post.dead()) == 3, "it is not tried again by itself"
    await post.post()
    assert await post.run() == 0


async def test_outbox_resets_bounces_after_successful_delivery(post: OutboxFixture) -> None:
    (subscriber,) = await post.subscribe(1, bounces=2)
    await post.post()
    await post.run()
    known = await post.services.subscriber_store.find_subscriber(post.publisher_id, subscriber.id)
    assert known
    assert known.bounces == 0


async def test_outbox_when_channel_is_down_uses_no_delivery_attempts(post: OutboxFixture) -> None:
    await post.subscribe(100)
    await post.post()
    asked = 0

    async def unreachable(_: Message) -> None:
        nonlocal asked
        asked += 1
        raise DeliveryFailed("cannotConnect", channel_is_down=True)

    post.receivers.before = unreachable
    for _ in range(10):
        await post.run()
        post.clock.advance(minutes=2)
    assert asked <= 10 * 8, "those that were under way when the first one failed"
    assert not await post.dead()
    post.receivers.before = None
    for _ in range(3):
        await post.run()
        post.clock.advance(minutes=10)
    assert len(post.receivers.arrived) == 100


async def test_outbox_when_one_receiver_hangs_delivers_to_others(post: OutboxFixture) -> None:
    first, *others = await post.subscribe(25)  # as many as are claimed together
    await post.post()
    everybody_else, gave_up_last = asyncio.Event(), False

    async def hang(message: Message) -> None:
        nonlocal gave_up_last
        if message.subscriber.id == first.id:
            await everybody_else.wait()
            gave_up_last = True
            raise DeliveryFailed("timeout")
        if len(post.receivers.arrived) == len(others) - 1:
            everybody_else.set()

    post.receivers.before = hang
    assert await post.run() == len(others)
    assert gave_up_last


async def test_outbox_respects_messages_per_minute_across_instances(post: OutboxFixture) -> None:
    await post.subscribe(70)
    await post.post()
    post.outbox.per_minute = 30
    for expected in (30, 60, 70):
        await asyncio.gather(post.run(), post.run(post.another()))
        await post.run()
        assert len(post.receivers.arrived) == expected
        post.clock.advance(minutes=1)


async def test_outbox_does_not_send_notice_created_four_days_ago(post: OutboxFixture) -> None:
    await post.subscribe(1)
    await post.post(created_at=NOW - timedelta(days=4))
    assert await post.run() == 0


async def test_outbox_drops_pending_delivery_of_deleted_subscriber(post: OutboxFixture) -> None:
    (subscriber,) = await post.subscribe(1)
    await post.post()

    async def fail(_: Message) -> None:
        raise DeliveryFailed("timeout")

    post.receivers.before = fail
    await post.run()
    post.receivers.before = None
    await post.services.subscriber_store.delete_subscriber(post.publisher_id, subscriber.id)
    post.clock.advance(minutes=2)
    assert await post.run() == 0
    assert not await post.dead()
