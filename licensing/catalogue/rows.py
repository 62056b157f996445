"""Table rows <-> records (docs/adr/0001).

The partition of a publisher holds, by row key:

    version                   moves with every change; guards them all
    publisher||<id>           the publisher itself
    product||<id>             a product
    customer||<id>            a customer with all that belongs to it: its customer products, its environments
    role||<id>, user||<id>    who may do what
    serial||<serial number>   which customer has that serial number, and which of its environments decides
    due|<end date>|<id>       which customer product of which customer ends on that day
    request||<digest>         what a request that may be repeated has done
    audit||<number>|<nn>      what a change did, newest first

So one row tells everything about a customer, always in one consistent state, and a validation needs two point reads.
Every record carries the number of the version that wrote it: its ETag.
"""

import itertools
import json
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, is_dataclass, replace
from datetime import date, datetime
from enum import StrEnum
from functools import lru_cache
from typing import Any, NamedTuple, Self

from licensing.catalogue.records import Customer, CustomerProduct, Environment, Record
from licensing.fields import described, inner, instant, text, value
from licensing.identifiers import fold
from licensing.storage.batches import Row
from licensing.storage.keys import row_key

VERSION_ROW = "version"
FROZEN = "frozen"
"""Of the version row: true while nothing of the publisher may be changed."""
OFFLINE = "offline"
"""Of the version row: why the publisher is not there, or not the whole of it. Nobody answers for it then."""
OF_A_CUSTOMER = (CustomerProduct, Environment)
_PROPERTY_CHARACTERS = 32_000
"""What of a property's 32,768 UTF-16 units is used."""
_LAST_NUMBER = 10**12


class _Codec(NamedTuple):
    attribute: str
    name: str
    encode: Callable[[Any], Any]
    decode: Callable[[Any], Any]


def _codec_of(hint: Any) -> tuple[Callable[[Any], Any], Callable[[Any], Any]]:
    """How a field of this type is written and read."""
    if typing.get_origin(hint) is tuple:
        encode, decode = _codec_of(typing.get_args(hint)[0])
        return (lambda held: [encode(each) for each in held]), lambda held: tuple(map(decode, _from_text(held)))
    if typing.get_origin(hint) is Mapping:
        keys, values = typing.get_args(hint)
        return dict, lambda held: {keys(key): values(value) for key, value in _from_text(held).items()}
    if isinstance(hint, type) and is_dataclass(hint):
        return to_fields, lambda held: hint(**_decoded(hint, held))
    if issubclass(hint, StrEnum):
        return str, hint
    return _PLAIN.get(hint, ((lambda held: held), hint))


_PLAIN: dict[type, tuple[Callable[[Any], Any], Callable[[Any], Any]]] = {
    datetime: (instant, datetime.fromisoformat),
    # Of all that an instance keeps, few days are different ones.
    date: (date.isoformat, lru_cache(4096)(date.fromisoformat)),
}


def _from_text(held: Any) -> Any:
    """A list or an object: a property of a row holds its JSON."""
    return json.loads(held) if isinstance(held, str) else held


_CODECS: dict[type, tuple[_Codec, ...]] = {}


def _codecs(kind: type) -> tuple[_Codec, ...]:
    if kind not in _CODECS:
        _CODECS[kind] = tuple(
            _Codec(item.attribute, item.name, *_codec_of(item.type)) for item in described(kind) if not item.derived
        )
    return _CODECS[kind]


def to_fields(record: Any) -> dict[str, Any]:
    """The record, or what is in it, as its fields by their names in JSON, None and "" left out."""
    values = ((codec, getattr(record, codec.attribute)) for codec in _codecs(type(record)))
    return {codec.name: codec.encode(value) for codec, value in values if value is not None and value != ""}


def from_fields[R: Record](record_type: type[R], values: Mapping[str, Any]) -> R:
    """The record of these fields, its ETag of their `version`.

    Fields that the record does not have are passed over, so that old code reads new rows.
    """
    return record_type(**_decoded(record_type, values), etag=str(values.get("version", "")))


def _decoded(kind: type, values: Mapping[str, Any]) -> dict[str, Any]:
    return {
        codec.attribute: codec.decode(values[codec.name])
        for codec in _codecs(kind)
        if values.get(codec.name) is not None
    }


def to_versioned_fields(record: Record) -> dict[str, Any]:
    """The record's fields with the version that wrote it."""
    return {**to_fields(record), "version": int(record.etag)}


def version_row(number: int, change_id: str, epoch: str, *, frozen: bool = False) -> dict[str, Any]:
    """The version row. `epoch`: the id of the change that created or restored the publisher."""
    row = {"RowKey": VERSION_ROW, "number": number, "changeId": change_id, "epoch": epoch}
    return row | ({FROZEN: True} if frozen else {})


def own_row(record: Record) -> dict[str, Any]:
    """The row of a record that has one to itself."""
    properties = to_versioned_fields(record)
    texts = {name: json.dumps(held) for name, held in properties.items() if isinstance(held, list | dict)}
    return {"RowKey": record_key(record), **properties, **texts}


