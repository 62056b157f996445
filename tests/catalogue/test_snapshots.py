"""What a validation sees: all that was committed before it asked, for one small read; and while storage is away."""

import asyncio
import os
import random
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest

from bench.wire import Wire, counting_proxy
from devhost.azurite import Azurite, Emulator, connection_string, start
from licensing.catalogue import snapshots as snapshots_module
from licensing.catalogue.copies import Absence
from licensing.catalogue.model import Customer, CustomerProduct, Environment, Product, Record
from licensing.catalogue.rows import VERSION_ROW, customer_key
from licensing.catalogue.service import draft_record
from licensing.catalogue.snapshots import Snapshot
from licensing.catalogue.store import Draft
from licensing.errors import PublisherNotFound, RecordsInconsistent, StorageUnavailable
from licensing.services import Services
from licensing.tables import Operation, Row, Table
from tests.catalogue.records import a_customer, a_license, a_product, a_publisher, an_environment, services_on


@dataclass
class Shop:
    """A publisher with one of each record, and the instance that changes them. Others read them."""

    writer: Services
    publisher_id: str
    product: Product
    customer: Customer
    license: CustomerProduct
    environment: Environment

    async def create(self, *records: Record) -> None:
        for record in records:
            await self.writer.catalogue.create(self.publisher_id, record, actor="test")

    async def update(self, record: Record, **fields: Any) -> None:
        await self.writer.catalogue.update(
            self.publisher_id,
            type(record),
            record.id,
            lambda before: replace(before, **fields),
            actor="test",
            parent=record.parent,
        )

    async def delete(self, *records: Record) -> None:
        for record in records:
            await self.writer.catalogue.delete(
                self.publisher_id, type(record), record.id, actor="test", parent=record.parent
            )

    async def seen(self, reader: Services, serial_number: str = "S-1") -> Snapshot:
        return await reader.snapshots.get(self.publisher_id, serial_number)


async def open_shop(writer: Services) -> Shop:
    await writer.table("").create()
    publisher, product, customer = a_publisher(), a_product(), a_customer()
    license_, environment = a_license(customer.id, product.id), an_environment(customer.id)
    shop = Shop(writer, publisher.id, product, customer, license_, environment)
    await writer.catalogue.create_publisher(publisher, actor="test")
    await shop.create(product, customer, license_, environment)
    return shop


@pytest.fixture
async def shop(services: Services) -> Shop:
    return await open_shop(services)


@pytest.fixture
async def reader(tables: Emulator) -> AsyncIterator[Services]:
    """Another instance, that does not hear of changes but through the store."""
    async with services_on(tables.connection_string) as made:
        yield made


def asked_for(services: Services) -> list[str]:
    """The row keys that the instance reads, from now on, by themselves or as a prefix."""
    table, keys = services.table(""), list[str]()
    find, rows = table.find, table.rows

    async def find_and_tell(partition: str, row: str, **more: Any) -> Row | None:
        keys.append(row)
        return await find(partition, row, **more)

    def rows_and_tell(partition: str, prefix: str, **more: Any) -> AsyncIterator[Row]:
        keys.append(prefix)
        return rows(partition, prefix, **more)

    table.find, table.rows = find_and_tell, rows_and_tell  # type: ignore[method-assign]
    return keys


# What is seen.


async def test_all_that_decides_is_seen(shop: Shop, reader: Services) -> None:
    other = a_customer("Other")
    second = a_license(shop.customer.id, shop.product.id, number_of_users=3)
    await shop.create(other, second, a_license(other.id, shop.product.id), an_environment(other.id, "S-2"))
    seen = await shop.seen(reader)
    assert seen.state.products == {"smartsend": shop.product}
    assert seen.state.publisher.id == shop.publisher_id
    assert seen.environment == shop.environment
    assert seen.licenses == {shop.product.id: (shop.license, second)}
    assert not seen.stale


async def test_a_serial_number_is_found_however_it_is_written(shop: Shop, reader: Services) -> None:
    for serial_number in ("S-1", "s-1", " S-1 "):
        assert (await shop.seen(reader, serial_number)).environment == shop.environment
    assert len(reader.snapshots._kept) == 1


async def _hand_on(shop: Shop, to: Environment) -> None:
    await shop.update(shop.environment, serial_number="S-2")
    await shop.create(to)


async def _edit_publisher(shop: Shop) -> None:
    await shop.update(replace(a_publisher(), id=shop.publisher_id), support_email="new@example.com")


