"""A publisher as rows, whatever they mean: to copy it whole, to put it back, to take it away (docs/adr/0001).

Its rows are those of all partitions whose names begin with its id. While they are not whole, its version row says that
it is offline: nobody answers for it then, and nobody makes another publisher of its id.
"""

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing, suppress
from dataclasses import replace
from typing import Any, NamedTuple, Self
from uuid import uuid4

from licensing.catalogue.records import Publisher
from licensing.catalogue.rows import (
    FROZEN,
    OFFLINE,
    VERSION_ROW,
    audit_key,
    audit_row,
    from_fields,
    from_row,
    version_row,
)
from licensing.catalogue.store import CatalogueStore
from licensing.errors import Conflict, RecordsInconsistent
from licensing.storage.batches import Operation, Row, in_batches
from licensing.storage.errors import ConcurrencyConflict
from licensing.storage.keys import row_key
from licensing.storage.table import Table, etag

_ERASING = "erasing"
_STEP = "step"
"""In the version row of a publisher that is away: the last transaction of the run that has taken it away."""


class Place(NamedTuple):
    """Where a row lies."""

    partition: str
    key: str


def place(row: Row) -> Place:
    return Place(row["PartitionKey"], row["RowKey"])


def is_version(row: Row, publisher_id: str) -> bool:
    return place(row) == (publisher_id, VERSION_ROW)


async def is_empty(table: Table, publisher_id: str) -> bool:
    async with aclosing(table.partitions(publisher_id, select=["RowKey"])) as rows:
        return await anext(rows, None) is None


async def differences(
    wanted: AsyncIterable[Row], kept: AsyncIterable[Row], publisher_id: str
) -> AsyncIterator[tuple[str, Operation | None]]:
    """What makes the kept rows the wanted ones, with its partition; None for a row that is as it is wanted.

    Both come by partition and key. The version row is passed over.
    """
    left, right = aiter(wanted), aiter(kept)
    new, old = await anext(left, None), await anext(right, None)
    while new is not None or old is not None:
        if new is None or (old is not None and place(old) < place(new)):
            found, operation = old, Operation("delete", {"RowKey": old["RowKey"]}) if old else None
            old = await anext(right, None)
        elif old is None or place(new) < place(old):
            found, operation = new, Operation("put", new)
            new = await anext(left, None)
        else:
            found, operation = new, Operation("put", new) if dict(new) != dict(old) else None
            new, old = await anext(left, None), await anext(right, None)
        if found is not None and not is_version(found, publisher_id):
            yield found["PartitionKey"], operation


class ExclusiveRun:
    """A publisher that is away, and one run of a command that alone writes its rows until it is back.

    Every transaction in the publisher's own partition also writes the version row, as this run last left it, and so
    does one before each in a partition beside it. Whoever takes the publisher away later ends this run, before its next
    transaction: two that put back or erase at once do not mix, and none writes over a publisher that is back.
    """

    def __init__(self, table: Table, publisher_id: str, row: dict[str, Any]) -> None:
        self.table = table
        self.publisher_id = publisher_id
        self._row = row
        self._etag: str | None = None

    @property
    def number(self) -> int:
        return int(self._row["number"])

    @classmethod
    async def begin(
        cls, table: Table, publisher_id: str, expected_version: Row | None, why: str, *, wait_seconds: float
    ) -> Self:
        """Let the publisher be unknown to everybody, until it is whole again. Nothing else of it is touched yet.

        `expected_version`: the version row on which the decision was made; None where there was none. Raises Conflict
        where it has moved since. Ends any other run, and then waits: whoever has read the version row before is to
        have read the rest of it too, or a validation would find a part of the rows, and sign that.
        """
        run = cls(
            table,
            publisher_id,
            version_row(expected_version["number"] if expected_version else 0, "", "") | {OFFLINE: why},
        )
        run._etag = etag(expected_version) if expected_version else None
        await run.commit(publisher_id, [])
        if expected_version is not None:
            await asyncio.sleep(wait_seconds)
        return run

    async def commit(self, partition: str, operations: Sequence[Operation]) -> None:
        """Do the operations in one transaction. Raises Conflict where this run has been ended by another."""
        own = operations if partition == self.publisher_id else ()
        step = str(uuid4())
        row = self._row | {_STEP: step}
        guard = Operation("put", row, self._etag) if self._etag else Operation("create", row)
        # It has moved; or it was done, the answer was lost, and the client's repetition finds it moved by itself.
        with suppress(ConcurrencyConflict):
            await self.table.commit(self.publisher_id, [guard, *own])
        held = await self.table.find(self.publisher_id, VERSION_ROW)
        if held is None or held.get(_STEP) != step:
            raise _changed_by_another_run()
        self._etag = etag(held)
        if operations and not own:
            await commit_beside(self.table, partition, operations)

    async def end(self, *operations: Operation) -> None:
        """End the run: the first operation is of the version row. Raises Conflict where this run has been ended."""
        first, *others = operations
        try:
            await self.table.commit(self.publisher_id, [replace(first, etag=self._etag), *others])
        except ConcurrencyConflict:
            # The last alone: as soon as it is done, somebody may change the publisher, and the version row with it.
            await _refuse_undone(self.table, self.publisher_id, operations[-1:])


