"""A maintenance from its announcement to its cancellation, as subscribers, readers and environments see it."""

import re
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email import message_from_bytes, policy
from email.message import EmailMessage
from typing import Any

import httpx
import jwt
import pytest
from aiosmtpd.controller import Controller

from devhost.azurite import Emulator, free_port
from devhost.issuer import Issuer
from licensing.cli.local_issuer import DEMO_API_CLIENT_ID
from licensing.cli.seed import DEMO_PUBLISHER_ID, DEMO_SERIAL_NUMBER
from licensing.signing.keys import KeySet
from tests.support.administration import OWN_DIRECTORY, Caller, People
from tests.support.hosting import PUBLIC_URL, VALIDATE, Served, question, seed_demo, served, settings_for
from tests.support.waiting import WAIT_TIMEOUT_SECONDS, until_async

PUBLISHER = f"/publishers/{DEMO_PUBLISHER_ID}"
HOSTILE = 'Storage <script>alert(1)</script> is moved\u202e "now" \U0001f600 ' + "x" * 200
BODY = "We move **the storage**. [Read more](javascript:alert(1)) <img src=x onerror=alert(1)>\n\n- one\n- two"


class Mailbox:
    """Every mailbox in the world."""

    def __init__(self) -> None:
        self.mails: list[tuple[str, EmailMessage]] = []

    async def handle_DATA(self, _server: Any, _session: Any, envelope: Any) -> str:  # noqa: N802 - aiosmtpd's name
        message = message_from_bytes(envelope.content, policy=policy.default)
        assert isinstance(message, EmailMessage)
        self.mails += [(recipient, message) for recipient in envelope.rcpt_tos]
        return "250 OK"

    async def next_to(self, address: str) -> EmailMessage:
        """The next mail to the address, taken out."""
        mail = await until_async(lambda: next((each for each in self.mails if each[0] == address), None))
        assert mail
        self.mails.remove(mail)
        return mail[1]


@pytest.fixture(scope="module")
def mailbox() -> Iterator[tuple[Mailbox, int]]:
    box, port = Mailbox(), free_port()
    controller = Controller(box, hostname="127.0.0.1", port=port, ready_timeout=WAIT_TIMEOUT_SECONDS)
    controller.start()
    yield box, port
    controller.stop()


@pytest.fixture(scope="module")
def noticing(
    tables: Emulator,
    key_set: KeySet,
    issuer: Issuer,
    mailbox: tuple[Mailbox, int],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Served]:
    settings = settings_for(
        tables.connection_string,
        key_set,
        LICENSING_STORAGE_TABLE="noticing",
        LICENSING_DIRECTORY_ID=OWN_DIRECTORY,
        LICENSING_API_CLIENT_ID=DEMO_API_CLIENT_ID,
        LICENSING_SIGN_IN_AUTHORITY=issuer.url,
        LICENSING_SMTP_HOST="127.0.0.1",
        LICENSING_SMTP_PORT=str(mailbox[1]),
        LICENSING_SMTP_SECURITY="none",
        LICENSING_MAIL_FROM="licenses@example.com",
        LICENSING_MESSAGES_PER_MINUTE="1000",
        # Only when it is fired by hand.
        LICENSING_NOTICES_SCHEDULE="0 0 0 1 1 *",
    )
    seed_demo(settings)
    with served(settings, tmp_path_factory.mktemp("noticing")) as running:
        yield running


@dataclass
class NoticeFixture:
    """Support, the public, and their mail."""

    client: httpx.AsyncClient
    support: Caller
    anybody: Caller
    box: Mailbox

    async def fire(self) -> None:
        fired = await self.client.post("/admin/functions/post_downtime_notices")
        assert fired.status_code == 202

    async def reply(self) -> list[dict[str, Any]]:
        """The notices in the reply to a validation; whether it is signed others test."""
        response = await self.client.post(VALIDATE, json=question(DEMO_PUBLISHER_ID, DEMO_SERIAL_NUMBER, "SmartSend"))
        claims = jwt.decode(response.text, options={"verify_signature": False})
        notices: list[dict[str, Any]] = claims["notices"]
        return notices

    async def read(self, path: str) -> str:
        response = await self.client.get(path)
        assert response.status_code == 200, response.text
        return response.text

    async def subscribe(self, address: str) -> EmailMessage:
        """Ask, and confirm by the link in the mail; gives that mail."""
        asked = await self.anybody("POST", f"{PUBLISHER}/subscriptions", {"email": address, "products": []})
        assert asked.status_code == 202
        mail = await self.box.next_to(address)
        path = link_in(mail)
        page = await self.read(path)
        assert "<form" in page
        confirmed = await self.client.post(path)
        assert confirmed.status_code == 200, confirmed.text
        return mail


