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
from typing import Any
from uuid import uuid4

import pytest

from bench.wire import Wire, counting_proxy
from devhost.azurite import Azurite, Emulator, connection_string, start
from licensing.catalogue.draft import Draft
from licensing.catalogue.environment_cache import EnvironmentCache, Snapshot
from licensing.catalogue.publisher_cache import WaitPolicy
from licensing.catalogue.publisher_copy import ExclusiveRun
from licensing.catalogue.records import Customer, CustomerProduct, Environment, Product
from licensing.catalogue.rows import VERSION_ROW, customer_key
from licensing.catalogue.service import draft_record
from licensing.errors import PublisherNotFound, RecordsInconsistent, StorageUnavailable
from licensing.services import Services
from licensing.storage.batches import Operation, Row
from tests.support.publisher import PublisherFixture, before_reading, record_reads
from tests.support.records import a_customer, a_license, a_product, a_publisher, an_environment, services_on


@dataclass
class EnvironmentCacheFixture(PublisherFixture):
    """A publisher with one of each record."""

    product: Product
    customer: Customer
    license: CustomerProduct
    environment: Environment

    async def seen(self, reader: Services, serial_number: str = "S-1") -> Snapshot:
        return await reader.environment_cache.get(self.publisher_id, serial_number)


async def create_sample(writer: Services) -> EnvironmentCacheFixture:
    await writer.table("").create()
    publisher, product, customer = a_publisher(), a_product(), a_customer()
    license_, environment = a_license(customer.id, product.id), an_environment(customer.id)
    sample = EnvironmentCacheFixture(writer, publisher.id, product, customer, license_, environment)
    await writer.catalogue.create_publisher(publisher, actor="test")
    await sample.create(product, customer, license_, environment)
    return sample


@pytest.fixture
async def sample(services: Services) -> EnvironmentCacheFixture:
    return await create_sample(services)


@pytest.fixture
async def reader(tables: Emulator) -> AsyncIterator[Services]:
    """Another instance, that does not hear of changes but through the store."""
    async with services_on(tables.connection_string) as made:
        yield made


# What is seen.


async def test_environment_cache_returns_publisher_products_environment_and_licenses(
    sample: EnvironmentCacheFixture, reader: Services
) -> None:
    other = a_customer("Other")
    second = a_license(sample.customer.id, sample.product.id, number_of_users=3)
    await sample.create(other, second, a_license(other.id, sample.product.id), an_environment(other.id, "S-2"))
    seen = await sample.seen(reader)
    assert seen.state.products == {"smartsend": sample.product}
    assert seen.state.publisher.id == sample.publisher_id
    assert seen.environment == sample.environment
    assert seen.licenses == {sample.product.id: (sample.license, second)}
    assert not seen.stale


async def test_environment_cache_ignores_case_and_spaces_of_serial_number(
    sample: EnvironmentCacheFixture, reader: Services
) -> None:
    for serial_number in ("S-1", "s-1", " S-1 "):
        assert (await sample.seen(reader, serial_number)).environment == sample.environment
    assert reader.environment_cache.stats().environments == 1


async def _reassign_serial_number(sample: EnvironmentCacheFixture, to: Environment) -> None:
    await sample.update(sample.environment, serial_number="S-2")
    await sample.create(to)


async def _edit_publisher(sample: EnvironmentCacheFixture) -> None:
    await sample.update(replace(a_publisher(), id=sample.publisher_id), support_email="new@example.com")


