"""Table rows <-> records, and the transaction that keeps every rule true (docs/adr/0001).

The partition of a publisher holds, by row key:

    version                   moves with every change; guards them all
    publisher||<id>           the publisher itself
    product||<id>             a product
    customer||<id>            a customer with all that belongs to it: its customer products, its environments
    serial||<serial number>   which environment of which customer has that serial number
    audit||<number>|<nn>      what a change did, newest first

So one row tells everything about a customer, always in one consistent state, and a validation needs two point reads.
Every record carries the number of the version that wrote it: its ETag.
"""

import asyncio
import itertools
import json
import random
import types
import typing
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from datetime import UTC, date, datetime
from enum import StrEnum
from typing import Any, NamedTuple, Self
from uuid import uuid4

from licensing.catalogue.model import (
    Customer,
    CustomerProduct,
    Environment,
    Product,
    Publisher,
    Record,
    fold,
    wire_name,
)
from licensing.errors import Busy, StorageUnavailable
from licensing.tables import Operation, Row, Table, VersionMoved, etag, row_key

VERSION_ROW = "version"
_OF_A_CUSTOMER = (CustomerProduct, Environment)
_PROPERTY_CHARACTERS = 32_000
"""What of a property's 32,768 UTF-16 units is used."""
_ATTEMPTS = 12
_FIRST_PAUSE_SECONDS = 0.02
_LONGEST_PAUSE_SECONDS = 1.0
_LAST_NUMBER = 10**12


class Version(NamedTuple):
    """Where a publisher's records stand: `number` counts its changes, `etag` guards the next one."""

    number: int
    etag: str


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """What one change did to one record: who, when, from what, to what (None where there was, or is, nothing)."""

    number: int
    at: datetime
    actor: str
    kind: str
    parent: str
    record_id: str
    before: Mapping[str, Any] | None
    after: Mapping[str, Any] | None


class _Codec(NamedTuple):
    attribute: str
    name: str
    encode: Callable[[Any], Any]
    decode: Callable[[Any], Any]


def _instant(value: datetime) -> str:
    return value.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def _codec_of(hint: Any) -> tuple[Callable[[Any], Any], Callable[[Any], Any]]:
    """How a field of this type is written and read."""
    if isinstance(hint, types.UnionType):
        (hint,) = (option for option in typing.get_args(hint) if option is not types.NoneType)
    if typing.get_origin(hint) is tuple:
        return (lambda values: json.dumps(list(values))), (lambda text: tuple(json.loads(text)))
    if issubclass(hint, datetime):
        return _instant, datetime.fromisoformat
    if issubclass(hint, date):
        return date.isoformat, date.fromisoformat
    if issubclass(hint, StrEnum):
        return str, hint
    return (lambda value: value), hint


def _codecs_of(record_type: type[Record]) -> tuple[_Codec, ...]:
    hints = typing.get_type_hints(record_type)
    return tuple(
        _Codec(item.name, wire_name(item.name), *_codec_of(hints[item.name]))
        for item in fields(record_type)
        if item.name != "etag"
    )


_CODECS: dict[type, tuple[_Codec, ...]] = {
    kind: _codecs_of(kind) for kind in (Publisher, Product, Customer, CustomerProduct, Environment)
}


def to_fields(record: Record) -> dict[str, Any]:
    """The record as its fields by their names in JSON, None and "" left out."""
    values = ((codec, getattr(record, codec.attribute)) for codec in _CODECS[type(record)])
    return {codec.name: codec.encode(value) for codec, value in values if value is not None and value != ""}


def from_fields[R: Record](record_type: type[R], values: Mapping[str, Any]) -> R:
    """The record of these fields, its ETag of their `version`.

    Fields that the record does not have are passed over, so that old code reads new rows.
    """
    known = {
        codec.attribute: codec.decode(values[codec.name])
        for codec in _CODECS[record_type]
        if values.get(codec.name) is not None
    }
    return record_type(**known, etag=str(values.get("version", "")))


def to_versioned_fields(record: Record) -> dict[str, Any]:
    """The record's fields with the version that wrote it."""
    return {**to_fields(record), "version": int(record.etag)}


