"""What an import will do: which record each line is about, and what it makes of it, held against all rules.

A line is planned on what is kept and on what the lines before it make of that, in the order in which they are carried
out. So an import that was stopped at any point is planned anew on what it has done, and comes to the same end.
"""

import itertools
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from uuid import UUID, uuid5

from licensing.bulk.csv_records import CUSTOMER, PRODUCT, TYPES, Fault, Importable, Kind, Line, to_json
from licensing.catalogue.draft import Draft
from licensing.catalogue.records import Customer, CustomerProduct, Environment, Product, Record
from licensing.catalogue.rows import OF_A_CUSTOMER, CustomerDocument
from licensing.catalogue.rules import SerialNumberTaken, normalized
from licensing.catalogue.service import draft_record
from licensing.catalogue.store import CatalogueStore
from licensing.errors import Conflict, FieldError, RuleBroken
from licensing.fields import merged, parse
from licensing.identifiers import fold
from licensing.storage.batches import Operation, check_limits
from licensing.storage.errors import RowTooLarge

_NAMESPACE = UUID("6f0d3c6e-93c0-4f0e-9d0a-5b7f4d3c2a18")
_NOUNS: Mapping[type, str] = {
    Product: "product",
    Customer: "customer",
    CustomerProduct: "license",
    Environment: "environment",
}
_CALLED_BY: Mapping[type, tuple[str, ...]] = {
    Product: ("name",),
    Customer: ("name", "number"),
}
"""The columns that tell a record from others where its id is not given; the last one that is filled in counts."""
_TOLD_APART_BY: Mapping[type, str] = {
    Customer: "number or id",
    CustomerProduct: "startDate or id",
    Environment: "tenant or id",
}
"""What tells records apart that may well be called the same."""

_DECIDING_COLUMN: Mapping[type, str] = {CustomerProduct: "startDate", Environment: "tenant"}
"""The column that decides between several records of one customer that share all else."""

type _Key = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PublisherData:
    """All records of a publisher, in one state: that of the version of this number."""

    publisher_id: str
    number: int
    products: Sequence[Product]
    documents: Sequence[CustomerDocument]


@dataclass(frozen=True, slots=True)
class Step:
    """What one line does to a record, and what people call that.

    `before` is None where the record is made, and `after` itself where nothing is changed.
    """

    line: int
    called: str
    before: Importable | None
    after: Importable

    @property
    def changes(self) -> bool:
        return self.before is not self.after


@dataclass(frozen=True, slots=True)
class Plan:
    """All steps in the order in which they are to be carried out: a customer's lie side by side."""

    steps: list[Step]
    faults: list[Fault]


async def plan(store: CatalogueStore, kept: PublisherData, kind: Kind, lines: Sequence[Line], now: datetime) -> Plan:
    """What the lines do to what is kept, and what is wrong with them. Reads nothing, writes nothing."""
    planner = _Planner(_Memory(store, kept, now), kind)
    return await planner.plan(lines)


def _keys_of(record: Record) -> Iterator[_Key]:
    """What a line may call the record by, but for its id; the last one counts for most."""
    match record:
        case Product():
            yield (record.kind, "name", fold(record.name))
        case Customer():
            yield (record.kind, "name", fold(record.name))
            if record.number:
                yield (record.kind, "number", fold(record.number))
        case CustomerProduct():
            pair = (record.kind, record.customer_id, record.product_id)
            yield from (pair, (*pair, str(record.start_date or "")))
        case Environment():
            serial = (record.kind, "serialNumber", fold(record.serial_number))
            yield from (serial, (*serial, fold(record.tenant)))
        case _:
            pass


def _natural_key(record: Importable) -> _Key:
    """What tells the record from others of the publisher: from this its id is made."""
    *_, last = _keys_of(record)
    return last


