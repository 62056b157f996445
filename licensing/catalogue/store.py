"""The transaction that keeps every rule true, and what reads and writes through it (docs/adr/0001)."""

import asyncio
import json
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from typing import Any, NamedTuple
from uuid import uuid4

from licensing.catalogue.model import Customer, CustomerProduct, Environment, LicenseType, Publisher, Record
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
    audit_row,
    customer_key,
    due_key,
    due_row,
    from_row,
    own_row,
    record_key,
    request_key,
    serial_key,
    serial_row,
    version_row,
)
from licensing.errors import Busy, Frozen, LicensingError, PublisherNotFound, StorageUnavailable
from licensing.fields import instant
from licensing.storage.batches import Operation, Row
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
_REGISTER = "publishers"
"""The partition that names every publisher, in the service's own account."""


@dataclass(frozen=True, slots=True)
class Version:
    """Where a publisher's records stand: `number` counts its changes, `etag` guards the next one.

    `frozen`: there is no next one until the operator says so.
    """

    number: int
    etag: str
    frozen: bool = field(default=False, compare=False)


class IdempotencyKey(NamedTuple):
    """A request that may come again: `digest` tells it apart, `body_digest` tells whether it asks for the same."""

    digest: str
    body_digest: str


class Draft:
    """One change being prepared: what it read, and what it will write. Nothing is written before the commit.

    What it reads is as it will be after the change so far. It asks storage once for each thing: nothing that it read
    can have changed, or the commit fails.
    """

    def __init__(self, store: "CatalogueStore", publisher_id: str, actor: str, now: datetime, number: int) -> None:
        self._store = store
        self._documents: dict[str, CustomerDocument | None] = {}
        self._found: dict[str, Record | None] = {}
        self._listed: dict[type, list[Any]] = {}
        self.publisher_id = publisher_id
        self.actor = actor
        self.now = now
        self.number = number
        self.changes: dict[str, tuple[Record | None, Record | None]] = {}
        self._idempotency_results: dict[str, tuple[IdempotencyKey, str]] = {}

    async def find[R: Record](self, record_type: type[R], record_id: str, parent: str = "") -> R | None:
        if record_type in OF_A_CUSTOMER:
            document = await self._document(parent)
            return document.part(record_type).get(record_id) if document else None
        key = row_key(record_type.kind, parent, record_id)
        if key in self.changes:
            return self.changes[key][1]  # type: ignore[return-value] # the key names the type
        if record_type is Customer:
            document = await self._document(record_id)
            return document.customer if document else None  # type: ignore[return-value] # as the line above asks
        if key not in self._found:
            self._found[key] = await self._store.find(self.publisher_id, record_type, record_id)
        return self._found[key]  # type: ignore[return-value] # the key names the type

    async def list_records[R: Record](self, record_type: type[R], parent: str = "") -> list[R]:
        """All records of the type under the parent."""
        if record_type in OF_A_CUSTOMER:
            document = await self._document(parent)
            return list(document.part(record_type).values()) if document else []
        if record_type not in self._listed:
            self._listed[record_type] = await self._store.list_records(self.publisher_id, record_type)
        records: dict[str, R] = {record_key(record): record for record in self._listed[record_type]}
        for key, (_, after) in self.changes.items():
            if key.startswith(row_key(record_type.kind, parent, "")):
                records.pop(key, None)
                if after is not None:
                    records[key] = after  # type: ignore[assignment] # the key names the type
        return list(records.values())

    async def environments_with(self, serial_number: str) -> list[Environment]:
        """All environments with that serial number, as they will be after the change so far."""
        row = await self._store.table(self.publisher_id).find(self.publisher_id, serial_key(serial_number))
        if row is not None:
            await self._document(row["customerId"])
        # Whatever this change moved or created is in a document that it has read.
        documents = filter(None, self._documents.values())
        return [each for document in documents for each in document.environments_with(serial_number)]

    async def count_holders(self, product_id: str) -> int:
        """How many customers hold the product, before this change."""
        rows = self._store.table(self.publisher_id).rows(
            self.publisher_id, row_key(Customer.kind, "", ""), select=["productIds"]
        )
        return sum([1 async for row in rows if product_id in row["productIds"].split()])

    def record_idempotency_key(self, request: IdempotencyKey, record: Record) -> None:
        """Keep with this change that the request has made the record."""
        self._idempotency_results[request_key(request.digest)] = (request, record_key(record))

    def put[R: Record](self, record: R, before: R | None = None) -> R:
        """The record as it will be kept. A customer's is drafted after the customer was found or put."""
        if before is not None and record_key(before) != record_key(record):
            # It moves: it is deleted at one customer and made at another.
            self.delete(before)
            before = None
        record = replace(record, etag=str(self.number))
        if isinstance(record, Customer):
            document = self._documents.get(record.id) or CustomerDocument(None)
            self._documents[record.id] = document
            document.customer = record
        elif type(record) in OF_A_CUSTOMER:
            self._read_document(record.parent).part(type(record))[record.id] = record
        self._change(record_key(record), before, record)
        return record

    def delete(self, record: Record) -> None:
        if isinstance(record, Customer):
            self._read_document(record.id).customer = None
        elif type(record) in OF_A_CUSTOMER:
            self._read_document(record.parent).part(type(record)).pop(record.id)
        self._change(record_key(record), record, None)

    def operations(self, actor: str, change_id: str) -> list[Operation]:
        """The rows of this change but for the version row: records, serial numbers, audit."""
        rows: dict[str, Row | None] = {}
        places = {key: audit_key(self.number, index) for index, key in enumerate(self.changes)}
        for key, (request, made) in self._idempotency_results.items():
            rows[key] = {"RowKey": key, "at": instant(self.now), "body": request.body_digest, "audit": places[made]}
        for key, (before, after) in self.changes.items():
            for environment in (before, after):
                if isinstance(environment, Environment):
                    self._add_serial_row(rows, environment)
            if isinstance(before, CustomerProduct) and before.end_date:
                rows.setdefault(due_key(before.end_date, before.id), None)
            if isinstance(after, CustomerProduct) and after.end_date:
                rows[due_key(after.end_date, after.id)] = due_row(after, after.end_date)
            record = after or before
            if isinstance(record, Customer | CustomerProduct | Environment):
                customer_id = record.parent or record.id
                document = self._read_document(customer_id)
                rows[customer_key(customer_id)] = document.to_row(self.number) if document.customer else None
            else:
                rows[key] = own_row(after) if after else None
        audit = (
            audit_row(self.number, index, actor, self.now, change_id, before, after)
            for index, (before, after) in enumerate(self.changes.values())
        )
        return [
            Operation("delete", {"RowKey": key}) if row is None else Operation("put", row) for key, row in rows.items()
        ] + [Operation("create", row) for row in audit]

    def _add_serial_row(self, rows: dict[str, Row | None], environment: Environment) -> None:
        """Add the row of the environment's serial number as it will be after this change."""
        key = serial_key(environment.serial_number)
        decisive = self._read_document(environment.customer_id).environment_with(environment.serial_number)
        if decisive is not None:
            rows[key] = serial_row(decisive)
        else:
            rows.setdefault(key, None)

    def _change(self, key: str, before: Record | None, after: Record | None) -> None:
        first = self.changes[key][0] if key in self.changes else before
        if first is None and after is None:
            del self.changes[key]  # made and deleted in one change: nothing has happened
        else:
            self.changes[key] = (first, after)

    async def _document(self, customer_id: str) -> CustomerDocument | None:
        if customer_id not in self._documents:
            self._documents[customer_id] = await self._store.find_document(self.publisher_id, customer_id)
        document = self._documents[customer_id]
        return document if document and document.customer else None

    def _read_document(self, customer_id: str) -> CustomerDocument:
        document = self._documents.get(customer_id)
        if document is None:
            raise AssertionError("a customer's records are drafted after the customer was found or put")
        return document


