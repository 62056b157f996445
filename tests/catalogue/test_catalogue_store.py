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
from licensing.catalogue.draft import Draft
from licensing.catalogue.records import (
    Customer,
    CustomerProduct,
    Environment,
    LicenseType,
    Product,
    Publisher,
    Record,
    Region,
)
from licensing.catalogue.rows import customer_key, record_key, serial_key
from licensing.catalogue.rules import SerialNumberTaken
from licensing.catalogue.service import draft_record
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
from licensing.storage.batches import Operation
from licensing.storage.errors import ConcurrencyConflict, RowTooLarge
from licensing.storage.table import Table
from tests.support.fault_proxy import Forward, busy, fault_proxy
from tests.support.invariants import check_invariants, kept
from tests.support.records import (
    NOW,
    a_customer,
    a_license,
    a_product,
    a_publisher,
    an_environment,
    services_on,
)


@dataclass
class CatalogueFixture:
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
        await check_invariants(self.services, self.publisher.id)


@pytest.fixture
async def sample(services: Services, publisher: Publisher) -> AsyncIterator[CatalogueFixture]:
    """At the end of each test, all rules hold and the audit tells everything."""
    product, customer = a_product(), a_customer()
    license_, environment = a_license(customer.id, product.id), an_environment(customer.id)
    made = CatalogueFixture(services, publisher, product, customer, license_, environment)
    for record in (product, customer, license_, environment):
        await made.create(record)
    yield made
    await made.check()


async def assert_rejected(
    sample: CatalogueFixture, error: type[LicensingError], change: Awaitable[object], sentence: str | None = None
) -> None:
    """The change is refused, and everything is as it was."""
    before = await kept(sample.services, sample.publisher.id)
    with pytest.raises(error, match=sentence):
        await change
    after = await kept(sample.services, sample.publisher.id)
    assert {key: dict(row) for key, row in after.rows.items()} == {key: dict(row) for key, row in before.rows.items()}
    assert after.version == before.version


