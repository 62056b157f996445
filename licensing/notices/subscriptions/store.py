"""Subscribers, in a partition that no version guards, since nothing else depends on it (docs/adr/0005).

<publisherId>|subscribers   subscriber||<id>
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from dataclasses import replace

from licensing.catalogue.rows import from_fields, own_row
from licensing.notices.model import Subscriber, SubscriberState
from licensing.storage.batches import Operation, Row
from licensing.storage.errors import ConcurrencyConflict
from licensing.storage.keys import row_key
from licensing.storage.table import Table, etag


class SubscriberStore:
    """Subscribers of all publishers. `table(publisher_id)` returns the table of a publisher.

    `raise_if_frozen` raises where nothing of a publisher may be changed.
    """

    def __init__(self, table: Callable[[str], Table], raise_if_frozen: Callable[[str], Awaitable[None]]) -> None:
        self._table = table
        self.raise_if_frozen = raise_if_frozen

    async def find_subscriber(self, publisher_id: str, subscriber_id: str) -> Subscriber | None:
        row = await self._table(publisher_id).find(_subscribers(publisher_id), _subscriber_key(subscriber_id))
        return None if row is None else _subscriber(row)

    async def subscribers(
        self, publisher_id: str, *, after: str = "", limit: int | None = None
    ) -> AsyncIterator[Subscriber]:
        """All of them, in the order of their ids; those after that one."""
        rows = self._table(publisher_id).rows(
            _subscribers(publisher_id),
            row_key(Subscriber.kind, "", ""),
            after=_subscriber_key(after) if after else "",
            limit=limit,
        )
        async for row in rows:
            yield _subscriber(row)

    async def unconfirmed(self, publisher_id: str) -> AsyncIterator[Subscriber]:
        """Those who have not said yes, or not yet."""
        rows = self._table(publisher_id).rows(
            _subscribers(publisher_id),
            row_key(Subscriber.kind, "", ""),
            where=[("state", "eq", SubscriberState.UNCONFIRMED.value)],
        )
        async for row in rows:
            yield _subscriber(row)

    async def put_subscriber(self, publisher_id: str, subscriber: Subscriber) -> None:
        """Keep it, unless it has changed since it was read. Raises ConcurrencyConflict, and Frozen."""
        await self.raise_if_frozen(publisher_id)
        row = own_row(replace(subscriber, etag="0"))
        operation = Operation("put", row, subscriber.etag) if subscriber.etag else Operation("create", row)
        await self._table(publisher_id).commit(_subscribers(publisher_id), [operation])

    async def delete_subscriber(self, publisher_id: str, subscriber_id: str) -> None:
        """Whether it is there or not. Raises Frozen."""
        await self.raise_if_frozen(publisher_id)
        row = {"RowKey": _subscriber_key(subscriber_id)}
        with suppress(ConcurrencyConflict):
            await self._table(publisher_id).commit(_subscribers(publisher_id), [Operation("delete", row)])


def _subscribers(publisher_id: str) -> str:
    return f"{publisher_id}|subscribers"


def _subscriber_key(subscriber_id: str) -> str:
    return row_key(Subscriber.kind, "", subscriber_id)


def _subscriber(row: Row) -> Subscriber:
    return replace(from_fields(Subscriber, row), etag=etag(row))
