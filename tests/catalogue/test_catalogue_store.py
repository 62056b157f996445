"""The use cases against a real store: what is kept after each, and that every rule and the audit hold."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from aiohttp import web

from devhost.azurite import Emulator
from licensing.catalogue import store as store_module
from licensing.catalogue.model import (
    Customer,
    CustomerProduct,
    Environment,
    LicenseType,
    Product,
    Publisher,
    Record,
    Region,
    SerialNumberTaken,
)
from licensing.catalogue.rows import customer_key, record_key, serial_key
from licensing.catalogue.service import draft_record
from licensing.catalogue.store import Draft
from licensing.cli.seed import DEMO_PUBLISHER_ID, demo_records, seed
from licensing.errors import (
    AlreadyExists,
    Busy,
    Conflict,
    HasChildren,
    LicensingError,
    NotFound,
    PreconditionFailed,
    PublisherNotFound,
    RuleBroken,
    StorageUnavailable,
)
from licensing.services import Services
from licensing.settings import Settings
from licensing.tables import Operation, RowTooLarge, Table, VersionMoved
from tests.catalogue.disturbed import Pass, busy, disturbed
from tests.catalogue.ledger import check_everything, kept
from tests.catalogue.records import (
    NOW,
    a_customer,
    a_license,
    a_product,
    a_publisher,
    an_environment,
    services_on,
)


@dataclass
class Shop:
    """A publisher with one of each record, as an instance of the service sees it."""

    services: Services
    publisher: Publisher
    product: Product
    customer: Customer
    license: CustomerProduct
    environment: Environment

    async def create[R: Record](self, record: R) -> R:
        return await self.services.catalogue.create(self.publisher.id, record, actor="test")

    async def update[R: Record](self, record: R, *, if_match: str | None = None, **fields: Any) -> R:
        return await self.services.catalogue.update(
            self.publisher.id,
            type(record),
            record.id,
            lambda before: replace(before, **fields),
            actor="test",
            parent=record.parent,
            if_match=if_match,
        )

    async def delete(self, record: Record, *, if_match: str | None = None) -> None:
        await self.services.catalogue.delete(
            self.publisher.id, type(record), record.id, actor="test", parent=record.parent, if_match=if_match
        )

    async def find[R: Record](self, record: R) -> R | None:
        return await self.services.store.find(self.publisher.id, type(record), record.id, record.parent)

    async def version(self) -> int:
        version = await self.services.store.version(self.publisher.id)
        assert version is not None
        return version.number

    async def check(self) -> None:
        await check_everything(self.services, self.publisher.id)


@pytest.fixture
async def shop(services: Services, publisher: Publisher) -> AsyncIterator[Shop]:
    """At the end of each test, all rules hold and the audit tells everything."""
    product, customer = a_product(), a_customer()
    license_, environment = a_license(customer.id, product.id), an_environment(customer.id)
    made = Shop(services, publisher, product, customer, license_, environment)
    for record in (product, customer, license_, environment):
        await made.create(record)
    yield made
    await made.check()


async def assert_refused(
    shop: Shop, error: type[LicensingError], change: Awaitable[object], sentence: str | None = None
) -> None:
    """The change is refused, and everything is as it was."""
    before = await kept(shop.services, shop.publisher.id)
    with pytest.raises(error, match=sentence):
        await change
    after = await kept(shop.services, shop.publisher.id)
    assert {key: dict(row) for key, row in after.rows.items()} == {key: dict(row) for key, row in before.rows.items()}
    assert after.version == before.version


FULL: dict[str, Callable[[Shop], Record]] = {
    "a product": lambda _: a_product(
        "Other",
        description="What it does.\nAnd how: 'so', \"so\" 🧾",
        region=Region.NORDIC,
        license_control_disabled=True,
        terms_url="https://example.com/terms",
        user_guide_url="https://example.com/guide",
        release_notes_url="https://example.com/notes",
        support_email="help@example.com",
        active=False,
    ),
    "a customer": lambda _: a_customer("Other", description="a.k.a.", region=Region.ANZ, number="C-1"),
    "a customer product": lambda shop: a_license(
        shop.customer.id,
        shop.product.id,
        license_type=LicenseType.TEMP,
        enabled=False,
        site_license=True,
        number_of_users=7,
        start_date=date(2024, 2, 29),
        end_date=date(2026, 12, 31),
        feature_disable_date=date(2027, 1, 1),
        agreement_start_date=date(2025, 6, 30),
        wbs="W-1/2",
        invoiced_as="Smart | Send",
        notes="x\r\ny",
    ),
    "an environment": lambda shop: an_environment(shop.customer.id, "S/2 #?\\%", tenant="x.com", active=False),
}
full = pytest.mark.parametrize("make", FULL.values(), ids=FULL.keys())


@full
async def test_a_record_is_found_as_it_was_made(shop: Shop, make: Callable[[Shop], Record]) -> None:
    record = make(shop)
    made = await shop.create(record)
    found = await shop.find(record)
    assert made == found == record
    assert made.etag == found.etag == str(await shop.version())


@full
async def test_an_edited_record_is_found_as_it_was_edited(shop: Shop, make: Callable[[Shop], Record]) -> None:
    made = await shop.create(make(shop))
    edits: dict[type[Record], dict[str, Any]] = {
        Product: {"description": "", "region": Region.NONE, "active": True, "name": "New name", "terms_url": ""},
        Customer: {"description": "new", "number": "", "name": "New name"},
        CustomerProduct: {"enabled": True, "number_of_users": None, "end_date": None, "notes": "", "wbs": "W-2"},
        Environment: {"active": True, "tenant": "new.com", "serial_number": "S-3"},
    }
    edit = edits[type(made)]
    edited = await shop.update(made, **edit)
    found = await shop.find(made)
    assert found == edited == replace(made, **edit, updated_at=edited.updated_at)
    assert found.etag == edited.etag == str(await shop.version()) != made.etag


@full
async def test_a_deleted_record_is_found_no_more(shop: Shop, make: Callable[[Shop], Record]) -> None:
    record = make(shop)
    if isinstance(record, CustomerProduct):
        await shop.delete(shop.environment)
    made = await shop.create(record)
    await shop.delete(made)
    assert await shop.find(made) is None
    for change in (shop.delete(made), shop.update(made, active=True, enabled=True)):
        await assert_refused(shop, NotFound, change, "may have been deleted")


@full
async def test_every_change_moves_the_version_by_one_and_is_audited_once(
    shop: Shop, make: Callable[[Shop], Record]
) -> None:
    record, first = make(shop), await shop.version()
    await shop.create(record)
    field = "wbs" if isinstance(record, CustomerProduct) else "tenant" if isinstance(record, Environment) else "name"
    await shop.update(record, **{field: "another"})
    if isinstance(record, CustomerProduct):
        await shop.delete(shop.environment)
    await shop.delete(record)
    entries = [entry async for entry in shop.services.store.audit(shop.publisher.id)]
    own = [entry for entry in entries if entry.record_id == record.id]
    assert [entry.number for entry in own] == [await shop.version(), first + 2, first + 1]
    assert [(entry.before is None, entry.after is None) for entry in own] == [
        (False, True),
        (False, False),
        (True, False),
    ]
    assert {(entry.actor, entry.kind, entry.parent_id) for entry in own} == {("test", record.kind, record.parent)}
    assert own[1].after == {**(own[1].before or {}), field: "another", "updatedAt": (own[1].after or {})["updatedAt"]}


@full
async def test_an_id_that_is_taken_is_refused(shop: Shop, make: Callable[[Shop], Record]) -> None:
    made = await shop.create(make(shop))
    other: dict[type[Record], dict[str, Any]] = {
        Product: {"name": "x"},
        Customer: {"name": "x"},
        CustomerProduct: {},
        Environment: {"serial_number": "S-9"},
    }
    await assert_refused(shop, AlreadyExists, shop.create(replace(made, **other[type(made)])), "this id")


async def test_a_publisher_is_made_once(shop: Shop) -> None:
    catalogue = shop.services.catalogue
    again = replace(shop.publisher, name="Another")
    await assert_refused(shop, AlreadyExists, catalogue.create_publisher(again, actor="test"), "of this id already")
    found = await shop.find(shop.publisher)
    assert found is not None
    assert found.name == shop.publisher.name


async def test_a_publisher_keeps_all_that_it_is(services: Services) -> None:
    record = a_publisher(
        support_email="a@b.example",
        allowed_domains=("b.example", "c.example"),
        directory_id="5d4f0b53-0000-4000-8000-00000000000d",
    )
    await services.catalogue.create_publisher(record, actor="test")
    edited = await services.catalogue.update(
        record.id, Publisher, record.id, lambda before: replace(before, allowed_domains=()), actor="test"
    )
    assert (
        await services.store.find(record.id, Publisher, record.id)
        == edited
        == replace(record, allowed_domains=(), updated_at=edited.updated_at)
    )
    await check_everything(services, record.id)


async def test_a_publisher_cannot_be_deleted(shop: Shop) -> None:
    await assert_refused(shop, HasChildren, shop.delete(shop.publisher), "A publisher cannot be deleted")


async def test_nothing_is_kept_of_a_publisher_that_is_not_there(services: Services) -> None:
    unknown = str(uuid4())
    with pytest.raises(PublisherNotFound):
        await services.catalogue.create(unknown, a_product(), actor="test")
    with pytest.raises(NotFound):
        await services.catalogue.update(unknown, Product, "x", lambda record: record, actor="test")
    assert (await kept(services, unknown)).rows == {}


async def test_ids_and_the_time_of_making_are_not_changed_by_an_edit(shop: Shop) -> None:
    edited = await shop.update(shop.product, id=str(uuid4()), created_at=NOW - timedelta(days=9), description="new")
    assert (edited.id, edited.created_at, edited.description) == (shop.product.id, NOW, "new")
    assert await shop.find(shop.product) == edited


async def test_the_time_of_an_edit_is_the_clocks(tables: Emulator, shop: Shop) -> None:
    later = datetime(2027, 1, 2, 3, 4, 5, 678_000, tzinfo=UTC)
    services = Services(Settings(storage=tables.connection_string, storage_wait_seconds=30), clock=lambda: later)
    edited = await services.catalogue.update(
        shop.publisher.id,
        Product,
        shop.product.id,
        lambda before: replace(before, active=False, updated_at=NOW),
        actor="test",
    )
    await services.close()
    assert edited.updated_at == later
    assert (edited.created_at, edited) == (NOW, await shop.find(shop.product))
    (entry, *_) = [entry async for entry in shop.services.store.audit(shop.publisher.id)]
    assert (entry.at, (entry.after or {})["updatedAt"]) == (later, "2027-01-02T03:04:05.678000Z")


@pytest.mark.parametrize(
    "edit",
    [{}, {"name": " SmartSend "}, {"id": "another"}, {"updated_at": NOW - timedelta(1)}],
    ids=["nothing", "spaces round a name", "an id", "the time of an edit"],
)
async def test_an_edit_that_changes_nothing_is_no_change(shop: Shop, edit: dict[str, Any]) -> None:
    before = await shop.version()
    assert await shop.update(shop.product, **edit) == shop.product
    assert await shop.version() == before


DAYS = [date(2024, 2, 29), date(2026, 1, 1), date(2026, 3, 29), date(2026, 12, 31), date(1, 1, 1), date(9999, 12, 31)]


@pytest.mark.parametrize("day", DAYS, ids=str)
async def test_a_date_is_saved_just_as_it_was_given(shop: Shop, day: date, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Pacific/Kiritimati")  # UTC+14: where a date that had a time would shift
    dates: dict[str, Any] = {
        "start_date": day,
        "end_date": day,
        "feature_disable_date": day,
        "agreement_start_date": day,
    }
    await shop.update(shop.license, **dates)
    async with services_on(shop.services.settings.storage) as elsewhere:
        found = await elsewhere.store.find(shop.publisher.id, CustomerProduct, shop.license.id, shop.customer.id)
    assert {name: getattr(found, name) for name in dates} == dates
    stored = (await kept(shop.services, shop.publisher.id)).of("customerProduct")
    (fields,) = stored.values()
    assert {fields[name] for name in ("startDate", "endDate", "featureDisableDate", "agreementStartDate")} == {
        day.isoformat()
    }


async def test_lists_and_counts_show_a_change_at_once_everywhere(shop: Shop) -> None:
    publisher_id = shop.publisher.id
    async with services_on(shop.services.settings.storage) as elsewhere:

        async def listed(record_type: type[Record], parent: str = "") -> set[str]:
            lists = [
                {record.id for record in await services.store.under(publisher_id, record_type, parent)}
                for services in (shop.services, elsewhere)
            ]
            assert lists[0] == lists[1]
            return lists[0]

        product, customer = await shop.create(a_product("Other")), await shop.create(a_customer("Other"))
        license_ = await shop.create(a_license(customer.id, product.id))
        environment = await shop.create(an_environment(customer.id, "S-2"))
        assert await listed(Product) == {shop.product.id, product.id}
        assert await listed(Customer) == {shop.customer.id, customer.id}
        assert await listed(CustomerProduct, customer.id) == {license_.id}
        assert await listed(Environment, customer.id) == {environment.id}
        assert await listed(CustomerProduct, shop.customer.id) == {shop.license.id}
        await shop.update(license_, product_id=shop.product.id)
        await shop.delete(product)  # that somebody held a moment ago
        assert await listed(Product) == {shop.product.id}
        for record in (environment, license_):
            await shop.delete(record)
        assert await listed(Environment, customer.id) == await listed(CustomerProduct, customer.id) == set()
        await shop.delete(customer)
        assert await listed(Customer) == {shop.customer.id}
        assert await listed(Environment, customer.id) == set()


async def test_more_records_than_a_page_and_more_licenses_than_a_property_holds(shop: Shop) -> None:
    ids: set[str] = {shop.license.id}
    for _ in range(5):

        async def prepare(draft: Draft) -> None:
            for _ in range(20):
                record = a_license(
                    shop.customer.id, shop.product.id, notes="n" * 2000, wbs="w" * 128, end_date=date(2027, 1, 1)
                )
                await draft_record(draft, record)
                ids.add(record.id)

        await shop.services.store.change(shop.publisher.id, "test", prepare)
    found = await shop.services.store.under(shop.publisher.id, CustomerProduct, shop.customer.id)
    assert {license_.id for license_ in found} == ids
    row = (await kept(shop.services, shop.publisher.id)).rows[customer_key(shop.customer.id)]
    assert sum(name.startswith("customerProduct") for name in row) > 5
    await shop.delete(shop.environment)
    for license_ in found[:10]:
        await shop.delete(license_)
    assert await shop.services.store.under(shop.publisher.id, CustomerProduct, shop.customer.id) == found[10:]


async def test_a_change_that_no_transaction_holds_is_refused_and_leaves_nothing(shop: Shop) -> None:
    async def prepare(draft: Draft) -> None:
        for number in range(60):
            await draft_record(draft, a_product(f"P{number}"))

    change = shop.services.store.change(shop.publisher.id, "test", prepare)
    await assert_refused(shop, RowTooLarge, change, "A change has 100 rows at most")


async def test_a_customer_with_more_than_a_row_holds_is_refused_and_leaves_nothing(shop: Shop) -> None:
    async def prepare(draft: Draft) -> None:
        for _ in range(60):
            await draft_record(draft, a_license(shop.customer.id, shop.product.id, notes='"' * 5000))

    change = shop.services.store.change(shop.publisher.id, "test", prepare)
    await assert_refused(shop, RowTooLarge, change, "A record has 1 MiB at most")


# Rules.


async def test_a_product_name_is_free_once(shop: Shop) -> None:
    other = await shop.create(a_product("Other"))
    for name in ("SmartSend", "SMARTSEND", " smartsend "):
        await assert_refused(shop, AlreadyExists, shop.create(a_product(name)), 'a product "SmartSend" already')
        await assert_refused(shop, AlreadyExists, shop.update(other, name=name), 'a product "SmartSend" already')
    await shop.update(shop.product, name="SMARTSEND")
    await shop.update(shop.product, name="Moved on")
    await shop.update(other, name="SmartSend")


async def test_another_publisher_may_have_the_same_names_and_serial_numbers(shop: Shop) -> None:
    other = a_publisher()
    await shop.services.catalogue.create_publisher(other, actor="test")
    customer = a_customer()
    for record in (a_product(), customer, an_environment(customer.id)):
        await shop.services.catalogue.create(other.id, record, actor="test")
    await check_everything(shop.services, other.id)


async def test_a_serial_number_belongs_to_one_customer(shop: Shop) -> None:
    customer = await shop.create(a_customer("Northwind"))
    other = await shop.create(an_environment(customer.id, "S-2", tenant="northwind.com"))
    for serial_number in ("S-2", "s-2", " S-2"):
        for change in (
            shop.create(an_environment(shop.customer.id, serial_number)),
            shop.update(shop.environment, serial_number=serial_number),
            shop.update(shop.environment, serial_number=serial_number, tenant="northwind.com"),
        ):
            await assert_refused(shop, SerialNumberTaken, change, "^Another customer has this serial number already")
    with pytest.raises(SerialNumberTaken) as refused:
        await shop.create(an_environment(shop.customer.id, "S-2"))
    assert '"Northwind"' in refused.value.naming_customer().detail
    await shop.update(other, serial_number="s-2")


async def test_a_serial_number_is_registered_once_for_a_tenant(shop: Shop) -> None:
    second = await shop.create(an_environment(shop.customer.id, "s-1", tenant="fabrikam.onmicrosoft.com"))
    third = await shop.create(an_environment(shop.customer.id, "S-3"))
    for change in (
        shop.create(an_environment(shop.customer.id, " S-1")),
        shop.create(an_environment(shop.customer.id, tenant="FABRIKAM.com")),
        shop.update(second, tenant="Fabrikam.com"),
        shop.update(third, serial_number="S-1"),
    ):
        await assert_refused(shop, AlreadyExists, change, "for the tenant fabrikam.com already")
    await shop.update(second, tenant="fabrikam.org")
    await shop.update(shop.environment, tenant="FABRIKAM.com")


async def test_an_environment_saved_with_the_serial_number_adfs_can_be_edited(shop: Shop) -> None:
    old = an_environment(shop.customer.id, "ADFS")
    await shop.services.store.change(
        shop.publisher.id, "test", lambda draft: draft_record(draft, old, is_restored=True)
    )
    await shop.update(old, active=False, tenant="fabrikam.org")
    await shop.update(old, serial_number="adfs")
    await assert_refused(shop, RuleBroken, shop.create(an_environment(shop.customer.id, "adfs")), "not a serial number")
    await shop.update(old, serial_number="S-9")
    await assert_refused(shop, RuleBroken, shop.update(old, serial_number="adfs"), "not a serial number")


async def serial_row(shop: Shop, serial_number: str = "S-1") -> tuple[str, str] | None:
    """Customer and environment to which the serial number leads."""
    row = (await kept(shop.services, shop.publisher.id)).rows.get(serial_key(serial_number))
    return (row["customerId"], row["environmentId"]) if row else None


async def test_a_serial_number_leads_to_an_active_environment_where_there_is_one(shop: Shop) -> None:
    first, customer_id = shop.environment, shop.customer.id
    second = await shop.create(an_environment(customer_id, tenant="fabrikam.onmicrosoft.com"))
    third = await shop.create(an_environment(customer_id, tenant="fabrikam.org", active=False))
    assert await serial_row(shop) == (customer_id, first.id)
    await shop.update(first, active=False)
    assert await serial_row(shop) == (customer_id, second.id)
    await shop.update(second, active=False)
    assert await serial_row(shop) == (customer_id, first.id), "none is active: the first"
    await shop.update(third, active=True)
    assert await serial_row(shop) == (customer_id, third.id)
    await shop.delete(third)
    assert await serial_row(shop) == (customer_id, first.id)
    await shop.delete(first)
    assert await serial_row(shop) == (customer_id, second.id)
    await shop.update(second, serial_number="S-2")
    assert (await serial_row(shop), await serial_row(shop, "S-2")) == (None, (customer_id, second.id))
    await shop.delete(second)
    assert await serial_row(shop, "S-2") is None


async def test_an_environment_with_a_shared_serial_number_stays_with_its_customer(shop: Shop) -> None:
    customer = await shop.create(a_customer("Northwind"))
    second = await shop.create(an_environment(shop.customer.id, tenant="fabrikam.onmicrosoft.com"))
    move = shop.update(second, customer_id=customer.id)
    await assert_refused(shop, SerialNumberTaken, move, "^Another customer has this serial number already")
    await shop.delete(shop.environment)
    moved = await shop.update(second, customer_id=customer.id)
    assert await serial_row(shop) == (customer.id, moved.id)


async def test_of_those_who_register_a_serial_number_at_once_one_customer_has_it(shop: Shop) -> None:
    """Two instances, two customers, the same serial number for three tenants each: all of one customer come through."""
    customers = [await shop.create(a_customer(name)) for name in ("Northwind", "Contoso")]
    async with services_on(shop.services.settings.storage) as another:

        async def register(services: Services, customer: Customer, number: int) -> str:
            environment = an_environment(customer.id, "S-9", tenant=f"tenant{number}.com")
            await services.catalogue.create(shop.publisher.id, environment, actor="test")
            return customer.id

        outcomes = await asyncio.gather(
            *(
                register(services, customer, number)
                for number in range(3)
                for services, customer in zip((shop.services, another), customers, strict=True)
            ),
            return_exceptions=True,
        )
    winners = [each for each in outcomes if isinstance(each, str)]
    assert [type(each) for each in outcomes].count(SerialNumberTaken) == 3
    assert len(winners) == 3
    assert len(set(winners)) == 1


async def test_a_serial_number_that_was_moved_away_from_or_deleted_is_free(shop: Shop) -> None:
    await shop.update(shop.environment, serial_number="S-2")
    second = await shop.create(an_environment(shop.customer.id, "S-1"))
    await shop.delete(second)
    third = await shop.create(an_environment(shop.customer.id, "s-1"))
    # Of two that change places, one steps aside first.
    await shop.update(third, serial_number="aside")
    await shop.update(shop.environment, serial_number="S-1")
    await shop.update(third, serial_number="S-2")


async def test_serial_numbers_change_places_in_one_change(shop: Shop) -> None:
    second = await shop.create(an_environment(shop.customer.id, "S-2"))

    async def prepare(draft: Draft) -> None:
        draft.put(replace(await _found(draft, shop.environment), serial_number="S-2"), shop.environment)
        draft.put(replace(await _found(draft, second), serial_number="S-1"), second)

    await shop.services.store.change(shop.publisher.id, "test", prepare)
    found = await shop.services.store.under(shop.publisher.id, Environment, shop.customer.id)
    assert {record.id: record.serial_number for record in found} == {shop.environment.id: "S-2", second.id: "S-1"}


async def _found[R: Record](draft: Draft, record: R) -> R:
    found = await draft.find(type(record), record.id, record.parent)
    assert found is not None
    return found


async def test_an_environment_moves_to_another_customer(shop: Shop) -> None:
    customer = await shop.create(a_customer("Other"))
    moved = await shop.update(shop.environment, customer_id=customer.id, tenant="new.com")
    assert await shop.find(shop.environment) is None
    assert await shop.find(moved) == moved
    assert (moved.id, moved.created_at, moved.serial_number) == (shop.environment.id, NOW, "S-1")
    await shop.delete(shop.license)  # nothing holds it any more
    await shop.delete(shop.customer)
    await assert_refused(shop, NotFound, shop.update(moved, customer_id=shop.customer.id), "no such customer")


async def test_a_customer_product_leaves_a_customer_as_it_would_be_deleted_there(shop: Shop) -> None:
    customer = await shop.create(a_customer("Other"))
    move = shop.update(shop.license, customer_id=customer.id)
    await assert_refused(shop, HasChildren, move, "still has 1 environment")
    await shop.delete(shop.environment)
    moved = await shop.update(shop.license, customer_id=customer.id)
    assert await shop.find(shop.license) is None
    assert await shop.find(moved) == moved


async def test_what_a_customer_has_stands_in_the_way_of_its_deletion(shop: Shop) -> None:
    await shop.create(an_environment(shop.customer.id, "S-2"))
    refused = "Fabrikam cannot be deleted: it still has 1 product and 2 environments."
    await assert_refused(shop, HasChildren, shop.delete(shop.customer), refused)
    await assert_refused(shop, HasChildren, shop.delete(shop.license), "still has 2 environment")
    for environment in await shop.services.store.under(shop.publisher.id, Environment, shop.customer.id):
        await shop.delete(environment)
    await assert_refused(shop, HasChildren, shop.delete(shop.customer), "it still has 1 product.")
    await shop.delete(shop.license)
    await shop.delete(shop.customer)
    rows = (await kept(shop.services, shop.publisher.id)).rows
    assert not [key for key in rows if shop.customer.id in key], "nothing of it is left but the audit"


async def test_who_holds_a_product_stands_in_the_way_of_its_deletion(shop: Shop) -> None:
    customer = await shop.create(a_customer("Other"))
    second = await shop.create(a_license(customer.id, shop.product.id))
    refused = "SmartSend cannot be deleted: it still has 2 customers."
    await assert_refused(shop, HasChildren, shop.delete(shop.product), refused)
    await shop.delete(second)
    await assert_refused(shop, HasChildren, shop.delete(shop.product), "it still has 1 customer.")
    await shop.delete(shop.environment)
    await shop.delete(shop.license)
    await shop.delete(shop.product)


async def test_a_customer_that_holds_a_product_twice_is_counted_once(shop: Shop) -> None:
    await shop.create(a_license(shop.customer.id, shop.product.id))
    await assert_refused(shop, HasChildren, shop.delete(shop.product), "it still has 1 customer.")


UNKNOWN: dict[str, tuple[Callable[[Shop], Record], type[LicensingError], str]] = {
    "a customer product of no product": (
        lambda shop: a_license(shop.customer.id, "x"),
        RuleBroken,
        "Choose one of the publisher's products.",
    ),
    "a customer product of no customer": (lambda shop: a_license("x", shop.product.id), NotFound, "no such customer"),
    "an environment of no customer": (lambda _: an_environment("x", "S-2"), NotFound, "no such customer"),
    "a customer product that is not saved without users or a site": (
        lambda shop: a_license(shop.customer.id, shop.product.id, number_of_users=None),
        RuleBroken,
        r"^Fill in No. of Users, or set Site \(Module\) License to Yes.$",
    ),
}


@pytest.mark.parametrize(("make", "error", "sentence"), UNKNOWN.values(), ids=UNKNOWN.keys())
async def test_refused(shop: Shop, make: Callable[[Shop], Record], error: type[LicensingError], sentence: str) -> None:
    await assert_refused(shop, error, shop.create(make(shop)), sentence)


async def test_an_edit_is_held_against_the_same_rules(shop: Shop) -> None:
    for wrong in ({"number_of_users": None}, {"product_id": "x"}, {"start_date": date.max, "end_date": date.min}):
        await assert_refused(shop, RuleBroken, shop.update(shop.license, **wrong))
    await assert_refused(shop, RuleBroken, shop.update(shop.product, name=" "))


# Who read an older state.


async def test_a_change_of_a_record_that_somebody_changed_since_is_refused(shop: Shop) -> None:
    for record, edit in ((shop.product, {"active": False}), (shop.environment, {"active": False})):
        read = await shop.find(record)
        assert read is not None
        edited = await shop.update(record, **edit, if_match=read.etag)
        again = shop.update(record, active=True, if_match=read.etag)
        await assert_refused(shop, PreconditionFailed, again, "Somebody changed the record since you read it")
        await assert_refused(shop, PreconditionFailed, shop.delete(record, if_match=read.etag))
        edited = await shop.update(record, active=True, if_match=edited.etag)
        await shop.update(record, active=False, if_match="*")
        await assert_refused(shop, PreconditionFailed, shop.update(record, active=True, if_match=edited.etag))


async def test_a_change_of_another_record_is_no_matter(shop: Shop) -> None:
    second = await shop.create(an_environment(shop.customer.id, "S-2"))
    first = await shop.find(shop.environment)
    customer = await shop.find(shop.customer)
    assert first is not None
    assert customer is not None
    await shop.update(second, active=False)
    await shop.update(shop.environment, active=False, if_match=first.etag)
    await shop.update(shop.customer, number="7", if_match=customer.etag)
    found = await shop.find(second)
    assert found is not None
    await shop.delete(second, if_match=found.etag)


async def test_of_those_who_read_the_same_state_one_changes_it(shop: Shop) -> None:
    read = await shop.find(shop.product)
    assert read is not None
    changes = [shop.update(shop.product, description=f"by {number}", if_match=read.etag) for number in range(5)]
    outcomes = await asyncio.gather(*changes, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes].count(PreconditionFailed) == 4
    (winner,) = [outcome for outcome in outcomes if isinstance(outcome, Product)]
    assert await shop.find(shop.product) == winner


# Rows of another release.


async def test_rows_of_a_newer_release_are_read(shop: Shop) -> None:
    table = shop.services.table(shop.publisher.id)
    rows = (await kept(shop.services, shop.publisher.id)).rows
    newer: list[Operation] = []
    for key, row in rows.items():
        if key.partition("|")[0] in ("version", "publisher", "product", "customer", "serial"):
            changed = {name: value for name, value in row.items() if name != "PartitionKey"}
            for name in ("customerProduct0", "environment0"):
                if name in changed:
                    changed[name] = changed[name].replace("[{", '[{"inventedLater": {"x": [1]}, ')
            newer.append(Operation("put", {**changed, "inventedLater": "x"}))
    await table.commit(shop.publisher.id, newer)
    for record in (shop.publisher, shop.product, shop.customer, shop.license, shop.environment):
        found = await shop.find(record)
        assert found is not None
        assert replace(found, created_at=record.created_at, updated_at=record.updated_at) == record
    snapshot = await shop.services.snapshots.get(shop.publisher.id, "S-1")
    assert snapshot.environment == shop.environment
    for record in (shop.product, shop.customer):  # written anew, they are of this release again
        await shop.update(record, description="new")
    await table.commit(
        shop.publisher.id,
        [
            Operation("put", {name: value for name, value in row.items() if name != "PartitionKey"})
            for key, row in rows.items()
            if key.partition("|")[0] in ("publisher", "serial")
        ],
    )


async def test_rows_of_an_older_release_are_read(shop: Shop) -> None:
    """An optional field that a row lacks has its default."""
    table = shop.services.table(shop.publisher.id)
    bare = {"createdAt": "2020-01-01T00:00:00Z", "updatedAt": "2020-01-01T00:00:00Z", "version": 1}
    product_key = record_key(replace(shop.product, id="old"))
    await table.commit(
        shop.publisher.id, [Operation("put", {"RowKey": product_key, "id": "old", "name": "Old", **bare})]
    )
    found = await shop.services.store.find(shop.publisher.id, Product, "old")
    assert found == Product(
        id="old", name="Old", created_at=datetime(2020, 1, 1, tzinfo=UTC), updated_at=datetime(2020, 1, 1, tzinfo=UTC)
    )
    await table.commit(shop.publisher.id, [Operation("delete", {"RowKey": product_key})])


# What goes wrong between.


@pytest.mark.parametrize("lost", [StorageUnavailable, VersionMoved])
async def test_a_change_whose_answer_was_lost_is_done_once(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, lost: type[LicensingError]
) -> None:
    first = await shop.version()
    commit = Table.commit

    async def commit_and_lose(table: Table, partition: str, operations: Sequence[Operation]) -> None:
        await commit(table, partition, operations)
        raise lost("lost")

    with monkeypatch.context() as patch:
        patch.setattr(Table, "commit", commit_and_lose)
        made = await shop.create(a_product("Other"))
        await shop.update(made, license_control_disabled=True)
        granted = await shop.services.catalogue.grant_perpetual(
            shop.publisher.id, shop.customer.id, made.id, actor="test"
        )
    assert await shop.version() == first + 3
    assert await shop.find(granted) == granted


async def test_a_change_whose_answer_was_lost_on_the_wire_is_done_once(tables: Emulator, shop: Shop) -> None:
    """The line goes dead after the change has gone through; in another case the client itself repeats it."""
    first = await shop.version()
    faults = ["hang up", "busy", ""]

    async def answer(request: web.BaseRequest, pass_on: Pass) -> web.StreamResponse:
        if request.method != "POST" or not (fault := faults.pop(0)):
            return await pass_on()
        reply = await pass_on()
        assert reply.status == 202
        if fault == "busy":
            return await busy(request, pass_on)
        assert request.transport is not None
        request.transport.abort()
        return reply

    async with disturbed(tables, answer) as server, services_on(server.account) as services:
        for name in ("First", "Second"):
            await services.catalogue.create(shop.publisher.id, a_product(name), actor="test")
    assert faults == []
    assert await shop.version() == first + 2


async def test_where_storage_stays_away_after_a_change_its_outcome_is_said_to_be_unknown(
    tables: Emulator, shop: Shop
) -> None:
    gone = False

    async def answer(request: web.BaseRequest, pass_on: Pass) -> web.StreamResponse:
        nonlocal gone
        gone = gone or request.method == "POST"
        return await (busy if gone else _pass)(request, pass_on)

    async with disturbed(tables, answer) as server, services_on(server.account) as services:
        with pytest.raises(StorageUnavailable):
            await services.catalogue.create(shop.publisher.id, a_product("Other"), actor="test")


async def _pass(_request: web.BaseRequest, pass_on: Pass) -> web.Response:
    return await pass_on()


async def test_a_writer_that_always_comes_second_gives_up_and_has_changed_nothing(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "_FIRST_PAUSE_SECONDS", 0.001)
    monkeypatch.setattr(store_module, "_LONGEST_PAUSE_SECONDS", 0.001)
    first, turns = await shop.version(), 0

    async def prepare(draft: Draft) -> None:
        nonlocal turns
        turns += 1
        await draft_record(draft, a_product("Never"))
        await shop.update(shop.product, description=f"{turns}")  # somebody else is faster, every time

    with pytest.raises(Busy, match="Nothing was changed") as refused:
        await shop.services.store.change(shop.publisher.id, "slow", prepare)
    assert refused.value.retry_after_seconds
    assert await shop.version() == first + turns
    assert [product.name for product in await shop.services.store.under(shop.publisher.id, Product)] == ["SmartSend"]
    assert not [entry async for entry in shop.services.store.audit(shop.publisher.id) if entry.actor == "slow"]


async def test_between_two_turns_a_writer_waits_longer_and_longer_and_not_as_others_do(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []
    really, here = asyncio.sleep, asyncio.get_running_loop()

    async def sleep(seconds: float) -> None:
        if asyncio.get_running_loop() is not here:
            await really(seconds)  # a server of other tests, in a thread of its own
        elif seconds:
            pauses.append(seconds)

    async def lose(*_: object) -> None:
        raise VersionMoved("moved")

    async def pauses_of_one() -> list[float]:
        pauses.clear()
        with pytest.raises(Busy):
            await shop.create(a_product("Never"))
        return [*pauses]

    with monkeypatch.context() as patch:
        patch.setattr(asyncio, "sleep", sleep)
        patch.setattr(Table, "commit", lose)
        one, other = await pauses_of_one(), await pauses_of_one()
    assert len(one) == len(other) >= 8
    assert not set(one) & set(other), "each has luck of its own"
    assert max(*one, *other) <= 1.5
    assert sum(one) < 15
    assert one[4] > one[0]


async def test_what_prepare_raises_leaves_nothing(shop: Shop) -> None:
    async def prepare(draft: Draft) -> None:
        await draft_record(draft, a_product("Other"))
        await draft_record(draft, a_license(shop.customer.id, shop.product.id))
        raise RuntimeError("changed my mind")

    before = await kept(shop.services, shop.publisher.id)
    with pytest.raises(RuntimeError, match="changed my mind"):
        await shop.services.store.change(shop.publisher.id, "test", prepare)
    assert (await kept(shop.services, shop.publisher.id)).records == before.records


async def test_prepare_sees_what_it_has_drafted(shop: Shop) -> None:
    """Each record of a change is held against those before it, as if they were kept already."""

    async def prepare(draft: Draft) -> None:
        product, customer = a_product("Other"), a_customer("Other")
        await draft_record(draft, product)
        with pytest.raises(AlreadyExists):
            await draft_record(draft, a_product("OTHER"))
        await draft_record(draft, customer)
        environment = await draft_record(draft, an_environment(customer.id, "S-2"))
        with pytest.raises(AlreadyExists):
            await draft_record(draft, an_environment(shop.customer.id, "s-2"))
        license_ = await draft_record(draft, a_license(customer.id, product.id))
        assert await draft.under(Environment, customer.id) == [environment]
        assert await draft.under(CustomerProduct, customer.id) == [license_]
        assert {record.name for record in await draft.under(Product)} == {"SmartSend", "Other"}
        assert {record.name for record in await draft.under(Customer)} == {"Fabrikam", "Other"}
        draft.delete(environment)  # made and deleted in one change: as if it had never been
        assert await draft.environments_with("S-2") == []
        draft.delete(await _found(draft, shop.environment))
        assert await draft.environments_with("S-1") == []
        await draft_record(draft, an_environment(customer.id, "S-1"))

    before = await shop.version()
    await shop.services.store.change(shop.publisher.id, "test", prepare)
    assert await shop.version() == before + 1


async def test_a_change_asks_storage_once_for_what_many_of_its_records_need(tables: Emulator, shop: Shop) -> None:
    async with disturbed(tables, _pass) as server, services_on(server.account) as services:

        async def prepare(draft: Draft) -> None:
            for number in range(10):
                await draft_record(draft, a_product(f"Product {number}"))
                await draft_record(draft, a_license(shop.customer.id, shop.product.id))
                assert await draft.find(Product, "none") is None

        await services.store.change(shop.publisher.id, "test", prepare)
    # The version, all products, the customer, the product, the one that there is not; then the change.
    assert server.requests == [*["GET"] * 5, "POST"]


async def test_a_perpetual_license_is_granted_once(shop: Shop) -> None:
    product = await shop.create(a_product("Free", license_control_disabled=True))
    ids = (shop.publisher.id, shop.customer.id, product.id)
    before = await shop.version()
    granted = await shop.services.catalogue.grant_perpetual(*ids, actor="a")
    assert (granted.license_type, granted.site_license, granted.end_date) == (LicenseType.PERPETUAL, True, None)
    assert await shop.services.catalogue.grant_perpetual(*ids, actor="b") == granted
    assert await shop.version() == before + 1
    held = await shop.services.catalogue.grant_perpetual(*ids[:2], shop.product.id, actor="c")
    assert held == shop.license, "who has a license keeps it"


async def test_a_perpetual_license_is_granted_once_by_several_instances_at_once(shop: Shop) -> None:
    product = await shop.create(a_product("Free", license_control_disabled=True))
    before = await shop.version()
    async with AsyncExitStack() as stack:
        several = [await stack.enter_async_context(services_on(shop.services.settings.storage)) for _ in range(4)]
        granted = await asyncio.gather(
            *(
                services.catalogue.grant_perpetual(shop.publisher.id, shop.customer.id, product.id, actor="test")
                for services in several * 2
            )
        )
    assert len({license_.id for license_ in granted}) == 1
    assert await shop.version() == before + 1


async def test_a_perpetual_license_is_not_granted_to_a_customer_that_is_gone(shop: Shop) -> None:
    product = await shop.create(a_product("Free", license_control_disabled=True))
    change = shop.services.catalogue.grant_perpetual(shop.publisher.id, "x", product.id, actor="test")
    await assert_refused(shop, NotFound, change)


async def test_a_perpetual_license_is_not_granted_once_license_control_is_enabled_again(shop: Shop) -> None:
    product = await shop.create(a_product("No longer free"))
    for product_id in (product.id, "no product"):
        change = shop.services.catalogue.grant_perpetual(shop.publisher.id, shop.customer.id, product_id, actor="test")
        await assert_refused(shop, Conflict, change)


async def test_many_writers_at_once_all_come_through(shop: Shop) -> None:
    before = await shop.version()
    async with AsyncExitStack() as stack:
        several = [await stack.enter_async_context(services_on(shop.services.settings.storage)) for _ in range(6)]
        await asyncio.gather(
            *(
                services.catalogue.create(shop.publisher.id, a_product(f"P{index}"), actor=f"{index}")
                for index, services in enumerate(several)
            )
        )
    assert await shop.version() == before + 6


async def test_to_seed_twice_is_to_seed_once(tables: Emulator) -> None:
    async with services_on(tables.connection_string, storage_table="seededatonce") as services:
        made = await asyncio.gather(seed(services), seed(services))
        assert sorted(made) == [False, True]
        before = await kept(services, DEMO_PUBLISHER_ID)
        assert await seed(services) is False
        after = await kept(services, DEMO_PUBLISHER_ID)
        assert after.rows == before.rows
        assert after.version == 1
        expected = {(record.kind, record.parent, record.id) for record in demo_records(services.clock())}
        assert set(after.records) == expected
        await check_everything(services, DEMO_PUBLISHER_ID)


async def test_a_store_that_is_not_empty_is_not_seeded(services: Services, publisher: Publisher) -> None:
    assert await seed(services) is False
    assert await services.store.version(publisher.id) is not None
    assert await services.store.version(DEMO_PUBLISHER_ID) is None
