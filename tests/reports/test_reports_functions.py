"""The door to the expiry report and the timer of the digest, at a real host: real worker, real tokens, real HTTP."""

import asyncio
import csv
import io
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest

from devhost.azurite import Emulator
from devhost.issuer import Issuer, issuing
from licensing.cli.local_issuer import DEMO_API_CLIENT_ID, DEMO_DIRECTORY_ID
from licensing.cli.running import with_services
from licensing.signing.keys import KeySet
from tests.end_to_end.administration import Caller, Desk, People, faults, refusal
from tests.end_to_end.hosting import Served, served, settings_for
from tests.waiting import PATIENCE_SECONDS, until

TODAY = datetime.now(UTC).date()
WEEKS = "nextSixMonths"  # whatever today is, it holds the days below
NAMES = [
    "=1+1",
    "+1",
    "-1",
    "@SUM(A1)",
    "Fabrikam, Inc.",
    'The "Ærø" Co',
]


def day(days: int) -> str:
    return (TODAY + timedelta(days=days)).isoformat()


@dataclass(frozen=True)
class Office:
    """A host with a mail folder, and those who sign in at it."""

    host: Served
    mail_folder: Path
    people: People

    def mails(self) -> list[EmailMessage]:
        files = self.mail_folder.glob("*.eml")
        return [message_from_bytes(file.read_bytes(), policy=policy.default) for file in files]


@pytest.fixture(scope="module")
def issuer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Issuer]:
    with issuing(tmp_path_factory.mktemp("issuer")) as running:
        yield running


@pytest.fixture(scope="module")
async def office(
    tables: Emulator, key_set: KeySet, issuer: Issuer, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Office]:
    mail_folder = tmp_path_factory.mktemp("mail")
    settings = settings_for(
        tables.connection_string,
        key_set,
        LICENSING_STORAGE_TABLE="reports",
        LICENSING_DIRECTORY_ID=DEMO_DIRECTORY_ID,
        LICENSING_API_CLIENT_ID=DEMO_API_CLIENT_ID,
        LICENSING_SIGN_IN_AUTHORITY=issuer.url,
        LICENSING_MAIL_FOLDER=str(mail_folder),
        LICENSING_MAIL_FROM="licenses@example.com",
    )
    await asyncio.to_thread(with_services, settings, lambda services: services.table("").create())
    with served(settings, tmp_path_factory.mktemp("host")) as host:
        async with httpx.AsyncClient(base_url=host.url, timeout=PATIENCE_SECONDS, trust_env=False) as client:
            yield Office(host, mail_folder, People(client, issuer))


@dataclass(frozen=True)
class Counter:
    """A publisher with a report, and somebody who may read just that."""

    desk: Desk
    reader: Caller
    path: str

    async def sell(self, customer: str, product: Mapping[str, Any], *end_dates: str) -> dict[str, Any]:
        """A new customer with a license of the product for each of the dates."""
        made = await self.desk.customer(name=customer)
        for end_date in end_dates:
            await self.desk.license(made["id"], product["id"], endDate=end_date)
        return made

    async def sheet(self, query: str = "", accept: str = "text/csv") -> httpx.Response:
        return await self.reader("GET", f"{self.path}{query}", accept=accept)


@pytest.fixture
async def counter(office: Office) -> Counter:
    desk = await office.people.open_desk(licensingEmail="licensing@contoso.example")
    _, reader = await desk.user(await desk.role(reports="read"))
    return Counter(desk, reader, f"{desk.path}/reports/expiry")


def text_of(mail: EmailMessage) -> str:
    content = mail.get_body(("plain",))
    assert content is not None
    return str(content.get_content())


def read(response: httpx.Response) -> list[dict[str, str]]:
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "text/csv; charset=utf-8; header=present"
    assert response.content.startswith(b"\xef\xbb\xbf")
    return [*csv.DictReader(io.StringIO(response.content.decode("utf-8-sig"), newline=""), strict=True)]


async def test_the_report_is_a_list_of_what_expires(counter: Counter) -> None:
    product = await counter.desk.product(name="SmartSend")
    made = await counter.sell("Fabrikam", product, day(3), day(-3))
    (item,) = await counter.reader.all(f"{counter.path}?window={WEEKS}")
    (license_,) = [
        each
        for each in await counter.desk.admin.all(f"{counter.desk.path}/customers/{made['id']}/products")
        if each["endDate"] == day(3)
    ]
    assert item == {
        "customerName": "Fabrikam",
        "customerNumber": "",
        "region": "none",
        "productName": "SmartSend",
        "licenseType": "annual",
        "endDate": day(3),
        "featureDisableDate": None,
        "enabled": True,
        "daysLeft": 3,
        "expired": False,
        "maintenanceExpired": False,
        "customerId": made["id"],
        "productId": product["id"],
        "customerProductId": license_["id"],
    }
    overdue, again = await counter.reader.all(f"{counter.path}?window={WEEKS}&includeOverdue=true")
    assert (overdue["endDate"], overdue["daysLeft"], overdue["expired"]) == (day(-3), -3, True)
    assert again == item


async def test_without_a_window_it_is_this_month(counter: Counter) -> None:
    await counter.sell("Fabrikam", await counter.desk.product(), *(day(days) for days in range(40)))
    ending = [date.fromisoformat(item["endDate"]) for item in await counter.reader.all(counter.path)]
    assert ending[0] == TODAY
    assert (ending[-1] + timedelta(days=1)).day == 1
    assert await counter.reader.all(f"{counter.path}?window=thisMonth") == await counter.reader.all(counter.path)


