"""The register: which publishers there are, in the service's own account."""

import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from licensing.catalogue.draft import IdempotencyKey
from licensing.catalogue.records import Publisher
from licensing.catalogue.rows import request_key
from licensing.fields import instant
from licensing.storage.batches import Operation
from licensing.storage.errors import ConcurrencyConflict
from licensing.storage.keys import row_key
from licensing.storage.table import Table, etag

_REGISTER = "publishers"
"""The partition that names every publisher, in the service's own account."""


class IdempotencyClaim(NamedTuple):
    """The publisher that a request makes, and the digest of the body with which it first came."""

    publisher_id: str
    body_digest: str


@dataclass(frozen=True, slots=True)
class Register:
    """Names every publisher, whose own records may be in another account."""

    table: Callable[[str], Table]
    clock: Callable[[], datetime]

    async def directories(self) -> dict[str, list[str]]:
        """Each publisher's directory, by its id, in order: with those that it had, or was about to have.

        One that is being made may stand here before it is.
        """
        rows = self.table("").rows(_REGISTER, row_key("publisher", "", ""))
        return {row["publisherId"]: json.loads(row["directoryIds"]) async for row in rows}

    async def publisher_ids(self) -> list[str]:
        """The ids of all publishers, in order. One that is being made may stand here before it is."""
        return [*await self.directories()]

    async def add(self, before: Publisher | None, publisher: Publisher) -> None:
        """Register the publisher, whose records may be in another account."""
        table, key = self.table(""), row_key("publisher", "", publisher.id)
        while True:
            row = await table.find(_REGISTER, key)
            told = set(json.loads(row["directoryIds"])) if row else set()
            # None is taken away: nobody knows yet which change will be kept, this one or one that comes at once.
            telling = told | {each.directory_id for each in (before or publisher, publisher)}
            if row is not None and telling == told:
                return
            made = {"RowKey": key, "publisherId": publisher.id, "directoryIds": json.dumps(sorted(telling))}
            operation = Operation("create", made) if row is None else Operation("put", made, etag(row))
            with suppress(ConcurrencyConflict):
                await table.commit(_REGISTER, [operation])
                return

    async def keys_of(self, publisher_id: str) -> list[str]:
        """The keys of the rows that name the publisher there."""
        told = self.table("").rows(_REGISTER, "", where=[("publisherId", "eq", publisher_id)], select=["RowKey"])
        return [row["RowKey"] async for row in told]

    async def remove(self, publisher_id: str) -> None:
        """Remove the publisher from the register."""
        for key in await self.keys_of(publisher_id):
            with suppress(ConcurrencyConflict):  # it is gone already
                await self.table("").commit(_REGISTER, [Operation("delete", {"RowKey": key})])

    async def claim(self, request: IdempotencyKey, publisher_id: str, since: datetime) -> IdempotencyClaim:
        """Which publisher the request is to make: this one, unless it came since then and has named another already."""
        table, key = self.table(""), request_key(request.digest)
        while True:
            row = await table.find(_REGISTER, key)
            if row is not None and datetime.fromisoformat(row["at"]) > since:
                return IdempotencyClaim(row["publisherId"], row["body"])
            made = {
                "RowKey": key,
                "at": instant(self.clock()),
                "body": request.body_digest,
                "publisherId": publisher_id,
            }
            operation = Operation("create", made) if row is None else Operation("put", made, etag(row))
            with suppress(ConcurrencyConflict):
                await table.commit(_REGISTER, [operation])
                return IdempotencyClaim(publisher_id, request.body_digest)
