"""One change being prepared: what it reads, and what it will write."""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import Any, NamedTuple, Protocol

from licensing.catalogue.records import Customer, CustomerProduct, Environment, Record
from licensing.catalogue.rows import (
    OF_A_CUSTOMER,
    CustomerDocument,
    audit_key,
    audit_row,
    customer_key,
    due_key,
    due_row,
    own_row,
    record_key,
    request_key,
    serial_key,
    serial_row,
)
from licensing.fields import instant
from licensing.storage.batches import Operation, Row
from licensing.storage.keys import row_key
from licensing.storage.table import Table


class IdempotencyKey(NamedTuple):
    """A request that may come again: `digest` tells it apart, `body_digest` tells whether it asks for the same."""

    digest: str
    body_digest: str


class Reader(Protocol):
    """What a draft reads from: the store."""

    @property
    def table(self) -> Callable[[str], Table]: ...

    async def find[R: Record](
        self, publisher_id: str, record_type: type[R], record_id: str, parent: str = ""
    ) -> R | None: ...

    async def list_records[R: Record](self, publisher_id: str, record_type: type[R], parent: str = "") -> list[R]: ...

    async def find_document(self, publisher_id: str, customer_id: str) -> CustomerDocument | None: ...


class Draft:
    """One change being prepared: what it read, and what it will write. Nothing is written before the commit.

    What it reads is as it will be after the change so far. It asks storage once for each thing: nothing that it read
    can have changed, or the commit fails.
    """

    def __init__(self, store: Reader, publisher_id: str, actor: str, now: datetime, number: int) -> None:
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
