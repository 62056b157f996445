"""Table rows <-> records, and the transaction that keeps every rule true (docs/adr/0001).

The partition of a publisher holds, by row key:

    version                                  moves with every change; guards them all
    publisher||<id>                          the publisher itself
    product||<id>                            and so on for every kind of record: kind|parent|id
    customer||<id>
    customerProduct|<customerId>|<id>
    environment|<customerId>|<id>
    holder|<productId>|<customerProductId>   who holds a product
    serial||<serial number>                  the environment of that serial number
    licenses||<customerId>                   all customer products of a customer: one read for a validation
    audit||<number>|<nn>                     what a change did, newest first

The last four are derived: written in the transaction that changes what they are derived from. Every row carries the
number of the version that wrote it, so that a reader of several rows sees whether a change came in between.
"""

import asyncio
import json
import random
import types
import typing
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, date, datetime
from enum import StrEnum
from typing import Any, NamedTuple
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
_LICENSES_A_PROPERTY = 60
"""A property has 32,768 characters; a license without its long texts has about 450."""
_LONG_TEXTS = frozenset({"notes", "wbs", "invoicedAs"})
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
    return value.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


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


def from_fields[R: Record](record_type: type[R], values: Mapping[str, Any], *, state: str = "") -> R:
    """The record of these fields. Fields that it does not have are passed over, so that old code reads new rows."""
    known = {
        codec.attribute: codec.decode(values[codec.name])
        for codec in _CODECS[record_type]
        if values.get(codec.name) is not None
    }
    return record_type(**known, etag=state)


def record_key(record: Record) -> str:
    return row_key(record.kind, record.parent, record.id)


def serial_key(serial_number: str) -> str:
    return row_key("serial", "", fold(serial_number))


def licenses_key(customer_id: str) -> str:
    return row_key("licenses", "", customer_id)


def licenses_row(customer_id: str, licenses: Sequence[CustomerProduct]) -> dict[str, Any]:
    """All customer products of a customer in one row, without their long texts."""
    items = [
        {name: value for name, value in to_fields(license_).items() if name not in _LONG_TEXTS} for license_ in licenses
    ]
    chunks = [items[at : at + _LICENSES_A_PROPERTY] for at in range(0, len(items), _LICENSES_A_PROPERTY)]
    return {
        "RowKey": licenses_key(customer_id),
        **{f"licenses{index}": json.dumps(chunk) for index, chunk in enumerate(chunks)},
    }


def licenses_of(row: Row) -> tuple[CustomerProduct, ...]:
    """The customer products in such a row."""
    chunks = (row[name] for name in sorted(row) if name.startswith("licenses"))
    return tuple(from_fields(CustomerProduct, item) for chunk in chunks for item in json.loads(chunk))


