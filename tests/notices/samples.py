"""Notices of every kind to look at: ordinary ones, and such as break a layout, a feed or a page."""

from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from licensing.catalogue.records import Product, Publisher
from licensing.notices.model import Impact, Notice, NoticeKind, NoticeStatus, Update

S = NoticeStatus
PUBLISHER_ID = str(UUID(int=7))
WORD = "W" * 300
HEBREW = "תחזוקה מתוכננת של שרת הרישוי"
ARABIC = "سيتوقف خادم التراخيص عن العمل ساعة واحدة"
FAMILY = "👩‍👩‍👧‍👦🚀"
MARKUP = "</title><script>alert(1)</script><img src=x onerror=alert(1)>&amp;\"'"
MARKDOWN = (
    "**Bold**, *slanted* and `code`.\n\n- one\n- two\n\n[click](javascript:alert(1)) ![x](https://evil.example/x.png)\n\n"
    "<iframe src=https://evil.example></iframe>\n\n[good](https://example.com/a?b=1&c=2)\nBEGIN:VEVENT\nEND:VCALENDAR\n]]>"
)


def a_publisher(now: datetime, **fields: Any) -> Publisher:
    return Publisher(
        **{
            "id": PUBLISHER_ID,
            "created_at": now - timedelta(days=200),
            "updated_at": now - timedelta(days=200),
            "name": "Contoso Apps",
            "support_email": "support@example.com",
            "time_zone": "Pacific/Auckland",
            **fields,
        }
    )


def the_products(now: datetime) -> list[Product]:
    names = ["SmartSend", "ForexRates", "RoastPlanner", "מוצר", f"{MARKUP}", "P" * 128]
    return [
        Product(id=f"product-{number}", created_at=now, updated_at=now, name=name) for number, name in enumerate(names)
    ]


def _update(at: datetime, status: NoticeStatus, body: str) -> Update:
    return Update(at=at, author="secret-author@example.com", status=status, body=body)


class NoticeSamples:
    """Notices as they stand at an instant. Each has an id of its own, the same every time."""

    def __init__(self, now: datetime) -> None:
        self.now = now
        self.made: list[Notice] = []

    def add(self, kind: NoticeKind, status: NoticeStatus, title: str, age: timedelta, **fields: Any) -> Notice:
        notice = Notice(
            **{
                "id": str(UUID(int=len(self.made) + 1000)),
                "created_at": self.now - age,
                "updated_at": fields["updates"][-1].at if fields.get("updates") else self.now - age,
                "title": title,
                "body": "We tell here how it goes on.",
                "notice_kind": kind,
                "status": status,
                "author": "secret-author@example.com",
                "etag": str(len(self.made) + 5),
                **fields,
            }
        )
        self.made.append(notice)
        return notice


def ordinary(now: datetime) -> list[Notice]:
    """What a publisher has on a day on which much goes on."""
    samples, hour, day = NoticeSamples(now), timedelta(hours=1), timedelta(days=1)
    samples.add(
        NoticeKind.INCIDENT,
        S.MONITORING,
        "Validations are slow in Europe",
        2 * hour,
        impact=Impact.MAJOR,
        body="Some validations take up to **ten seconds**. No feature is switched off: the last good reply counts.",
        product_ids=("product-0", "product-1"),
        updates=(
            _update(now - hour, S.IDENTIFIED, "A storage account answers slowly. We move to another one."),
            _update(now - hour / 4, S.MONITORING, "Moved. We watch whether it stays fast."),
        ),
    )
    samples.add(
        NoticeKind.MAINTENANCE,
        S.IN_PROGRESS,
        "Signing keys are renewed",
        3 * day,
        impact=Impact.MINOR,
        starts_at=now - 3 * hour,
        ends_at=now - hour,
    )
    samples.add(
        NoticeKind.MAINTENANCE,
        S.SCHEDULED,
        "Move to a new region",
        day,
        impact=Impact.MAJOR,
        starts_at=now + 6 * day,
        ends_at=now + 6 * day + 2 * hour,
        body="For two hours licenses are answered from memory.\n\n- no feature is switched off\n- nothing to do",
    )
    samples.add(NoticeKind.ANNOUNCEMENT, S.PUBLISHED, "ForexRates 4 comes in January", 5 * day)
    samples.add(
        NoticeKind.INCIDENT,
        S.RESOLVED,
        "No validations for twenty minutes",
        12 * day,
        impact=Impact.CRITICAL,
        updates=(
            _update(now - 12 * day + hour / 6, S.IDENTIFIED, "A certificate had run out."),
            _update(now - 12 * day + hour / 3, S.RESOLVED, "It is renewed, and is watched from now on."),
        ),
    )
    samples.add(
        NoticeKind.MAINTENANCE,
        S.COMPLETED,
        "Storage is moved",
        40 * day,
        impact=Impact.MINOR,
        starts_at=now - 34 * day,
        ends_at=now - 34 * day + hour,
        updates=(_update(now - 34 * day + hour, S.COMPLETED, "All went well."),),
    )
    samples.add(
        NoticeKind.MAINTENANCE,
        S.CANCELLED,
        "Second part of the move",
        39 * day,
        starts_at=now - 30 * day,
        ends_at=now - 30 * day + hour,
        updates=(_update(now - 34 * day + hour, S.CANCELLED, "Not needed any more."),),
    )
    return samples.made


def hostile(now: datetime) -> list[Notice]:
    """The same texts in every place that a text may have."""
    samples, hour, day = NoticeSamples(now), timedelta(hours=1), timedelta(days=1)
    for number, text in enumerate((MARKUP, WORD, f"{HEBREW} 2026", ARABIC, FAMILY * 20, MARKDOWN)):
        title, body = " ".join(text.split())[:300], f"{text}\n\n{MARKDOWN}"
        samples.add(
            NoticeKind.INCIDENT,
            S.IDENTIFIED,
            title,
            hour * (number + 1),
            impact=list(Impact)[number % 4],
            body=body,
            product_ids=("product-3", "product-4", "product-5", "product-that-is-gone"),
            updates=(_update(now - hour / 2, S.IDENTIFIED, body),),
        )
        samples.add(
            NoticeKind.MAINTENANCE, S.SCHEDULED, title, hour, starts_at=now + day, ends_at=now + 2 * day, body=body
        )
        samples.add(
            NoticeKind.ANNOUNCEMENT,
            S.WITHDRAWN,
            title,
            (number + 2) * day,
            body=body,
            updates=(_update(now - number * day - hour, S.WITHDRAWN, body),),
        )
    return samples.made
