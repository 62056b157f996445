"""A publisher as rows, whatever they mean: to copy it whole, to put it back, to take it away (docs/adr/0001).

Its rows are those of all partitions whose names begin with its id. While they are not whole, its version row says that
it is absent: nobody answers for it then, and nobody makes another publisher of its id.
"""

from collections.abc import AsyncIterable, AsyncIterator, Callable
from contextlib import aclosing, suppress
from typing import NamedTuple

from licensing.catalogue.model import Publisher
from licensing.catalogue.rows import (
    ABSENT,
    FROZEN,
    VERSION_ROW,
    audit_key,
    audit_row,
    from_fields,
    from_row,
    version_row,
)
from licensing.catalogue.store import CatalogueStore
from licensing.errors import Conflict, RecordsInconsistent
from licensing.tables import Operation, Row, Table, VersionMoved, etag, in_transactions, row_key

_ERASING = "erasing"


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


async def make_so(
    table: Table, operations: AsyncIterable[tuple[str, Operation | None]], advance: Callable[[int], None]
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

    async for partition, some in in_transactions(needed()):
        try:
            await table.commit(partition, some)
        except VersionMoved:
            raise Conflict("Somebody else changes these rows too. Run the same again, alone.") from None
        advance(len(some))


async def take_away(table: Table, publisher_id: str, why: str) -> None:
    """Let the publisher be unknown to everybody, until it is whole again. Nothing else of it is touched."""
    while True:
        row = await table.find(publisher_id, VERSION_ROW)
        if row is not None and row.get(ABSENT) == why:
            return
        absent = version_row(row["number"] if row else 0) | {ABSENT: why}
        with suppress(VersionMoved):
            await table.commit(
                publisher_id, [Operation("put", absent, etag(row)) if row else Operation("create", absent)]
            )
            return


async def bring_back(store: CatalogueStore, publisher_id: str, version: Row, actor: str, copy_id: str) -> int:
    """Let everybody know the publisher again, whose rows are whole; the number of its version.

    A frozen copy is the publisher itself, at another place: it goes on with the number that it had. After any other one
    there may have been changes that are gone: a change of its own tells that, and no number comes twice that is known
    here.
    """
    table, frozen = store.table(publisher_id), version.get(FROZEN, False)
    absent = await table.find(publisher_id, VERSION_ROW)
    row = await table.find(publisher_id, row_key(Publisher.kind, "", publisher_id))
    if absent is None or row is None:
        raise RecordsInconsistent("The rows that were put back have gone meanwhile. Run the same again.")
    publisher = from_row(Publisher, row)
    # First: a publisher that no list shows could never be found again.
    await store.register(None, publisher)
    number = int(version["number"])
    operations: list[Operation] = []
    if not frozen or absent["number"] > number:
        number = max(number, absent["number"]) + 1
        after = from_fields(Publisher, {**row, "version": number})
        operations = [
            Operation("put", {**row, "version": number}),
            Operation("create", audit_row(number, 0, actor, store.clock(), copy_id, publisher, after)),
        ]
    whole = version_row(number, frozen=frozen)
    await table.commit(publisher_id, [Operation("put", whole, etag(absent)), *operations])
    return number


async def is_newest(store: CatalogueStore, publisher_id: str, copy_id: str) -> bool:
    """Whether nothing has changed since that copy was brought back."""
    table = store.table(publisher_id)
    version = await store.version(publisher_id)
    if version is None:
        return False
    newest = await table.find(publisher_id, audit_key(version.number, 0), select=["changeId"])
    return newest is not None and newest["changeId"] == copy_id


async def erase(table: Table, publisher_id: str, advance: Callable[[int], None]) -> None:
    """Delete all rows of the publisher. Whoever is stopped begins anew."""
    await take_away(table, publisher_id, _ERASING)

    async def nothing() -> AsyncIterator[Row]:
        rows: tuple[Row, ...] = ()
        for row in rows:
            yield row

    kept = table.partitions(publisher_id, select=["PartitionKey", "RowKey"])
    await make_so(table, differences(nothing(), kept, publisher_id), advance)
    await table.commit(publisher_id, [Operation("delete", {"RowKey": VERSION_ROW})])
    advance(1)
