"""Notices in a reply: those that are open or start soon, for the products asked for, as they are now."""

from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest

from clients.python.license_client import REPLY, verify
from licensing.catalogue.records import Product, Publisher
from licensing.notices.model import Notice, NoticeKind, NoticeStatus
from licensing.services import Services
from licensing.signing.keys import KeySet
from licensing.validation.request import ValidationRequest


class NoticesFixture:
    """Support of a publisher with two products, and an environment that asks for some of them."""

    def __init__(self, services: Services, publisher: Publisher, key_set: KeySet) -> None:
        self.services, self.publisher, self._keys = services, publisher, key_set
        self.products: dict[str, str] = {}

    def common(self) -> dict[str, Any]:
        now = self.services.clock()
        return {"id": str(uuid4()), "created_at": now, "updated_at": now}

    async def create_product(self, name: str) -> None:
        made = Product(**self.common(), name=name)
        await self.services.catalogue.create(self.publisher.id, made, actor="test")
        self.products[name] = made.id

    async def post(self, kind: NoticeKind, **fields: Any) -> Notice:
        said = {"title": "Storage is moved", "body": "For an hour.", **fields}
        made = Notice(**self.common(), notice_kind=kind, **said)
        return await self.services.catalogue.create(
            self.publisher.id, self.services.notices.new(made, "ann@example.com"), actor="ann@example.com"
        )

    async def notice_claims(self, *names: str) -> list[dict[str, Any]]:
        asked = ValidationRequest.parse(
            {
                "publisherId": self.publisher.id,
                "serialNumber": "C0FFEE",
                "nonce": "n" * 16,
                "products": [{"productName": name} for name in names],
            }
        )
        reply = await self.services.validator.validate(asked, str(uuid4()))
        claims = verify(reply.token.decode(), {key.kid: key.public_key for key in self._keys.keys}, REPLY)
        notices: list[dict[str, Any]] = claims["notices"]
        return notices


@pytest.fixture
async def publisher_notices(services: Services, publisher: Publisher, key_set: KeySet) -> NoticesFixture:
    made = NoticesFixture(services, publisher, key_set)
    for name in ("SmartSend", "EdiConnect"):
        await made.create_product(name)
    return made


async def test_reply_lists_maintenance_within_a_week_until_cancelled(publisher_notices: NoticesFixture) -> None:
    now = publisher_notices.services.clock()
    assert await publisher_notices.notice_claims("SmartSend") == []
    notice = await publisher_notices.post(
        NoticeKind.MAINTENANCE, starts_at=now + timedelta(days=6), ends_at=now + timedelta(days=6, hours=1)
    )
    (notice_claims,) = await publisher_notices.notice_claims("SmartSend")
    assert {name: notice_claims[name] for name in ("id", "title", "kind", "status")} == {
        "id": notice.id,
        "title": "Storage is moved",
        "kind": "maintenance",
        "status": "scheduled",
    }
    assert notice_claims["url"].endswith(f"/status/{publisher_notices.publisher.id}#{notice.id}")
    assert notice.starts_at
    assert notice_claims["startsAt"] == notice.starts_at.isoformat(timespec="microseconds").replace("+00:00", "Z")
    await publisher_notices.services.notices.update(
        publisher_notices.publisher.id, notice.id, NoticeStatus.CANCELLED, "Not needed.", actor="test"
    )
    assert await publisher_notices.notice_claims("SmartSend") == [], "at once"


async def test_reply_omits_notice_starting_in_more_than_a_week(publisher_notices: NoticesFixture) -> None:
    later = publisher_notices.services.clock() + timedelta(days=7, minutes=1)
    await publisher_notices.post(NoticeKind.MAINTENANCE, starts_at=later, ends_at=later + timedelta(hours=1))
    assert await publisher_notices.notice_claims("SmartSend") == []


async def test_reply_lists_product_notice_only_for_requested_product(publisher_notices: NoticesFixture) -> None:
    await publisher_notices.post(NoticeKind.INCIDENT, product_ids=(publisher_notices.products["EdiConnect"],))
    assert await publisher_notices.notice_claims("SmartSend") == []
    assert len(await publisher_notices.notice_claims("SmartSend", "EdiConnect")) == 1
    assert await publisher_notices.notice_claims("no such product") == []


async def test_reply_notice_has_only_documented_members(publisher_notices: NoticesFixture) -> None:
    await publisher_notices.post(NoticeKind.INCIDENT)
    (notice_claims,) = await publisher_notices.notice_claims("SmartSend")
    assert set(notice_claims) == {"id", "title", "kind", "status", "startsAt", "endsAt", "url"}
    assert (notice_claims["startsAt"], notice_claims["endsAt"]) == (None, None)


async def test_reply_notice_title_drops_bidi_control_characters(publisher_notices: NoticesFixture) -> None:
    await publisher_notices.post(NoticeKind.INCIDENT, title="Send \u202egpj.exe\u2066")
    assert [each["title"] for each in await publisher_notices.notice_claims("SmartSend")] == ["Send gpj.exe"]