CHANGES: dict[str, tuple[Callable[[Shop], Awaitable[None]], Callable[[Shop, Snapshot], object]]] = {
    "a product is renamed": (
        lambda shop: shop.update(shop.product, name="Other"),
        lambda _, seen: list(seen.state.products) == ["other"],
    ),
    "a product is made": (
        lambda shop: shop.create(a_product("Other")),
        lambda _, seen: set(seen.state.products) == {"smartsend", "other"},
    ),
    "a product gets its license control disabled": (
        lambda shop: shop.update(shop.product, license_control_disabled=True),
        lambda _, seen: seen.state.products["smartsend"].license_control_disabled,
    ),
    "a license is disabled": (
        lambda shop: shop.update(shop.license, enabled=False),
        lambda shop, seen: not seen.licenses[shop.product.id][0].enabled,
    ),
    "a license is made": (
        lambda shop: shop.create(a_license(shop.customer.id, shop.product.id)),
        lambda shop, seen: len(seen.licenses[shop.product.id]) == 2,
    ),
    "an environment is switched off": (
        lambda shop: shop.update(shop.environment, active=False),
        lambda _, seen: seen.environment and not seen.environment.active,
    ),
    "an environment is deleted": (
        lambda shop: shop.delete(shop.environment),
        lambda _, seen: seen.environment is None and not seen.licenses,
    ),
    "an environment gets another serial number": (
        lambda shop: shop.update(shop.environment, serial_number="S-2"),
        lambda _, seen: seen.environment is None,
    ),
    "its number goes to another environment": (
        lambda shop: _hand_on(shop, an_environment(shop.customer.id, "S-1", tenant="second.com")),
        lambda _, seen: seen.environment and seen.environment.tenant == "second.com",
    ),
    "the publisher gets another address for support": (
        _edit_publisher,
        lambda _, seen: seen.state.publisher.support_email == "new@example.com",
    ),
}


@pytest.mark.parametrize(("change", "is_seen"), CHANGES.values(), ids=CHANGES.keys())
async def test_a_change_is_seen_at_once_where(
    shop: Shop,
    reader: Services,
    change: Callable[[Shop], Awaitable[None]],
    is_seen: Callable[[Shop, Snapshot], object],
) -> None:
    for instance in (shop.writer, reader):  # both remember the state before
        assert not is_seen(shop, await shop.seen(instance))
    await change(shop)
    for instance in (shop.writer, reader):
        assert is_seen(shop, await shop.seen(instance))


async def test_a_serial_number_is_active_where_one_of_its_environments_is(shop: Shop, reader: Services) -> None:
    second = an_environment(shop.customer.id, tenant="fabrikam.onmicrosoft.com")

    async def active() -> list[bool | None]:
        """As the instance that changes the records sees it, and as another one does."""
        seen = [(await shop.seen(instance)).environment for instance in (shop.writer, reader)]
        return [each.active if each else None for each in seen]

    await shop.create(second)
    assert await active() == [True, True]
    await shop.update(shop.environment, active=False)
    assert await active() == [True, True], "the other one is active"
    await shop.update(second, active=False)
    assert await active() == [False, False]
    await shop.update(shop.environment, active=True)
    assert await active() == [True, True]
    await shop.delete(shop.environment)
    assert await active() == [False, False], "the other one is left"
    await shop.delete(second)
    assert await active() == [None, None]


async def test_what_was_unknown_is_seen_once_it_is_there(reader: Services, services: Services) -> None:
    publisher = a_publisher()
    await services.table("").create()
    with pytest.raises(PublisherNotFound):
        await reader.snapshots.get(publisher.id, "S-1")
    await services.catalogue.create_publisher(publisher, actor="test")
    assert (await reader.snapshots.get(publisher.id, "S-1")).environment is None
    customer = a_customer()
    for record in (customer, an_environment(customer.id)):
        await services.catalogue.create(publisher.id, record, actor="test")
    assert (await reader.snapshots.get(publisher.id, "S-1")).environment is not None