CHANGES: dict[
    str,
    tuple[Callable[[EnvironmentCacheFixture], Awaitable[None]], Callable[[EnvironmentCacheFixture, Snapshot], object]],
] = {
    "a product is renamed": (
        lambda sample: sample.update(sample.product, name="Other"),
        lambda _, seen: list(seen.state.products) == ["other"],
    ),
    "a product is made": (
        lambda sample: sample.create(a_product("Other")),
        lambda _, seen: set(seen.state.products) == {"smartsend", "other"},
    ),
    "a product gets its license control disabled": (
        lambda sample: sample.update(sample.product, license_control_disabled=True),
        lambda _, seen: seen.state.products["smartsend"].license_control_disabled,
    ),
    "a license is disabled": (
        lambda sample: sample.update(sample.license, enabled=False),
        lambda sample, seen: not seen.licenses[sample.product.id][0].enabled,
    ),
    "a license is made": (
        lambda sample: sample.create(a_license(sample.customer.id, sample.product.id)),
        lambda sample, seen: len(seen.licenses[sample.product.id]) == 2,
    ),
    "an environment is switched off": (
        lambda sample: sample.update(sample.environment, active=False),
        lambda _, seen: seen.environment and not seen.environment.active,
    ),
    "an environment is deleted": (
        lambda sample: sample.delete(sample.environment),
        lambda _, seen: seen.environment is None and not seen.licenses,
    ),
    "an environment gets another serial number": (
        lambda sample: sample.update(sample.environment, serial_number="S-2"),
        lambda _, seen: seen.environment is None,
    ),
    "its number goes to another environment": (
        lambda sample: _reassign_serial_number(sample, an_environment(sample.customer.id, "S-1", tenant="second.com")),
        lambda _, seen: seen.environment and seen.environment.tenant == "second.com",
    ),
    "the publisher gets another address for support": (
        _edit_publisher,
        lambda _, seen: seen.state.publisher.support_email == "new@example.com",
    ),
}


@pytest.mark.parametrize(("change", "is_seen"), CHANGES.values(), ids=CHANGES.keys())
async def test_environment_cache_returns_committed_change_on_next_read(
    sample: EnvironmentCacheFixture,
    reader: Services,
    change: Callable[[EnvironmentCacheFixture], Awaitable[None]],
    is_seen: Callable[[EnvironmentCacheFixture, Snapshot], object],
) -> None:
    for instance in (sample.writer, reader):  # both remember the state before
        assert not is_seen(sample, await sample.seen(instance))
    await change(sample)
    for instance in (sample.writer, reader):
        assert is_seen(sample, await sample.seen(instance))


async def test_environment_cache_reports_serial_number_active_if_any_environment_is(
    sample: EnvironmentCacheFixture, reader: Services
) -> None:
    second = an_environment(sample.customer.id, tenant="fabrikam.onmicrosoft.com")

    async def active() -> list[bool | None]:
        """As the instance that changes the records sees it, and as another one does."""
        seen = [(await sample.seen(instance)).environment for instance in (sample.writer, reader)]
        return [each.active if each else None for each in seen]

    await sample.create(second)
    assert await active() == [True, True]
    await sample.update(sample.environment, active=False)
    assert await active() == [True, True], "the other one is active"
    await sample.update(second, active=False)
    assert await active() == [False, False]
    await sample.update(sample.environment, active=True)
    assert await active() == [True, True]
    await sample.delete(sample.environment)
    assert await active() == [False, False], "the other one is left"
    await sample.delete(second)
    assert await active() == [None, None]


async def test_environment_cache_finds_publisher_and_environment_created_after_miss(
    reader: Services, services: Services
) -> None:
    publisher = a_publisher()
    await services.table("").create()
    with pytest.raises(PublisherNotFound):
        await reader.environment_cache.get(publisher.id, "S-1")
    await services.catalogue.create_publisher(publisher, actor="test")
    assert (await reader.environment_cache.get(publisher.id, "S-1")).environment is None
    customer = a_customer()
    for record in (customer, an_environment(customer.id)):
        await services.catalogue.create(publisher.id, record, actor="test")
    assert (await reader.environment_cache.get(publisher.id, "S-1")).environment is not None


