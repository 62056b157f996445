"""Notices in a reply: those that are open or start soon, for the products asked for, as they are now."""

from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest

from clients.python.license_client import REPLY, verify
from licensing.catalogue.model import Product, Publisher
from licensing.notices.model import Notice, NoticeKind, NoticeStatus
from licensing.services import Services
from licensing.signing.keys import KeySet
from licensing.validation.request import ValidationRequest


class Office:
    """Support of a publisher with two products, and an environment that asks for some of them."""

    def __init__(self, services: Services, publisher: Publisher, key_set: KeySet) -> None:
        self.services, self.publisher, self._keys = services, publisher, key_set
        self.products: dict[str, str] = {}

    def common(self) -> dict[str, Any]:
        now = self.services.clock()
        return {"id": str(uuid4()), "created_at": now, "updated_at": now}

    async def sell(self, name: str) -> None:
        made = Product(**self.common(), name=name)
        await self.services.catalogue.create(self.publisher.id, made, actor="test")
        self.products[name] = made.id

    async def post(self, kind: NoticeKind, **fields: Any) -> Notice:
        said = {"title": "Storage is moved", "body": "For an hour.", **fields}
        made = Notice(**self.common(), notice_kind=kind, **said)
        return await self.services.catalogue.create(
            self.publisher.id, self.services.notices.new(made, "ann@example.com"), actor="ann@example.com"
        )

    async def told(self, *names: str) -> list[dict[str, Any]]:
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
async def office(services: Services, publisher: Publisher, key_set: KeySet) -> Office:
    made = Office(services, publisher, key_set)
    for name in ("SmartSend", "EdiConnect"):
        await made.sell(name)
    return made


async def test_a_maintenance_is_told_from_a_week_before_until_it_is_cancelled(office: Office) -> None:
    now = office.services.clock()
    assert await office.told("SmartSend") == []
    notice = await office.post(
        NoticeKind.MAINTENANCE, starts_at=now + timedelta(days=6), ends_at=now + timedelta(days=6, hours=1)
    )
    (told,) = await office.told("SmartSend")
    assert {name: told[name] for name in ("id", "title", "kind", "status")} == {
        "id": notice.id,
        "title": "Storage is moved",
        "kind": "maintenance",
        "status": "scheduled",
    }
    assert told["url"].endswith(f"/status/{office.publisher.id}#{notice.id}")
    assert notice.starts_at
    assert told["startsAt"] == notice.starts_at.isoformat(timespec="microseconds").replace("+00:00", "Z")
    await office.services.notices.update(
        office.publisher.id, notice.id, NoticeStatus.CANCELLED, "Not needed.", actor="test"
    )
    assert await office.told("SmartSend") == [], "at once"


async def test_what_starts_in_more_than_a_week_is_not_told(office: Office) -> None:
    later = office.services.clock() + timedelta(days=7, minutes=1)
    await office.post(NoticeKind.MAINTENANCE, starts_at=later, ends_at=later + timedelta(hours=1))
    assert await office.told("SmartSend") == []


async def test_a_notice_of_a_product_is_for_those_who_ask_for_it(office: Office) -> None:
    await office.post(NoticeKind.INCIDENT, product_ids=(office.products["EdiConnect"],))
    assert await office.told("SmartSend") == []
    assert len(await office.told("SmartSend", "EdiConnect")) == 1
    assert await office.told("no such product") == []


async def test_nothing_of_a_notice_but_what_is_promised_is_in_a_reply(office: Office) -> None:
    await office.post(NoticeKind.INCIDENT)
    (told,) = await office.told("SmartSend")
    assert set(told) == {"id", "title", "kind", "status", "startsAt", "endsAt", "url"}
    assert (told["startsAt"], told["endsAt"]) == (None, None)


async def test_a_title_in_a_reply_is_one_line_that_turns_nothing_round(office: Office) -> None:
    await office.post(NoticeKind.INCIDENT, title="Send \u202egpj.exe\u2066")
    assert [each["title"] for each in await office.told("SmartSend")] == ["Send gpj.exe"]
