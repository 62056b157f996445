"""The expiry report over a real store: what it lists, in which order, and what it costs."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from bench.wire import Wire, counting_proxy
from devhost.azurite import Emulator
from licensing.catalogue.records import Customer, CustomerProduct, LicenseType, Product, Region
from licensing.catalogue.store import CatalogueStore, Due
from licensing.reports.model import ExpiryItem, ExpiryWindow
from licensing.services import Services
from licensing.settings import Settings
from tests.reports.catalogue_fixture import CatalogueFixture, create_catalogue_fixture
from tests.support.invariants import check_invariants
from tests.support.records import a_customer, a_product
from tests.support.token_factory import Clock

TODAY = date(2026, 11, 24)  # a Tuesday: the clock's


def day(days: int) -> date:
    return TODAY + timedelta(days=days)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def sample(tables: Emulator, clock: Clock) -> AsyncIterator[CatalogueFixture]:
    services = Services(Settings(storage=tables.connection_string, storage_timeout_seconds=30), clock)
    await services.table("").create()
    yield await create_catalogue_fixture(services)
    await services.close()


async def report(
    sample: CatalogueFixture,
    window: ExpiryWindow = ExpiryWindow.THIS_YEAR,
    services: Services | None = None,
    **asked: Any,
) -> list[ExpiryItem]:
    reports = (services or sample.services).expiry_reports
    return [item async for item in reports.report(sample.publisher_id, window, **asked)]


async def ends(sample: CatalogueFixture, window: ExpiryWindow, **asked: Any) -> list[int]:
    """In how many days each of the report ends."""
    return [item.days_left for item in await report(sample, window, **asked)]


async def test_report_lists_days_of_window_and_overdue_only_on_request(sample: CatalogueFixture) -> None:
    for days in (-4000, -1, 0, 5, 6, 7, 37, 38, 92, 93, 181, 182):
        await sample.add_license("Fabrikam", "SmartSend", day(days))
    await sample.add_license("Fabrikam", "SmartSend", None)
    expected = {
        ExpiryWindow.THIS_WEEK: [0, 5],
        ExpiryWindow.THIS_MONTH: [0, 5, 6],
        ExpiryWindow.NEXT_THREE_MONTHS: [0, 5, 6, 7, 37, 38, 92],
        ExpiryWindow.NEXT_SIX_MONTHS: [0, 5, 6, 7, 37, 38, 92, 93, 181],
        ExpiryWindow.THIS_YEAR: [0, 5, 6, 7, 37],
    }
    assert {window: await ends(sample, window) for window in ExpiryWindow} == expected
    overdue = {window: await ends(sample, window, include_overdue=True) for window in ExpiryWindow}
    assert overdue == {window: [-4000, -1, *found] for window, found in expected.items()}
    expired = [item.days_left for item in await report(sample, include_overdue=True) if item.expired]
    assert expired == [-4000, -1]


async def test_report_item_contains_all_fields(sample: CatalogueFixture) -> None:
    await sample.create(a_customer("Fabrikam", number="C-1001", region=Region.ANZ))
    license_ = await sample.add_license(
        "Fabrikam",
        "SmartSend",
        day(3),
        license_type=LicenseType.QUARTER,
        feature_disable_date=day(33),
        enabled=False,
    )
    assert await report(sample) == [
        ExpiryItem(
            customer_name="Fabrikam",
            customer_number="C-1001",
            region=Region.ANZ,
            product_name="SmartSend",
            license_type=LicenseType.QUARTER,
            end_date=day(3),
            feature_disable_date=day(33),
            enabled=False,
            days_left=3,
            expired=False,
            customer_id=license_.customer_id,
            product_id=license_.product_id,
            customer_product_id=license_.id,
        )
    ]


async def test_report_calculates_days_left_and_windows_in_utc(sample: CatalogueFixture, clock: Clock) -> None:
    await sample.add_license("Fabrikam", "SmartSend", day(0))
    clock.now = datetime(2026, 11, 24, 23, 59, 59, tzinfo=UTC)
    assert [item.days_left for item in await report(sample)] == [0]
    clock.now = datetime(2026, 11, 25, tzinfo=UTC)
    assert await report(sample) == []
    assert [item.days_left for item in await report(sample, include_overdue=True)] == [-1]


ENDED = datetime(2026, 11, 25, 12, tzinfo=UTC)
"""The first instant after 2026-11-24 everywhere on Earth."""
BEFORE = ENDED - timedelta(microseconds=1)
# (expired, maintenance expired)
STATES: dict[str, tuple[LicenseType, datetime, tuple[bool, bool]]] = {
    "on the last day": (LicenseType.ANNUAL, datetime(2026, 11, 24, 12, tzinfo=UTC), (False, False)),
    "on the last day somewhere on Earth": (LicenseType.ANNUAL, BEFORE, (False, False)),
    "after the last day": (LicenseType.ANNUAL, ENDED, (True, False)),
    "perpetual, on the last day of the maintenance": (LicenseType.PERPETUAL, BEFORE, (False, False)),
    "perpetual, after it": (LicenseType.PERPETUAL, ENDED, (False, True)),
}


@pytest.mark.parametrize(("license_type", "now", "state"), STATES.values(), ids=STATES.keys())
async def test_report_item_expires_at_same_instant_as_in_validation(
    sample: CatalogueFixture, clock: Clock, license_type: LicenseType, now: datetime, state: tuple[bool, bool]
) -> None:
    license_ = await sample.add_license("Fabrikam", "SmartSend", day(0), license_type=license_type)
    clock.now = now
    (item,) = await report(sample, include_overdue=True)
    assert (item.expired, item.maintenance_expired) == state
    assert license_.as_of(now).active is not item.expired


async def test_report_sorts_by_date_customer_and_product_ignoring_case(sample: CatalogueFixture) -> None:
    for customer, product, days in (
        ("fabrikam", "SmartSend", 2),
        ("Contoso", "SmartSend", 2),
        ("fabrikam", "docuFlow", 2),
        ("Zebra", "SmartSend", 1),
        ("Adatum", "SmartSend", 3),
    ):
        await sample.add_license(customer, product, day(days))
    assert [(item.days_left, item.customer_name, item.product_name) for item in await report(sample)] == [
        (1, "Zebra", "SmartSend"),
        (2, "Contoso", "SmartSend"),
        (2, "fabrikam", "docuFlow"),
        (2, "fabrikam", "SmartSend"),
        (3, "Adatum", "SmartSend"),
    ]


async def test_report_resumes_after_any_position(sample: CatalogueFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("licensing.reports.service._ITEMS_AT_ONCE", 3)
    monkeypatch.setattr("licensing.reports.service._READS_AT_ONCE", 2)
    for days in (-1, 0, 0, 0, 0, 0, 1, 2, 2):
        for customer in ("Fabrikam", "contoso"):
            await sample.add_license(customer, "SmartSend", day(days))
    whole = await report(sample, include_overdue=True)
    assert len(whole) == 18
    assert whole == sorted(whole, key=lambda item: item.position)
    for number, item in enumerate(whole):
        assert await report(sample, include_overdue=True, after=item.position) == whole[number + 1 :]


async def test_report_reflects_every_change_immediately(sample: CatalogueFixture) -> None:
    license_ = await sample.add_license("Fabrikam", "SmartSend", day(3))
    catalogue = sample.services.catalogue

    async def edit[R: (Product, Customer, CustomerProduct)](kind: type[R], record_id: str, **fields: Any) -> None:
        parent = license_.customer_id if kind is CustomerProduct else ""
        await catalogue.update(
            sample.publisher_id, kind, record_id, lambda before: replace(before, **fields), actor="test", parent=parent
        )

    await edit(Customer, license_.customer_id, name="Fabrikam Inc.", number="C-2", region=Region.NORDIC)
    await edit(Product, license_.product_id, name="SmartSend 2")
    await edit(
        CustomerProduct,
        license_.id,
        end_date=day(4),
        license_type=LicenseType.TEMP,
        enabled=False,
        feature_disable_date=day(5),
    )
    (item,) = await report(sample)
    assert (item.customer_number, item.region) == ("C-2", Region.NORDIC)
    assert (item.enabled, item.feature_disable_date) == (False, day(5))
    assert (item.customer_name, item.product_name) == ("Fabrikam Inc.", "SmartSend 2")
    assert (item.days_left, item.license_type) == (4, LicenseType.TEMP)
    await edit(CustomerProduct, license_.id, end_date=None)
    assert await report(sample) == []
    await check_invariants(sample.services, sample.publisher_id)


async def test_report_excludes_licenses_of_other_publishers(sample: CatalogueFixture) -> None:
    other = await create_catalogue_fixture(sample.services)
    await other.add_license("Fabrikam", "SmartSend", day(3))
    assert (await report(sample), len(await report(other))) == ([], 1)


async def test_report_omits_customer_deleted_between_reads(
    sample: CatalogueFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The due rows are read before the customers: what goes in between has left no name."""
    stays = await sample.add_license("Contoso", "SmartSend", day(3))
    goes = await sample.add_license("Fabrikam", "SmartSend", day(3))
    due = CatalogueStore.due

    async def due_then_gone(store: CatalogueStore, publisher_id: str, first: date, last: date) -> AsyncIterator[Due]:
        found = [each async for each in due(store, publisher_id, first, last)]
        assert len(found) == 2
        catalogue = sample.services.catalogue
        await catalogue.delete(publisher_id, CustomerProduct, goes.id, actor="test", parent=goes.customer_id)
        await catalogue.delete(publisher_id, Customer, goes.customer_id, actor="test")
        for each in found:
            yield each

    monkeypatch.setattr(CatalogueStore, "due", due_then_gone)
    assert [item.customer_product_id for item in await report(sample)] == [stays.id]