async def test_it_comes_in_pages(counter: Counter) -> None:
    product = await counter.desk.product()
    for customer in ("Fabrikam", "Contoso", "Adatum"):
        await counter.sell(customer, product, day(-1), day(2), day(2), day(5))
    query = f"{counter.path}?window={WEEKS}&includeOverdue=true"
    pages = [page async for page in counter.reader.pages(f"{query}&limit=5")]
    assert [len(page) for page in pages] == [5, 5, 2]
    whole = [item for page in pages for item in page]
    assert whole == await counter.reader.all(query)
    assert [(item["endDate"], item["customerName"]) for item in whole] == [
        (end_date, customer)
        for end_date, times in ((day(-1), 1), (day(2), 2), (day(5), 1))
        for customer in ("Adatum", "Contoso", "Fabrikam")
        for _ in range(times)
    ]


async def test_a_cursor_is_good_for_its_own_report_only(counter: Counter) -> None:
    await counter.sell("Fabrikam", await counter.desk.product(), day(0), day(1), day(2))
    first = await counter.reader.get(f"{counter.path}?window={WEEKS}&limit=1")
    cursor = httpx.URL(first["nextLink"]).params["cursor"]
    for query in ("window=thisYear", f"window={WEEKS}&includeOverdue=true", ""):
        response = await counter.reader("GET", f"{counter.path}?{query}&cursor={cursor}")
        assert (refusal(response), faults(response)) == ((400, "malformedRequest"), {"cursor": "malformed"})


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("window=tomorrow", "window"),
        ("window=thismonth", "window"),
        ("includeOverdue=1", "includeOverdue"),
        ("limit=0", "limit"),
        ("limit=201", "limit"),
    ],
)
async def test_what_cannot_be_read_is_named(counter: Counter, query: str, field: str) -> None:
    response = await counter.reader("GET", f"{counter.path}?{query}")
    assert (refusal(response), faults(response)) == ((400, "malformedRequest"), {field: "malformed"})
    if field == "window":
        assert "thisWeek, thisMonth, nextThreeMonths, nextSixMonths, thisYear" in response.text


async def test_who_may_not_read_reports_does_not(office: Office, counter: Counter) -> None:
    _, other = await counter.desk.user(await counter.desk.role(products="delete", customers="delete", users="read"))
    assert refusal(await other("GET", counter.path)) == (403, "forbidden")
    assert refusal(await other("GET", counter.path, accept="text/csv")) == (403, "forbidden")
    stranger = (await office.people.open_desk()).admin
    assert refusal(await stranger("GET", counter.path)) == (404, "publisherNotFound")
    assert refusal(await office.people.nobody()("GET", counter.path)) == (401, "unauthenticated")


# As CSV.


async def test_as_csv_it_is_whole_and_holds_no_formula(counter: Counter) -> None:
    product = await counter.desk.product(name="=cmd|' /C calc'!A0")
    for name in NAMES:
        await counter.sell(name, product, *(day(days) for days in range(-2, 9)))
    response = await counter.sheet(f"?window={WEEKS}&includeOverdue=true&limit=1")
    found = read(response)
    assert len(found) == 66
    assert response.headers["content-disposition"] == f'attachment; filename="expiry-{WEEKS}-{TODAY}.csv"'
    assert response.headers["cache-control"] == "no-store"
    assert {row["Customer"] for row in found} == {"'=1+1", "'+1", "'-1", "'@SUM(A1)", *NAMES[4:]}
    assert {row["Product"] for row in found} == {"'=cmd|' /C calc'!A0"}
    assert {row["Expired"] for row in found if row["Subscription end date"] == day(-2)} == {"yes"}
    assert {row["Feature disable date"] for row in found} == {""}
    as_json = await counter.reader.all(f"{counter.path}?window={WEEKS}&includeOverdue=true&limit=200")
    assert [row["Customer product ID"] for row in found] == [item["customerProductId"] for item in as_json]


@pytest.mark.parametrize(
    ("accept", "media_type"),
    [
        ("text/csv", "text/csv"),
        ("TEXT/CSV; header=present", "text/csv"),
        ("text/html, text/csv;q=0.9, */*", "text/csv"),
        ("text/csv, application/json", "text/csv"),
        ("application/json, text/csv", "application/json"),
        ("*/*", "application/json"),
        ("text/*", "application/json"),
        ("", "application/json"),
    ],
)
async def test_which_of_both_it_is(counter: Counter, accept: str, media_type: str) -> None:
    response = await counter.sheet(accept=accept)
    assert response.status_code == 200
    assert response.headers["content-type"].partition(";")[0] == media_type


async def test_a_bad_query_is_refused_as_csv_too(counter: Counter) -> None:
    assert refusal(await counter.sheet("?window=tomorrow")) == (400, "malformedRequest")


# The digest.


async def test_the_timer_reminds(office: Office, counter: Counter) -> None:
    name = f"Fabrikam {uuid4()}"  # the digest goes to every publisher of the host
    await counter.sell(name, await counter.desk.product(name="SmartSend"), day(10))
    response = await office.people.client.post("/admin/functions/post_expiry_digest", json={})
    assert response.status_code == 202

    def found() -> list[EmailMessage]:
        return [mail for mail in office.mails() if name in text_of(mail)]

    (mail,) = await asyncio.to_thread(until, found)
    assert (mail["From"], mail["To"]) == ("licenses@example.com", "licensing@contoso.example")
    assert mail["Subject"] == "Licenses that expire soon: 1"