async def test_every_reader_sees_each_change_that_was_committed_before_it_asked(shop: Shop, tables: Emulator) -> None:
    """Two instances, several readers on each, and a writer: the number of users counts the changes."""
    committed, done, answers = 0, False, 0
    chance = random.Random(1)
    await shop.update(shop.license, number_of_users=1_000)
    await shop.update(shop.environment, tenant="1000")

    async def write() -> None:
        nonlocal committed, done
        for number in range(1, 41):
            changed = shop.license if number % 2 else shop.environment
            fields = {"number_of_users": 1_000 + number} if number % 2 else {"tenant": str(1_000 + number)}
            await shop.update(changed, **fields)
            committed = number
            await asyncio.sleep(chance.random() * 0.02)
        done = True

    async def read(instance: Services) -> None:
        nonlocal answers
        while not done:
            known = committed
            seen = await shop.seen(instance)
            assert not seen.stale
            assert seen.environment is not None
            (license_,) = seen.licenses[shop.product.id]
            users, tenant = license_.number_of_users or 0, int(seen.environment.tenant)
            assert max(users, tenant) - 1_000 >= known, "at least as new as the question"
            assert abs(users - tenant) <= 1, "and of one moment"
            answers += 1
            await asyncio.sleep(chance.random() * 0.005)

    async with services_on(tables.connection_string, version_spacing_ms=2.0) as another:
        instances = [shop.writer, another]
        await asyncio.gather(write(), *(read(instance) for instance in instances * 4))
    assert answers > 40


# What it costs.


@asynccontextmanager
async def counted(tables: Emulator, **settings: Any) -> AsyncIterator[tuple[Services, Wire]]:
    with counting_proxy(f"http://127.0.0.1:{tables.port}") as wire:
        account = connection_string(int(wire.url.rpartition(":")[2]))
        async with services_on(account, **settings) as services:
            yield services, wire


async def test_a_cold_validation_costs_six_requests_and_a_warm_one_costs_one(shop: Shop, tables: Emulator) -> None:
    await shop.create(*(a_product(f"P{number}") for number in range(5)))
    async with counted(tables) as (services, wire):
        await shop.seen(services)
        # The version; the publisher, its six products, no notices; the serial number; the customer with all it has.
        assert wire.take() == (6, 1 + 1 + 6 + 0 + 1 + 1)
        await shop.seen(services)
        assert wire.take() == (1, 1)
        await shop.update(shop.license, enabled=False)
        await shop.seen(services)
        requests, _ = wire.take()
        assert requests == 6
        await shop.create(an_environment(shop.customer.id, "S-2"))
        await asyncio.gather(shop.seen(services, "S-1"), shop.seen(services, "S-2"))
        requests, _ = wire.take()
        assert requests == 1 + 3 + 2 * 2, "the version and the publisher's own are read once for both"


async def test_a_thousand_at_once_cost_few_requests(shop: Shop, tables: Emulator) -> None:
    async with counted(tables) as (services, wire):
        await shop.seen(services)
        wire.take()
        seen = await asyncio.gather(*(shop.seen(services) for _ in range(1000)))
        assert all(snapshot.environment == shop.environment for snapshot in seen)
        assert wire.take() == (1, 1)


async def test_a_thousand_at_once_with_an_empty_memory_read_the_publisher_once(shop: Shop, reader: Services) -> None:
    keys = asked_for(reader)
    await asyncio.gather(*(shop.seen(reader) for _ in range(100)))
    assert keys.count("version") == 1
    assert keys.count("product||") == 1
    assert sum(key.startswith("publisher|") for key in keys) == 1


async def test_unknown_serial_numbers_cost_no_more_than_known_ones(shop: Shop, reader: Services) -> None:
    await shop.seen(reader)
    keys = asked_for(reader)
    assert (await shop.seen(reader, "made up")).environment is None
    assert len(keys) == 2, "the version, and the serial number"


# What is remembered.


async def test_made_up_publishers_and_serial_numbers_leave_nothing_behind(shop: Shop, reader: Services) -> None:
    await shop.seen(reader)
    for number in range(20):
        with pytest.raises(PublisherNotFound):
            await reader.snapshots.get(str(uuid4()), "S-1")
        assert (await shop.seen(reader, f"made-up-{number}")).environment is None
    outcomes = await asyncio.gather(
        *(reader.snapshots.get("made up", "S-1") for _ in range(20)), return_exceptions=True
    )
    assert [type(outcome) for outcome in outcomes] == [PublisherNotFound] * 20
    assert list(reader.snapshots._publishers) == [shop.publisher_id]
    assert list(reader.snapshots._kept) == [(shop.publisher_id, "s-1")]


async def test_an_environment_that_is_gone_is_forgotten(shop: Shop, reader: Services) -> None:
    await shop.seen(reader)
    await shop.delete(shop.environment)
    await shop.seen(reader)
    assert not reader.snapshots._kept