async def test_environment_cache_concurrent_reads_return_every_earlier_commit(
    sample: EnvironmentCacheFixture, tables: Emulator
) -> None:
    """Two instances, several readers on each, and a writer: the number of users counts the changes."""
    committed, done, answers = 0, False, 0
    chance = random.Random(1)
    await sample.update(sample.license, number_of_users=1_000)
    await sample.update(sample.environment, tenant="1000")

    async def write() -> None:
        nonlocal committed, done
        for number in range(1, 41):
            changed = sample.license if number % 2 else sample.environment
            fields = {"number_of_users": 1_000 + number} if number % 2 else {"tenant": str(1_000 + number)}
            await sample.update(changed, **fields)
            committed = number
            await asyncio.sleep(chance.random() * 0.02)
        done = True

    async def read(instance: Services) -> None:
        nonlocal answers
        while not done:
            known = committed
            seen = await sample.seen(instance)
            assert not seen.stale
            assert seen.environment is not None
            (license_,) = seen.licenses[sample.product.id]
            users, tenant = license_.number_of_users or 0, int(seen.environment.tenant)
            assert max(users, tenant) - 1_000 >= known, "at least as new as the question"
            assert abs(users - tenant) <= 1, "and of one moment"
            answers += 1
            await asyncio.sleep(chance.random() * 0.005)

    async with services_on(tables.connection_string, version_read_interval_ms=2.0) as another:
        instances = [sample.writer, another]
        await asyncio.gather(write(), *(read(instance) for instance in instances * 4))
    assert answers > 40


# What it costs.


@asynccontextmanager
async def counted(tables: Emulator, **settings: Any) -> AsyncIterator[tuple[Services, Wire]]:
    with counting_proxy(f"http://127.0.0.1:{tables.port}") as wire:
        account = connection_string(int(wire.url.rpartition(":")[2]))
        async with services_on(account, **settings) as services:
            yield services, wire


async def test_environment_cache_cold_read_sends_six_requests_and_warm_read_one(
    sample: EnvironmentCacheFixture, tables: Emulator
) -> None:
    await sample.create(*(a_product(f"P{number}") for number in range(5)))
    async with counted(tables) as (services, wire):
        await sample.seen(services)
        # The version; the publisher, its six products, no notices; the serial number; the customer with all it has.
        assert wire.take() == (6, 1 + 1 + 6 + 0 + 1 + 1)
        await sample.seen(services)
        assert wire.take() == (1, 1)
        await sample.update(sample.license, enabled=False)
        await sample.seen(services)
        # The version; the audit since, which names nothing of the publisher's own; the serial number; the customer.
        assert wire.take() == (4, 1 + 2 + 1 + 1)
        await sample.create(an_environment(sample.customer.id, "S-2"))
        await asyncio.gather(sample.seen(services, "S-1"), sample.seen(services, "S-2"))
        requests, _ = wire.take()
        assert requests == 1 + 1 + 2 * 2, "the version and the audit are read once for both"


async def test_environment_cache_thousand_concurrent_warm_reads_send_one_request(
    sample: EnvironmentCacheFixture, tables: Emulator
) -> None:
    async with counted(tables) as (services, wire):
        await sample.seen(services)
        wire.take()
        seen = await asyncio.gather(*(sample.seen(services) for _ in range(1000)))
        assert all(snapshot.environment == sample.environment for snapshot in seen)
        assert wire.take() == (1, 1)


async def test_environment_cache_concurrent_cold_reads_load_publisher_once(
    sample: EnvironmentCacheFixture, reader: Services
) -> None:
    keys = record_reads(reader)
    await asyncio.gather(*(sample.seen(reader) for _ in range(100)))
    assert keys.count("version") == 1
    assert keys.count("product||*") == 1
    assert sum(key.startswith("publisher|") for key in keys) == 1


async def test_environment_cache_unknown_serial_number_reads_two_rows(
    sample: EnvironmentCacheFixture, reader: Services
) -> None:
    await sample.seen(reader)
    keys = record_reads(reader)
    assert (await sample.seen(reader, "made up")).environment is None
    assert len(keys) == 2, "the version, and the serial number"


# What is remembered.