def record_key(record: Record) -> str:
    return row_key(record.kind, record.parent, record.id)


def customer_key(customer_id: str) -> str:
    return row_key(Customer.kind, "", customer_id)


def serial_key(serial_number: str) -> str:
    return row_key("serial", "", fold(serial_number))


def serial_row(environment: Environment) -> dict[str, Any]:
    """Where the environment of that serial number is."""
    return {
        "RowKey": serial_key(environment.serial_number),
        "customerId": environment.customer_id,
        "environmentId": environment.id,
    }


@dataclass(slots=True)
class CustomerDocument:
    """A customer with all that belongs to it: one row. `customer` is None where it has just been deleted."""

    customer: Customer | None
    customer_products: dict[str, CustomerProduct] = field(default_factory=dict)
    environments: dict[str, Environment] = field(default_factory=dict)

    @classmethod
    def from_row(cls, row: Row) -> Self:
        return cls(
            customer=from_fields(Customer, {**row, "version": row["customerVersion"]}),
            customer_products={item.id: item for item in _unpacked(row, CustomerProduct)},
            environments={item.id: item for item in _unpacked(row, Environment)},
        )

    def to_row(self, number: int) -> dict[str, Any]:
        """The row as the version of that number writes it."""
        if self.customer is None:
            raise AssertionError("a customer that is no more has no row")
        fields_ = to_versioned_fields(self.customer)
        return {
            **fields_,
            "RowKey": customer_key(self.customer.id),
            "version": number,
            "customerVersion": fields_["version"],
            "productIds": " ".join(sorted({item.product_id for item in self.customer_products.values()})),
            **_packed(self.customer_products.values(), CustomerProduct),
            **_packed(self.environments.values(), Environment),
        }

    def part(self, record_type: type) -> dict[str, Any]:
        """The records of the type by id."""
        return self.customer_products if record_type is CustomerProduct else self.environments


def _packed(records: Iterable[Record], record_type: type[Record]) -> dict[str, str]:
    """The records as JSON in as many properties as it takes: customerProduct0, customerProduct1 ..."""
    chunks: list[list[str]] = [[]]
    room = _PROPERTY_CHARACTERS
    for record in records:
        item = json.dumps(to_versioned_fields(record), ensure_ascii=False)
        size = len(item.encode("utf-16-le")) // 2 + 1
        if size > room:
            chunks.append([])
            room = _PROPERTY_CHARACTERS
        chunks[-1].append(item)
        room -= size
    return {f"{record_type.kind}{index}": f"[{','.join(items)}]" for index, items in enumerate(chunks) if items}


def _unpacked[R: Record](row: Row, record_type: type[R]) -> Iterator[R]:
    for index in itertools.count():
        chunk = row.get(f"{record_type.kind}{index}")
        if chunk is None:
            return
        yield from (from_fields(record_type, item) for item in json.loads(chunk))