class _Memory(Draft):
    """A draft over all that is kept, read before: it asks storage for nothing, and is never committed."""

    def __init__(self, store: CatalogueStore, kept: PublisherData, now: datetime) -> None:
        super().__init__(store, kept.publisher_id, "", now, kept.number + 1)
        self._records: dict[type, dict[str, Any]] = {kind: {} for kind in _NOUNS}
        self._by_key: defaultdict[_Key, dict[str, Any]] = defaultdict(dict)
        for product in kept.products:
            self._remember(product)
        for document in kept.documents:
            if document.customer is not None:
                self._documents[document.customer.id] = document
                self._remember(document.customer)
            for part in OF_A_CUSTOMER:
                for record in document.part(part).values():
                    self._remember(record)

    async def find[R: Record](self, record_type: type[R], record_id: str, parent: str = "") -> R | None:
        found = self.known(record_type, record_id)
        return found if found is not None and found.parent == parent else None

    async def list_records[R: Record](self, record_type: type[R], parent: str = "") -> list[R]:
        return [record for record in self._records[record_type].values() if record.parent == parent]

    async def environments_with(self, serial_number: str) -> list[Environment]:
        return list(self.called((Environment.kind, "serialNumber", fold(serial_number))).values())

    def put[R: Record](self, record: R, before: R | None = None) -> R:
        if before is not None:
            for key in _keys_of(before):
                self._by_key[key].pop(before.id, None)
        record = super().put(record, before)
        self._remember(record)
        return record

    def known[R: Record](self, record_type: type[R], record_id: str) -> R | None:
        """The record of that id, in whatever case, at whichever customer it is."""
        records = self._records[record_type]
        return records.get(record_id) or records.get(record_id.lower())

    def called(self, key: _Key) -> Mapping[str, Any]:
        """The records that the key may mean, by id."""
        return self._by_key.get(key, {})

    def check_size(self, customer_id: str) -> None:
        """Raise RuleBroken where the customer has more than its row can hold."""
        row = self._documents[customer_id].to_row(self.number)  # type: ignore[union-attr] # it was drafted
        try:
            check_limits(self.publisher_id, [Operation("put", row)])
        except RowTooLarge as error:
            message = "The customer would have more licenses, environments and notes than can be kept of one."
            raise _refused("", error.code, message) from None

    def _remember(self, record: Record) -> None:
        self._records[type(record)][record.id] = record
        for key in _keys_of(record):
            self._by_key[key][record.id] = record


@dataclass(frozen=True, slots=True)
class _Placed:
    """A line, with the kept record that its id names, if any, and with what it belongs to."""

    line: Line
    before: Importable | None
    customer: Customer | None
    product_id: str

    @property
    def customer_id(self) -> str:
        return self.customer.id if self.customer else ""