async def test_environment_cache_stores_no_unknown_publishers_and_serial_numbers(
    sample: EnvironmentCacheFixture, reader: Services
) -> None:
    await sample.seen(reader)
    for number in range(20):
        with pytest.raises(PublisherNotFound):
            await reader.environment_cache.get(str(uuid4()), "S-1")
        assert (await sample.seen(reader, f"made-up-{number}")).environment is None
    outcomes = await asyncio.gather(
        *(reader.environment_cache.get("made up", "S-1") for _ in range(20)), return_exceptions=True
    )
    assert [type(outcome) for outcome in outcomes] == [PublisherNotFound] * 20
    assert reader.publisher_cache.stats().publishers == 1
    assert reader.environment_cache.stats().environments == 1


async def test_environment_cache_drops_deleted_environment(sample: EnvironmentCacheFixture, reader: Services) -> None:
    await sample.seen(reader)
    await sample.delete(sample.environment)
    await sample.seen(reader)
    assert reader.environment_cache.stats().environments == 0


async def test_environment_cache_drops_all_environments_of_erased_publisher(
    sample: EnvironmentCacheFixture, reader: Services
) -> None:
    await sample.create(an_environment(sample.customer.id, "S-2"))
    for serial_number in ("S-1", "S-2"):
        await sample.seen(reader, serial_number)
    table = sample.writer.table("")
    version = await table.find(sample.publisher_id, VERSION_ROW)
    await ExclusiveRun.begin(table, sample.publisher_id, version, "erased", wait_seconds=0)
    with pytest.raises(PublisherNotFound):
        await sample.seen(reader)
    assert reader.environment_cache.stats() == (0, 0)