class Draft:
    """One change being prepared: what it read, and what it will write. Nothing is written before the commit.

    What it reads is as it will be after the change so far.
    """

    def __init__(self, store: "CatalogueStore", publisher_id: str, now: datetime, number: int) -> None:
        self._store = store
        self._documents: dict[str, CustomerDocument | None] = {}
        self.publisher_id = publisher_id
        self.now = now
        self.number = number
        self.changes: dict[str, tuple[Record | None, Record | None]] = {}

    async def find[R: Record](self, record_type: type[R], record_id: str, parent: str = "") -> R | None:
        if record_type in _OF_A_CUSTOMER:
            document = await self._document(parent)
            return document.part(record_type).get(record_id) if document else None
        key = row_key(record_type.kind, parent, record_id)
        if key in self.changes:
            return self.changes[key][1]  # type: ignore[return-value] # the key names the type
        if record_type is Customer:
            document = await self._document(record_id)
            return document.customer if document else None  # type: ignore[return-value] # as the line above asks
        return await self._store.find(self.publisher_id, record_type, record_id)

    async def under[R: Record](self, record_type: type[R], parent: str = "") -> list[R]:
        """All records of the type under the parent."""
        if record_type in _OF_A_CUSTOMER:
            document = await self._document(parent)
            return list(document.part(record_type).values()) if document else []
        stored = await self._store.under(self.publisher_id, record_type)
        records = {record_key(record): record for record in stored}
        for key, (_, after) in self.changes.items():
            if key.startswith(row_key(record_type.kind, parent, "")):
                records.pop(key, None)
                if after is not None:
                    records[key] = after  # type: ignore[assignment] # the key names the type
        return list(records.values())

    async def find_by_serial_number(self, serial_number: str) -> Environment | None:
        for _, after in self.changes.values():
            if isinstance(after, Environment) and fold(after.serial_number) == fold(serial_number):
                return after
        row = await self._store.table(self.publisher_id).find(self.publisher_id, serial_key(serial_number))
        if row is None:
            return None
        found = await self.find(Environment, row["environmentId"], row["customerId"])
        # This change may have given it another number.
        return found if found and fold(found.serial_number) == fold(serial_number) else None

    async def count_holders(self, product_id: str) -> int:
        """How many customers hold the product, before this change."""
        rows = self._store.table(self.publisher_id).rows(
            self.publisher_id, row_key(Customer.kind, "", ""), select=["productIds"]
        )
        return sum([1 async for row in rows if product_id in row["productIds"].split()])

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
        elif type(record) in _OF_A_CUSTOMER:
            self._read_document(record.parent).part(type(record))[record.id] = record
        self._change(record_key(record), before, record)
        return record

    def delete(self, record: Record) -> None:
        if isinstance(record, Customer):
            self._read_document(record.id).customer = None
        elif type(record) in _OF_A_CUSTOMER:
            self._read_document(record.parent).part(type(record)).pop(record.id)
        self._change(record_key(record), record, None)

    def operations(self, actor: str, change_id: str) -> list[Operation]:
        """The rows of this change but for the version row: records, serial numbers, audit."""
        rows: dict[str, Row | None] = {}
        for key, (before, after) in self.changes.items():
            if isinstance(before, Environment):
                rows.setdefault(serial_key(before.serial_number), None)
            if isinstance(after, Environment):
                rows[serial_key(after.serial_number)] = serial_row(after)
            record = after or before
            if isinstance(record, Publisher | Product):
                rows[key] = {"RowKey": key, **to_versioned_fields(after)} if after else None
            elif record is not None:
                customer_id = record.parent or record.id
                document = self._read_document(customer_id)
                rows[customer_key(customer_id)] = document.to_row(self.number) if document.customer else None
        audit = (
            _audit_row(self.number, index, actor, self.now, change_id, before, after)
            for index, (before, after) in enumerate(self.changes.values())
        )
        return [
            Operation("delete", {"RowKey": key}) if row is None else Operation("put", row) for key, row in rows.items()
        ] + [Operation("create", row) for row in audit]

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


def _from_row[R: Record](record_type: type[R], row: Row) -> R:
    return from_fields(record_type, {**row, "version": row["customerVersion"]} if record_type is Customer else row)


def _audit_key(number: int, index: int) -> str:
    return f"audit||{_LAST_NUMBER - number:013d}|{index:02d}"


def _audit_row(  # noqa: PLR0913, PLR0917 - the columns of the row
    number: int,
    index: int,
    actor: str,
    at: datetime,
    change_id: str,
    before: Record | None,
    after: Record | None,
) -> Row:
    record = after or before
    if record is None:
        raise AssertionError("a change of nothing")
    row: dict[str, Any] = {
        "RowKey": _audit_key(number, index),
        "version": number,
        "changeId": change_id,
        "actor": actor,
        "at": _instant(at),
        "kind": record.kind,
        "parent": record.parent,
        "recordId": record.id,
    }
    for name, state in (("before", before), ("after", after)):
        if state is not None:
            row[name] = json.dumps(to_fields(state), ensure_ascii=False)
    return row