async def test_only_those_seen_last_are_remembered(shop: Shop, tables: Emulator) -> None:
    await shop.create(*(an_environment(shop.customer.id, f"S-{number}") for number in (2, 3)))
    async with services_on(tables.connection_string, kept_environments=2) as reader:
        for serial_number in ("S-1", "S-2", "S-1", "S-3"):
            await shop.seen(reader, serial_number)
        assert [key[1] for key in reader.snapshots._kept] == ["s-1", "s-3"]
        keys = asked_for(reader)
        await shop.seen(reader, "S-1")
        assert keys == ["version"]
        await shop.seen(reader, "S-2")
        assert len(keys) == 4, "read again, since it was forgotten"


async def test_with_no_room_at_all_it_still_answers(shop: Shop, tables: Emulator) -> None:
    async with services_on(tables.connection_string, kept_environments=0) as reader:
        assert (await shop.seen(reader)).environment == shop.environment
        assert not reader.snapshots._kept


# Who gives up, and what fails.


async def test_one_who_gives_up_does_not_disturb_the_others(
    shop: Shop, reader: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    table, giving_up = reader.table(""), list[asyncio.Task[Snapshot]]()
    find, rows = table.find, table.rows

    async def give_up_and_find(partition: str, row: str, **more: Any) -> Row | None:
        if giving_up:
            giving_up.pop().cancel()
        return await find(partition, row, **more)

    def give_up_and_read(partition: str, prefix: str, **more: Any) -> AsyncIterator[Row]:
        if giving_up:
            giving_up.pop().cancel()
        return rows(partition, prefix, **more)

    monkeypatch.setattr(table, "find", give_up_and_find)
    monkeypatch.setattr(table, "rows", give_up_and_read)
    for reads in (5, 1, 5):  # with an empty memory, with a full one, and with an old one
        asking = [asyncio.create_task(shop.seen(reader)) for _ in range(10)]
        giving_up[:] = asking[:5]
        seen = await asyncio.gather(*asking[5:])
        assert all(snapshot.environment == shop.environment and not snapshot.stale for snapshot in seen)
        await asyncio.wait(asking)
        assert sum(task.cancelled() for task in asking) == reads
        giving_up.clear()
        if reads == 1:
            await shop.update(shop.product, description=str(uuid4()))


async def test_an_error_reaches_all_who_asked_and_the_next_is_answered(
    shop: Shop, reader: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    for broken in ("version", "publisher|", "serial|", "customer|"):
        table = reader.table("")
        find = table.find

        async def fail(partition: str, row: str, *, broken: str = broken, find: Any = find, **more: Any) -> Row | None:
            if row.startswith(broken):
                raise LookupError(broken)
            found: Row | None = await find(partition, row, **more)
            return found

        await shop.update(shop.product, description=broken)  # so that all has to be read
        with monkeypatch.context() as patch:
            patch.setattr(table, "find", fail)
            outcomes = await asyncio.gather(*(shop.seen(reader) for _ in range(10)), return_exceptions=True)
        assert [str(outcome) for outcome in outcomes] == [broken] * 10
        assert (await shop.seen(reader)).environment == shop.environment


# A change that comes while a validation reads.


def before_reading(monkeypatch: pytest.MonkeyPatch, table: Table, key: str, act: Callable[[], Awaitable[None]]) -> None:
    """`act` is done, once, just before a row is read whose key begins so."""
    find, acts = table.find, [act]

    async def act_and_find(partition: str, row: str, **more: Any) -> Row | None:
        if row.startswith(key) and acts:
            await acts.pop()()
        return await find(partition, row, **more)

    monkeypatch.setattr(table, "find", act_and_find)


GAPS = ["publisher|", "serial|", "customer|"]


@pytest.mark.parametrize("gap", GAPS)
async def test_a_change_that_comes_in_between_is_noticed(
    shop: Shop, reader: Services, monkeypatch: pytest.MonkeyPatch, gap: str
) -> None:
    """A product gets a license, in two changes: who sees the second sees the first."""
    product = a_product("Other")
    license_ = a_license(shop.customer.id, product.id)

    async def change() -> None:
        await shop.create(product, license_)
        await shop.update(shop.environment, tenant="new.com")

    before_reading(monkeypatch, reader.table(""), gap, change)
    seen = await shop.seen(reader)
    assert seen.environment is not None
    assert seen.environment.tenant == "new.com"
    assert seen.licenses[product.id] == (license_,)
    assert "other" in seen.state.products


@pytest.mark.parametrize("gap", GAPS)
async def test_an_environment_that_moves_in_between_is_never_without_its_licenses(
    shop: Shop, reader: Services, monkeypatch: pytest.MonkeyPatch, gap: str
) -> None:
    other = a_customer("Other")
    license_ = a_license(other.id, shop.product.id)
    await shop.create(other, license_)

    async def move() -> None:
        await shop.update(shop.environment, customer_id=other.id)
        await shop.delete(shop.license, shop.customer)  # so that nothing is left where it was

    before_reading(monkeypatch, reader.table(""), gap, move)
    seen = await shop.seen(reader)
    assert seen.environment is not None
    assert seen.environment.customer_id == other.id
    assert seen.licenses == {shop.product.id: (license_,)}


@pytest.mark.parametrize("gap", GAPS)
async def test_a_serial_number_that_is_handed_on_in_between_never_brings_the_licenses_of_two(
    shop: Shop, reader: Services, monkeypatch: pytest.MonkeyPatch, gap: str
) -> None:
    other = a_customer("Other")
    await shop.create(other)

    async def hand_on(draft: Draft) -> None:
        mine = await draft.find(Environment, shop.environment.id, shop.customer.id)
        assert mine is not None
        draft.delete(mine)
        await draft_record(draft, an_environment(other.id, tenant="northwind.com"))

    async def change() -> None:
        await shop.writer.store.change(shop.publisher_id, "test", hand_on)

    before_reading(monkeypatch, reader.table(""), gap, change)
    seen = await shop.seen(reader)
    assert seen.environment is not None
    assert (seen.environment.tenant, seen.licenses) == ("northwind.com", {})


@pytest.mark.parametrize("gone", ["product|", "serial|"])
async def test_an_instance_that_is_held_up_while_its_publisher_is_erased_tells_of_nothing_missing(
    shop: Shop, tables: Emulator, monkeypatch: pytest.MonkeyPatch, gone: str
) -> None:
    """Held up: for the instance so much time passes in the middle of a read that the rows may be gone."""
    writing, held_up_seconds = shop.writer.table(""), 0.0
    monotonic = time.monotonic
    monkeypatch.setattr(snapshots_module, "time", SimpleNamespace(monotonic=lambda: monotonic() + held_up_seconds))

    async def erase() -> None:
        version = await writing.find(shop.publisher_id, VERSION_ROW)
        absence = await Absence.begin(writing, shop.publisher_id, version, "erased", wait_seconds=0)
        rows = [row async for row in writing.rows(shop.publisher_id, gone)]
        await absence.commit(shop.publisher_id, [Operation("delete", {"RowKey": row["RowKey"]}) for row in rows])

    async with services_on(tables.connection_string) as reader:
        reading = reader.table("")
        find, acts = reading.find, [erase]

        async def find_and_stand_still(partition: str, row: str, **more: Any) -> Row | None:
            nonlocal held_up_seconds
            found = await find(partition, row, **more)
            if acts:
                await acts.pop()()
                held_up_seconds = 2 * reader.settings.storage_wait_seconds
            return found

        monkeypatch.setattr(reading, "find", find_and_stand_still)
        with pytest.raises(StorageUnavailable):
            await shop.seen(reader)
        with pytest.raises(PublisherNotFound):
            await shop.seen(reader)


async def test_while_changes_never_end_a_validation_does(
    shop: Shop, tables: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with services_on(tables.connection_string) as reader:
        table = reader.table("")
        find, number = table.find, 0

        async def change_and_find(partition: str, row: str, **more: Any) -> Row | None:
            nonlocal number
            if row.startswith("customer|"):
                number += 1
                await shop.update(shop.license, number_of_users=number)
            return await find(partition, row, **more)

        with monkeypatch.context() as patch:
            patch.setattr(table, "find", change_and_find)
            with pytest.raises(StorageUnavailable):
                await shop.seen(reader)
        assert 1 < number <= snapshots_module._TURNS
        assert (await shop.seen(reader)).environment == shop.environment


async def test_rows_that_contradict_each_other_are_an_error_at_once_and_no_denial(shop: Shop, tables: Emulator) -> None:
    """As after a table was brought back from a copy that was made while it was written to."""
    async with services_on(tables.connection_string) as reader:
        table, customer = reader.table(""), customer_key(shop.customer.id)
        await table.commit(shop.publisher_id, [Operation("delete", {"RowKey": customer})])
        reads, find = 0, table.find

        async def counted(partition: str, row: str, **more: Any) -> Row | None:
            nonlocal reads
            reads += 1
            return await find(partition, row, **more)

        object.__setattr__(table, "find", counted)
        with pytest.raises(RecordsInconsistent):
            await shop.seen(reader)
        assert reads < 10


async def test_storage_that_was_brought_back_from_a_copy_is_read_anew(
    shop: Shop, reader: Services, tables: Emulator
) -> None:
    """After it the same numbers come again, for other changes: what was remembered of them counts no more."""
    before = await shop.seen(reader)
    async with services_on(tables.connection_string) as restored:
        table = restored.table("")
        rows = [row["RowKey"] async for row in table.connect().query_entities(f"PartitionKey eq '{shop.publisher_id}'")]
        await table.commit(shop.publisher_id, [Operation("delete", {"RowKey": key}) for key in rows])
        publisher = replace(before.state.publisher, support_email="new@example.com")
        await restored.catalogue.create_publisher(publisher, actor="test")
        again = replace(shop.environment, tenant="new.com")
        await shop.create(shop.product, shop.customer, shop.license, again)
        after = await shop.seen(reader)
    assert after.state.number == before.state.number
    assert after.environment == again
    assert after.state.publisher.support_email == "new@example.com"


# Storage that does not answer.


@pytest.fixture(scope="module")
async def mortal(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[Azurite, Path, Shop]]:
    """An Azurite that is there to be killed, and a shop on it, safely on its disk."""
    folder = tmp_path_factory.mktemp("mortal")
    first = start(folder)
    async with services_on(first.connection_string) as writer:
        shop = await open_shop(writer)
        # It keeps what it was told only where it is asked to end like this.
        first.process.send_signal(signal.SIGINT)
        first.process.wait()
        running = start(folder, first.port)
        yield running, folder, shop
        running.process.kill()
        running.process.wait()


async def seen_fresh(shop: Shop, reader: Services) -> Snapshot:
    """What storage answers, however often it answers too late for the reader's time-out."""
    while True:
        with suppress(StorageUnavailable):
            seen = await shop.seen(reader)
            if not seen.stale:
                return seen


async def test_while_storage_hangs_what_is_kept_answers_and_afterwards_storage_does(
    mortal: tuple[Azurite, Path, Shop],
) -> None:
    azurite, _, shop = mortal
    async with services_on(azurite.connection_string, storage_wait_seconds=0.8) as reader:
        fresh = await seen_fresh(shop, reader)
        os.kill(azurite.process.pid, signal.SIGSTOP)
        try:
            assert await shop.seen(reader) == replace(fresh, stale=True)
            assert await asyncio.gather(*(shop.seen(reader) for _ in range(50))) == [replace(fresh, stale=True)] * 50
            with pytest.raises(StorageUnavailable, match="says nothing about them"):
                await shop.seen(reader, "S-2")
        finally:
            os.kill(azurite.process.pid, signal.SIGCONT)
        await shop.update(shop.license, number_of_users=77)
        seen = await seen_fresh(shop, reader)
        assert seen.licenses[shop.product.id][0].number_of_users == 77


async def test_while_storage_is_dead_what_is_kept_answers_unless_it_is_too_old(
    mortal: tuple[Azurite, Path, Shop],
) -> None:
    azurite, folder, shop = mortal
    async with (
        services_on(azurite.connection_string) as reader,
        services_on(azurite.connection_string, kept_hours=0.0) as forgetful,
        services_on(azurite.connection_string) as late,
    ):
        fresh = await shop.seen(reader)
        assert not fresh.stale
        assert await shop.seen(forgetful) == fresh
        azurite.process.send_signal(signal.SIGKILL)
        azurite.process.wait()
        for _ in range(2):
            assert await shop.seen(reader) == replace(fresh, stale=True)
        for services, why in ((forgetful, "too old"), (late, "never read")):
            with pytest.raises(StorageUnavailable, match="says nothing about them") as refused:
                await shop.seen(services)
            assert refused.value.retry_after_seconds, why
        again = start(folder, azurite.port)
        azurite.process = again.process
        for services in (reader, forgetful, late):
            seen = await shop.seen(services)
            assert (seen.stale, seen.environment) == (False, shop.environment)
        await shop.update(shop.environment, tenant="new.com")
        seen = await shop.seen(reader)
        assert seen.environment is not None
        assert (seen.stale, seen.environment.tenant) == (False, "new.com")
