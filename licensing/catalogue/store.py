"""The transaction that keeps every rule true, and what reads and writes through it (docs/adr/0001)."""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import NamedTuple
from uuid import uuid4

from licensing.catalogue.draft import Draft
from licensing.catalogue.records import Customer, LicenseType, Publisher, Record
from licensing.catalogue.register import Register
from licensing.catalogue.rows import (
    AUDIT,
    CUSTOMER_COLUMNS,
    DUE,
    FROZEN,
    OF_A_CUSTOMER,
    OFFLINE,
    VERSION_ROW,
    AuditEntry,
    CustomerDocument,
    audit_key,
    customer_key,
    due_key,
    from_row,
    request_key,
    version_row,
)
from licensing.errors import Busy, Frozen, LicensingError, PublisherNotFound, StorageUnavailable
from licensing.fields import instant
from licensing.storage.batches import Operation
from licensing.storage.errors import ConcurrencyConflict
from licensing.storage.keys import row_key
from licensing.storage.table import Condition, Table, etag

_ATTEMPTS = 12
_FIRST_PAUSE_SECONDS = 0.02
_LONGEST_PAUSE_SECONDS = 1.0
_OUR_FAULT = 500
"""From this status on an error says nothing of what was asked for."""
_AFTER_ALL = 99
"""No change has so many entries."""


@dataclass(frozen=True, slots=True)
class Version:
    """The version of a publisher's records: the number of its last change, and that change's id.

    The number alone is not enough: storage that was restored from a copy uses the same numbers again. `epoch`: the id
    of the change that created or restored the publisher; what was read before it no longer holds. `etag` guards the
    next change. `frozen`: no change is allowed until an operator thaws the publisher.
    """

    number: int
    change_id: str = ""
    epoch: str = ""
    etag: str = field(default="", compare=False)
    frozen: bool = field(default=False, compare=False)


class IdempotencyResult(NamedTuple):
    """What a request has done: when, the digest of its body, and the record that it made as the audit tells it."""

    at: datetime
    body_digest: str
    entry: AuditEntry


class Due(NamedTuple):
    """A customer product that ends on a day."""

    end_date: date
    customer_id: str
    product_id: str
    customer_product_id: str
    license_type: LicenseType


def _raise_if_frozen(version: Version | None) -> None:
    if version is None:
        # Rows of it may be there all the same, while it is put back or erased.
        raise PublisherNotFound("No publisher of this id is known here: check the id.")
    if version.frozen:
        raise Frozen(
            "These records are being moved: they can be read, and licenses go on. Try again in some minutes.",
            retry_after_seconds=60,
        )


def _columns(record_type: type) -> list[str] | None:
    return CUSTOMER_COLUMNS if record_type is Customer else None


