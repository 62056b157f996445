"""The weekly digest over a real store: who is reminded of what, when, and what happens where something fails."""

import logging
import re
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from aiohttp import web

from devhost.azurite import Emulator, connection_string, free_port
from licensing.catalogue.records import CustomerProduct, LicenseType, Publisher
from licensing.errors import StorageUnavailable
from licensing.mail.folder import MailFolder
from licensing.reports.model import OVERDUE
from licensing.reports.store import SentReminders
from licensing.services import Services
from licensing.settings import Settings
from tests.reports.catalogue_fixture import CatalogueFixture, create_catalogue_fixture
from tests.support.fault_proxy import Forward, busy, fault_proxy
from tests.support.invariants import check_invariants
from tests.support.records import a_product
from tests.support.token_factory import Clock

MONDAY = datetime(2026, 11, 23, 6, 0, tzinfo=UTC)
EMAIL = "licensing@contoso.example"


def day(days: int) -> date:
    return MONDAY.date() + timedelta(days=days)


class MailFolderReader:
    """A folder as its reader sees it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def take(self) -> list[EmailMessage]:
        """What is in it, which then is in it no more."""
        files = sorted(self.folder.iterdir())
        messages = [message_from_bytes(file.read_bytes(), policy=policy.default) for file in files]
        for file in files:
            file.unlink()
        return messages


def lines(message: EmailMessage) -> list[str]:
    """The titles and the reminders of a mail's text."""
    content = message.get_body(("plain",))
    assert content is not None
    found = content.get_content().splitlines()
    return [line.strip() for line in found if line.startswith(("Today", "Within", "  ")) or line == "Overdue"]


async def edit(sample: CatalogueFixture, license_: CustomerProduct, **fields: Any) -> None:
    await sample.services.catalogue.update(
        sample.publisher_id,
        CustomerProduct,
        license_.id,
        lambda before: replace(before, **fields),
        actor="test",
        parent=license_.customer_id,
    )


@pytest.fixture
def clock() -> Clock:
    clock = Clock()
    clock.now = MONDAY
    return clock


@pytest.fixture
def post(tmp_path: Path) -> MailFolderReader:
    return MailFolderReader(tmp_path)


@pytest.fixture
def settings(tables: Emulator, tmp_path: Path) -> Settings:
    """On a table of its own: a digest goes to all publishers that there are."""
    table = f"t{uuid4().hex}"
    return Settings(storage=tables.connection_string, storage_table=table, mail_folder=tmp_path)


@pytest.fixture
async def services(settings: Settings, clock: Clock) -> AsyncIterator[Services]:
    made = Services(settings, clock)
    await made.table("").create()
    yield made
    await made.close()


@pytest.fixture
async def sample(services: Services) -> CatalogueFixture:
    return await create_catalogue_fixture(services, licensing_email=EMAIL)


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    """What the service has logged: never a name or an address."""
    caplog.set_level(logging.INFO, "licensing")
    yield caplog
    assert not re.search("Fabrikam|SmartSend|Contoso|@", caplog.text)


def logged(log: pytest.LogCaptureFixture, level: int) -> list[str]:
    return [record.getMessage() for record in log.records if record.levelno == level]


async def test_digest_run_weekly_reports_each_threshold_once(
    sample: CatalogueFixture, clock: Clock, post: MailFolderReader
) -> None:
    license_ = await sample.add_license("Fabrikam", "SmartSend", day(72))
    told: dict[int, str] = {}
    for _ in range(16):
        await sample.services.expiry_digest.post()
        for message in post.take():
            title, line = lines(message)
            assert line == f"{day(72)}  Fabrikam: SmartSend (annual)"
            told[(day(72) - clock.now.date()).days] = title
        clock.advance(weeks=1)
    assert told == {
        58: "Within 60 days",
        30: "Within 30 days",
        9: "Within 14 days",
        2: "Within 7 days",
        -5: "Overdue",
    }
    kept = await SentReminders(sample.services.table, clock).read(sample.publisher_id, day(0), day(99))
    steps = (60, 30, 14, 7, OVERDUE)
    assert {(each.customer_product_id, each.threshold) for each in kept} == {(license_.id, n) for n in steps}
    await check_invariants(sample.services, sample.publisher_id)


async def test_digest_run_daily_reports_only_newly_reached_thresholds(
    sample: CatalogueFixture, clock: Clock, post: MailFolderReader
) -> None:
    await sample.add_license("Fabrikam", "SmartSend", day(7))
    told = []
    for days in range(9):
        clock.now = MONDAY + timedelta(days=days)
        await sample.services.expiry_digest.post()
        told += [(days, lines(message)[0]) for message in post.take()]
    assert told == [(0, "Within 7 days"), (6, "Within 1 day"), (7, "Today"), (8, "Overdue")]