class _Planner:
    def __init__(self, memory: _Memory, kind: Kind) -> None:
        self._memory = memory
        self._kind = kind
        self._type = TYPES[kind]
        self._noun = _NOUNS[self._type]
        self._steps: list[Step] = []
        self._faults: list[Fault] = []
        self._line_of: dict[str, int] = {}
        """Which line a record is about, by its id: one at most."""
        self._called: defaultdict[_Key, list[int]] = defaultdict(list)
        """The lines that call their records so."""

    async def plan(self, lines: Sequence[Line]) -> Plan:
        placed = list(self._placed(lines))
        for each in placed:
            for key in self._keys(each):
                self._called[key].append(each.line.number)
        # A customer's lines side by side: they share its row.
        order = {
            customer_id: place for place, customer_id in enumerate(dict.fromkeys(each.customer_id for each in placed))
        }
        for each in sorted(placed, key=lambda each: order[each.customer_id]):
            with self._telling(each.line.number):
                self._steps.append(await self._step(each))
        if self._type is not Product:
            self._check_sizes()
        return Plan(self._steps, self._faults)

    @contextmanager
    def _telling(self, line: int) -> Iterator[None]:
        """What is wrong with the line is told, and the next one is looked at."""
        try:
            yield
        except (RuleBroken, Conflict) as error:
            # An operator sees every customer.
            shown = error.naming_customer() if isinstance(error, SerialNumberTaken) else error
            errors = shown.errors or [FieldError("", shown.code, shown.detail)]
            self._faults += [Fault(line, each.field, each.code, each.message) for each in errors]

    def _check_sizes(self) -> None:
        last = {step.after.parent or step.after.id: step.line for step in self._steps if step.changes}
        for customer_id, line in last.items():
            with self._telling(line):
                self._memory.check_size(customer_id)

    async def _step(self, placed: _Placed) -> Step:
        before = placed.before
        if before is None and not placed.line.cells.get("id"):
            before = self._of_its_keys(placed)
        record = normalized(self._made(placed) if before is None else self._edited(placed, before))
        first = self._line_of.setdefault(record.id, placed.line.number)
        if first != placed.line.number:
            raise _refused("", "repeated", self._same(first))
        after = before if before == record else await draft_record(self._memory, record, before)
        return Step(placed.line.number, self._label(placed, after), before, after)

    def _label(self, placed: _Placed, record: Importable) -> str:
        match record:
            case CustomerProduct():
                product = self._memory.known(Product, record.product_id)
                label = product.name if product else record.id
            case Environment():
                label = record.serial_number
            case _:
                label = record.name
        return f"{placed.customer.name}: {label}" if placed.customer else label

    # What a line belongs to.

    def _placed(self, lines: Iterable[Line]) -> Iterator[_Placed]:
        for line in lines:
            with self._telling(line.number):
                before = self._memory.known(self._type, line.cells.get("id", ""))
                yield _Placed(line, before, self._customer(line, before), self._product_id(line, before))

    def _customer(self, line: Line, before: Importable | None) -> Customer | None:
        """Whose record it is, where it is a customer's."""
        if self._type not in OF_A_CUSTOMER:
            return None
        named = self._named(Customer, CUSTOMER, line)
        if named is None and before is None:
            raise _refused(
                "customerName", "mandatory", "Name the customer: customerName, customerNumber or customerId."
            )
        if named is not None and before is not None and named.id != before.parent:
            # As through the API, which has no way for it either.
            message = f"The {self._noun} of this id is another customer's: a {self._noun} stays with its customer."
            raise _refused("id", "ofAnotherCustomer", message)
        return named if before is None else self._memory.known(Customer, before.parent)

    def _product_id(self, line: Line, before: Importable | None) -> str:
        if self._type is not CustomerProduct:
            return ""
        named = self._named(Product, PRODUCT, line)
        if named is not None:
            return named.id
        if isinstance(before, CustomerProduct):
            return before.product_id
        raise _refused("productName", "mandatory", "Name the product: productName or productId.")

    def _named[R: Record](self, kind: type[R], columns: Mapping[str, str], line: Line) -> R | None:
        """The record that these columns of the line name, all that are filled in; None where none is."""
        filled = {column: cell for column in columns if (cell := line.cells.get(column))}
        found: Mapping[str, R] = {}
        for column, cell in filled.items():
            matching = self._matching(kind, columns[column], cell)
            if not matching:
                raise _refused(column, "unknown", f'There is no {_NOUNS[kind]} "{cell}".')
            found = {each: matching[each] for each in matching if not found or each in found}
            if not found:
                message = f'"{cell}" is another {_NOUNS[kind]} than the one that the cells before it name.'
                raise _refused(column, "contradiction", message)
        if len(found) > 1:
            others = " or ".join(column for column in columns if column not in filled)
            message = f'There are {len(found)} {_NOUNS[kind]}s "{cell}": fill in {others} too.'
            raise _refused(column, "ambiguous", message)
        return next(iter(found.values()), None)

    def _matching[R: Record](self, kind: type[R], attribute: str, cell: str) -> Mapping[str, R]:
        if attribute == "id":
            found = self._memory.known(kind, cell)
            return {found.id: found} if found else {}
        return self._memory.called((kind.kind, attribute, fold(cell)))

    # Which record a line is about.

    def _keys(self, placed: _Placed) -> list[_Key]:
        """What the line calls its record, written as `_keys_of` a record writes it; the last one counts for most."""
        cells = placed.line.cells
        if self._type is CustomerProduct:
            pair = (CustomerProduct.kind, placed.customer_id, placed.product_id)
            return [pair, (*pair, cells.get("startDate", ""))]
        if self._type is Environment:
            serial_number = fold(cells.get("serialNumber", ""))
            serial = (Environment.kind, "serialNumber", serial_number)
            return [serial, (*serial, fold(cells.get("tenant", "")))] if serial_number else []
        called = [(name, fold(cells.get(name, ""))) for name in _CALLED_BY[self._type]]
        return [(self._type.kind, name, cell) for name, cell in called if cell]

    def _of_its_keys(self, placed: _Placed) -> Importable | None:
        """The record that the line means without naming its id; None where it means a new one."""
        keys = self._keys(placed)
        if not keys:
            return None
        field = _DECIDING_COLUMN.get(self._type) or keys[-1][1]
        apart_by = _TOLD_APART_BY.get(self._type)
        if others := [line for line in self._called[keys[-1]] if line != placed.line.number]:
            fix = f" If they are two, give each its {apart_by}." if apart_by else ""
            raise _refused(field, "repeated", self._same(others[0]) + fix)
        # An environment of another customer stays there, and the rules say so.
        found = [each for each in self._candidates(keys) if each.parent == placed.customer_id]
        if len(found) > 1:
            raise _refused(field, "ambiguous", f"There are {len(found)} such {self._noun}s: fill in {apart_by}.")
        return next(iter(found), None)

    def _same(self, line: int) -> str:
        return f"Line {line} is about the same {self._noun}."

    def _candidates(self, keys: Sequence[_Key]) -> Collection[Any]:
        """The records that the line may mean.

        A customer may have several licenses of one product, and a serial number for several tenants. The start date or
        the tenant decides between several records, or between several lines.
        """
        found, same = (self._memory.called(key).values() for key in (keys[0], keys[-1]))
        if self._type not in _DECIDING_COLUMN:
            return same
        is_alone = len(self._called[keys[0]]) == 1
        if is_alone and len(found) <= 1:
            return found
        # Where nothing else decides, a line with an empty start date or tenant is not about a new record.
        return found if is_alone and not same and not keys[-1][-1] else same

    # What a line says of it.

    def _edited(self, placed: _Placed, before: Importable) -> Importable:
        return replace(before, **merged(before, self._said(placed)))

    def _made(self, placed: _Placed) -> Importable:
        given = {name: value for name, value in self._said(placed).items() if value is not None}
        fields = parse(self._type, given)
        if placed.customer is not None:
            fields["customer_id"] = placed.customer.id
        now = self._memory.now
        record: Importable = self._type(id="", created_at=now, updated_at=now, **fields)
        return replace(record, id=self._new_id(placed.line.cells.get("id", ""), record))

    def _said(self, placed: _Placed) -> dict[str, Any]:
        said = to_json(self._kind, placed.line.cells)
        return said | {"productId": placed.product_id} if placed.product_id else said

    def _new_id(self, given: str, record: Importable) -> str:
        """The id of a record that is not kept yet: the same one, however often the import begins."""
        if given:
            try:
                return str(UUID(given))
            except ValueError:
                raise _refused(
                    "id", "notAGuid", "An id is a GUID; without one, a new record is given its own."
                ) from None
        for turn in itertools.count():
            made = str(uuid5(_NAMESPACE, "\n".join([self._memory.publisher_id, *_natural_key(record), str(turn)])))
            # What was made from this key may have been renamed since.
            if self._memory.known(self._type, made) is None:
                return made
        raise AssertionError("there is always another number")


def _refused(field: str, code: str, message: str) -> RuleBroken:
    return RuleBroken(message, errors=[FieldError(field, code, message)])
