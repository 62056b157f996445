"""What an instance keeps to list: as fresh as the question, for as few reads as can be."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from devhost.azurite import Emulator
from licensing.catalogue.draft import Draft
from licensing.catalogue.publisher_cache import PublisherCache, WaitPolicy
from licensing.catalogue.publisher_copy import ExclusiveRun, reinstate
from licensing.catalogue.records import (
    Customer,
    CustomerProduct,
    Environment,
    Product,
    Publisher,
    Record,
    Region,
    Role,
    User,
)
from licensing.catalogue.rows import VERSION_ROW
from licensing.catalogue.service import draft_record
from licensing.errors import LicensingError, PublisherNotFound, StorageUnavailable
from licensing.http.permissions import Privilege, View
from licensing.services import Services
from licensing.storage.batches import Operation, Row
from tests.support.fault_proxy import hanging
from tests.support.publisher import PublisherFixture, before_reading, record_reads
from tests.support.records import NOW, a_customer, a_license, a_product, a_publisher, an_environment, services_on

PATIENT = WaitPolicy(30)
KINDS: tuple[type[Any], ...] = (Publisher, Product, Customer, Role, User)


def a_role(**fields: Any) -> Role:
    return Role(**{"id": str(uuid4()), "created_at": NOW, "updated_at": NOW, "name": "Sales", **fields})


def a_user(**fields: Any) -> User:
    return User(**{"id": str(uuid4()), "created_at": NOW, "updated_at": NOW, "email": "ada@contoso.example", **fields})


@dataclass
class PublisherCacheFixture(PublisherFixture):
    """A publisher with one of each record."""

    publisher: Publisher
    product: Product
    customer: Customer
    license: CustomerProduct
    environment: Environment
    role: Role
    user: User

    async def check(self, reader: Services) -> None:
        """Assert that what the reader keeps is what is kept, to the last derived field and ETag."""
        for kind in KINDS:
            kept = await reader.publisher_cache.get(self.publisher.id, kind)
            stored = await self.writer.store.list_records(self.publisher.id, kind)
            assert {key: all_fields(record) for key, record in kept.items()} == {
                record.id: all_fields(record) for record in stored
            }

    async def version(self) -> int:
        version = await self.writer.store.version(self.publisher.id)
        assert version is not None
        return version.number


def all_fields(record: Any) -> dict[str, Any]:
    """Every field: equality of records passes over what is derived."""
    return {name: getattr(record, name) for name in record.__dataclass_fields__}


@pytest.fixture
async def sample(services: Services) -> PublisherCacheFixture:
    return await create_sample(services)


async def create_sample(writer: Services) -> PublisherCacheFixture:
    publisher = a_publisher(allowed_domains=("contoso.example",))
    product, customer, role = a_product(), a_customer(), a_role(privileges={View.PRODUCTS: Privilege.READ})
    license_, environment = a_license(customer.id, product.id), an_environment(customer.id)
    user = a_user(role_ids=(role.id,))

    async def prepare(draft: Draft) -> None:
        for record in (publisher, product, customer, license_, environment, role, user):
            await draft_record(draft, record)

    await writer.store.change(publisher.id, "test", prepare)
    return PublisherCacheFixture(writer, publisher.id, publisher, product, customer, license_, environment, role, user)


@pytest.fixture
async def reader(tables: Emulator) -> AsyncIterator[Services]:
    """Another instance, that does not hear of changes but through the store."""
    async with services_on(tables.connection_string) as made:
        yield made


# --- fresh


async def _create_and_delete(sample: PublisherCacheFixture, record: Record) -> None:
    await sample.create(record)
    await sample.delete(record)


async def _change_product_of_license(sample: PublisherCacheFixture) -> None:
    other = a_product("Other")
    await sample.create(other)
    await sample.update(sample.license, product_id=other.id)


async def _move(sample: PublisherCacheFixture) -> None:
    other = a_customer("Other")
    await sample.create(other)
    await sample.update(sample.environment, customer_id=other.id)


async def _all_at_once(sample: PublisherCacheFixture) -> None:
    async def prepare(draft: Draft) -> None:
        customer = await draft_record(draft, a_customer("Other"))
        product = await draft_record(draft, a_product("Other"))
        await draft_record(draft, a_license(customer.id, product.id))
        await draft_record(draft, a_role())
        draft.delete(await draft.find(User, sample.user.id) or sample.user)

    await sample.writer.store.change(sample.publisher.id, "test", prepare)


CHANGES: dict[str, Callable[[PublisherCacheFixture], Awaitable[None]]] = {
    "a product is made": lambda sample: sample.create(a_product("Other")),
    "a product is renamed": lambda sample: sample.update(sample.product, name="Other"),
    "a product that nobody holds is deleted": lambda sample: _create_and_delete(sample, a_product("Other")),
    "a customer is made": lambda sample: sample.create(a_customer("Other")),
    "a customer is edited": lambda sample: sample.update(sample.customer, region=Region.NORDIC, number="C-1"),
    "a customer is made and deleted": lambda sample: _create_and_delete(sample, a_customer("Other")),
    "a customer gets a product": lambda sample: sample.create(a_license(sample.customer.id, sample.product.id)),
    "a customer's product is another one": _change_product_of_license,
    "a customer's product is edited": lambda sample: sample.update(sample.license, notes="edited"),
    "a customer gets an environment": lambda sample: sample.create(an_environment(sample.customer.id, "S-2")),
    "a customer loses all and is deleted": lambda sample: sample.delete(
        sample.environment, sample.license, sample.customer
    ),
    "an environment moves to another customer": _move,
    "a role gives something else": lambda sample: sample.update(sample.role, privileges={View.USERS: Privilege.DELETE}),
    "a role is made": lambda sample: sample.create(a_role()),
    "a user is switched off": lambda sample: sample.update(sample.user, active=False),
    "a user is bound to an account": lambda sample: sample.update(sample.user, identity="directory|object"),
    "a user is deleted, and their role": lambda sample: sample.delete(sample.user, sample.role),
    "the publisher allows no domain": lambda sample: sample.update(sample.publisher, allowed_domains=()),
    "one change does it all": _all_at_once,
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
async def test_publisher_cache_returns_change_of_another_instance(
    sample: PublisherCacheFixture, reader: Services, change: Callable[[PublisherCacheFixture], Awaitable[None]]
) -> None:
    await sample.check(reader)
    await change(sample)
    await sample.check(reader)


async def test_publisher_cache_keeps_returned_mapping_unchanged(
    sample: PublisherCacheFixture, reader: Services
) -> None:
    """Whoever is sorting a list does not find it changed under their hands."""
    before = await reader.publisher_cache.get(sample.publisher.id, Customer)
    copy = dict(before)
    await sample.update(sample.customer, name="Renamed")
    await sample.create(a_customer("Other"))
    assert len(await reader.publisher_cache.get(sample.publisher.id, Customer)) == 2
    assert before == copy
    assert before[sample.customer.id].name == "Fabrikam"


# --- few reads


async def test_publisher_cache_without_changes_reads_only_version_row(
    sample: PublisherCacheFixture, reader: Services
) -> None:
    await reader.publisher_cache.several(sample.publisher.id, *KINDS)
    keys = record_reads(reader)
    await reader.publisher_cache.several(sample.publisher.id, *KINDS)
    await reader.publisher_cache.get(sample.publisher.id, Customer)
    assert keys == ["version", "version"]


async def test_publisher_cache_reads_only_changed_rows_again(sample: PublisherCacheFixture, reader: Services) -> None:
    others = [a_customer(f"Customer {number}") for number in range(5)]
    await sample.create(*others)
    await reader.publisher_cache.several(sample.publisher.id, Customer, Product)
    keys = record_reads(reader)
    await sample.update(others[0], name="Renamed")
    await sample.update(others[0], name="Renamed again")
    await sample.create(a_license(others[1].id, sample.product.id))
    await sample.delete(others[2])
    await sample.update(sample.user, name="Ada")
    customers = await reader.publisher_cache.get(sample.publisher.id, Customer)
    touched = [f"customer||{record.id}" for record in others[:3]]
    assert sorted(keys) == sorted(["version", "audit||*", *touched])
    assert customers[others[0].id].name == "Renamed again"
    keys.clear()
    await reader.publisher_cache.get(sample.publisher.id, Product)
    assert keys == ["version"], "the audit was read already, and names no product"


@pytest.mark.parametrize(("changes", "is_whole"), [(50, False), (51, True)])
async def test_publisher_cache_reloads_after_more_than_50_changes(
    sample: PublisherCacheFixture, reader: Services, changes: int, *, is_whole: bool
) -> None:
    await reader.publisher_cache.get(sample.publisher.id, Product)
    for number in range(changes):
        await sample.update(sample.customer, number=str(number))
    keys = record_reads(reader)
    await reader.publisher_cache.get(sample.publisher.id, Product)
    assert ("product||*" in keys) == is_whole
    await sample.check(reader)


@pytest.mark.parametrize(("records", "is_whole"), [(50, False), (51, True)])
async def test_publisher_cache_reloads_after_changes_of_more_than_50_records(
    sample: PublisherCacheFixture, reader: Services, records: int, *, is_whole: bool
) -> None:
    await reader.publisher_cache.get(sample.publisher.id, Customer)
    for some in itertools.batched(range(records), 20, strict=False):

        async def prepare(draft: Draft, some: tuple[int, ...] = some) -> None:
            for number in some:
                await draft_record(draft, a_customer(f"Customer {number}"))

        await sample.writer.store.change(sample.publisher.id, "test", prepare)
    keys = record_reads(reader)
    assert len(await reader.publisher_cache.get(sample.publisher.id, Customer)) == 1 + records
    assert ("customer||*" in keys) == is_whole


async def test_publisher_cache_concurrent_readers_share_reads(sample: PublisherCacheFixture, reader: Services) -> None:
    keys = record_reads(reader)
    answers = await asyncio.gather(
        *(reader.publisher_cache.several(sample.publisher.id, Customer, User) for _ in range(100))
    )
    assert all(answer == answers[0] for answer in answers)
    once = ["customer||*", "user||*", "version"]
    assert sorted(keys) == once
    keys.clear()
    await sample.update(sample.customer, name="Renamed")
    answers = await asyncio.gather(
        *(reader.publisher_cache.several(sample.publisher.id, Customer, User) for _ in range(100))
    )
    assert {answer[0][sample.customer.id].name for answer in answers} == {"Renamed"}
    assert sorted(keys) == ["audit||*", f"customer||{sample.customer.id}", "version"]


async def test_publisher_cache_stores_no_unknown_publishers(reader: Services, sample: PublisherCacheFixture) -> None:
    await reader.publisher_cache.get(sample.publisher.id, Product)
    unknown = [str(uuid4()) for _ in range(20)]

    async def ask(publisher_id: str) -> str:
        with pytest.raises(PublisherNotFound):
            await reader.publisher_cache.several(publisher_id, Publisher, User)
        return publisher_id

    assert await asyncio.gather(*map(ask, unknown + unknown)) == unknown + unknown
    assert reader.publisher_cache.stats().publishers == 1


async def test_publisher_cache_finds_publisher_created_after_miss(reader: Services) -> None:
    publisher = a_publisher()
    with pytest.raises(PublisherNotFound):
        await reader.publisher_cache.get(publisher.id, Publisher)
    await reader.table("").create()
    await reader.catalogue.create_publisher(publisher, actor="test")
    assert await reader.publisher_cache.get(publisher.id, Publisher) == {publisher.id: publisher}


async def test_publisher_cache_over_record_limit_evicts_least_recently_used_publisher(
    sample: PublisherCacheFixture, reader: Services
) -> None:
    cache = PublisherCache(reader.store, PATIENT, max_records=2)
    others = [a_publisher(), a_publisher()]
    for other in others:
        await sample.writer.catalogue.create_publisher(other, actor="test")
    for publisher_id in (sample.publisher.id, others[0].id, sample.publisher.id, others[1].id):
        assert publisher_id in await cache.get(publisher_id, Publisher)
    assert cache.stats() == (2, 2)
    keys = record_reads(reader)
    for publisher_id in (sample.publisher.id, others[1].id):
        await cache.get(publisher_id, Publisher)
    assert keys == ["version", "version"]


# --- changes that come in between


@pytest.mark.parametrize(
    ("gap", "is_kept"),
    [("version", False), ("customer", False), ("version", True), ("audit", True), ("customer", True)],
    ids=[
        "version, while all is read",
        "customer, while all is read",
        "version, while changes are read",
        "audit, while changes are read",
        "customer, while changes are read",
    ],
)
async def test_publisher_cache_returns_change_committed_during_earlier_read(
    sample: PublisherCacheFixture, reader: Services, monkeypatch: pytest.MonkeyPatch, gap: str, *, is_kept: bool
) -> None:
    other = a_customer("Other")
    if is_kept:
        await sample.check(reader)
        await sample.update(sample.customer, number="C-1")

    async def change() -> None:
        await sample.create(other)
        await sample.update(sample.customer, name="Renamed")
        await sample.delete(sample.environment)

    before_reading(reader, monkeypatch, gap, change)
    await reader.publisher_cache.get(sample.publisher.id, Customer)
    customers = await reader.publisher_cache.get(sample.publisher.id, Customer)
    assert set(customers) == {sample.customer.id, other.id}
    assert (customers[sample.customer.id].name, customers[sample.customer.id].environment_count) == ("Renamed", 0)
    await sample.check(reader)


async def test_publisher_cache_reader_during_older_read_gets_newer_change(
    sample: PublisherCacheFixture, reader: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though what the others are about to have is older than that."""
    table, was_read, late_has_caught_up, go_on = reader.table(""), asyncio.Event(), asyncio.Event(), asyncio.Event()
    rows = table.rows

    async def read_and_wait(partition: str, key: str, **more: Any) -> AsyncIterator[Row]:
        found = [row async for row in rows(partition, key, **more)]
        if key.startswith("customer"):
            was_read.set()
            await go_on.wait()
        for row in found:
            yield row
        if key.startswith("audit") and was_read.is_set():
            late_has_caught_up.set()

    monkeypatch.setattr(table, "rows", read_and_wait)
    early = asyncio.create_task(reader.publisher_cache.several(sample.publisher.id, Product, Customer))
    await was_read.wait()
    await sample.update(sample.customer, name="Renamed")
    late = asyncio.create_task(reader.publisher_cache.several(sample.publisher.id, Customer, Product))
    await late_has_caught_up.wait()
    for _ in range(10):  # from here on it comes as far as it can without storage
        await asyncio.sleep(0)
    go_on.set()
    customers, _ = await late
    assert customers[sample.customer.id].name == "Renamed"
    await early