async def test_digest_run_again_on_same_day_sends_only_new_licenses(
    sample: CatalogueFixture, clock: Clock, post: MailFolderReader
) -> None:
    await sample.add_license("Fabrikam", "SmartSend", day(10))
    await sample.services.expiry_digest.post()
    assert len(post.take()) == 1
    clock.advance(hours=12)
    await sample.services.expiry_digest.post()
    assert post.take() == []
    await sample.add_license("Contoso", "SmartSend", day(11))
    await sample.services.expiry_digest.post()
    (message,) = post.take()
    assert lines(message) == ["Within 14 days", f"{day(11)}  Contoso: SmartSend (annual)"]


async def test_digest_after_end_date_changes_reminds_once_per_end_date(
    sample: CatalogueFixture, clock: Clock, post: MailFolderReader
) -> None:
    license_ = await sample.add_license("Fabrikam", "SmartSend", day(10))

    told = []
    for end_date in (day(10), day(12), day(10)):
        await edit(sample, license_, end_date=end_date)
        await sample.services.expiry_digest.post()
        told += [lines(message)[1][:10] for message in post.take()]
        clock.advance(hours=1)
    assert told == [day(10).isoformat(), day(12).isoformat()]


async def test_digest_lists_licenses_within_60_days_by_threshold_date_and_customer(
    sample: CatalogueFixture, post: MailFolderReader
) -> None:
    for customer, days in (
        ("Later", 61),
        ("Last", 60),
        ("zeta", 20),
        ("Alpha", 20),
        ("First", 15),
        ("Today", 0),
        ("Over", -1),
    ):
        await sample.add_license(customer, "SmartSend", day(days))
    await sample.services.expiry_digest.post()
    (message,) = post.take()
    assert lines(message) == [
        "Today",
        f"{day(0)}  Today: SmartSend (annual)",
        "Within 30 days",
        f"{day(15)}  First: SmartSend (annual)",
        f"{day(20)}  Alpha: SmartSend (annual)",
        f"{day(20)}  zeta: SmartSend (annual)",
        "Within 60 days",
        f"{day(60)}  Last: SmartSend (annual)",
        "Overdue",
        f"{day(-1)}  Over: SmartSend (annual)",
    ]
    assert (message["Subject"], message["To"]) == ("Licenses that expire soon: 5, overdue: 1", EMAIL)
    assert (message["From"], message["Date"].datetime) == ("no-reply@localhost", MONDAY)
    assert "http" not in message.get_body(("html",)).get_content()  # type: ignore[union-attr] # a failure all the same
    await sample.services.expiry_digest.post()
    assert post.take() == [], "from the first day to the last, all are marked"


async def test_digest_includes_overdue_licenses_each_time_but_each_triggers_only_one(
    sample: CatalogueFixture, clock: Clock, post: MailFolderReader
) -> None:
    old = await sample.add_license("Fabrikam", "SmartSend", day(-350))
    await sample.add_license("Fabrikam", "DocuFlow", day(-3), license_type=LicenseType.PERPETUAL)
    overdue = [
        "Overdue",
        f"{day(-350)}  Fabrikam: SmartSend (annual)",
        f"{day(-3)}  Fabrikam: DocuFlow (perpetual, maintenance expired)",
    ]
    await sample.services.expiry_digest.post()
    (message,) = post.take()
    assert (message["Subject"], lines(message)) == ("Licenses that are overdue: 2", overdue)
    clock.advance(weeks=1)
    await sample.services.expiry_digest.post()
    assert post.take() == [], "nothing has changed"
    await sample.add_license("Northwind", "SmartSend", day(20))
    await sample.services.expiry_digest.post()
    (message,) = post.take()
    assert lines(message) == ["Within 14 days", f"{day(20)}  Northwind: SmartSend (annual)", *overdue]
    await edit(sample, old, enabled=False)
    await sample.add_license("Northwind", "DocuFlow", day(20))
    await sample.services.expiry_digest.post()
    (message,) = post.take()
    assert lines(message)[2:] == ["Overdue", overdue[2]], "one that is not enabled is left out"