async def test_report_omits_license_deleted_between_reads(
    sample: CatalogueFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    stays = await sample.add_license("Fabrikam", "SmartSend", day(3))
    goes = await sample.add_license("Fabrikam", "DocuFlow", day(3))
    due = CatalogueStore.due

    async def due_then_gone(store: CatalogueStore, publisher_id: str, first: date, last: date) -> AsyncIterator[Due]:
        found = [each async for each in due(store, publisher_id, first, last)]
        catalogue = sample.services.catalogue
        await catalogue.delete(publisher_id, CustomerProduct, goes.id, actor="test", parent=goes.customer_id)
        for each in found:
            yield each

    monkeypatch.setattr(CatalogueStore, "due", due_then_gone)
    assert [item.customer_product_id for item in await report(sample)] == [stays.id]


async def test_report_includes_name_of_product_created_between_reads(
    sample: CatalogueFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("licensing.reports.service._ITEMS_AT_ONCE", 1)
    for days in (2, 3):
        await sample.add_license("Fabrikam", "SmartSend", day(days))
    due = CatalogueStore.due

    async def due_and_more(store: CatalogueStore, publisher_id: str, first: date, last: date) -> AsyncIterator[Due]:
        async for each in due(store, publisher_id, first, last):
            yield each
        await sample.add_license("Fabrikam", "DocuFlow", day(4))
        async for each in due(store, publisher_id, day(4), last):
            yield each

    monkeypatch.setattr(CatalogueStore, "due", due_and_more)
    assert [item.product_name for item in await report(sample)] == ["SmartSend", "SmartSend", "DocuFlow"]


@asynccontextmanager
async def counted(tables: Emulator) -> AsyncIterator[tuple[Wire, Services]]:
    """Services with the clock of the tests, and what they read of storage."""
    with counting_proxy(f"http://127.0.0.1:{tables.port}") as wire:
        account = tables.connection_string.replace(f"http://127.0.0.1:{tables.port}", wire.url)
        services = Services(Settings(storage=account, storage_timeout_seconds=30), Clock())
        yield wire, services
        await services.close()


async def test_report_page_reads_no_customers_of_later_pages_and_no_earlier_days(
    tables: Emulator, sample: CatalogueFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("licensing.reports.service._ITEMS_AT_ONCE", 1)
    for customer, days in (("A", 1), ("A", 2), ("B", 3), ("C", 4), ("A", 5), ("D", 6)):
        await sample.add_license(customer, "SmartSend", day(days))
    async with counted(tables) as (wire, fresh):
        whole = await report(sample, services=fresh)
        assert wire.take() == (1 + 1 + 4, 6 + 1 + 4), "6 due, the product, 4 customers: each of them once"
        reading = fresh.expiry_reports.report(sample.publisher_id, ExpiryWindow.THIS_YEAR)
        assert await anext(reading) == whole[0]
        assert wire.take() == (1 + 1 + 1, 6 + 1 + 1), "no customer of a later page"
        assert await report(sample, services=fresh, after=whole[3].position) == whole[4:]
        assert wire.take() == (1 + 1 + 3, 3 + 1 + 3), "nothing of earlier days"


async def test_report_cost_depends_on_due_licenses_not_on_total_records(
    tables: Emulator, sample: CatalogueFixture
) -> None:
    for number in range(5):
        await sample.add_license(f"Customer {number}", "SmartSend", day(number))
    product = await sample.create(a_product("DocuFlow"))
    expired, later = [day(-days) for days in range(1, 26)], [day(days) for days in range(100, 125)]

    async def cost() -> tuple[int, int]:
        """(requests, entities read) of the report."""
        async with counted(tables) as (wire, fresh):
            assert len(await report(sample, services=fresh)) == 5
            return wire.take()

    await sample.add_customers(2, product, expired + later)
    among_100 = await cost()
    await sample.add_customers(38, product, expired + later)
    among_2_000 = await cost()
    assert among_100 == among_2_000 == (7, 5 + 5 + 2), "5 due, their 5 customers, the 2 products"
    # And all of them are found by who asks for all.
    everything = [
        item async for item in sample.services.expiry_reports.between(sample.publisher_id, date.min, day(999))
    ]
    assert len({item.customer_product_id for item in everything}) == len(everything) == 2_005
    assert everything == sorted(everything, key=lambda item: item.position)