RECORDS_WITH_ALL_FIELDS: dict[str, Callable[[CatalogueFixture], Record]] = {
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
    "a customer product": lambda sample: a_license(
        sample.customer.id,
        sample.product.id,
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
    "an environment": lambda sample: an_environment(sample.customer.id, "S/2 #?\\%", tenant="x.com", active=False),
}
each_record_type = pytest.mark.parametrize("make", RECORDS_WITH_ALL_FIELDS.values(), ids=RECORDS_WITH_ALL_FIELDS.keys())


@each_record_type
async def test_create_then_find_returns_equal_record(
    sample: CatalogueFixture, make: Callable[[CatalogueFixture], Record]
) -> None:
    record = make(sample)
    made = await sample.create(record)
    found = await sample.find(record)
    assert made == found == record
    assert made.etag == found.etag == str(await sample.version())


@each_record_type
async def test_update_then_find_returns_edited_record(
    sample: CatalogueFixture, make: Callable[[CatalogueFixture], Record]
) -> None:
    made = await sample.create(make(sample))
    edits: dict[type[Record], dict[str, Any]] = {
        Product: {"description": "", "region": Region.NONE, "active": True, "name": "New name", "terms_url": ""},
        Customer: {"description": "new", "number": "", "name": "New name"},
        CustomerProduct: {"enabled": True, "number_of_users": None, "end_date": None, "notes": "", "wbs": "W-2"},
        Environment: {"active": True, "tenant": "new.com", "serial_number": "S-3"},
    }
    edit = edits[type(made)]
    edited = await sample.update(made, **edit)
    found = await sample.find(made)
    assert found == edited == replace(made, **edit, updated_at=edited.updated_at)
    assert found.etag == edited.etag == str(await sample.version()) != made.etag


@each_record_type
async def test_delete_removes_record_and_later_changes_raise_not_found(
    sample: CatalogueFixture, make: Callable[[CatalogueFixture], Record]
) -> None:
    record = make(sample)
    if isinstance(record, CustomerProduct):
        await sample.delete(sample.environment)
    made = await sample.create(record)
    await sample.delete(made)
    assert await sample.find(made) is None
    for change in (sample.delete(made), sample.update(made, active=True, enabled=True)):
        await assert_rejected(sample, NotFound, change, "may have been deleted")


@each_record_type
async def test_each_change_increments_version_and_writes_one_audit_entry(
    sample: CatalogueFixture, make: Callable[[CatalogueFixture], Record]
) -> None:
    record, first = make(sample), await sample.version()
    await sample.create(record)
    field = "wbs" if isinstance(record, CustomerProduct) else "tenant" if isinstance(record, Environment) else "name"
    await sample.update(record, **{field: "another"})
    if isinstance(record, CustomerProduct):
        await sample.delete(sample.environment)
    await sample.delete(record)
    entries = [entry async for entry in sample.services.store.audit(sample.publisher.id)]
    own = [entry for entry in entries if entry.record_id == record.id]
    assert [entry.number for entry in own] == [await sample.version(), first + 2, first + 1]
    assert [(entry.before is None, entry.after is None) for entry in own] == [
        (False, True),
        (False, False),
        (True, False),
    ]
    assert {(entry.actor, entry.kind, entry.parent_id) for entry in own} == {("test", record.kind, record.parent)}
    assert own[1].after == {**(own[1].before or {}), field: "another", "updatedAt": (own[1].after or {})["updatedAt"]}


@each_record_type
async def test_create_with_existing_id_raises_already_exists(
    sample: CatalogueFixture, make: Callable[[CatalogueFixture], Record]
) -> None:
    made = await sample.create(make(sample))
    other: dict[type[Record], dict[str, Any]] = {
        Product: {"name": "x"},
        Customer: {"name": "x"},
        CustomerProduct: {},
        Environment: {"serial_number": "S-9"},
    }
    await assert_rejected(sample, AlreadyExists, sample.create(replace(made, **other[type(made)])), "this id")


async def test_create_publisher_twice_raises_already_exists(sample: CatalogueFixture) -> None:
    catalogue = sample.services.catalogue
    again = replace(sample.publisher, name="Another")
    await assert_rejected(sample, AlreadyExists, catalogue.create_publisher(again, actor="test"), "of this id already")
    found = await sample.find(sample.publisher)
    assert found is not None
    assert found.name == sample.publisher.name


async def test_create_and_update_publisher_store_all_fields(services: Services) -> None:
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
    await check_invariants(services, record.id)


async def test_delete_publisher_raises_has_children(sample: CatalogueFixture) -> None:
    await assert_rejected(sample, HasChildren, sample.delete(sample.publisher), "A publisher cannot be deleted")


async def test_change_of_unknown_publisher_raises_not_found_and_stores_no_rows(services: Services) -> None:
    unknown = str(uuid4())
    with pytest.raises(PublisherNotFound):
        await services.catalogue.create(unknown, a_product(), actor="test")
    with pytest.raises(NotFound):
        await services.catalogue.update(unknown, Product, "x", lambda record: record, actor="test")
    assert (await kept(services, unknown)).rows == {}


async def test_update_ignores_changed_id_and_created_at(sample: CatalogueFixture) -> None:
    edited = await sample.update(sample.product, id=str(uuid4()), created_at=NOW - timedelta(days=9), description="new")
    assert (edited.id, edited.created_at, edited.description) == (sample.product.id, NOW, "new")
    assert await sample.find(sample.product) == edited


async def test_update_sets_updated_at_from_service_clock(tables: Emulator, sample: CatalogueFixture) -> None:
    later = datetime(2027, 1, 2, 3, 4, 5, 678_000, tzinfo=UTC)
    services = Services(Settings(storage=tables.connection_string, storage_timeout_seconds=30), clock=lambda: later)
    edited = await services.catalogue.update(
        sample.publisher.id,
        Product,
        sample.product.id,
        lambda before: replace(before, active=False, updated_at=NOW),
        actor="test",
    )
    await services.close()
    assert edited.updated_at == later
    assert (edited.created_at, edited) == (NOW, await sample.find(sample.product))
    (entry, *_) = [entry async for entry in sample.services.store.audit(sample.publisher.id)]
    assert (entry.at, (entry.after or {})["updatedAt"]) == (later, "2027-01-02T03:04:05.678000Z")


@pytest.mark.parametrize(
    "edit",
    [{}, {"name": " SmartSend "}, {"id": "another"}, {"updated_at": NOW - timedelta(1)}],
    ids=["nothing", "spaces round a name", "an id", "the time of an edit"],
)
async def test_update_without_effective_change_keeps_version(sample: CatalogueFixture, edit: dict[str, Any]) -> None:
    before = await sample.version()
    assert await sample.update(sample.product, **edit) == sample.product
    assert await sample.version() == before


DAYS = [date(2024, 2, 29), date(2026, 1, 1), date(2026, 3, 29), date(2026, 12, 31), date(1, 1, 1), date(9999, 12, 31)]


@pytest.mark.parametrize("day", DAYS, ids=str)
async def test_update_license_stores_dates_without_time_zone_shift(
    sample: CatalogueFixture, day: date, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", "Pacific/Kiritimati")  # UTC+14: where a date that had a time would shift
    dates: dict[str, Any] = {
        "start_date": day,
        "end_date": day,
        "feature_disable_date": day,
        "agreement_start_date": day,
    }
    await sample.update(sample.license, **dates)
    async with services_on(sample.services.settings.storage) as elsewhere:
        found = await elsewhere.store.find(sample.publisher.id, CustomerProduct, sample.license.id, sample.customer.id)
    assert {name: getattr(found, name) for name in dates} == dates
    stored = (await kept(sample.services, sample.publisher.id)).of("customerProduct")
    (fields,) = stored.values()
    assert {fields[name] for name in ("startDate", "endDate", "featureDisableDate", "agreementStartDate")} == {
        day.isoformat()
    }


async def test_list_returns_committed_changes_on_every_instance(sample: CatalogueFixture) -> None:
    publisher_id = sample.publisher.id
    async with services_on(sample.services.settings.storage) as elsewhere:

        async def listed(record_type: type[Record], parent: str = "") -> set[str]:
            lists = [
                {record.id for record in await services.store.list_records(publisher_id, record_type, parent)}
                for services in (sample.services, elsewhere)
            ]
            assert lists[0] == lists[1]
            return lists[0]

        product, customer = await sample.create(a_product("Other")), await sample.create(a_customer("Other"))
        license_ = await sample.create(a_license(customer.id, product.id))
        environment = await sample.create(an_environment(customer.id, "S-2"))
        assert await listed(Product) == {sample.product.id, product.id}
        assert await listed(Customer) == {sample.customer.id, customer.id}
        assert await listed(CustomerProduct, customer.id) == {license_.id}
        assert await listed(Environment, customer.id) == {environment.id}
        assert await listed(CustomerProduct, sample.customer.id) == {sample.license.id}
        await sample.update(license_, product_id=sample.product.id)
        await sample.delete(product)  # that somebody held a moment ago
        assert await listed(Product) == {sample.product.id}
        for record in (environment, license_):
            await sample.delete(record)
        assert await listed(Environment, customer.id) == await listed(CustomerProduct, customer.id) == set()
        await sample.delete(customer)
        assert await listed(Customer) == {sample.customer.id}
        assert await listed(Environment, customer.id) == set()


async def test_list_returns_all_licenses_when_customer_row_spans_properties(sample: CatalogueFixture) -> None:
    ids: set[str] = {sample.license.id}
    for _ in range(5):

        async def prepare(draft: Draft) -> None:
            for _ in range(20):
                record = a_license(
                    sample.customer.id, sample.product.id, notes="n" * 2000, wbs="w" * 128, end_date=date(2027, 1, 1)
                )
                await draft_record(draft, record)
                ids.add(record.id)

        await sample.services.store.change(sample.publisher.id, "test", prepare)
    found = await sample.services.store.list_records(sample.publisher.id, CustomerProduct, sample.customer.id)
    assert {license_.id for license_ in found} == ids
    row = (await kept(sample.services, sample.publisher.id)).rows[customer_key(sample.customer.id)]
    assert sum(name.startswith("customerProduct") for name in row) > 5
    await sample.delete(sample.environment)
    for license_ in found[:10]:
        await sample.delete(license_)
    assert (
        await sample.services.store.list_records(sample.publisher.id, CustomerProduct, sample.customer.id) == found[10:]
    )


async def test_change_over_transaction_limit_raises_row_too_large_and_stores_nothing(sample: CatalogueFixture) -> None:
    async def prepare(draft: Draft) -> None:
        for number in range(60):
            await draft_record(draft, a_product(f"P{number}"))

    change = sample.services.store.change(sample.publisher.id, "test", prepare)
    await assert_rejected(sample, RowTooLarge, change, "A change has 100 rows at most")


async def test_change_over_row_size_limit_raises_row_too_large_and_stores_nothing(sample: CatalogueFixture) -> None:
    async def prepare(draft: Draft) -> None:
        for _ in range(60):
            await draft_record(draft, a_license(sample.customer.id, sample.product.id, notes='"' * 5000))

    change = sample.services.store.change(sample.publisher.id, "test", prepare)
    await assert_rejected(sample, RowTooLarge, change, "A record has 1 MiB at most")


# Rules.


async def test_product_name_in_use_raises_already_exists_ignoring_case_and_spaces(sample: CatalogueFixture) -> None:
    other = await sample.create(a_product("Other"))
    for name in ("SmartSend", "SMARTSEND", " smartsend "):
        await assert_rejected(sample, AlreadyExists, sample.create(a_product(name)), 'a product "SmartSend" already')
        await assert_rejected(sample, AlreadyExists, sample.update(other, name=name), 'a product "SmartSend" already')
    await sample.update(sample.product, name="SMARTSEND")
    await sample.update(sample.product, name="Moved on")
    await sample.update(other, name="SmartSend")


async def test_create_accepts_names_and_serial_numbers_of_another_publisher(sample: CatalogueFixture) -> None:
    other = a_publisher()
    await sample.services.catalogue.create_publisher(other, actor="test")
    customer = a_customer()
    for record in (a_product(), customer, an_environment(customer.id)):
        await sample.services.catalogue.create(other.id, record, actor="test")
    await check_invariants(sample.services, other.id)


async def test_serial_number_of_another_customer_raises_serial_number_taken(sample: CatalogueFixture) -> None:
    customer = await sample.create(a_customer("Northwind"))
    other = await sample.create(an_environment(customer.id, "S-2", tenant="northwind.com"))
    for serial_number in ("S-2", "s-2", " S-2"):
        for change in (
            sample.create(an_environment(sample.customer.id, serial_number)),
            sample.update(sample.environment, serial_number=serial_number),
            sample.update(sample.environment, serial_number=serial_number, tenant="northwind.com"),
        ):
            await assert_rejected(sample, SerialNumberTaken, change, "^Another customer has this serial number already")
    with pytest.raises(SerialNumberTaken) as refused:
        await sample.create(an_environment(sample.customer.id, "S-2"))
    assert '"Northwind"' in refused.value.naming_customer().detail
    await sample.update(other, serial_number="s-2")


async def test_serial_number_registered_for_same_tenant_raises_already_exists(sample: CatalogueFixture) -> None:
    second = await sample.create(an_environment(sample.customer.id, "s-1", tenant="fabrikam.onmicrosoft.com"))
    third = await sample.create(an_environment(sample.customer.id, "S-3"))
    for change in (
        sample.create(an_environment(sample.customer.id, " S-1")),
        sample.create(an_environment(sample.customer.id, tenant="FABRIKAM.com")),
        sample.update(second, tenant="Fabrikam.com"),
        sample.update(third, serial_number="S-1"),
    ):
        await assert_rejected(sample, AlreadyExists, change, "for the tenant fabrikam.com already")
    await sample.update(second, tenant="fabrikam.org")
    await sample.update(sample.environment, tenant="FABRIKAM.com")


async def test_update_accepts_stored_adfs_environment_but_new_adfs_raises_rule_broken(sample: CatalogueFixture) -> None:
    old = an_environment(sample.customer.id, "ADFS")
    await sample.services.store.change(
        sample.publisher.id, "test", lambda draft: draft_record(draft, old, is_restored=True)
    )
    await sample.update(old, active=False, tenant="fabrikam.org")
    await sample.update(old, serial_number="adfs")
    await assert_rejected(
        sample, RuleBroken, sample.create(an_environment(sample.customer.id, "adfs")), "not a serial number"
    )
    await sample.update(old, serial_number="S-9")
    await assert_rejected(sample, RuleBroken, sample.update(old, serial_number="adfs"), "not a serial number")


async def serial_row(sample: CatalogueFixture, serial_number: str = "S-1") -> tuple[str, str] | None:
    """Customer and environment to which the serial number leads."""
    row = (await kept(sample.services, sample.publisher.id)).rows.get(serial_key(serial_number))
    return (row["customerId"], row["environmentId"]) if row else None


async def test_serial_number_row_points_to_active_environment_if_any(sample: CatalogueFixture) -> None:
    first, customer_id = sample.environment, sample.customer.id
    second = await sample.create(an_environment(customer_id, tenant="fabrikam.onmicrosoft.com"))
    third = await sample.create(an_environment(customer_id, tenant="fabrikam.org", active=False))
    assert await serial_row(sample) == (customer_id, first.id)
    await sample.update(first, active=False)
    assert await serial_row(sample) == (customer_id, second.id)
    await sample.update(second, active=False)
    assert await serial_row(sample) == (customer_id, first.id), "none is active: the first"
    await sample.update(third, active=True)
    assert await serial_row(sample) == (customer_id, third.id)
    await sample.delete(third)
    assert await serial_row(sample) == (customer_id, first.id)
    await sample.delete(first)
    assert await serial_row(sample) == (customer_id, second.id)
    await sample.update(second, serial_number="S-2")
    assert (await serial_row(sample), await serial_row(sample, "S-2")) == (None, (customer_id, second.id))
    await sample.delete(second)
    assert await serial_row(sample, "S-2") is None


async def test_move_environment_with_shared_serial_number_raises_serial_number_taken(sample: CatalogueFixture) -> None:
    customer = await sample.create(a_customer("Northwind"))
    second = await sample.create(an_environment(sample.customer.id, tenant="fabrikam.onmicrosoft.com"))
    move = sample.update(second, customer_id=customer.id)
    await assert_rejected(sample, SerialNumberTaken, move, "^Another customer has this serial number already")
    await sample.delete(sample.environment)
    moved = await sample.update(second, customer_id=customer.id)
    assert await serial_row(sample) == (customer.id, moved.id)


async def test_concurrent_registration_of_serial_number_succeeds_for_one_customer(sample: CatalogueFixture) -> None:
    """Two instances, two customers, the same serial number for three tenants each: all of one customer come through."""
    customers = [await sample.create(a_customer(name)) for name in ("Northwind", "Contoso")]
    async with services_on(sample.services.settings.storage) as another:

        async def register(services: Services, customer: Customer, number: int) -> str:
            environment = an_environment(customer.id, "S-9", tenant=f"tenant{number}.com")
            await services.catalogue.create(sample.publisher.id, environment, actor="test")
            return customer.id

        outcomes = await asyncio.gather(
            *(
                register(services, customer, number)
                for number in range(3)
                for services, customer in zip((sample.services, another), customers, strict=True)
            ),
            return_exceptions=True,
        )
    winners = [each for each in outcomes if isinstance(each, str)]
    assert [type(each) for each in outcomes].count(SerialNumberTaken) == 3
    assert len(winners) == 3
    assert len(set(winners)) == 1


async def test_serial_number_is_free_after_rename_or_deletion(sample: CatalogueFixture) -> None:
    await sample.update(sample.environment, serial_number="S-2")
    second = await sample.create(an_environment(sample.customer.id, "S-1"))
    await sample.delete(second)
    third = await sample.create(an_environment(sample.customer.id, "s-1"))
    # Of two that change places, one steps aside first.
    await sample.update(third, serial_number="aside")
    await sample.update(sample.environment, serial_number="S-1")
    await sample.update(third, serial_number="S-2")


async def test_change_swaps_serial_numbers_in_one_transaction(sample: CatalogueFixture) -> None:
    second = await sample.create(an_environment(sample.customer.id, "S-2"))

    async def prepare(draft: Draft) -> None:
        draft.put(replace(await _found(draft, sample.environment), serial_number="S-2"), sample.environment)
        draft.put(replace(await _found(draft, second), serial_number="S-1"), second)

    await sample.services.store.change(sample.publisher.id, "test", prepare)
    found = await sample.services.store.list_records(sample.publisher.id, Environment, sample.customer.id)
    assert {record.id: record.serial_number for record in found} == {sample.environment.id: "S-2", second.id: "S-1"}


async def _found[R: Record](draft: Draft, record: R) -> R:
    found = await draft.find(type(record), record.id, record.parent)
    assert found is not None
    return found


async def test_update_moves_environment_to_another_customer(sample: CatalogueFixture) -> None:
    customer = await sample.create(a_customer("Other"))
    moved = await sample.update(sample.environment, customer_id=customer.id, tenant="new.com")
    assert await sample.find(sample.environment) is None
    assert await sample.find(moved) == moved
    assert (moved.id, moved.created_at, moved.serial_number) == (sample.environment.id, NOW, "S-1")
    await sample.delete(sample.license)  # nothing holds it any more
    await sample.delete(sample.customer)
    await assert_rejected(sample, NotFound, sample.update(moved, customer_id=sample.customer.id), "no such customer")


async def test_move_of_last_license_while_environments_remain_raises_has_children(sample: CatalogueFixture) -> None:
    customer = await sample.create(a_customer("Other"))
    move = sample.update(sample.license, customer_id=customer.id)
    await assert_rejected(sample, HasChildren, move, "still has 1 environment")
    await sample.delete(sample.environment)
    moved = await sample.update(sample.license, customer_id=customer.id)
    assert await sample.find(sample.license) is None
    assert await sample.find(moved) == moved


async def test_delete_customer_with_children_raises_has_children_with_totals(sample: CatalogueFixture) -> None:
    await sample.create(an_environment(sample.customer.id, "S-2"))
    refused = "Fabrikam cannot be deleted: it still has 1 product and 2 environments."
    await assert_rejected(sample, HasChildren, sample.delete(sample.customer), refused)
    await assert_rejected(sample, HasChildren, sample.delete(sample.license), "still has 2 environment")
    for environment in await sample.services.store.list_records(sample.publisher.id, Environment, sample.customer.id):
        await sample.delete(environment)
    await assert_rejected(sample, HasChildren, sample.delete(sample.customer), "it still has 1 product.")
    await sample.delete(sample.license)
    await sample.delete(sample.customer)
    rows = (await kept(sample.services, sample.publisher.id)).rows
    assert not [key for key in rows if sample.customer.id in key], "nothing of it is left but the audit"


async def test_delete_product_in_use_raises_has_children_with_customer_count(sample: CatalogueFixture) -> None:
    customer = await sample.create(a_customer("Other"))
    second = await sample.create(a_license(customer.id, sample.product.id))
    refused = "SmartSend cannot be deleted: it still has 2 customers."
    await assert_rejected(sample, HasChildren, sample.delete(sample.product), refused)
    await sample.delete(second)
    await assert_rejected(sample, HasChildren, sample.delete(sample.product), "it still has 1 customer.")
    await sample.delete(sample.environment)
    await sample.delete(sample.license)
    await sample.delete(sample.product)


async def test_delete_product_with_two_licenses_of_one_customer_reports_one_customer(sample: CatalogueFixture) -> None:
    await sample.create(a_license(sample.customer.id, sample.product.id))
    await assert_rejected(sample, HasChildren, sample.delete(sample.product), "it still has 1 customer.")


INVALID_RECORDS: dict[str, tuple[Callable[[CatalogueFixture], Record], type[LicensingError], str]] = {
    "a customer product of no product": (
        lambda sample: a_license(sample.customer.id, "x"),
        RuleBroken,
        "Choose one of the publisher's products.",
    ),
    "a customer product of no customer": (
        lambda sample: a_license("x", sample.product.id),
        NotFound,
        "no such customer",
    ),
    "an environment of no customer": (lambda _: an_environment("x", "S-2"), NotFound, "no such customer"),
    "a customer product that is not saved without users or a site": (
        lambda sample: a_license(sample.customer.id, sample.product.id, number_of_users=None),
        RuleBroken,
        r"^Fill in No. of Users, or set Site \(Module\) License to Yes.$",
    ),
}


@pytest.mark.parametrize(("make", "error", "sentence"), INVALID_RECORDS.values(), ids=INVALID_RECORDS.keys())
async def test_create_invalid_record_raises(
    sample: CatalogueFixture, make: Callable[[CatalogueFixture], Record], error: type[LicensingError], sentence: str
) -> None:
    await assert_rejected(sample, error, sample.create(make(sample)), sentence)


async def test_update_breaking_rule_raises_rule_broken(sample: CatalogueFixture) -> None:
    for wrong in ({"number_of_users": None}, {"product_id": "x"}, {"start_date": date.max, "end_date": date.min}):
        await assert_rejected(sample, RuleBroken, sample.update(sample.license, **wrong))
    await assert_rejected(sample, RuleBroken, sample.update(sample.product, name=" "))


# Who read an older state.


async def test_change_with_stale_etag_raises_precondition_failed(sample: CatalogueFixture) -> None:
    for record, edit in ((sample.product, {"active": False}), (sample.environment, {"active": False})):
        read = await sample.find(record)
        assert read is not None
        edited = await sample.update(record, **edit, if_match=read.etag)
        again = sample.update(record, active=True, if_match=read.etag)
        await assert_rejected(sample, PreconditionFailed, again, "Somebody changed the record since you read it")
        await assert_rejected(sample, PreconditionFailed, sample.delete(record, if_match=read.etag))
        edited = await sample.update(record, active=True, if_match=edited.etag)
        await sample.update(record, active=False, if_match="*")
        await assert_rejected(sample, PreconditionFailed, sample.update(record, active=True, if_match=edited.etag))


async def test_change_with_etag_succeeds_after_change_of_another_record(sample: CatalogueFixture) -> None:
    second = await sample.create(an_environment(sample.customer.id, "S-2"))
    first = await sample.find(sample.environment)
    customer = await sample.find(sample.customer)
    assert first is not None
    assert customer is not None
    await sample.update(second, active=False)
    await sample.update(sample.environment, active=False, if_match=first.etag)
    await sample.update(sample.customer, number="7", if_match=customer.etag)
    found = await sample.find(second)
    assert found is not None
    await sample.delete(second, if_match=found.etag)


async def test_concurrent_updates_with_same_etag_commit_only_one(sample: CatalogueFixture) -> None:
    read = await sample.find(sample.product)
    assert read is not None
    changes = [sample.update(sample.product, description=f"by {number}", if_match=read.etag) for number in range(5)]
    outcomes = await asyncio.gather(*changes, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes].count(PreconditionFailed) == 4
    (winner,) = [outcome for outcome in outcomes if isinstance(outcome, Product)]
    assert await sample.find(sample.product) == winner


# Rows of another release.


async def test_find_reads_rows_with_unknown_fields_of_newer_release(sample: CatalogueFixture) -> None:
    table = sample.services.table(sample.publisher.id)
    rows = (await kept(sample.services, sample.publisher.id)).rows
    newer: list[Operation] = []
    for key, row in rows.items():
        if key.partition("|")[0] in ("version", "publisher", "product", "customer", "serial"):
            changed = {name: value for name, value in row.items() if name != "PartitionKey"}
            for name in ("customerProduct0", "environment0"):
                if name in changed:
                    changed[name] = changed[name].replace("[{", '[{"inventedLater": {"x": [1]}, ')
            newer.append(Operation("put", {**changed, "inventedLater": "x"}))
    await table.commit(sample.publisher.id, newer)
    for record in (sample.publisher, sample.product, sample.customer, sample.license, sample.environment):
        found = await sample.find(record)
        assert found is not None
        assert replace(found, created_at=record.created_at, updated_at=record.updated_at) == record
    snapshot = await sample.services.environment_cache.get(sample.publisher.id, "S-1")
    assert snapshot.environment == sample.environment
    for record in (sample.product, sample.customer):  # written anew, they are of this release again
        await sample.update(record, description="new")
    await table.commit(
        sample.publisher.id,
        [
            Operation("put", {name: value for name, value in row.items() if name != "PartitionKey"})
            for key, row in rows.items()
            if key.partition("|")[0] in ("publisher", "serial")
        ],
    )


async def test_find_uses_defaults_for_fields_missing_in_older_rows(sample: CatalogueFixture) -> None:
    """An optional field that a row lacks has its default."""
    table = sample.services.table(sample.publisher.id)
    bare = {"createdAt": "2020-01-01T00:00:00Z", "updatedAt": "2020-01-01T00:00:00Z", "version": 1}
    product_key = record_key(replace(sample.product, id="old"))
    await table.commit(
        sample.publisher.id, [Operation("put", {"RowKey": product_key, "id": "old", "name": "Old", **bare})]
    )
    found = await sample.services.store.find(sample.publisher.id, Product, "old")
    assert found == Product(
        id="old", name="Old", created_at=datetime(2020, 1, 1, tzinfo=UTC), updated_at=datetime(2020, 1, 1, tzinfo=UTC)
    )
    await table.commit(sample.publisher.id, [Operation("delete", {"RowKey": product_key})])


# What goes wrong between.


@pytest.mark.parametrize("lost", [StorageUnavailable, ConcurrencyConflict])
async def test_change_when_commit_response_is_lost_applies_once(
    sample: CatalogueFixture, monkeypatch: pytest.MonkeyPatch, lost: type[LicensingError]
) -> None:
    first = await sample.version()
    commit = Table.commit

    async def commit_and_lose(table: Table, partition: str, operations: Sequence[Operation]) -> None:
        await commit(table, partition, operations)
        raise lost("lost")

    with monkeypatch.context() as patch:
        patch.setattr(Table, "commit", commit_and_lose)
        made = await sample.create(a_product("Other"))
        await sample.update(made, license_control_disabled=True)
        granted = await sample.services.catalogue.grant_perpetual(
            sample.publisher.id, sample.customer.id, made.id, actor="test"
        )
    assert await sample.version() == first + 3
    assert await sample.find(granted) == granted


async def test_change_when_connection_fails_after_commit_applies_once(
    tables: Emulator, sample: CatalogueFixture
) -> None:
    """The line goes dead after the change has gone through; in another case the client itself repeats it."""
    first = await sample.version()
    faults = ["hang up", "busy", ""]

    async def answer(request: web.BaseRequest, pass_on: Forward) -> web.StreamResponse:
        if request.method != "POST" or not (fault := faults.pop(0)):
            return await pass_on()
        reply = await pass_on()
        assert reply.status == 202
        if fault == "busy":
            return await busy(request, pass_on)
        assert request.transport is not None
        request.transport.abort()
        return reply

    async with fault_proxy(tables, answer) as server, services_on(server.account) as services:
        for name in ("First", "Second"):
            await services.catalogue.create(sample.publisher.id, a_product(name), actor="test")
    assert faults == []
    assert await sample.version() == first + 2


async def test_change_when_storage_stays_down_after_commit_raises_storage_unavailable(
    tables: Emulator, sample: CatalogueFixture
) -> None:
    gone = False

    async def answer(request: web.BaseRequest, pass_on: Forward) -> web.StreamResponse:
        nonlocal gone
        gone = gone or request.method == "POST"
        return await (busy if gone else _forward)(request, pass_on)

    async with fault_proxy(tables, answer) as server, services_on(server.account) as services:
        with pytest.raises(StorageUnavailable):
            await services.catalogue.create(sample.publisher.id, a_product("Other"), actor="test")


async def _forward(_request: web.BaseRequest, pass_on: Forward) -> web.Response:
    return await pass_on()


async def test_change_that_always_conflicts_raises_busy_and_stores_nothing(
    sample: CatalogueFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "_FIRST_PAUSE_SECONDS", 0.001)
    monkeypatch.setattr(store_module, "_LONGEST_PAUSE_SECONDS", 0.001)
    first, turns = await sample.version(), 0

    async def prepare(draft: Draft) -> None:
        nonlocal turns
        turns += 1
        await draft_record(draft, a_product("Never"))
        await sample.update(sample.product, description=f"{turns}")  # somebody else is faster, every time

    with pytest.raises(Busy, match="Nothing was changed") as refused:
        await sample.services.store.change(sample.publisher.id, "slow", prepare)
    assert refused.value.retry_after_seconds
    assert await sample.version() == first + turns
    assert [product.name for product in await sample.services.store.list_records(sample.publisher.id, Product)] == [
        "SmartSend"
    ]
    assert not [entry async for entry in sample.services.store.audit(sample.publisher.id) if entry.actor == "slow"]


async def test_change_retries_conflicts_with_jittered_backoff(
    sample: CatalogueFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []
    really, here = asyncio.sleep, asyncio.get_running_loop()

    async def sleep(seconds: float) -> None:
        if asyncio.get_running_loop() is not here:
            await really(seconds)  # a server of other tests, in a thread of its own
        elif seconds:
            pauses.append(seconds)

    async def lose(*_: object) -> None:
        raise ConcurrencyConflict("moved")

    async def pauses_of_one() -> list[float]:
        pauses.clear()
        with pytest.raises(Busy):
            await sample.create(a_product("Never"))
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


async def test_change_when_prepare_raises_stores_nothing(sample: CatalogueFixture) -> None:
    async def prepare(draft: Draft) -> None:
        await draft_record(draft, a_product("Other"))
        await draft_record(draft, a_license(sample.customer.id, sample.product.id))
        raise RuntimeError("changed my mind")

    before = await kept(sample.services, sample.publisher.id)
    with pytest.raises(RuntimeError, match="changed my mind"):
        await sample.services.store.change(sample.publisher.id, "test", prepare)
    assert (await kept(sample.services, sample.publisher.id)).records == before.records


async def test_draft_reads_include_its_own_uncommitted_records(sample: CatalogueFixture) -> None:
    """Each record of a change is held against those before it, as if they were kept already."""

    async def prepare(draft: Draft) -> None:
        product, customer = a_product("Other"), a_customer("Other")
        await draft_record(draft, product)
        with pytest.raises(AlreadyExists):
            await draft_record(draft, a_product("OTHER"))
        await draft_record(draft, customer)
        environment = await draft_record(draft, an_environment(customer.id, "S-2"))
        with pytest.raises(AlreadyExists):
            await draft_record(draft, an_environment(sample.customer.id, "s-2"))
        license_ = await draft_record(draft, a_license(customer.id, product.id))
        assert await draft.list_records(Environment, customer.id) == [environment]
        assert await draft.list_records(CustomerProduct, customer.id) == [license_]
        assert {record.name for record in await draft.list_records(Product)} == {"SmartSend", "Other"}
        assert {record.name for record in await draft.list_records(Customer)} == {"Fabrikam", "Other"}
        draft.delete(environment)  # made and deleted in one change: as if it had never been
        assert await draft.environments_with("S-2") == []
        draft.delete(await _found(draft, sample.environment))
        assert await draft.environments_with("S-1") == []
        await draft_record(draft, an_environment(customer.id, "S-1"))

    before = await sample.version()
    await sample.services.store.change(sample.publisher.id, "test", prepare)
    assert await sample.version() == before + 1


async def test_change_reads_each_row_once_for_many_drafted_records(tables: Emulator, sample: CatalogueFixture) -> None:
    async with fault_proxy(tables, _forward) as server, services_on(server.account) as services:

        async def prepare(draft: Draft) -> None:
            for number in range(10):
                await draft_record(draft, a_product(f"Product {number}"))
                await draft_record(draft, a_license(sample.customer.id, sample.product.id))
                assert await draft.find(Product, "none") is None

        await services.store.change(sample.publisher.id, "test", prepare)
    # The version, all products, the customer, the product, the one that there is not; then the change.
    assert server.requests == [*["GET"] * 5, "POST"]


async def test_grant_perpetual_twice_returns_existing_license(sample: CatalogueFixture) -> None:
    product = await sample.create(a_product("Free", license_control_disabled=True))
    ids = (sample.publisher.id, sample.customer.id, product.id)
    before = await sample.version()
    granted = await sample.services.catalogue.grant_perpetual(*ids, actor="a")
    assert (granted.license_type, granted.site_license, granted.end_date) == (LicenseType.PERPETUAL, True, None)
    assert await sample.services.catalogue.grant_perpetual(*ids, actor="b") == granted
    assert await sample.version() == before + 1
    held = await sample.services.catalogue.grant_perpetual(*ids[:2], sample.product.id, actor="c")
    assert held == sample.license, "who has a license keeps it"


async def test_grant_perpetual_on_several_instances_creates_one_license(sample: CatalogueFixture) -> None:
    product = await sample.create(a_product("Free", license_control_disabled=True))
    before = await sample.version()
    async with AsyncExitStack() as stack:
        several = [await stack.enter_async_context(services_on(sample.services.settings.storage)) for _ in range(4)]
        granted = await asyncio.gather(
            *(
                services.catalogue.grant_perpetual(sample.publisher.id, sample.customer.id, product.id, actor="test")
                for services in several * 2
            )
        )
    assert len({license_.id for license_ in granted}) == 1
    assert await sample.version() == before + 1


async def test_grant_perpetual_for_unknown_customer_raises_not_found(sample: CatalogueFixture) -> None:
    product = await sample.create(a_product("Free", license_control_disabled=True))
    change = sample.services.catalogue.grant_perpetual(sample.publisher.id, "x", product.id, actor="test")
    await assert_rejected(sample, NotFound, change)


async def test_grant_perpetual_with_license_control_enabled_raises_conflict(sample: CatalogueFixture) -> None:
    product = await sample.create(a_product("No longer free"))
    for product_id in (product.id, "no product"):
        change = sample.services.catalogue.grant_perpetual(
            sample.publisher.id, sample.customer.id, product_id, actor="test"
        )
        await assert_rejected(sample, Conflict, change)


async def test_concurrent_changes_by_several_instances_all_commit(sample: CatalogueFixture) -> None:
    before = await sample.version()
    async with AsyncExitStack() as stack:
        several = [await stack.enter_async_context(services_on(sample.services.settings.storage)) for _ in range(6)]
        await asyncio.gather(
            *(
                services.catalogue.create(sample.publisher.id, a_product(f"P{index}"), actor=f"{index}")
                for index, services in enumerate(several)
            )
        )
    assert await sample.version() == before + 6


async def test_seed_concurrently_or_repeatedly_seeds_once(tables: Emulator) -> None:
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
        await check_invariants(services, DEMO_PUBLISHER_ID)


async def test_seed_with_existing_publisher_changes_nothing(services: Services, publisher: Publisher) -> None:
    assert await seed(services) is False
    assert await services.store.version(publisher.id) is not None
    assert await services.store.version(DEMO_PUBLISHER_ID) is None
