"""A publisher that is taken away, put back and erased as a whole, on a real store: nobody sees a part of it."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import pytest

from devhost.azurite import Emulator
from licensing.catalogue import publisher_copy
from licensing.catalogue.publisher_copy import ExclusiveRun
from licensing.catalogue.records import Product, Publisher
from licensing.catalogue.rows import OFFLINE, VERSION_ROW
from licensing.errors import Conflict, PublisherNotFound
from licensing.services import Services
from licensing.signing.keys import KeySet
from licensing.storage.batches import Operation, Row
from licensing.storage.errors import ConcurrencyConflict
from licensing.storage.table import etag
from tests.support.fault_proxy import Forward, fault_proxy
from tests.support.records import a_customer, a_product, a_publisher, an_environment, services_on


class PublisherCopyFixture:
    """A publisher with an environment, and a copy of its rows."""

    def __init__(self, services: Services, publisher_id: str, serial_number: str) -> None:
        self.services, self.publisher_id, self.serial_number = services, publisher_id, serial_number
        self.table = services.table(publisher_id)
        self.rows: list[Row] = []

    async def copy(self) -> None:
        self.rows = [dict(row) async for row in self.table.partitions(self.publisher_id)]

    @property
    def version(self) -> Row:
        return next(row for row in self.rows if publisher_copy.is_version(row, self.publisher_id))

    async def restore(self, run: ExclusiveRun) -> None:
        async def wanted() -> AsyncIterator[Row]:
            for row in self.rows:
                yield row

        sample = self.table.partitions(self.publisher_id)
        differences = publisher_copy.differences(wanted(), sample, self.publisher_id)
        await publisher_copy.apply_changes(differences, run.commit, lambda _: None)
        await publisher_copy.reinstate(self.services.store, run, self.version, "test", str(uuid4()))

    async def held(self) -> Row | None:
        return await self.table.find(self.publisher_id, VERSION_ROW)

    async def begin(self, why: str = "restoring") -> ExclusiveRun:
        return await ExclusiveRun.begin(self.table, self.publisher_id, await self.held(), why, wait_seconds=0)


@pytest.fixture
async def sample(services: Services) -> PublisherCopyFixture:
    publisher, product, customer = a_publisher(), a_product(), a_customer()
    await services.catalogue.create_publisher(publisher, actor="test")
    environment = an_environment(customer.id, f"S-{publisher.id}")
    for record in (product, customer, environment):
        await services.catalogue.create(publisher.id, record, actor="test")
    made = PublisherCopyFixture(services, publisher.id, environment.serial_number)
    await made.copy()
    return made


async def test_exclusive_run_superseded_by_second_run_raises_conflict(sample: PublisherCopyFixture) -> None:
    first = await sample.begin()
    second = await sample.begin()
    with pytest.raises(Conflict, match="alone"):
        await sample.restore(first)
    await sample.restore(second)
    assert await sample.services.store.version(sample.publisher_id)


async def test_reinstate_after_another_run_has_begun_raises_conflict(sample: PublisherCopyFixture) -> None:
    first = await sample.begin("restoring one")
    await sample.begin("restoring another")
    with pytest.raises(Conflict, match="alone"):
        await publisher_copy.reinstate(sample.services.store, first, sample.version, "test", "copy")
    assert await sample.services.store.version(sample.publisher_id) is None


async def test_exclusive_run_after_publisher_is_restored_raises_conflict_without_writes(
    sample: PublisherCopyFixture,
) -> None:
    late = await sample.begin()
    await sample.restore(await sample.begin())
    before = [dict(row) async for row in sample.table.partitions(sample.publisher_id)]
    for partition in (sample.publisher_id, f"{sample.publisher_id}|subscribers"):
        with pytest.raises(Conflict, match="alone"):
            await late.commit(partition, [Operation("put", {"RowKey": "planted"})])
    with pytest.raises(Conflict, match="alone"):
        await late.end(Operation("delete", {"RowKey": VERSION_ROW}))
    assert [dict(row) async for row in sample.table.partitions(sample.publisher_id)] == before


@pytest.mark.parametrize("expected_version", ["absent", "not there"])
async def test_exclusive_run_begin_with_outdated_version_row_raises_conflict(
    sample: PublisherCopyFixture, expected_version: str
) -> None:
    """It was half restored, or not at all; by now it lives, and somebody has changed it."""
    if expected_version == "absent":
        await sample.begin()
        held = await sample.held()
        await sample.restore(await sample.begin())
    else:
        held = None
    late = a_product("Late")
    await sample.services.catalogue.create(sample.publisher_id, late, actor="test")
    with pytest.raises(Conflict, match="alone"):
        await ExclusiveRun.begin(sample.table, sample.publisher_id, held, "restoring", wait_seconds=0)
    assert await sample.services.store.find(sample.publisher_id, Product, late.id)
    assert await sample.services.store.version(sample.publisher_id)


async def test_reinstate_frozen_copy_keeps_it_frozen_and_writes_audit_entry(sample: PublisherCopyFixture) -> None:
    before = await sample.services.store.version(sample.publisher_id)
    await sample.services.store.freeze(sample.publisher_id, frozen=True)
    await sample.copy()
    await sample.restore(await sample.begin())
    after = await sample.services.store.version(sample.publisher_id)
    assert before
    assert after
    assert (after.number, after.frozen) == (before.number + 1, True)
    (newest,) = [entry async for entry in sample.services.store.audit(sample.publisher_id, limit=1)]
    assert (newest.number, newest.kind) == (after.number, Publisher.kind)


# Done, though its answer was lost: the client repeats it, and finds the rows moved by itself.


@dataclass
class LossyServices:
    """An instance of the service. With `drops_next_response`, the answer to its next transaction does not arrive."""

    services: Services
    drops_next_response: bool = False

    async def begin(self, sample: PublisherCopyFixture) -> ExclusiveRun:
        table = self.services.table(sample.publisher_id)
        return await ExclusiveRun.begin(table, sample.publisher_id, await sample.held(), "restoring", wait_seconds=0)


@pytest.fixture
async def lossy(tables: Emulator, key_set: KeySet) -> AsyncIterator[LossyServices]:
    async def lose(request: Any, send: Forward) -> Any:
        answer = await send()
        if request.path.endswith("$batch") and made.drops_next_response:
            made.drops_next_response = False
            raise ConnectionResetError
        return answer

    async with (
        fault_proxy(tables, lose) as server,
        services_on(server.account, signing_keys=key_set.dump()) as services,
    ):
        made = LossyServices(services)
        yield made


async def test_exclusive_run_commit_with_lost_response_succeeds(
    sample: PublisherCopyFixture, lossy: LossyServices
) -> None:
    lossy.drops_next_response = True
    run = await lossy.begin(sample)
    lossy.drops_next_response = True
    await run.commit(sample.publisher_id, [Operation("put", {"RowKey": "written"})])
    assert not lossy.drops_next_response, "nothing was lost"
    assert await sample.table.find(sample.publisher_id, "written")


async def test_reinstate_with_lost_response_succeeds(sample: PublisherCopyFixture, lossy: LossyServices) -> None:
    run = await lossy.begin(sample)
    lossy.drops_next_response = True
    number = await publisher_copy.reinstate(lossy.services.store, run, sample.version, "test", "copy")
    assert not lossy.drops_next_response, "nothing was lost"
    version = await sample.services.store.version(sample.publisher_id)
    assert version
    assert version.number == number


async def test_exclusive_run_end_with_lost_response_succeeds(
    sample: PublisherCopyFixture, lossy: LossyServices
) -> None:
    run = await lossy.begin(sample)
    lossy.drops_next_response = True
    await run.end(Operation("delete", {"RowKey": VERSION_ROW}))
    assert not lossy.drops_next_response, "nothing was lost"
    assert await sample.held() is None


@pytest.mark.parametrize("others", [[], [Operation("put", {"RowKey": "new", "text": "Ö", "number": 1})]])
async def test_commit_of_subscriber_rows_with_lost_response_succeeds(
    sample: PublisherCopyFixture, lossy: LossyServices, others: list[Operation]
) -> None:
    partition = f"{sample.publisher_id}|subscribers"
    await sample.table.commit(partition, [Operation("put", {"RowKey": "old"})])
    lossy.drops_next_response = True
    table = lossy.services.table(sample.publisher_id)
    await publisher_copy.commit_beside(table, partition, [Operation("delete", {"RowKey": "old"}), *others])
    assert not lossy.drops_next_response, "nothing was lost"
    assert [row["RowKey"] async for row in sample.table.rows(partition, "")] == [each.row["RowKey"] for each in others]


async def test_commit_of_subscriber_rows_when_one_is_missing_raises_conflict(sample: PublisherCopyFixture) -> None:
    partition = f"{sample.publisher_id}|subscribers"
    await sample.table.commit(partition, [Operation("put", {"RowKey": "there"})])
    operations = [Operation("delete", {"RowKey": key}) for key in ("gone", "there")]
    with pytest.raises(Conflict, match="alone"):
        await publisher_copy.commit_beside(sample.table, partition, operations)


async def test_erase_waits_for_running_reads_before_deleting_rows(sample: PublisherCopyFixture) -> None:
    """A validation reads the version first. If rows went at once it would find no environment, and sign that."""
    at: list[float] = []

    async def unregister() -> None:
        at.append(asyncio.get_running_loop().time())

    started = asyncio.get_running_loop().time()
    held = await sample.held()
    await publisher_copy.erase(sample.table, sample.publisher_id, held, unregister, lambda _: None, wait_seconds=0.4)
    assert at[0] - started >= 0.4
    with pytest.raises(PublisherNotFound):
        await sample.services.environment_cache.get(sample.publisher_id, sample.serial_number)


async def test_erase_unregisters_publisher_before_deleting_version_row(sample: PublisherCopyFixture) -> None:
    done: list[bool] = []

    async def unregister() -> None:
        done.append(True)
        held = await sample.held()
        assert held is not None
        assert OFFLINE in held
        await sample.services.store.register.remove(sample.publisher_id)

    held = await sample.held()
    await publisher_copy.erase(sample.table, sample.publisher_id, held, unregister, lambda _: None, wait_seconds=0)
    assert done
    assert await publisher_copy.is_empty(sample.table, sample.publisher_id)


async def test_table_commit_delete_with_stale_etag_raises_concurrency_conflict(sample: PublisherCopyFixture) -> None:
    held = await sample.table.find(sample.publisher_id, VERSION_ROW)
    assert held is not None
    await sample.table.commit(sample.publisher_id, [Operation("put", {**held, "number": 99}, etag(held))])
    with pytest.raises(ConcurrencyConflict):
        await sample.table.commit(sample.publisher_id, [Operation("delete", {"RowKey": VERSION_ROW}, etag(held))])
    assert await sample.table.find(sample.publisher_id, VERSION_ROW)
