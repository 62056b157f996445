"""Messages of a made-up publisher, as the outbox hands them to a carrier."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from licensing.catalogue.records import Product, Publisher
from licensing.notices.delivery.outbox import Message
from licensing.notices.delivery.store import Delivery
from licensing.notices.model import (
    Announcement,
    ChannelKind,
    Impact,
    Moment,
    Notice,
    NoticeKind,
    NoticeStatus,
    Subscriber,
    SubscriberState,
    Update,
    announcements,
    begun,
    subscriber_id,
)

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
PUBLISHER_ID = "446d5d80-d20d-43c6-a96c-370628f5bd9f"
NOTICE_ID = "0d6a0f52-6e0e-4e53-9d86-5a7a3b9b4f11"
PUBLIC_URL = "https://licenses.example.com"
STATUS_URL = f"{PUBLIC_URL}/status/{PUBLISHER_ID}#{NOTICE_ID}"

# What harms where it is taken for more than text, each with a word that must stay legible.
HOSTILE = {
    "header injection": "legible\r\nBcc: victim@example.com\r\n\r\nbody",
    "HTML": "legible <script>alert(1)</script><img src=x onerror=alert(1)> &amp; \"'",
    "unbroken": "legible" + "x" * 293,
    "right to left": "legible \u05e9\u05dc\u05d5\u05dd \u0645\u0631\u062d\u0628\u0627",
    "direction overrides": "legible \u202egpj.exe\u202c \u2066\u2067x\u2069\u200f",
    "emoji": "legible \U0001f468\u200d\U0001f469\u200d\U0001f467 \U0001f1f3\U0001f1ff \U0001f6a7",
    "control characters": "legible \x00\x07\x1b[31mred\x7f\x9b",
    "other line ends": "legible\u2028one\u2029two\x85three\x0bfour\x0cfive",
    "lone surrogate": "legible \ud800 text",
    "Markdown": "legible [click](javascript:alert(1)) ![x](https://example.com/x.png) # head",
}


def a_publisher(**fields: Any) -> Publisher:
    made = Publisher(id=PUBLISHER_ID, created_at=NOW, updated_at=NOW, name="Contoso", time_zone="Pacific/Auckland")
    return replace(made, **fields)


def a_product(id_: str, name: str) -> Product:
    return Product(id=id_, created_at=NOW, updated_at=NOW, name=name)


PRODUCTS = {"p1": a_product("p1", "SmartSend"), "p2": a_product("p2", "ForexRates")}


def a_notice(kind: NoticeKind = NoticeKind.MAINTENANCE, **fields: Any) -> Notice:
    """A maintenance from 24 Nov 2026, 02:00 UTC for two hours; of another kind, one without a start."""
    planned: dict[str, Any] = {"starts_at": NOW + timedelta(hours=14), "ends_at": NOW + timedelta(hours=16)}
    made = Notice(
        id=NOTICE_ID,
        created_at=NOW,
        updated_at=NOW,
        notice_kind=kind,
        title="New database",
        body="We *move*.\n\nNothing is lost.",
        **(planned if kind is NoticeKind.MAINTENANCE else {}),
    )
    return replace(begun(made, kind), **fields)


def with_update(notice: Notice, status: NoticeStatus, body: str = "News.", **more: Any) -> Notice:
    update = Update(at=NOW + timedelta(hours=1), author="ada", status=status, body=body, **more)
    return replace(notice, status=status, updates=(*notice.updates, update))


def announced(notice: Notice, moment: Moment | None = Moment.AT_ONCE) -> Announcement:
    """The announcement of that moment; None: of the last update."""
    if moment is None:
        number = len(notice.updates) - 1
        return Announcement(f"update-{number}", notice.updates[number].at, None, number)
    return next(each for each in announcements(notice) if each.moment is moment)


def a_message(
    notice: Notice | None = None,
    moment: Moment | None = Moment.AT_ONCE,
    *,
    channel: ChannelKind = ChannelKind.EMAIL,
    address: str = "ops@example.org",
    publisher: Publisher | None = None,
    **fields: Any,
) -> Message:
    notice = notice or a_notice(impact=Impact.MINOR)
    announcement = announced(notice, moment)
    known_id = subscriber_id(channel, address)
    return Message(
        delivery=Delivery(
            notice_id=notice.id, announcement=announcement.key, subscriber_id=known_id, channel=channel, next_at=NOW
        ),
        publisher=publisher or a_publisher(),
        notice=notice,
        announcement=announcement,
        subscriber=Subscriber(
            id=known_id,
            created_at=NOW,
            updated_at=NOW,
            channel=channel,
            address=address,
            state=SubscriberState.CONFIRMED,
            **fields,
        ),
        products=PRODUCTS,
        now=NOW,
    )