def link_in(mail: EmailMessage) -> str:
    text = mail.get_body(("plain",))
    assert text
    found = re.search(rf"{re.escape(PUBLIC_URL)}(/api/v1/\S+)", text.get_content())
    assert found
    return found[1]


@pytest.fixture
async def announced(noticing: Served, issuer: Issuer, mailbox: tuple[Mailbox, int]) -> AsyncIterator[NoticeFixture]:
    async with httpx.AsyncClient(base_url=noticing.url, timeout=WAIT_TIMEOUT_SECONDS, trust_env=False) as client:
        people = People(client, issuer)
        yield NoticeFixture(client, people.host(), people.nobody(), mailbox[0])


async def test_maintenance_is_published_and_cancelled_on_all_channels(
    announced: NoticeFixture, noticing: Served
) -> None:
    await announced.subscribe("ann@example.com")
    await announced.subscribe("zoe@example.com")
    starts_at = datetime.now(UTC) + timedelta(minutes=10)
    notice = await announced.support.make(
        f"{PUBLISHER}/notices",
        kind="maintenance",
        title=HOSTILE,
        body=BODY,
        impact="minor",
        startsAt=starts_at.isoformat(),
        endsAt=(starts_at + timedelta(hours=1)).isoformat(),
    )
    await announced.fire()
    mail = await announced.box.next_to("ann@example.com")
    assert "Storage" in mail["Subject"]
    assert "\n" not in mail["Subject"]
    assert mail["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    html = mail.get_body(("html",))
    assert html
    assert_harmless(html.get_content())

    page = await announced.read(f"/status/{DEMO_PUBLISHER_ID}")
    assert_harmless(page)
    assert "is moved" in page
    assert notice["id"] in page
    atom = await announced.read(f"/api/v1{PUBLISHER}/notices.atom")
    assert "is moved" in atom
    assert_harmless(atom)
    calendar = await announced.read(f"/api/v1{PUBLISHER}/notices.ics")
    assert "STATUS:CONFIRMED" in calendar
    listed = (await announced.anybody.get(f"{PUBLISHER}/notices/public"))["value"]
    assert [each["status"] for each in listed if each["id"] == notice["id"]] == ["scheduled"]
    assert [each["id"] for each in await announced.reply()] == [notice["id"]]

    await announced.support.make(f"{PUBLISHER}/notices/{notice['id']}/updates", status="cancelled", body="Not needed.")
    assert await announced.reply() == []
    assert "STATUS:CANCELLED" in await announced.read(f"/api/v1{PUBLISHER}/notices.ics")
    listed = (await announced.anybody.get(f"{PUBLISHER}/notices/public"))["value"]
    assert [each["status"] for each in listed if each["id"] == notice["id"]] == ["cancelled"]
    assert "ancelled" in await announced.read(f"/status/{DEMO_PUBLISHER_ID}")
    await announced.fire()
    cancelled = await announced.box.next_to("ann@example.com")
    assert "ancelled" in cancelled["Subject"]
    assert cancelled["Message-ID"] != mail["Message-ID"]

    unsubscribe = re.search(rf"<{re.escape(PUBLIC_URL)}([^>]+)>", mail["List-Unsubscribe"])
    assert unsubscribe
    one_click = await announced.client.post(unsubscribe[1], data={"List-Unsubscribe": "One-Click"})
    assert one_click.status_code == 200
    for title in ("News", "More news"):
        await announced.support.make(f"{PUBLISHER}/notices", kind="announcement", title=title, body="None.")
        await announced.fire()
        while title not in (await announced.box.next_to("zoe@example.com"))["Subject"]:
            pass  # she is still told of the maintenance
    # One run follows the other: the second has begun, so the first has sent all that it had to.
    assert "ann@example.com" not in {address for address, _ in announced.box.mails}, "she has unsubscribed"

    log = noticing.log.read_text()
    assert "ann@example.com" not in log
    assert "is moved" not in log


async def test_rescheduled_maintenance_shows_both_times_on_all_channels(announced: NoticeFixture) -> None:
    zone = await announced.support("PATCH", PUBLISHER, {"timeZone": "Pacific/Auckland"})
    assert zone.status_code == 200, zone.text
    await announced.subscribe("mona@example.com")
    starts_at = datetime.now(UTC) + timedelta(days=2)
    plan = {"startsAt": starts_at.isoformat(), "endsAt": (starts_at + timedelta(hours=1)).isoformat()}
    notice = await announced.support.make(
        f"{PUBLISHER}/notices", kind="maintenance", title="A move", body="News.", **plan
    )
    calendar_before = await announced.read(f"/api/v1{PUBLISHER}/notices.ics")
    await announced.fire()
    assert (await announced.box.next_to("mona@example.com"))["Subject"] == "Scheduled maintenance: A move"

    path, earlier = f"{PUBLISHER}/notices/{notice['id']}", starts_at - timedelta(hours=2)
    moved = await announced.support("PATCH", path, {"startsAt": earlier.isoformat()})
    renamed = await announced.support("PATCH", path, {"title": "The move"})
    assert (moved.status_code, renamed.status_code) == (200, 200)
    assert [each["status"] for each in renamed.json()["updates"]] == ["scheduled"]
    await announced.fire()
    mail = await announced.box.next_to("mona@example.com")
    assert mail["Subject"] == "Maintenance rescheduled: The move"
    text = mail.get_body(("plain",))
    assert text
    told = [f"Now: {earlier.day} {earlier:%b} {earlier.year}, {earlier:%H:%M} UTC", f"{starts_at:%H:%M} UTC"]
    for where in (
        " ".join(text.get_content().split()),
        await announced.read(f"/status/{DEMO_PUBLISHER_ID}"),
        await announced.read(f"/api/v1{PUBLISHER}/notices.atom"),
        await announced.read(f"/api/v1{PUBLISHER}/notices/public"),
    ):
        assert all(each in where for each in [*told, "Pacific/Auckland"])
    calendar = await announced.read(f"/api/v1{PUBLISHER}/notices.ics")
    assert f"DTSTART:{earlier:%Y%m%dT%H%M%SZ}" in calendar
    assert sequence_of(calendar, notice["id"]) > sequence_of(calendar_before, notice["id"])
    planned = [each["startsAt"][:16] for each in await announced.reply() if each["id"] == notice["id"]]
    assert planned == [f"{earlier:%Y-%m-%dT%H:%M}"]


def sequence_of(calendar: str, notice_id: str) -> int:
    (event,) = (event for event in calendar.split("BEGIN:VEVENT") if f"UID:{notice_id}" in event)
    found = re.search(r"SEQUENCE:(\d+)", event)
    assert found
    return int(found[1])


async def test_notice_endpoints_report_overdue_maintenance(announced: NoticeFixture) -> None:
    ended_at = datetime.now(UTC) - timedelta(hours=1)
    plan = {"startsAt": (ended_at - timedelta(hours=1)).isoformat(), "endsAt": ended_at.isoformat()}
    made = await announced.support.make(f"{PUBLISHER}/notices", kind="maintenance", title="Long", body="News.", **plan)
    path = f"{PUBLISHER}/notices/{made['id']}"
    seen = [
        made,
        await announced.support.get(path),
        (await announced.support("PATCH", path, {"impact": "minor"})).json(),
    ]
    seen += [
        each for each in (await announced.support.get(f"{PUBLISHER}/notices"))["value"] if each["id"] == made["id"]
    ]
    seen += [await announced.support.make(f"{path}/updates", status="inProgress", body="It goes on.")]
    assert [each["overdue"] for each in seen] == [True] * 5
    done = await announced.support.make(f"{path}/updates", status="completed", body="Done.")
    assert done["overdue"] is False


def assert_harmless(text: str) -> None:
    assert "<script" not in text.lower().replace("&lt;script", "")
    assert "<img" not in text.lower()
    assert "javascript:" not in re.sub(r"\[Read more\]\(javascript:alert\(1\)\)", "", text)
    assert "\u202e" not in text