@pytest.mark.parametrize("change", ["deleted", "edited"])
async def test_environment_cache_slow_reader_does_not_replace_newer_answer(
    sample: EnvironmentCacheFixture, reader: Services, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    """A question that was asked before a change is answered after one that was asked later."""
    table, was_asked, go_on = reader.table(""), asyncio.Event(), asyncio.Event()
    find = table.find

    async def find_slowly(partition: str, row: str, **more: Any) -> Row | None:
        found = await find(partition, row, **more)
        if row.startswith("customer|") and not was_asked.is_set():
            was_asked.set()
            await go_on.wait()
        return found

    monkeypatch.setattr(table, "find", find_slowly)
    slow = asyncio.create_task(sample.seen(reader))
    await was_asked.wait()
    if change == "deleted":
        await sample.delete(sample.environment)
    else:
        await sample.update(sample.environment, active=False)
    newer = (await sample.seen(reader)).environment
    go_on.set()
    await slow

    async def fail(*_: object, **__: object) -> None:
        raise StorageUnavailable("Not now.")

    monkeypatch.setattr(table, "find", fail)
    if newer is None:
        with pytest.raises(StorageUnavailable):
            await sample.seen(reader)
    else:
        assert (await sample.seen(reader)).environment == newer


async def test_environment_cache_over_limit_evicts_least_recently_used_environment(
    sample: EnvironmentCacheFixture, tables: Emulator
) -> None:
    await sample.create(*(an_environment(sample.customer.id, f"S-{number}") for number in (2, 3)))
    async with services_on(tables.connection_string, cached_environments=2) as reader:
        for serial_number in ("S-1", "S-2", "S-1", "S-3"):
            await sample.seen(reader, serial_number)
        assert reader.environment_cache.stats().environments == 2
        keys = record_reads(reader)
        await sample.seen(reader, "S-1")
        await sample.seen(reader, "S-3")
        assert keys == ["version", "version"]
        keys.clear()
        await sample.seen(reader, "S-2")
        assert len(keys) == 3, "read again, since it was forgotten"


async def test_environment_cache_of_size_zero_still_returns_environment(
    sample: EnvironmentCacheFixture, tables: Emulator
) -> None:
    async with services_on(tables.connection_string, cached_environments=0) as reader:
        assert (await sample.seen(reader)).environment == sample.environment
        assert reader.environment_cache.stats().environments == 0


# Who gives up, and what fails.


async def test_environment_cache_cancelled_reader_does_not_affect_other_readers(
    sample: EnvironmentCacheFixture, reader: Services, monkeypatch: pytest.MonkeyPatch
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
        asking = [asyncio.create_task(sample.seen(reader)) for _ in range(10)]
        giving_up[:] = asking[:5]
        seen = await asyncio.gather(*asking[5:])
        assert all(snapshot.environment == sample.environment and not snapshot.stale for snapshot in seen)
        await asyncio.wait(asking)
        assert sum(task.cancelled() for task in asking) == reads
        giving_up.clear()
        if reads == 1:
            await sample.update(sample.product, description=str(uuid4()))


async def test_environment_cache_raises_read_error_for_all_readers_and_next_read_succeeds(
    sample: EnvironmentCacheFixture, reader: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    for broken in ("version", "publisher|", "serial|", "customer|"):
        table = reader.table("")
        find = table.find

        async def fail(partition: str, row: str, *, broken: str = broken, find: Any = find, **more: Any) -> Row | None:
            if row.startswith(broken):
                raise LookupError(broken)
            found: Row | None = await find(partition, row, **more)
            return found

        # So that all of it has to be read.
        await sample.update(replace(a_publisher(), id=sample.publisher_id), support_email=f"{broken[:3]}@example.com")
        with monkeypatch.context() as patch:
            patch.setattr(table, "find", fail)
            outcomes = await asyncio.gather(*(sample.seen(reader) for _ in range(10)), return_exceptions=True)
        assert [str(outcome) for outcome in outcomes] == [broken] * 10
        assert (await sample.seen(reader)).environment == sample.environment


# A change that comes while a validation reads.


GAPS = ["publisher|", "serial|", "customer|"]


@pytest.mark.parametrize("gap", GAPS)
async def test_environment_cache_returns_change_committed_during_read(
    sample: EnvironmentCacheFixture, reader: Services, monkeypatch: pytest.MonkeyPatch, gap: str
) -> None:
    """A product gets a license, in two changes: who sees the second sees the first."""
    product = a_product("Other")
    license_ = a_license(sample.customer.id, product.id)

    async def change() -> None:
        await sample.create(product, license_)
        await sample.update(sample.environment, tenant="new.com")

    before_reading(reader, monkeypatch, gap, change)
    seen = await sample.seen(reader)
    assert seen.environment is not None
    assert seen.environment.tenant == "new.com"
    assert seen.licenses[product.id] == (license_,)
    assert "other" in seen.state.products


@pytest.mark.parametrize("gap", GAPS)
async def test_environment_cache_when_environment_moves_during_read_returns_its_licenses(
    sample: EnvironmentCacheFixture, reader: Services, monkeypatch: pytest.MonkeyPatch, gap: str
) -> None:
    other = a_customer("Other")
    license_ = a_license(other.id, sample.product.id)
    await sample.create(other, license_)

    async def move() -> None:
        await sample.update(sample.environment, customer_id=other.id)
        await sample.delete(sample.license, sample.customer)  # so that nothing is left where it was

    before_reading(reader, monkeypatch, gap, move)
    seen = await sample.seen(reader)
    assert seen.environment is not None
    assert seen.environment.customer_id == other.id
    assert seen.licenses == {sample.product.id: (license_,)}


@pytest.mark.parametrize("gap", GAPS)
async def test_environment_cache_never_mixes_customers_when_serial_number_is_reassigned(
    sample: EnvironmentCacheFixture, reader: Services, monkeypatch: pytest.MonkeyPatch, gap: str
) -> None:
    other = a_customer("Other")
    await sample.create(other)

    async def hand_on(draft: Draft) -> None:
        mine = await draft.find(Environment, sample.environment.id, sample.customer.id)
        assert mine is not None
        draft.delete(mine)
        await draft_record(draft, an_environment(other.id, tenant="northwind.com"))

    async def change() -> None:
        await sample.writer.store.change(sample.publisher_id, "test", hand_on)

    before_reading(reader, monkeypatch, gap, change)
    seen = await sample.seen(reader)
    assert seen.environment is not None
    assert (seen.environment.tenant, seen.licenses) == ("northwind.com", {})


@pytest.mark.parametrize("gone", ["product|", "serial|"])
async def test_environment_cache_delayed_read_during_erase_raises_storage_unavailable(
    sample: EnvironmentCacheFixture, tables: Emulator, monkeypatch: pytest.MonkeyPatch, gone: str
) -> None:
    """Held up: for the instance so much time passes in the middle of a read that the rows may be gone."""
    writing, held_up_seconds = sample.writer.table(""), 0.0

    async def erase() -> None:
        version = await writing.find(sample.publisher_id, VERSION_ROW)
        run = await ExclusiveRun.begin(writing, sample.publisher_id, version, "erased", wait_seconds=0)
        rows = [row async for row in writing.rows(sample.publisher_id, gone)]
        await run.commit(sample.publisher_id, [Operation("delete", {"RowKey": row["RowKey"]}) for row in rows])

    async with services_on(tables.connection_string) as reader:
        policy = WaitPolicy(reader.settings.storage_timeout_seconds)
        cache = EnvironmentCache(
            reader.store,
            reader.publisher_cache,
            policy,
            max_environments=10,
            max_stale_seconds=60,
            clock=lambda: time.monotonic() + held_up_seconds,
        )
        reading = reader.table("")
        find, acts = reading.find, [erase]

        async def find_and_stand_still(partition: str, row: str, **more: Any) -> Row | None:
            nonlocal held_up_seconds
            found = await find(partition, row, **more)
            if acts:
                await acts.pop()()
                held_up_seconds = 2 * reader.settings.storage_timeout_seconds
            return found

        monkeypatch.setattr(reading, "find", find_and_stand_still)
        with pytest.raises(StorageUnavailable):
            await cache.get(sample.publisher_id, "S-1")
        with pytest.raises(PublisherNotFound):
            await cache.get(sample.publisher_id, "S-1")


async def test_environment_cache_with_endless_changes_raises_storage_unavailable(
    sample: EnvironmentCacheFixture, tables: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with services_on(tables.connection_string) as reader:
        table = reader.table("")
        find, number = table.find, 0

        async def change_and_find(partition: str, row: str, **more: Any) -> Row | None:
            nonlocal number
            if row.startswith("customer|"):
                number += 1
                await sample.update(sample.license, number_of_users=number)
            return await find(partition, row, **more)

        with monkeypatch.context() as patch:
            patch.setattr(table, "find", change_and_find)
            with pytest.raises(StorageUnavailable):
                await sample.seen(reader)
        assert 1 < number < 100
        assert (await sample.seen(reader)).environment == sample.environment


async def test_environment_cache_with_inconsistent_rows_raises_records_inconsistent(
    sample: EnvironmentCacheFixture, tables: Emulator
) -> None:
    """As after a table was brought back from a copy that was made while it was written to."""
    async with services_on(tables.connection_string) as reader:
        table, customer = reader.table(""), customer_key(sample.customer.id)
        await table.commit(sample.publisher_id, [Operation("delete", {"RowKey": customer})])
        reads, find = 0, table.find

        async def counted(partition: str, row: str, **more: Any) -> Row | None:
            nonlocal reads
            reads += 1
            return await find(partition, row, **more)

        object.__setattr__(table, "find", counted)
        with pytest.raises(RecordsInconsistent):
            await sample.seen(reader)
        assert reads < 10


async def test_environment_cache_reloads_after_storage_was_restored_from_backup(
    sample: EnvironmentCacheFixture, reader: Services, tables: Emulator
) -> None:
    """After it the same numbers come again, for other changes: what was remembered of them counts no more."""
    before = await sample.seen(reader)
    async with services_on(tables.connection_string) as restored:
        table = restored.table("")
        rows = [
            row["RowKey"] async for row in table.connect().query_entities(f"PartitionKey eq '{sample.publisher_id}'")
        ]
        await table.commit(sample.publisher_id, [Operation("delete", {"RowKey": key}) for key in rows])
        publisher = replace(before.state.publisher, support_email="new@example.com")
        await restored.catalogue.create_publisher(publisher, actor="test")
        again = replace(sample.environment, tenant="new.com")
        await sample.create(sample.product, sample.customer, sample.license, again)
        after = await sample.seen(reader)
    assert after.state.version.number == before.state.version.number
    assert after.environment == again
    assert after.state.publisher.support_email == "new@example.com"


# Storage that does not answer.


@pytest.fixture(scope="module")
async def killable_azurite(
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[tuple[Azurite, Path, EnvironmentCacheFixture]]:
    """An Azurite that is there to be killed, and a sample on it, safely on its disk."""
    folder = tmp_path_factory.mktemp("killable_azurite")
    first = start(folder)
    async with services_on(first.connection_string) as writer:
        sample = await create_sample(writer)
        # It keeps what it was told only where it is asked to end like this.
        first.process.send_signal(signal.SIGINT)
        first.process.wait()
        running = start(folder, first.port)
        yield running, folder, sample
        running.process.kill()
        running.process.wait()


async def wait_for_fresh_data(sample: EnvironmentCacheFixture, reader: Services) -> Snapshot:
    """What storage answers, however often it answers too late for the reader's time-out."""
    while True:
        with suppress(StorageUnavailable):
            seen = await sample.seen(reader)
            if not seen.stale:
                return seen


async def test_environment_cache_while_storage_hangs_returns_stale_data_then_recovers(
    killable_azurite: tuple[Azurite, Path, EnvironmentCacheFixture],
) -> None:
    azurite, _, sample = killable_azurite
    async with services_on(azurite.connection_string, storage_timeout_seconds=0.8) as reader:
        fresh = await wait_for_fresh_data(sample, reader)
        os.kill(azurite.process.pid, signal.SIGSTOP)
        try:
            assert await sample.seen(reader) == replace(fresh, stale=True)
            assert await asyncio.gather(*(sample.seen(reader) for _ in range(50))) == [replace(fresh, stale=True)] * 50
            with pytest.raises(StorageUnavailable, match="says nothing about them"):
                await sample.seen(reader, "S-2")
        finally:
            os.kill(azurite.process.pid, signal.SIGCONT)
        await sample.update(sample.license, number_of_users=77)
        seen = await wait_for_fresh_data(sample, reader)
        assert seen.licenses[sample.product.id][0].number_of_users == 77


async def test_environment_cache_while_storage_is_down_returns_stale_data_unless_too_old(
    killable_azurite: tuple[Azurite, Path, EnvironmentCacheFixture],
) -> None:
    azurite, folder, sample = killable_azurite
    async with (
        services_on(azurite.connection_string) as reader,
        services_on(azurite.connection_string, max_stale_hours=0.0) as forgetful,
        services_on(azurite.connection_string) as late,
    ):
        fresh = await sample.seen(reader)
        assert not fresh.stale
        assert await sample.seen(forgetful) == fresh
        azurite.process.send_signal(signal.SIGKILL)
        azurite.process.wait()
        for _ in range(2):
            assert await sample.seen(reader) == replace(fresh, stale=True)
        for services, why in ((forgetful, "too old"), (late, "never read")):
            with pytest.raises(StorageUnavailable, match="says nothing about them") as refused:
                await sample.seen(services)
            assert refused.value.retry_after_seconds, why
        again = start(folder, azurite.port)
        azurite.process = again.process
        for services in (reader, forgetful, late):
            seen = await sample.seen(services)
            assert (seen.stale, seen.environment) == (False, sample.environment)
        await sample.update(sample.environment, tenant="new.com")
        seen = await sample.seen(reader)
        assert seen.environment is not None
        assert (seen.stale, seen.environment.tenant) == (False, "new.com")