async def commit_beside(table: Table, partition: str, operations: Sequence[Operation]) -> None:
    """Do the operations in one transaction, which no version guards. Raises Conflict."""
    try:
        await table.commit(partition, operations)
    except ConcurrencyConflict:
        await _refuse_undone(table, partition, operations)


async def _refuse_undone(table: Table, partition: str, operations: Sequence[Operation]) -> None:
    """Raise Conflict where a row is not as the operations make it.

    They may have been done, the answer lost, and the client's repetition has found the rows moved by itself.
    """
    for operation in operations:
        held = await table.find(partition, operation.row["RowKey"])
        wanted = None if operation.verb == "delete" else {"PartitionKey": partition, **operation.row}
        if (held and dict(held)) != wanted:
            raise _changed_by_another_run()


def _changed_by_another_run() -> Conflict:
    return Conflict("Somebody else changes these rows too. Run the same again, alone; `freeze` keeps people away.")


async def apply_changes(
    operations: AsyncIterable[tuple[str, Operation | None]],
    commit: Callable[[str, Sequence[Operation]], Awaitable[None]],
    advance: Callable[[int], None],
) -> None:
    """Do the operations, in many transactions. Whoever is stopped finds the differences anew, and goes on.

    Raises Conflict where somebody else changes the rows too, and StorageUnavailable.
    """

    async def needed() -> AsyncIterator[tuple[str, Operation]]:
        async for partition, operation in operations:
            if operation is not None:
                yield partition, operation
            else:
                advance(1)

    async for partition, some in in_batches(needed(), reserved_rows=1):
        await commit(partition, some)
        advance(len(some))


async def reinstate(store: CatalogueStore, run: ExclusiveRun, version: Row, actor: str, copy_id: str) -> int:
    """Let everybody know the publisher again, whose rows are whole; the number of its version.

    A change of its own tells that. There may have been others that are gone: no number comes twice that is known here.
    """
    publisher_id = run.publisher_id
    row = await run.table.find(publisher_id, row_key(Publisher.kind, "", publisher_id))
    if row is None:
        raise RecordsInconsistent("The rows that were put back have gone meanwhile. Run the same again.")
    publisher = from_row(Publisher, row)
    # First: a publisher that no list shows could never be found again.
    await store.register.add(None, publisher)
    number = max(int(version["number"]), run.number) + 1
    after = from_fields(Publisher, {**row, "version": number})
    await run.end(
        Operation("put", version_row(number, copy_id, str(uuid4()), frozen=version.get(FROZEN, False))),
        Operation("put", {**row, "version": number}),
        Operation("create", audit_row(number, 0, actor, store.clock(), copy_id, publisher, after)),
    )
    return number


async def is_newest(store: CatalogueStore, publisher_id: str, copy_id: str) -> bool:
    """Whether nothing has changed since that copy was brought back."""
    table = store.table(publisher_id)
    version = await store.version(publisher_id)
    if version is None:
        return False
    newest = await table.find(publisher_id, audit_key(version.number, 0), select=["changeId"])
    return newest is not None and newest["changeId"] == copy_id


async def erase(  # noqa: PLR0913 - what it is told of the publisher, and of how to go about it
    table: Table,
    publisher_id: str,
    expected_version: Row | None,
    unregister: Callable[[], Awaitable[None]],
    advance: Callable[[int], None],
    *,
    wait_seconds: float,
) -> None:
    """Delete all rows of the publisher. Whoever is stopped begins anew.

    `expected_version`: the version row on which the decision was made. `unregister` takes it out of the
    register, while its id still cannot be taken by another. Raises Conflict.
    """
    run = await ExclusiveRun.begin(table, publisher_id, expected_version, _ERASING, wait_seconds=wait_seconds)

    async def nothing() -> AsyncIterator[Row]:
        rows: tuple[Row, ...] = ()
        for row in rows:
            yield row

    kept = table.partitions(publisher_id, select=["PartitionKey", "RowKey"])
    await apply_changes(differences(nothing(), kept, publisher_id), run.commit, advance)
    await unregister()
    await run.end(Operation("delete", {"RowKey": VERSION_ROW}))
    advance(1)
