"""The endpoint of the expiry report and the timer of the digest, at a real host: worker, tokens and HTTP are real."""

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
from tests.support.administration import Caller, People, PublisherApi, faults, refusal
from tests.support.hosting import Served, served, settings_for
from tests.support.waiting import WAIT_TIMEOUT_SECONDS, until

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
class ReportHostFixture:
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
async def report_host(
    tables: Emulator, key_set: KeySet, issuer: Issuer, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[ReportHostFixture]:
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
        async with httpx.AsyncClient(base_url=host.url, timeout=WAIT_TIMEOUT_SECONDS, trust_env=False) as client:
            yield ReportHostFixture(host, mail_folder, People(client, issuer))


@dataclass(frozen=True)
class ExpiryReportFixture:
    """A publisher with a report, and somebody who may read just that."""

    api: PublisherApi
    reader: Caller
    path: str

    async def add_customer(self, customer: str, product: Mapping[str, Any], *end_dates: str) -> dict[str, Any]:
        """A new customer with a license of the product for each of the dates."""
        made = await self.api.customer(name=customer)
        for end_date in end_dates:
            await self.api.license(made["id"], product["id"], endDate=end_date)
        return made

    async def get_csv(self, query: str = "", accept: str = "text/csv") -> httpx.Response:
        return await self.reader("GET", f"{self.path}{query}", accept=accept)


@pytest.fixture
async def report(report_host: ReportHostFixture) -> ExpiryReportFixture:
    api = await report_host.people.create_publisher_api(licensingEmail="licensing@contoso.example")
    _, reader = await api.user(await api.role(reports="read"))
    return ExpiryReportFixture(api, reader, f"{api.path}/reports/expiry")


def text_of(mail: EmailMessage) -> str:
    content = mail.get_body(("plain",))
    assert content is not None
    return str(content.get_content())


def read(response: httpx.Response) -> list[dict[str, str]]:
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "text/csv; charset=utf-8; header=present"
    assert response.content.startswith(b"\xef\xbb\xbf")
    return [*csv.DictReader(io.StringIO(response.content.decode("utf-8-sig"), newline=""), strict=True)]


async def test_expiry_report_returns_items_with_documented_fields(report: ExpiryReportFixture) -> None:
    product = await report.api.product(name="SmartSend")
    made = await report.add_customer("Fabrikam", product, day(3), day(-3))
    (item,) = await report.reader.all(f"{report.path}?window={WEEKS}")
    (license_,) = [
        each
        for each in await report.api.admin.all(f"{report.api.path}/customers/{made['id']}/products")
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
    overdue, again = await report.reader.all(f"{report.path}?window={WEEKS}&includeOverdue=true")
    assert (overdue["endDate"], overdue["daysLeft"], overdue["expired"]) == (day(-3), -3, True)
    assert again == item


async def test_expiry_report_without_window_defaults_to_this_month(report: ExpiryReportFixture) -> None:
    await report.add_customer("Fabrikam", await report.api.product(), *(day(days) for days in range(40)))
    ending = [date.fromisoformat(item["endDate"]) for item in await report.reader.all(report.path)]
    assert ending[0] == TODAY
    assert (ending[-1] + timedelta(days=1)).day == 1
    assert await report.reader.all(f"{report.path}?window=thisMonth") == await report.reader.all(report.path)


async def test_expiry_report_paginates_in_order(report: ExpiryReportFixture) -> None:
    product = await report.api.product()
    for customer in ("Fabrikam", "Contoso", "Adatum"):
        await report.add_customer(customer, product, day(-1), day(2), day(2), day(5))
    query = f"{report.path}?window={WEEKS}&includeOverdue=true"
    pages = [page async for page in report.reader.pages(f"{query}&limit=5")]
    assert [len(page) for page in pages] == [5, 5, 2]
    whole = [item for page in pages for item in page]
    assert whole == await report.reader.all(query)
    assert [(item["endDate"], item["customerName"]) for item in whole] == [
        (end_date, customer)
        for end_date, times in ((day(-1), 1), (day(2), 2), (day(5), 1))
        for customer in ("Adatum", "Contoso", "Fabrikam")
        for _ in range(times)
    ]


async def test_expiry_report_with_cursor_of_other_query_returns_400(report: ExpiryReportFixture) -> None:
    await report.add_customer("Fabrikam", await report.api.product(), day(0), day(1), day(2))
    first = await report.reader.get(f"{report.path}?window={WEEKS}&limit=1")
    cursor = httpx.URL(first["nextLink"]).params["cursor"]
    for query in ("window=thisYear", f"window={WEEKS}&includeOverdue=true", ""):
        response = await report.reader("GET", f"{report.path}?{query}&cursor={cursor}")
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
async def test_expiry_report_with_malformed_parameter_returns_400_and_names_it(
    report: ExpiryReportFixture, query: str, field: str
) -> None:
    response = await report.reader("GET", f"{report.path}?{query}")
    assert (refusal(response), faults(response)) == ((400, "malformedRequest"), {field: "malformed"})
    if field == "window":
        assert "thisWeek, thisMonth, nextThreeMonths, nextSixMonths, thisYear" in response.text


async def test_expiry_report_rejects_unprivileged_foreign_and_anonymous_callers(
    report_host: ReportHostFixture, report: ExpiryReportFixture
) -> None:
    _, other = await report.api.user(await report.api.role(products="delete", customers="delete", users="read"))
    assert refusal(await other("GET", report.path)) == (403, "forbidden")
    assert refusal(await other("GET", report.path, accept="text/csv")) == (403, "forbidden")
    stranger = (await report_host.people.create_publisher_api()).admin
    assert refusal(await stranger("GET", report.path)) == (404, "publisherNotFound")
    assert refusal(await report_host.people.nobody()("GET", report.path)) == (401, "unauthenticated")


# As CSV.


async def test_expiry_report_as_csv_contains_all_rows_and_escapes_formulas(report: ExpiryReportFixture) -> None:
    product = await report.api.product(name="=cmd|' /C calc'!A0")
    for name in NAMES:
        await report.add_customer(name, product, *(day(days) for days in range(-2, 9)))
    response = await report.get_csv(f"?window={WEEKS}&includeOverdue=true&limit=1")
    found = read(response)
    assert len(found) == 66
    assert response.headers["content-disposition"] == f'attachment; filename="expiry-{WEEKS}-{TODAY}.csv"'
    assert response.headers["cache-control"] == "no-store"
    assert {row["Customer"] for row in found} == {"'=1+1", "'+1", "'-1", "'@SUM(A1)", *NAMES[4:]}
    assert {row["Product"] for row in found} == {"'=cmd|' /C calc'!A0"}
    assert {row["Expired"] for row in found if row["Subscription end date"] == day(-2)} == {"yes"}
    assert {row["Feature disable date"] for row in found} == {""}
    as_json = await report.reader.all(f"{report.path}?window={WEEKS}&includeOverdue=true&limit=200")
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
async def test_expiry_report_selects_media_type_by_accept_header(
    report: ExpiryReportFixture, accept: str, media_type: str
) -> None:
    response = await report.get_csv(accept=accept)
    assert response.status_code == 200
    assert response.headers["content-type"].partition(";")[0] == media_type


async def test_expiry_report_as_csv_with_malformed_parameter_returns_400(report: ExpiryReportFixture) -> None:
    assert refusal(await report.get_csv("?window=tomorrow")) == (400, "malformedRequest")


# The digest.


async def test_expiry_digest_timer_sends_email(report_host: ReportHostFixture, report: ExpiryReportFixture) -> None:
    name = f"Fabrikam {uuid4()}"  # the digest goes to every publisher of the host
    await report.add_customer(name, await report.api.product(name="SmartSend"), day(10))
    response = await report_host.people.client.post("/admin/functions/post_expiry_digest", json={})
    assert response.status_code == 202

    def found() -> list[EmailMessage]:
        return [mail for mail in report_host.mails() if name in text_of(mail)]

    (mail,) = await asyncio.to_thread(until, found)
    assert (mail["From"], mail["To"]) == ("licenses@example.com", "licensing@contoso.example")
    assert mail["Subject"] == "Licenses that expire soon: 1"