@dataclass(kw_only=True)
class CatalogueStore:
    """The records of all publishers. `table(publisher_id)` says where a publisher's are."""

    table: Callable[[str], Table]
    clock: Callable[[], datetime]

    @property
    def register(self) -> Register:
        return Register(self.table, self.clock)

    async def version(self, publisher_id: str) -> Version | None:
        """Where the publisher's records stand; None where there is no such publisher, or not the whole of it."""
        row = await self.table(publisher_id).find(publisher_id, VERSION_ROW)
        if row is None or OFFLINE in row:
            return None
        change_id, epoch = row.get("changeId", ""), row.get("epoch", "")
        return Version(row["number"], change_id, epoch, etag(row), row.get(FROZEN, False))

    async def raise_if_frozen(self, publisher_id: str) -> None:
        """Raise Frozen where nothing of the publisher may be changed, and PublisherNotFound where it is no more.

        For what no version guards: what has begun before the freeze may still be written after it.
        """
        _raise_if_frozen(await self.version(publisher_id))

    async def freeze(self, publisher_id: str, *, frozen: bool) -> bool:
        """Let nobody change the publisher's records from now on, or let them again; False where it is so already.

        A change that is being prepared is refused too: what guards it has moved. Raises PublisherNotFound.
        """
        while True:
            version = await self.version(publisher_id)
            if version is None:
                raise PublisherNotFound("No publisher of this id is known here: check the id.")
            if version.frozen == frozen:
                return False
            row = version_row(version.number, version.change_id, version.epoch, frozen=frozen)
            with suppress(ConcurrencyConflict):
                await self.table(publisher_id).commit(publisher_id, [Operation("put", row, version.etag)])
                return True

    async def find[R: Record](
        self, publisher_id: str, record_type: type[R], record_id: str, parent: str = ""
    ) -> R | None:
        if record_type in OF_A_CUSTOMER:
            document = await self.find_document(publisher_id, parent)
            return document.part(record_type).get(record_id) if document else None
        key = row_key(record_type.kind, "", record_id)
        row = await self.table(publisher_id).find(publisher_id, key, select=_columns(record_type))
        return None if row is None else from_row(record_type, row)

    async def list_records[R: Record](self, publisher_id: str, record_type: type[R], parent: str = "") -> list[R]:
        """The records of the type under the parent: the publisher itself, unless another is named."""
        if record_type in OF_A_CUSTOMER:
            document = await self.find_document(publisher_id, parent)
            return list(document.part(record_type).values()) if document else []
        rows = self.table(publisher_id).rows(
            publisher_id, row_key(record_type.kind, "", ""), select=_columns(record_type)
        )
        return [from_row(record_type, row) async for row in rows]

    async def find_document(self, publisher_id: str, customer_id: str) -> CustomerDocument | None:
        """A customer with all that belongs to it."""
        row = await self.table(publisher_id).find(publisher_id, customer_key(customer_id))
        return None if row is None else CustomerDocument.from_row(row)

    async def documents(self, publisher_id: str) -> list[CustomerDocument]:
        """Every customer with all that belongs to it: each in one consistent state, not all of them in the same."""
        rows = self.table(publisher_id).rows(publisher_id, row_key(Customer.kind, "", ""))
        return [CustomerDocument.from_row(row) async for row in rows]

    async def audit(  # noqa: PLR0913 - what may be asked of an audit
        self,
        publisher_id: str,
        *,
        record_id: str | None = None,
        actor: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        after: str = "",
        limit: int | None = None,
    ) -> AsyncIterator[AuditEntry]:
        """Every change of every record, newest first: of that record, by that actor, from then on and before then.

        `after`: those that follow the entry of that key. `limit`: at most so many.
        """
        conditions: list[Condition] = []
        conditions += [("recordId", "eq", record_id)] if record_id else []
        conditions += [("actor", "eq", actor)] if actor else []
        conditions += [("at", "ge", instant(since))] if since else []
        conditions += [("at", "lt", instant(until))] if until else []
        table = self.table(publisher_id)
        async for row in table.rows(publisher_id, AUDIT, after=after, where=conditions, limit=limit):
            yield AuditEntry.from_row(row)

    async def audit_since(
        self, publisher_id: str, number: int, until: int
    ) -> AsyncIterator[tuple[int, str, tuple[str, str, str]]]:
        """What the changes after that number did, up to another and with it, newest first.

        Each entry: the change's number and id; kind, parent and id of the record.
        """
        rows = self.table(publisher_id).rows(
            publisher_id,
            AUDIT,
            after=audit_key(until + 1, _AFTER_ALL),
            until=audit_key(number, 0),
            select=["version", "changeId", "kind", "parent", "recordId"],
        )
        async for row in rows:
            yield row["version"], row["changeId"], (row["kind"], row["parent"], row["recordId"])

    async def due(self, publisher_id: str, first: date, last: date) -> AsyncIterator[Due]:
        """The customer products that end from the one day to the other, both included, by the day they end.

        Reads no others, however many there are.
        """
        rows = self.table(publisher_id).rows(
            publisher_id,
            DUE,
            after=due_key(first),
            until=due_key(last + timedelta(days=1)),
            select=["endDate", "customerId", "productId", "customerProductId", "licenseType"],
        )
        async for row in rows:
            yield Due(
                date.fromisoformat(row["endDate"]),
                row["customerId"],
                row["productId"],
                row["customerProductId"],
                LicenseType(row["licenseType"]),
            )

    async def find_idempotency_result(self, publisher_id: str, digest: str) -> IdempotencyResult | None:
        """What the request of that digest has done, if anything."""
        table = self.table(publisher_id)
        row = await table.find(publisher_id, request_key(digest))
        entry = row and await table.find(publisher_id, row["audit"])
        if row is None or entry is None:
            return None
        return IdempotencyResult(datetime.fromisoformat(row["at"]), row["body"], AuditEntry.from_row(entry))

    async def change[T](self, publisher_id: str, actor: str, prepare: Callable[[Draft], Awaitable[T]]) -> T:
        """What `prepare` returned, once all that it drafted is kept, in one transaction.

        `prepare` reads, checks the rules and drafts; it may run several times, and what it read is guarded: had
        anything of the publisher changed before the commit, it runs anew on the newer state. What it raises is raised,
        and nothing is kept. Raises Busy after too many such turns, Frozen, and PublisherNotFound where it is not to be
        made; after StorageUnavailable the outcome is unknown.
        A refusal is true of one state: where something changed while `prepare` read, it runs anew as well.
        """
        change_id = str(uuid4())
        for attempt in range(_ATTEMPTS):
            version = await self.version(publisher_id)
            draft = Draft(self, publisher_id, actor, self.clock(), version.number + 1 if version else 1)
            try:
                result = await prepare(draft)
            except LicensingError as error:
                is_last = attempt == _ATTEMPTS - 1
                if is_last or error.status >= _OUR_FAULT or await self.version(publisher_id) == version:
                    raise
                continue
            if not draft.changes:
                return result
            is_made = any(before is None and isinstance(after, Publisher) for before, after in draft.changes.values())
            if version is not None or not is_made:
                _raise_if_frozen(version)
            for before, after in draft.changes.values():
                if isinstance(after, Publisher):
                    # First: a publisher that no list shows could never be found again.
                    await self.register.add(before if isinstance(before, Publisher) else None, after)
            if await self._commit(draft, version, actor, change_id):
                return result
            pause = min(_FIRST_PAUSE_SECONDS * 2**attempt, _LONGEST_PAUSE_SECONDS)
            await asyncio.sleep(pause * random.uniform(0.5, 1.5))  # noqa: S311 - no secret, it only spreads
        raise Busy("Others keep changing these records. Nothing was changed; try again.", retry_after_seconds=2)

    async def _commit(self, draft: Draft, version: Version | None, actor: str, change_id: str) -> bool:
        """True once the draft is kept; False where another change came first."""
        moved = version_row(draft.number, change_id, version.epoch if version else change_id)
        guard = Operation("put", moved, version.etag) if version else Operation("create", moved)
        table = self.table(draft.publisher_id)
        operations = [guard, *draft.operations(actor, change_id)]
        try:
            await table.commit(draft.publisher_id, operations)
        except (ConcurrencyConflict, StorageUnavailable) as error:
            # The answer to a transaction that was done may have been lost, and the client's repetition of it then
            # finds the version moved, by itself. The audit row of that number tells whose change it was.
            written = await table.find(draft.publisher_id, audit_key(draft.number, 0), select=["changeId"])
            if written is not None and written["changeId"] == change_id:
                return True
            if isinstance(error, ConcurrencyConflict):
                return False
            raise
        return True