async def test_digest_omits_licenses_overdue_for_more_than_366_days(
    sample: CatalogueFixture, clock: Clock, post: MailFolderReader
) -> None:
    await sample.add_license("Fabrikam", "SmartSend", day(-367))
    await sample.services.expiry_digest.post()
    assert post.take() == []
    await sample.add_license("Northwind", "SmartSend", day(-366))
    await sample.services.expiry_digest.post()
    (message,) = post.take()
    assert lines(message) == ["Overdue", f"{day(-366)}  Northwind: SmartSend (annual)"]
    clock.advance(days=1)
    await sample.add_license("Northwind", "SmartSend", day(20))
    await sample.services.expiry_digest.post()
    (message,) = post.take()
    assert lines(message) == ["Within 30 days", f"{day(20)}  Northwind: SmartSend (annual)"]


async def test_digest_omits_disabled_licenses_until_they_are_enabled(
    sample: CatalogueFixture, post: MailFolderReader
) -> None:
    license_ = await sample.add_license("Fabrikam", "SmartSend", day(10), enabled=False)
    await sample.add_license("Fabrikam", "SmartSend", day(-10), enabled=False)
    await sample.services.expiry_digest.post()
    assert post.take() == []
    await edit(sample, license_, enabled=True)
    await sample.services.expiry_digest.post()
    (message,) = post.take()
    assert lines(message) == ["Within 14 days", f"{day(10)}  Fabrikam: SmartSend (annual)"]


async def test_digest_with_250_licenses_marks_all_as_reminded(sample: CatalogueFixture, post: MailFolderReader) -> None:
    product = await sample.create(a_product())
    await sample.add_customers(5, product, [day(days) for days in range(1, 51)])
    await sample.services.expiry_digest.post()
    (message,) = post.take()
    assert message["Subject"] == "Licenses that expire soon: 250"
    await sample.services.expiry_digest.post()
    assert post.take() == []


# Who gets it.


async def test_digest_without_licensing_email_is_sent_to_support_email(
    services: Services, post: MailFolderReader
) -> None:
    sample = await create_catalogue_fixture(services, support_email="support@contoso.example")
    await sample.add_license("Fabrikam", "SmartSend", day(10))
    await services.expiry_digest.post()
    assert [message["To"] for message in post.take()] == ["support@contoso.example"]


async def test_digest_without_recipient_logs_warning_and_sends_once_an_email_is_set(
    services: Services, post: MailFolderReader, log: pytest.LogCaptureFixture
) -> None:
    sample = await create_catalogue_fixture(services)
    await services.expiry_digest.post()
    assert logged(log, logging.WARNING) == [], "nothing to tell, nobody to tell it to"
    await sample.add_license("Fabrikam", "SmartSend", day(10))
    await services.expiry_digest.post()
    (warning,) = logged(log, logging.WARNING)
    assert warning == f"no digest for publisher {sample.publisher_id}: it has neither a licensing nor a support email"
    assert post.take() == []
    # Once it has an address, it hears of it.
    await services.catalogue.update(
        sample.publisher_id,
        Publisher,
        sample.publisher_id,
        lambda before: replace(before, support_email=EMAIL),
        actor="test",
    )
    await services.expiry_digest.post()
    assert len(post.take()) == 1


async def test_digest_sends_each_publisher_only_its_own_licenses(
    sample: CatalogueFixture, post: MailFolderReader, log: pytest.LogCaptureFixture
) -> None:
    other = await create_catalogue_fixture(sample.services, licensing_email="licensing@adatum.example")
    quiet = await create_catalogue_fixture(sample.services, licensing_email="licensing@quiet.example")
    await quiet.add_license("Fabrikam", "SmartSend", day(100))
    await sample.add_license("Fabrikam", "SmartSend", day(10))
    await other.add_license("Northwind", "DocuFlow", day(10))
    await sample.services.expiry_digest.post()
    told = {message["To"]: lines(message)[1] for message in post.take()}
    assert told == {
        EMAIL: f"{day(10)}  Fabrikam: SmartSend (annual)",
        "licensing@adatum.example": f"{day(10)}  Northwind: DocuFlow (annual)",
    }
    assert sorted(logged(log, logging.INFO)) == sorted(
        f"digest for publisher {each.publisher_id}: 1 customer products" for each in (sample, other)
    )


async def test_digest_without_mailer_marks_nothing_and_logs_one_warning(
    settings: Settings, sample: CatalogueFixture, clock: Clock, post: MailFolderReader, log: pytest.LogCaptureFixture
) -> None:
    await sample.add_license("Fabrikam", "SmartSend", day(10))
    await (await create_catalogue_fixture(sample.services, licensing_email="b@b.example")).add_license(
        "Fabrikam", "SmartSend", day(10)
    )
    dumb = Services(replace(settings, mail_folder=None), clock)
    await dumb.expiry_digest.post()
    assert logged(log, logging.WARNING) == ["no digest of what expires is sent: LICENSING_SMTP_HOST is not set"]
    await sample.services.expiry_digest.post()
    assert len(post.take()) == 2, "nothing was marked"
    await dumb.close()