class Draft:
    """One change being prepared: what it read, and what it will write. Nothing is written before the commit."""

    def __init__(self, store: "CatalogueStore", publisher_id: str, now: datetime) -> None:
        self._store = store
        self.publisher_id = publisher_id
        self.now = now
        self.changes: dict[str, tuple[Record | None, Record | None]] = {}

    async def find[R: Record](self, record_type: type[R], record_id: str, parent: str = "") -> R | None:
        key = row_key(record_type.kind, parent, record_id)
        if key in self.changes:
            return self.changes[key][1]  # type: ignore[return-value] # the key names the type
        return await self._store.find(self.publisher_id, record_type, record_id, parent)

    async def under[R: Record](self, record_type: type[R], parent: str = "") -> list[R]:
        """All records of the type under the parent, as they will be after this change."""
        stored = await self._store.under(self.publisher_id, record_type, parent)
        prefix = row_key(record_type.kind, parent, "")
        records = {record_key(record): record for record in stored}
        for key, (_, after) in self.changes.items():
            if key.startswith(prefix):
                records.pop(key, None)
                if after is not None:
                    records[key] = after  # type: ignore[assignment] # the key names the type
        return list(records.values())

    async def find_by_serial_number(self, serial_number: str) -> Environment | None:
        for _, after in self.changes.values():
            if isinstance(after, Environment) and fold(after.serial_number) == fold(serial_number):
                return after
        row = await self._store.table(self.publisher_id).find(self.publisher_id, serial_key(serial_number))
        found = None if row is None else from_fields(Environment, row)
        if found is None or record_key(found) not in self.changes:
            return found
        return None

    async def count_holders(self, product_id: str) -> int:
        """How many customer products there are of the product."""
        prefix = row_key("holder", product_id, "")
        return await self._store.count(self.publisher_id, prefix)

    def put(self, record: Record, before: Record | None = None) -> None:
        key = record_key(record)
        first = self.changes[key][0] if key in self.changes else before
        self.changes[key] = (first, record)

    def delete(self, record: Record) -> None:
        key = record_key(record)
        self.changes[key] = (self.changes[key][0] if key in self.changes else record, None)

    async def operations(self, number: int, actor: str, change_id: str) -> list[Operation]:
        """The rows of this change but for the version row: records, derived rows, audit."""
        rows: dict[str, Row | None] = {}
        for key, (before, after) in self.changes.items():
            rows[key] = None if after is None else {"RowKey": key, **to_fields(after)}
            # What the old state was found by goes, unless the new state is found by the same.
            rows |= {derived: None for derived in _derived(before) if derived not in rows}
            rows |= _derived(after)
        for customer_id in self._customers_with_changed_licenses():
            licenses = await self.under(CustomerProduct, customer_id)
            rows[licenses_key(customer_id)] = licenses_row(customer_id, licenses)
        audit = (
            _audit_row(number, index, actor, self.now, change_id, before, after)
            for index, (before, after) in enumerate(self.changes.values())
        )
        return [
            Operation("delete", {"RowKey": key}) if row is None else Operation("put", {**row, "version": number})
            for key, row in rows.items()
        ] + [Operation("create", row) for row in audit]

    def _customers_with_changed_licenses(self) -> set[str]:
        changed: set[str] = set()
        deleted: set[str] = set()
        for before, after in self.changes.values():
            record = after or before
            if isinstance(record, CustomerProduct):
                changed.add(record.customer_id)
            if isinstance(record, Customer):
                (changed if after else deleted).add(record.id)
        return changed - deleted


def _derived(record: Record | None) -> dict[str, Row | None]:
    """The rows by which the record is found otherwise than by its key."""
    match record:
        case Environment():
            key = serial_key(record.serial_number)
            return {key: {"RowKey": key, **to_fields(record)}}
        case CustomerProduct():
            key = row_key("holder", record.product_id, record.id)
            return {key: {"RowKey": key, "customerId": record.customer_id}}
        case Customer():
            # Here so that a deleted customer's row goes too; a kept one's is filled in by the draft.
            return {licenses_key(record.id): None}
        case _:
            return {}


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
    row = {
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
        row = await self.table(publisher_id).find(publisher_id, row_key(record_type.kind, parent, record_id))
        return None if row is None else from_fields(record_type, row, state=etag(row))

    async def under[R: Record](self, publisher_id: str, record_type: type[R], parent: str = "") -> list[R]:
        """The records of the type under the parent: the publisher itself, unless another is named."""
        prefix = row_key(record_type.kind, parent, "")
        return [
            from_fields(record_type, row, state=etag(row))
            async for row in self.table(publisher_id).rows(publisher_id, prefix)
        ]

    async def count(self, publisher_id: str, prefix: str) -> int:
        rows = self.table(publisher_id).rows(publisher_id, prefix, select=["RowKey"])
        return sum([1 async for _ in rows])

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
            draft = Draft(self, publisher_id, self.clock())
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
        number = version.number + 1 if version else 1
        moved = {"RowKey": VERSION_ROW, "number": number}
        guard = Operation("put", moved, version.etag) if version else Operation("create", moved)
        table = self.table(draft.publisher_id)
        operations = [guard, *await draft.operations(number, actor, change_id)]
        try:
            await table.commit(draft.publisher_id, operations)
        except (VersionMoved, StorageUnavailable) as error:
            # The answer to a transaction that was done may have been lost, and the client's repetition of it then
            # finds the version moved, by itself. The audit row of that number tells whose change it was.
            written = await table.find(draft.publisher_id, _audit_key(number, 0), select=["changeId"])
            if written is not None and written["changeId"] == change_id:
                return True
            if isinstance(error, VersionMoved):
                return False
            raise
        return True