def record_key(record: Record) -> str:
    return row_key(record.kind, record.parent, record.id)


def customer_key(customer_id: str) -> str:
    return row_key(Customer.kind, "", customer_id)


def serial_key(serial_number: str) -> str:
    return row_key("serial", "", fold(serial_number))


def serial_row(environment: Environment) -> dict[str, Any]:
    """The row that leads from a serial number to the environment that a validation sees."""
    return {
        "RowKey": serial_key(environment.serial_number),
        "customerId": environment.customer_id,
        "environmentId": environment.id,
    }


DUE = "due|"
"""How the keys begin under which customer products lie by the day they end."""


def due_key(end_date: date, record_id: str = "") -> str:
    return row_key("due", end_date.isoformat(), record_id)


def due_row(license_: CustomerProduct, end_date: date) -> dict[str, Any]:
    """What ends on that day, for those who ask what is due."""
    return {
        "RowKey": due_key(end_date, license_.id),
        "customerId": license_.customer_id,
        "productId": license_.product_id,
        "customerProductId": license_.id,
        "licenseType": str(license_.license_type),
        "endDate": end_date.isoformat(),
    }


def request_key(digest: str) -> str:
    return row_key("request", "", digest)


@dataclass(slots=True)
class CustomerDocument:
    """A customer with all that belongs to it: one row. `customer` is None where it has just been deleted."""

    customer: Customer | None
    customer_products: dict[str, CustomerProduct] = field(default_factory=dict)
    environments: dict[str, Environment] = field(default_factory=dict)

    @classmethod
    def from_row(cls, row: Row) -> Self:
        return cls(
            customer=_customer(row),
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
            "productCount": len(self.customer_products),
            "environmentCount": len(self.environments),
            **_packed(self.customer_products.values(), CustomerProduct),
            **_packed(self.environments.values(), Environment),
        }

    def environments_with(self, serial_number: str) -> list[Environment]:
        """The environments with that serial number, in the order in which they were created."""
        key = fold(serial_number)
        return [each for each in self.environments.values() if fold(each.serial_number) == key]

    def environment_with(self, serial_number: str) -> Environment | None:
        """The environment that a validation of the serial number sees: an active one where there is one."""
        return min(self.environments_with(serial_number), key=lambda each: not each.active, default=None)

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


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditEntry:
    """What one change did to one record: who, when, from what, to what (None where there was, or is, nothing)."""

    at: datetime = value("At", settable=False)
    actor: str = text("Actor", settable=False, hint="Who did it: an email address, an application, or the service.")
    kind: str = text("Kind", settable=False, hint="Of the record, as in customerProduct.")
    record_id: str = text("Record", settable=False)
    parent_id: str = text("Parent", settable=False, hint="The customer that the record belongs to, if to any.")
    number: int = value("Number", settable=False, hint="Of the change; one may have done something to several records.")
    before: Mapping[str, Any] | None = value("Before", default=None, settable=False)
    after: Mapping[str, Any] | None = value("After", default=None, settable=False)
    key: str = inner("")

    @classmethod
    def from_row(cls, row: Row) -> Self:
        return cls(
            number=row["version"],
            at=datetime.fromisoformat(row["at"]),
            actor=row["actor"],
            kind=row["kind"],
            parent_id=row["parent"],
            record_id=row["recordId"],
            before=json.loads(row["before"]) if "before" in row else None,
            after=json.loads(row["after"]) if "after" in row else None,
            key=row["RowKey"],
        )


CUSTOMER_COLUMNS = [
    *(codec.name for codec in _codecs(Customer)),
    *("customerVersion", "productIds", "productCount", "environmentCount"),
]
"""What a row tells of the customer itself."""


def from_row[R: Record](record_type: type[R], row: Row) -> R:
    """The record that has the row to itself; or the customer in its row, whatever else is in it."""
    return _customer(row) if record_type is Customer else from_fields(record_type, row)  # type: ignore[return-value] # as the line asks


def _customer(row: Row) -> Customer:
    customer = from_fields(Customer, {**row, "version": row["customerVersion"]})
    return replace(
        customer,
        product_count=row["productCount"],
        environment_count=row["environmentCount"],
        product_ids=tuple(row["productIds"].split()),
    )


AUDIT = "audit||"
"""How the keys begin under which the audit lies, newest change first."""


def audit_key(number: int, index: int) -> str:
    """Where the change of that number tells of its record of that index: newest first."""
    return f"{AUDIT}{_LAST_NUMBER - number:013d}|{index:02d}"


def audit_row(  # noqa: PLR0913, PLR0917 - the columns of the row
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
        "RowKey": audit_key(number, index),
        "version": number,
        "changeId": change_id,
        "actor": actor,
        "at": instant(at),
        "kind": record.kind,
        "parent": record.parent,
        "recordId": record.id,
    }
    for name, state in (("before", before), ("after", after)):
        if state is not None:
            row[name] = json.dumps(to_fields(state), ensure_ascii=False)
    return row