async def test_publisher_cache_pending_read_succeeds_when_another_kind_is_dropped(
    sample: PublisherCacheFixture, reader: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = PublisherCache(reader.store, PATIENT, max_catch_up=1)
    await cache.get(sample.publisher.id, Product)
    table, was_asked, go_on = reader.table(""), asyncio.Event(), asyncio.Event()
    rows = table.rows

    async def wait_and_read(partition: str, key: str, **more: Any) -> AsyncIterator[Row]:
        if key.startswith("customer"):
            was_asked.set()
            await go_on.wait()
        async for row in rows(partition, key, **more):
            yield row

    monkeypatch.setattr(table, "rows", wait_and_read)
    waiting = asyncio.create_task(cache.several(sample.publisher.id, Product, Customer))
    await was_asked.wait()
    for number in "12":
        await sample.update(sample.product, description=number)

    def fail(*_: object, **__: object) -> AsyncIterator[Row]:
        raise StorageUnavailable("Not now.")

    with monkeypatch.context() as patch:
        patch.setattr(table, "rows", fail)
        with pytest.raises(StorageUnavailable):
            await cache.get(sample.publisher.id, Product)
    go_on.set()
    products, customers = await waiting
    assert ([*products], [*customers]) == ([sample.product.id], [sample.customer.id])


@pytest.mark.parametrize("gap", ["audit", "customer"])
async def test_publisher_cache_after_failed_read_returns_all_records(
    sample: PublisherCacheFixture, reader: Services, monkeypatch: pytest.MonkeyPatch, gap: str
) -> None:
    async def fail() -> None:
        raise StorageUnavailable("Not now.")

    if gap == "audit":  # read only where there is something in memory already
        await sample.check(reader)
        await sample.update(sample.customer, number=str(uuid4()))
    for _ in range(2):  # once while all is read, once while changes are
        with monkeypatch.context() as patch:
            before_reading(reader, patch, gap, fail)
            with pytest.raises(StorageUnavailable):
                await reader.publisher_cache.get(sample.publisher.id, Customer)
        await sample.check(reader)
        await sample.update(sample.customer, number=str(uuid4()))


async def test_publisher_cache_hanging_load_raises_storage_unavailable_and_is_started_again(
    sample: PublisherCacheFixture, reader: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def hang(*_: object, **__: object) -> AsyncIterator[Row]:
        await asyncio.Event().wait()
        yield {}

    hurried = PublisherCache(reader.store, PATIENT, read_seconds=0.05)
    with monkeypatch.context() as patch:
        patch.setattr(reader.table(""), "rows", hang)
        with pytest.raises(StorageUnavailable):
            await hurried.get(sample.publisher.id, Product)
    assert list(await reader.publisher_cache.get(sample.publisher.id, Product)) == [sample.product.id]


# --- storage that is another one than before


async def recreate_with_other_history(sample: PublisherCacheFixture, *records: Record) -> None:
    """All is as if the publisher had never been, and then has another past."""
    table = sample.writer.table("")
    query = f"PartitionKey eq '{sample.publisher.id}'"
    keys = [row["RowKey"] async for row in table.connect().query_entities(query, select=["RowKey"])]
    await table.commit(sample.publisher.id, [Operation("delete", {"RowKey": key}) for key in keys])
    await sample.writer.catalogue.create_publisher(sample.publisher, actor="another past")
    await sample.create(*records)


# How many changes the other past has; the one that is kept has seven.
HISTORY_LENGTHS = {"fewer changes": 3, "as many changes": 7, "more changes": 12, "many more changes": 60}


@pytest.mark.parametrize("length", HISTORY_LENGTHS.values(), ids=HISTORY_LENGTHS.keys())
async def test_publisher_cache_reloads_after_storage_was_restored_from_backup(
    sample: PublisherCacheFixture, reader: Services, length: int
) -> None:
    for number in range(6):
        await sample.update(sample.customer, number=str(number))
    await sample.check(reader)
    assert await sample.version() == 7
    # The same ids, so that nothing tells them from what was kept but what is in them.
    records: list[Record] = [replace(sample.product, name="Another"), replace(sample.customer, name="Another")]
    more = [a_customer(f"Customer {number}") for number in range(length - 3)]
    await recreate_with_other_history(sample, *records, *more)
    assert await sample.version() == length
    await sample.check(reader)
    customers = await reader.publisher_cache.get(sample.publisher.id, Customer)
    assert (len(customers), customers[sample.customer.id].name) == (1 + len(more), "Another")
    await sample.update(sample.customer, name="And on")
    await sample.check(reader)


async def test_publisher_cache_load_during_erase_is_not_used_after_restore(
    sample: PublisherCacheFixture, reader: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    table, publisher_id = sample.writer.table(""), sample.publisher.id
    version = await table.find(publisher_id, VERSION_ROW)
    rows = [row async for row in table.rows(publisher_id, "product|")]
    runs: list[ExclusiveRun] = []
    assert version

    async def erase() -> None:
        runs.append(await ExclusiveRun.begin(table, publisher_id, version, "erased", wait_seconds=0))
        await runs[0].commit(publisher_id, [Operation("delete", {"RowKey": row["RowKey"]}) for row in rows])

    before_reading(reader, monkeypatch, "product|", erase)
    assert await reader.publisher_cache.get(publisher_id, Product) == {}
    await runs[0].commit(publisher_id, [Operation("put", row) for row in rows])
    await reinstate(sample.writer.store, runs[0], version, "operator", str(uuid4()))
    assert list(await reader.publisher_cache.get(publisher_id, Product)) == [sample.product.id]


async def test_publisher_cache_never_returns_kinds_of_different_versions(
    sample: PublisherCacheFixture, reader: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kind is loaded at an older version while another caller reads the audit of a newer one."""
    cache, table = reader.publisher_cache, reader.table("")
    await cache.get(sample.publisher.id, Publisher)
    rows, audit_was_read, products_were_read, go_on = table.rows, asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def read_in_turns(partition: str, key: str, **more: Any) -> AsyncIterator[Row]:
        found = [row async for row in rows(partition, key, **more)]
        if key.startswith("product"):
            products_were_read.set()
            await go_on.wait()
        if key.startswith("audit"):
            audit_was_read.set()
            go_on.set()
            await asyncio.sleep(0.05)
        for row in found:
            yield row

    monkeypatch.setattr(table, "rows", read_in_turns)
    early = asyncio.create_task(cache.get(sample.publisher.id, Product))
    await products_were_read.wait()
    await sample.update(sample.product, name="Renamed")
    publishers, products = await cache.several(sample.publisher.id, Publisher, Product)
    assert products[sample.product.id].name == "Renamed"
    assert publishers
    await early


async def test_publisher_cache_slow_catch_up_outlasts_its_caller(
    sample: PublisherCacheFixture, reader: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache, table = reader.publisher_cache, reader.table("")
    await cache.get(sample.publisher.id, Product)
    await sample.update(sample.product, name="Renamed")
    rows, was_asked, go_on, reads = table.rows, asyncio.Event(), asyncio.Event(), list[str]()

    async def read_slowly(partition: str, key: str, **more: Any) -> AsyncIterator[Row]:
        reads.append(key)
        was_asked.set()
        await go_on.wait()
        async for row in rows(partition, key, **more):
            yield row

    monkeypatch.setattr(table, "rows", read_slowly)
    impatient = asyncio.create_task(cache.get(sample.publisher.id, Product))
    await was_asked.wait()
    impatient.cancel()
    await asyncio.wait([impatient])
    patient = asyncio.create_task(cache.get(sample.publisher.id, Product))
    go_on.set()
    assert (await patient)[sample.product.id].name == "Renamed"
    assert reads == ["audit||"], "the read of the caller that gave up was used"


# --- storage that does not answer


async def test_publisher_cache_while_storage_hangs_raises_storage_unavailable(
    tables: Emulator, sample: PublisherCacheFixture
) -> None:
    async with hanging() as account, services_on(account) as hung:
        publisher_cache = PublisherCache(hung.store, WaitPolicy(0.3))
        answers = await asyncio.gather(
            *(publisher_cache.get(sample.publisher.id, Product) for _ in range(20)), return_exceptions=True
        )
        assert all(isinstance(answer, StorageUnavailable) and answer.retry_after_seconds for answer in answers)
    async with services_on(tables.connection_string) as reader:
        await sample.check(reader)


# --- anything at all

type Step = tuple[str, int, int, int]  # what, by which writer, to which record, seen by which reader

ACTIONS: dict[str, Callable[[Services, str, int], Awaitable[object]]] = {}


def action(
    act: Callable[[Services, str, int], Awaitable[object]],
) -> Callable[[Services, str, int], Awaitable[object]]:
    ACTIONS[act.__name__] = act
    return act


async def pick[R: Record](writer: Services, publisher_id: str, kind: type[R], index: int) -> R | None:
    found = sorted(await writer.store.list_records(publisher_id, kind), key=lambda record: record.id)
    return found[index % len(found)] if found else None


async def create(writer: Services, publisher_id: str, record: Record) -> None:
    await writer.catalogue.create(publisher_id, record, actor="test")


async def edit(writer: Services, publisher_id: str, record: Record | None, **fields: Any) -> None:
    if record is not None:
        await writer.catalogue.update(
            publisher_id,
            type(record),
            record.id,
            lambda before: replace(before, **fields),
            actor="test",
            parent=record.parent,
        )


async def remove(writer: Services, publisher_id: str, record: Record | None) -> None:
    if record is not None:
        await writer.catalogue.delete(publisher_id, type(record), record.id, actor="test", parent=record.parent)


@action
async def create_product(writer: Services, publisher_id: str, index: int) -> None:
    await create(writer, publisher_id, a_product(f"Product {index % 4}"))


@action
async def rename_product(writer: Services, publisher_id: str, index: int) -> None:
    await edit(writer, publisher_id, await pick(writer, publisher_id, Product, index), name=f"Product {index % 5}")


@action
async def delete_product(writer: Services, publisher_id: str, index: int) -> None:
    await remove(writer, publisher_id, await pick(writer, publisher_id, Product, index))


@action
async def create_customer(writer: Services, publisher_id: str, index: int) -> None:
    await create(writer, publisher_id, a_customer(f"Customer {index}"))


@action
async def edit_customer(writer: Services, publisher_id: str, index: int) -> None:
    await edit(writer, publisher_id, await pick(writer, publisher_id, Customer, index), number=str(index))


@action
async def delete_customer(writer: Services, publisher_id: str, index: int) -> None:
    await remove(writer, publisher_id, await pick(writer, publisher_id, Customer, index))


@action
async def create_license(writer: Services, publisher_id: str, index: int) -> None:
    customer = await pick(writer, publisher_id, Customer, index)
    product = await pick(writer, publisher_id, Product, index // 3)
    if customer and product:
        await create(writer, publisher_id, a_license(customer.id, product.id))


@action
async def delete_license(writer: Services, publisher_id: str, index: int) -> None:
    if customer := await pick(writer, publisher_id, Customer, index):
        held = await writer.store.list_records(publisher_id, CustomerProduct, customer.id)
        await remove(writer, publisher_id, held[0] if held else None)


@action
async def create_environment(writer: Services, publisher_id: str, index: int) -> None:
    if customer := await pick(writer, publisher_id, Customer, index):
        await create(writer, publisher_id, an_environment(customer.id, f"S-{index % 4}"))


@action
async def move_environment(writer: Services, publisher_id: str, index: int) -> None:
    one, other = [await pick(writer, publisher_id, Customer, index + more) for more in (0, 1)]
    if one and other:
        installed = await writer.store.list_records(publisher_id, Environment, one.id)
        await edit(writer, publisher_id, installed[0] if installed else None, customer_id=other.id)


@action
async def delete_environment(writer: Services, publisher_id: str, index: int) -> None:
    if customer := await pick(writer, publisher_id, Customer, index):
        installed = await writer.store.list_records(publisher_id, Environment, customer.id)
        await remove(writer, publisher_id, installed[0] if installed else None)


@action
async def create_user(writer: Services, publisher_id: str, index: int) -> None:
    await create(writer, publisher_id, a_user(email=f"user{index % 4}@contoso.example"))


@action
async def delete_user(writer: Services, publisher_id: str, index: int) -> None:
    await remove(writer, publisher_id, await pick(writer, publisher_id, User, index))


steps: st.SearchStrategy[Step] = st.tuples(
    st.sampled_from([*ACTIONS]), st.integers(0, 1), st.integers(0, 20), st.integers(0, 3)
)


@settings(
    max_examples=5,
    derandomize=True,
    database=None,
    phases=[Phase.generate],
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.function_scoped_fixture],
)
@given(plan=st.lists(steps, min_size=14, max_size=18))
async def test_publisher_cache_equals_stored_records_after_random_concurrent_changes(
    sample: PublisherCacheFixture, tables: Emulator, plan: list[Step]
) -> None:
    publisher = a_publisher(allowed_domains=("contoso.example",))
    await sample.writer.catalogue.create_publisher(publisher, actor="test")
    sample = replace(sample, publisher=publisher)
    async with AsyncExitStack() as stack:
        writers = [await stack.enter_async_context(services_on(tables.connection_string)) for _ in range(2)]
        # Those who write keep something as well.
        readers = [*writers, *[await stack.enter_async_context(services_on(tables.connection_string)) for _ in "12"]]

        async def take(step: Step) -> None:
            what, by, index, seen_by = step
            reading = asyncio.gather(*(readers[seen_by].publisher_cache.get(publisher.id, kind) for kind in KINDS))
            try:
                await ACTIONS[what](writers[by], publisher.id, index)
            except LicensingError:
                pass
            finally:
                await reading

        for one, other in zip(plan[::2], plan[1::2], strict=False):
            await asyncio.gather(take(one), take(other))
            await sample.check(readers[one[3]])
        for reader in readers:
            await sample.check(reader)