class IdempotencyClaim(NamedTuple):
    """The publisher that a request makes, and the digest of the body with which it first came."""

    publisher_id: str
    body_digest: str


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

    async def version(self, publisher_id: str) -> Version | None:
        """Where the publisher's records stand; None where there is no such publisher, or not the whole of it."""
        row = await self.table(publisher_id).find(publisher_id, VERSION_ROW)
        return None if row is None or OFFLINE in row else Version(row["number"], etag(row), row.get(FROZEN, False))

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
            row = version_row(version.number, frozen=frozen)
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

        `after`: those that follow the entry of that key. `most`: the first so many.
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

    async def registered(self) -> dict[str, list[str]]:
        """Each publisher's directory, by its id, in order: with those that it had, or was about to have.

        One that is being made may stand here before it is.
        """
        rows = self.table("").rows(_REGISTER, row_key("publisher", "", ""))
        return {row["publisherId"]: json.loads(row["directoryIds"]) async for row in rows}

    async def publisher_ids(self) -> list[str]:
        """The ids of all publishers, in order. One that is being made may stand here before it is."""
        return [*await self.registered()]

    async def register(self, before: Publisher | None, publisher: Publisher) -> None:
        """Tell that there is this publisher, whose own records may lie in another account."""
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

    async def registrations(self, publisher_id: str) -> list[str]:
        """The keys of the rows that name the publisher there."""
        told = self.table("").rows(_REGISTER, "", where=[("publisherId", "eq", publisher_id)], select=["RowKey"])
        return [row["RowKey"] async for row in told]

    async def unregister(self, publisher_id: str) -> None:
        """Name the publisher there no more."""
        for key in await self.registrations(publisher_id):
            with suppress(ConcurrencyConflict):  # it is gone already
                await self.table("").commit(_REGISTER, [Operation("delete", {"RowKey": key})])

    async def claim_idempotency_key(
        self, request: IdempotencyKey, publisher_id: str, since: datetime
    ) -> IdempotencyClaim:
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
                    await self.register(before if isinstance(before, Publisher) else None, after)
            if await self._commit(draft, version, actor, change_id):
                return result
            pause = min(_FIRST_PAUSE_SECONDS * 2**attempt, _LONGEST_PAUSE_SECONDS)
            await asyncio.sleep(pause * random.uniform(0.5, 1.5))  # noqa: S311 - no secret, it only spreads
        raise Busy("Others keep changing these records. Nothing was changed; try again.", retry_after_seconds=2)

    async def _commit(self, draft: Draft, version: Version | None, actor: str, change_id: str) -> bool:
        """True once the draft is kept; False where another change came first."""
        moved = version_row(draft.number)
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