# Where something fails.


class MailerFailingAfterSend:
    """A mailer that dies once the mail is out."""

    def __init__(self, folder: Path) -> None:
        self._folder = MailFolder(folder)

    async def send(self, message: EmailMessage) -> None:
        await self._folder.send(message)
        raise ConnectionResetError("licensing@contoso.example did not answer about Fabrikam")


async def test_digest_when_mailer_fails_after_sending_resends_with_same_message_id(
    sample: CatalogueFixture, clock: Clock, post: MailFolderReader, log: pytest.LogCaptureFixture
) -> None:
    await sample.add_license("Fabrikam", "SmartSend", day(10))
    digest = sample.services.expiry_digest
    digest.mailer = MailerFailingAfterSend(post.folder)
    await digest.post()
    (first,) = post.take()
    assert logged(log, logging.ERROR) == [
        f"the digest for publisher {sample.publisher_id} failed: ConnectionResetError"
    ]
    clock.advance(hours=1)
    digest.mailer = sample.services.mailer
    await digest.post()
    (again,) = post.take()
    assert again["Date"] != first["Date"]
    assert (again["Message-ID"], lines(again)) == (first["Message-ID"], lines(first))
    await digest.post()
    assert post.take() == []


async def test_digest_when_storage_fails_before_marking_resends_with_same_message_id(
    tables: Emulator, settings: Settings, sample: CatalogueFixture, clock: Clock, post: MailFolderReader
) -> None:
    await sample.add_license("Fabrikam", "SmartSend", day(10))
    ids = []

    async def answer(request: web.BaseRequest, pass_on: Forward) -> web.StreamResponse:
        return await (busy(request, pass_on) if request.method == "POST" else pass_on())

    async with fault_proxy(tables, answer) as storage:
        failing = Services(replace(settings, storage=storage.account), clock)
        for _ in range(2):
            await failing.expiry_digest.post()
            ids += [message["Message-ID"] for message in post.take()]
        await failing.close()
    assert len(ids) == 2
    assert len(set(ids)) == 1
    await sample.services.expiry_digest.post()
    assert [message["Message-ID"] for message in post.take()] == ids[:1]


async def test_digest_when_storage_of_one_publisher_is_down_sends_to_others(
    settings: Settings, services: Services, clock: Clock, post: MailFolderReader, log: pytest.LogCaptureFixture
) -> None:
    shops = sorted(
        [await create_catalogue_fixture(services, licensing_email=EMAIL) for _ in range(3)],
        key=lambda s: s.publisher_id,
    )
    for sample in shops:
        await sample.add_license("Fabrikam", "SmartSend", day(10))
    _, broken, _ = shops
    elsewhere = {broken.publisher_id: connection_string(free_port())}
    partly = Services(replace(settings, publisher_storage=elsewhere), clock)
    await partly.expiry_digest.post()
    assert len(post.take()) == 2
    assert logged(log, logging.ERROR) == [f"the digest for publisher {broken.publisher_id} failed: StorageUnavailable"]
    await services.expiry_digest.post()
    assert len(post.take()) == 1, "the one that is left"
    await partly.close()


async def test_digest_when_mail_to_one_publisher_fails_sends_to_others(
    services: Services, post: MailFolderReader, log: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    shops = [
        await create_catalogue_fixture(services, licensing_email=address)
        for address in (EMAIL, "b@contoso.example", EMAIL)
    ]
    for sample in shops:
        await sample.add_license("Fabrikam", "SmartSend", day(10))
    mailer = services.expiry_digest.mailer
    assert mailer
    send = mailer.send

    async def refuse(message: EmailMessage) -> None:
        if message["To"] == "b@contoso.example":
            raise OSError("b@contoso.example is not taken")
        await send(message)

    monkeypatch.setattr(mailer, "send", refuse)
    await services.expiry_digest.post()
    assert [message["To"] for message in post.take()] == [EMAIL, EMAIL]
    assert logged(log, logging.ERROR) == [f"the digest for publisher {shops[1].publisher_id} failed: OSError"]


async def test_digest_when_publishers_cannot_be_read_raises_storage_unavailable(
    settings: Settings, clock: Clock
) -> None:
    down = Services(replace(settings, storage=connection_string(free_port())), clock)
    with pytest.raises(StorageUnavailable):
        await down.expiry_digest.post()
    await down.close()
