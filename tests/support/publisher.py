"""A publisher that one instance changes and others read, and what the readers read."""

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest

from licensing.catalogue.records import Record
from licensing.services import Services
from licensing.storage.batches import Row


@dataclass
class PublisherFixture:
    """A publisher, and the instance that changes its records."""

    writer: Services
    publisher_id: str

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


def record_reads(services: Services) -> list[str]:
    """The row keys that the instance reads from now on: each by itself, or as a prefix followed by an asterisk."""
    table, keys = services.table(""), list[str]()
    find, rows = table.find, table.rows

    async def find_and_record(partition: str, row: str, **more: Any) -> Row | None:
        keys.append(row)
        return await find(partition, row, **more)

    def rows_and_record(partition: str, prefix: str, **more: Any) -> AsyncIterator[Row]:
        keys.append(f"{prefix}*")
        return rows(partition, prefix, **more)

    table.find, table.rows = find_and_record, rows_and_record  # type: ignore[method-assign]
    return keys


def before_reading(
    services: Services, monkeypatch: pytest.MonkeyPatch, prefix: str, act: Callable[[], Awaitable[None]]
) -> None:
    """Run `act` once, just before the instance reads a row whose key has the prefix."""
    table = services.table("")
    find, rows, acts = table.find, table.rows, [act]

    async def run(key: str) -> None:
        if key.startswith(prefix) and acts:
            await acts.pop()()

    async def act_and_find(partition: str, row: str, **more: Any) -> Row | None:
        await run(row)
        return await find(partition, row, **more)

    async def act_and_read(partition: str, key: str, **more: Any) -> AsyncIterator[Row]:
        await run(key)
        async for row in rows(partition, key, **more):
            yield row

    monkeypatch.setattr(table, "find", act_and_find)
    monkeypatch.setattr(table, "rows", act_and_read)
