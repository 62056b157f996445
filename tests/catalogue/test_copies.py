"""A publisher that is taken away, put back and erased as a whole, on a real store: nobody sees a part of it."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import pytest

from devhost.azurite import Emulator
from licensing.catalogue import copies
from licensing.catalogue.copies import Absence
from licensing.catalogue.model import Product, Publisher
from licensing.catalogue.rows import ABSENT, VERSION_ROW
from licensing.errors import Conflict, PublisherNotFound
from licensing.services import Services
from licensing.signing.keys import KeySet
from licensing.tables import Operation, Row, VersionMoved, etag
from tests.catalogue.disturbed import Pass, disturbed
from tests.catalogue.records import a_customer, a_product, a_publisher, an_environment, services_on


class Kept:
    """A publisher with an environment, and a copy of its rows."""

    def __init__(self, services: Services, publisher_id: str, serial_number: str) -> None:
        self.services, self.publisher_id, self.serial_number = services, publisher_id, serial_number
        self.table = services.table(publisher_id)
        self.rows: list[Row] = []

    async def copy(self) -> None:
        self.rows = [dict(row) async for row in self.table.partitions(self.publisher_id)]

    @property
    def version(self) -> Row:
        return next(row for row in self.rows if copies.is_version(row, self.publisher_id))

    async def put_back(self, absence: Absence) -> None:
        async def wanted() -> AsyncIterator[Row]:
            for row in self.rows:
                yield row

        kept = self.table.partitions(self.publisher_id)
        differences = copies.differences(wanted(), kept, self.publisher_id)
        await copies.make_so(differences, absence.commit, lambda _: None)
        await copies.bring_back(self.services.store, absence, self.version, "test", str(uuid4()))

    async def held(self) -> Row | None:
        return await self.table.find(self.publisher_id, VERSION_ROW)

    async def begin(self, why: str = "restoring") -> Absence:
        return await Absence.begin(self.table, self.publisher_id, await self.held(), why, wait_seconds=0)


@pytest.fixture
async def kept(services: Services) -> Kept:
    publisher, product, customer = a_publisher(), a_product(), a_customer()
    await services.catalogue.create_publisher(publisher, actor="test")
    environment = an_environment(customer.id, f"S-{publisher.id}")
    for record in (product, customer, environment):
        await services.catalogue.create(publisher.id, record, actor="test")
    made = Kept(services, publisher.id, environment.serial_number)
    await made.copy()
    return made


async def test_of_two_that_put_back_the_same_copy_the_first_goes_no_further(kept: Kept) -> None:
    first = await kept.begin()
    second = await kept.begin()
    with pytest.raises(Conflict, match="alone"):
        await kept.put_back(first)
    await kept.put_back(second)
    assert await kept.services.store.version(kept.publisher_id)


async def test_nobody_brings_back_what_another_has_taken_away(kept: Kept) -> None:
    first = await kept.begin("restoring one")
    await kept.begin("restoring another")
    with pytest.raises(Conflict, match="alone"):
        await copies.bring_back(kept.services.store, first, kept.version, "test", "copy")
    assert await kept.services.store.version(kept.publisher_id) is None


async def test_whoever_comes_late_writes_over_nothing_of_a_publisher_that_is_back(kept: Kept) -> None:
    late = await kept.begin()
    await kept.put_back(await kept.begin())
    before = [dict(row) async for row in kept.table.partitions(kept.publisher_id)]
    for partition in (kept.publisher_id, f"{kept.publisher_id}|subscribers"):
        with pytest.raises(Conflict, match="alone"):
            await late.commit(partition, [Operation("put", {"RowKey": "planted"})])
    with pytest.raises(Conflict, match="alone"):
        await late.end(Operation("delete", {"RowKey": VERSION_ROW}))
    assert [dict(row) async for row in kept.table.partitions(kept.publisher_id)] == before


@pytest.mark.parametrize("judged", ["absent", "not there"])
async def test_whoever_decided_before_another_run_ended_takes_nothing_away(kept: Kept, judged: str) -> None:
    """It was half restored, or not at all; by now it lives, and somebody has changed it."""
    if judged == "absent":
        await kept.begin()
        held = await kept.held()
        await kept.put_back(await kept.begin())
    else:
        held = None
    late = a_product("Late")
    await kept.services.catalogue.create(kept.publisher_id, late, actor="test")
    with pytest.raises(Conflict, match="alone"):
        await Absence.begin(kept.table, kept.publisher_id, held, "restoring", wait_seconds=0)
    assert await kept.services.store.find(kept.publisher_id, Product, late.id)
    assert await kept.services.store.version(kept.publisher_id)


async def test_a_copy_that_was_frozen_comes_back_frozen_and_the_audit_tells(kept: Kept) -> None:
    before = await kept.services.store.version(kept.publisher_id)
    await kept.services.store.freeze(kept.publisher_id, frozen=True)
    await kept.copy()
    await kept.put_back(await kept.begin())
    after = await kept.services.store.version(kept.publisher_id)
    assert before
    assert after
    assert (after.number, after.frozen) == (before.number + 1, True)
    (newest,) = [entry async for entry in kept.services.store.audit(kept.publisher_id, most=1)]
    assert (newest.number, newest.kind) == (after.number, Publisher.kind)


# Done, though its answer was lost: the client repeats it, and finds the rows moved by itself.


@dataclass
class Losing:
    """An instance of the service. Where `loses` is set, the answer to its next transaction does not arrive."""

    services: Services
    loses: bool = False

    async def begin(self, kept: Kept) -> Absence:
        table = self.services.table(kept.publisher_id)
        return await Absence.begin(table, kept.publisher_id, await kept.held(), "restoring", wait_seconds=0)


@pytest.fixture
async def losing(tables: Emulator, key_set: KeySet) -> AsyncIterator[Losing]:
    async def lose(request: Any, send: Pass) -> Any:
        answer = await send()
        if request.path.endswith("$batch") and made.loses:
            made.loses = False
            raise ConnectionResetError
        return answer

    async with (
        disturbed(tables, lose) as server,
        services_on(server.account, signing_keys=key_set.dump()) as services,
    ):
        made = Losing(services)
        yield made


async def test_a_transaction_whose_answer_was_lost_is_no_other_run(kept: Kept, losing: Losing) -> None:
    losing.loses = True
    absence = await losing.begin(kept)
    losing.loses = True
    await absence.commit(kept.publisher_id, [Operation("put", {"RowKey": "written"})])
    assert not losing.loses, "nothing was lost"
    assert await kept.table.find(kept.publisher_id, "written")


async def test_a_publisher_is_back_though_that_answer_was_lost(kept: Kept, losing: Losing) -> None:
    absence = await losing.begin(kept)
    losing.loses = True
    number = await copies.bring_back(losing.services.store, absence, kept.version, "test", "copy")
    assert not losing.loses, "nothing was lost"
    version = await kept.services.store.version(kept.publisher_id)
    assert version
    assert version.number == number


async def test_a_publisher_has_gone_though_that_answer_was_lost(kept: Kept, losing: Losing) -> None:
    absence = await losing.begin(kept)
    losing.loses = True
    await absence.end(Operation("delete", {"RowKey": VERSION_ROW}))
    assert not losing.loses, "nothing was lost"
    assert await kept.held() is None


@pytest.mark.parametrize("others", [[], [Operation("put", {"RowKey": "new", "text": "Ö", "number": 1})]])
async def test_rows_beside_have_gone_though_that_answer_was_lost(
    kept: Kept, losing: Losing, others: list[Operation]
) -> None:
    partition = f"{kept.publisher_id}|subscribers"
    await kept.table.commit(partition, [Operation("put", {"RowKey": "old"})])
    losing.loses = True
    table = losing.services.table(kept.publisher_id)
    await copies.commit_beside(table, partition, [Operation("delete", {"RowKey": "old"}), *others])
    assert not losing.loses, "nothing was lost"
    assert [row["RowKey"] async for row in kept.table.rows(partition, "")] == [each.row["RowKey"] for each in others]


async def test_a_row_that_somebody_else_deletes_lets_the_others_not_be_forgotten(kept: Kept) -> None:
    partition = f"{kept.publisher_id}|subscribers"
    await kept.table.commit(partition, [Operation("put", {"RowKey": "there"})])
    operations = [Operation("delete", {"RowKey": key}) for key in ("gone", "there")]
    with pytest.raises(Conflict, match="alone"):
        await copies.commit_beside(kept.table, partition, operations)


async def test_whoever_has_begun_to_read_a_publisher_has_read_it_before_a_row_goes(kept: Kept) -> None:
    """A validation reads the version first. If rows went at once it would find no environment, and sign that."""
    at: list[float] = []

    async def unregister() -> None:
        at.append(asyncio.get_running_loop().time())

    started = asyncio.get_running_loop().time()
    held = await kept.held()
    await copies.erase(kept.table, kept.publisher_id, held, unregister, lambda _: None, wait_seconds=0.4)
    assert at[0] - started >= 0.4
    with pytest.raises(PublisherNotFound):
        await kept.services.snapshots.get(kept.publisher_id, kept.serial_number)


async def test_its_id_is_free_only_once_it_has_left_the_register(kept: Kept) -> None:
    done: list[bool] = []

    async def unregister() -> None:
        done.append(True)
        held = await kept.held()
        assert held is not None
        assert ABSENT in held
        await kept.services.store.unregister(kept.publisher_id)

    held = await kept.held()
    await copies.erase(kept.table, kept.publisher_id, held, unregister, lambda _: None, wait_seconds=0)
    assert done
    assert await copies.is_empty(kept.table, kept.publisher_id)


async def test_a_row_that_has_changed_is_not_deleted(kept: Kept) -> None:
    held = await kept.table.find(kept.publisher_id, VERSION_ROW)
    assert held is not None
    await kept.table.commit(kept.publisher_id, [Operation("put", {**held, "number": 99}, etag(held))])
    with pytest.raises(VersionMoved):
        await kept.table.commit(kept.publisher_id, [Operation("delete", {"RowKey": VERSION_ROW}, etag(held))])
    assert await kept.table.find(kept.publisher_id, VERSION_ROW)
