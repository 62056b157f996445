"""Records as lines of CSV (RFC 4180), as people keep them in spreadsheets. Pure: text in, cells out, and back.

A column is called what the API calls the field. Cells are written as they are, also those that a spreadsheet takes for
formulas: what was exported can be imported again.
"""

import csv
import io
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from licensing.catalogue.records import Customer, CustomerProduct, Environment, Product
from licensing.errors import LicensingError
from licensing.fields import described, render

MOST_LINES = 100_000
_WHOLE_NUMBER = re.compile(r"[0-9]{1,18}")
_BOOLEANS = {"yes": True, "true": True, "no": False, "false": False}


class FileRefused(LicensingError):
    """What was given is no file of records, as a whole."""

    code, title = "fileRefused", "This file cannot be imported"


class Kind(StrEnum):
    """What a file holds. Its name: `products.csv`."""

    PRODUCTS = "products"
    CUSTOMERS = "customers"
    LICENSES = "licenses"
    ENVIRONMENTS = "environments"

    @property
    def file_name(self) -> str:
        return f"{self}.csv"


type Importable = Product | Customer | CustomerProduct | Environment

type Entry = tuple[Importable, Customer | None, Product | None]
"""A record with the customer and the product that it belongs to, if to any."""

TYPES: Mapping[Kind, type[Importable]] = {
    Kind.PRODUCTS: Product,
    Kind.CUSTOMERS: Customer,
    Kind.LICENSES: CustomerProduct,
    Kind.ENVIRONMENTS: Environment,
}
CUSTOMER = {"customerId": "id", "customerNumber": "number", "customerName": "name"}
"""The columns that name a customer, and the attribute that each of them gives."""
PRODUCT = {"productId": "id", "productName": "name"}
_NAMES: Mapping[Kind, tuple[str, ...]] = {
    Kind.PRODUCTS: (),
    Kind.CUSTOMERS: (),
    Kind.LICENSES: (*CUSTOMER, *PRODUCT),
    Kind.ENVIRONMENTS: (*CUSTOMER,),
}
_FIELDS = {kind: {item.name: item for item in described(TYPES[kind]) if item.settable} for kind in Kind}
COLUMNS = {kind: tuple(dict.fromkeys(["id", *_NAMES[kind], *_FIELDS[kind]])) for kind in Kind}
"""What the columns of each kind of file are called, in the order in which they are written."""


@dataclass(frozen=True, slots=True)
class Line:
    """A record as a file has it. `cells`: what each column of the file holds, without spaces round it."""

    number: int
    """As a spreadsheet counts its rows: the heading is 1."""
    cells: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong with a line; `field` is the column, "" where it is the line as a whole."""

    line: int
    field: str
    code: str
    message: str


# Text to lines.


def read(content: bytes, kind: Kind) -> tuple[list[Line], list[Fault]]:
    """The lines of the file, but for empty ones, and those that are none. Raises FileRefused.

    The heading says whether commas or semicolons stand between the cells.
    """
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise FileRefused('It is not written in UTF-8. A spreadsheet saves as "CSV UTF-8", if told to.') from None
    rows = _rows(text)
    columns = _columns(next(rows, (1, []))[1], kind)
    lines, faults = [], []
    for number, row in rows:
        if number > MOST_LINES + 1:
            raise FileRefused(f"It has more than {MOST_LINES:,} lines. Import it in pieces.")
        cells = [cell.strip() for cell in row]
        if not any(cells):
            continue
        if len(cells) == len(columns):
            lines.append(Line(number, dict(zip(columns, cells, strict=True))))
        else:
            message = f"The heading has {len(columns)} cells, the line {len(cells)}: is a quotation mark missing?"
            faults.append(Fault(number, "", "wrongNumberOfCells", message))
    return lines, faults


def _rows(text: str) -> Iterator[tuple[int, list[str]]]:
    heading = re.split(r"[\r\n]", text, maxsplit=1)[0]
    delimiter = max(",;", key=heading.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        yield from enumerate(reader, 1)
    except csv.Error as error:
        raise FileRefused(
            f"It cannot be read as CSV near line {reader.line_num} of its text ({error}). Where a cell holds the "
            'delimiter, a quotation mark or a line break, it stands in quotation marks, and each of its own twice: "".'
        ) from None


def _columns(heading: list[str], kind: Kind) -> list[str]:
    """The columns that the heading names, whatever its case."""
    known = {name.lower(): name for name in COLUMNS[kind]}
    names = [name.strip() for name in heading]
    found = [known.get(name.lower(), "") for name in names]
    if not any(names):
        raise FileRefused(f"Its first line is empty. It has to name the columns: {', '.join(COLUMNS[kind])}.")
    if "" in found:
        unknown = ", ".join(f'"{name}"' for name, column in zip(names, found, strict=True) if not column)
        raise FileRefused(f"There are no such columns as {unknown}. {kind} have: {', '.join(COLUMNS[kind])}.")
    if twice := sorted({column for column in found if found.count(column) > 1}):
        raise FileRefused(f"It has more than one column {', '.join(twice)}.")
    return found


def to_json(kind: Kind, cells: Mapping[str, str]) -> dict[str, Any]:
    """The cells as the fields that `licensing.fields` reads: None where a cell is empty, left out where there is none.

    What cannot be read stays the text that it is, for the parser to refuse.
    """
    return {name: _to_json(item.type, cells[name]) for name, item in _FIELDS[kind].items() if name in cells}


def _to_json(kind: type, cell: str) -> Any:
    if not cell:
        return None
    if kind is bool:
        return _BOOLEANS.get(cell.lower(), cell)
    if kind is int and _WHOLE_NUMBER.fullmatch(cell):
        return int(cell)
    if issubclass(kind, StrEnum):
        # People write "Managed Services".
        return next((str(each) for each in kind if each.lower() == cell.replace(" ", "").lower()), cell)
    return cell


# Records to text.


def write(kind: Kind, entries: Iterable[Entry]) -> str:
    """The text of a file with these records."""
    out = io.StringIO()
    writer = csv.DictWriter(out, COLUMNS[kind])
    writer.writeheader()
    for record, customer, product in entries:
        known = render(record) | _named(CUSTOMER, customer) | _named(PRODUCT, product)
        writer.writerow({name: _to_cell(known[name]) for name in COLUMNS[kind]})
    return out.getvalue()


def _named(columns: Mapping[str, str], parent: Customer | Product | None) -> dict[str, str]:
    return {name: getattr(parent, attribute, "") for name, attribute in columns.items()}


def _to_cell(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "" if value is None else str(value)