@dataclass(kw_only=True)
class CatalogueStore:
    """The records of all publishers. `table(publisher_id)` says where a publisher's are."""

    table: Callable[[str], Table]
    clock: Callable[[], datetime]

    async def version(self, publisher_id: str) -> Version | None:
        """Where the publisher's records stand; None where there is no such publisher."""
        row = await self.table(publisher_id).find(publisher_id, VERSION_ROW)
        return None if row is None else Version(row["number"], etag(row))

    async def find[R: Record](
        self, publisher_id: str, record_type: type[R], record_id: str, parent: str = ""
    ) -> R | None:
        if record_type in _OF_A_CUSTOMER:
            document = await self.find_document(publisher_id, parent)
            return document.part(record_type).get(record_id) if document else None
        row = await self.table(publisher_id).find(publisher_id, row_key(record_type.kind, "", record_id))
        return None if row is None else _from_row(record_type, row)

    async def under[R: Record](self, publisher_id: str, record_type: type[R], parent: str = "") -> list[R]:
        """The records of the type under the parent: the publisher itself, unless another is named."""
        if record_type in _OF_A_CUSTOMER:
            document = await self.find_document(publisher_id, parent)
            return list(document.part(record_type).values()) if document else []
        prefix = row_key(record_type.kind, "", "")
        return [_from_row(record_type, row) async for row in self.table(publisher_id).rows(publisher_id, prefix)]

    async def find_document(self, publisher_id: str, customer_id: str) -> CustomerDocument | None:
        """A customer with all that belongs to it."""
        row = await self.table(publisher_id).find(publisher_id, customer_key(customer_id))
        return None if row is None else CustomerDocument.from_row(row)

    async def audit(self, publisher_id: str) -> AsyncIterator[AuditEntry]:
        """Every change of every record, newest first."""
        async for row in self.table(publisher_id).rows(publisher_id, "audit||"):
            yield AuditEntry(
                number=row["version"],
                at=datetime.fromisoformat(row["at"]),
                actor=row["actor"],
                kind=row["kind"],
                parent=row["parent"],
                record_id=row["recordId"],
                before=json.loads(row["before"]) if "before" in row else None,
                after=json.loads(row["after"]) if "after" in row else None,
            )

    async def change[T](self, publisher_id: str, actor: str, prepare: Callable[[Draft], Awaitable[T]]) -> T:
        """What `prepare` returned, once all that it drafted is kept, in one transaction.

        `prepare` reads, checks the rules and drafts; it may run several times, and what it read is guarded: had
        anything of the publisher changed before the commit, it runs anew on the newer state. What it raises is raised,
        and nothing is kept. Raises Busy after too many such turns; after StorageUnavailable the outcome is unknown.
        """
        change_id = str(uuid4())
        for attempt in range(_ATTEMPTS):
            version = await self.version(publisher_id)
            draft = Draft(self, publisher_id, self.clock(), version.number + 1 if version else 1)
            result = await prepare(draft)
            if not draft.changes:
                return result
            if await self._commit(draft, version, actor, change_id):
                return result
            pause = min(_FIRST_PAUSE_SECONDS * 2**attempt, _LONGEST_PAUSE_SECONDS)
            await asyncio.sleep(pause * random.uniform(0.5, 1.5))  # noqa: S311 - no secret, it only spreads
        raise Busy("Others keep changing these records. Nothing was changed; try again.", retry_after_seconds=2)

    async def _commit(self, draft: Draft, version: Version | None, actor: str, change_id: str) -> bool:
        """True once the draft is kept; False where another change came first."""
        moved = {"RowKey": VERSION_ROW, "number": draft.number}
        guard = Operation("put", moved, version.etag) if version else Operation("create", moved)
        table = self.table(draft.publisher_id)
        operations = [guard, *draft.operations(actor, change_id)]
        try:
            await table.commit(draft.publisher_id, operations)
        except (VersionMoved, StorageUnavailable) as error:
            # The answer to a transaction that was done may have been lost, and the client's repetition of it then
            # finds the version moved, by itself. The audit row of that number tells whose change it was.
            written = await table.find(draft.publisher_id, _audit_key(draft.number, 0), select=["changeId"])
            if written is not None and written["changeId"] == change_id:
                return True
            if isinstance(error, VersionMoved):
                return False
            raise
        return True
