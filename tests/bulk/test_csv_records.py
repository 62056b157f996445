"""Records as lines of CSV: what is read, what is refused, and that nothing is lost on the way there and back."""

from datetime import date
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from licensing.bulk import csv_records
from licensing.bulk.csv_records import COLUMNS, FileRefused, Importable, Kind, Line, read, to_json, write
from licensing.catalogue.records import CustomerProduct, Environment, LicenseType, Region
from licensing.catalogue.rules import normalized
from licensing.fields import described, parse
from tests.support.records import a_customer, a_license, a_product, an_environment


def cells(text: str | bytes, kind: Kind = Kind.CUSTOMERS) -> list[dict[str, str]]:
    """What the lines of the file hold; no line is bad."""
    lines, faults = read(text if isinstance(text, bytes) else text.encode(), kind)
    assert faults == []
    return [dict(line.cells) for line in lines]


# Lines.


@pytest.mark.parametrize(
    "text",
    [
        "name,number\nFabrikam,C-1\n",
        "name,number\nFabrikam,C-1",
        "name;number\r\nFabrikam;C-1\r\n",
        "name,number\rFabrikam,C-1\r",
        "\ufeffname,number\nFabrikam,C-1\n",
        "\ufeff\"name\";number\nFabrikam;'C-1'\n".replace("'", '"'),
        " Name , NUMBER\n Fabrikam ,\tC-1 \n",
        "name,number\n\n , \nFabrikam,C-1\n,\n\n",
    ],
    ids=[
        "as programs write it",
        "without a last line break",
        "with semicolons, as some spreadsheets write it",
        "with the line breaks of old",
        "with a mark for UTF-8",
        "with a mark, and quotation marks",
        "with spaces, and names in another case",
        "with empty lines",
    ],
)
def test_read_accepts_csv_variant(text: str) -> None:
    assert cells(text) == [{"name": "Fabrikam", "number": "C-1"}]


def test_read_preserves_quoted_cells_and_line_breaks() -> None:
    text = 'name,description,number\n"A, B & ""Sons"";","two\r\nlines\nand a third",=1+1\nStraße,,"a;b"\n'
    assert cells(text) == [
        {"name": 'A, B & "Sons";', "description": "two\r\nlines\nand a third", "number": "=1+1"},
        {"name": "Straße", "description": "", "number": "a;b"},
    ]


def test_read_single_column_keeps_other_delimiters() -> None:
    assert cells("name\na;b;c\n") == [{"name": "a;b;c"}]


def test_read_numbers_rows_like_spreadsheet_and_reports_uneven_rows() -> None:
    lines, faults = read(b'name,description\nA,"two\nlines"\n\nB,\nC\nD,,\nE,\n', Kind.CUSTOMERS)
    assert [(line.number, line.cells["name"]) for line in lines] == [(2, "A"), (4, "B"), (7, "E")]
    assert [(fault.line, fault.field, fault.code) for fault in faults] == [
        (5, "", "wrongNumberOfCells"),
        (6, "", "wrongNumberOfCells"),
    ]
    assert faults[0].message.startswith("The heading has 2 cells, the line 1:")


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "first line is empty"),
        (b"\xef\xbb\xbf", "first line is empty"),
        (b"\n\n", "first line is empty"),
        (b",,\nA,B,C\n", "first line is empty"),
        (
            b"name,colour,\nA,B,C\n",
            'no such columns as "colour", "". customers have: id, name, description, region, number',
        ),
        (b"name;number,region\nA;B\n", 'no such columns as "name;number"'),
        (b"A,B\nC,D\n", "no such columns"),
        (b"name,number,Name\nA,B,C\n", "more than one column name"),
        ("name\nStraße\n".encode("cp1252"), "UTF-8"),
        ("name\nStraße\n".encode("utf-16"), "UTF-8"),
        (b'name,number\n"A,B\nC,D\n', "cannot be read as CSV near line 3"),
        (b'name,number\n"A"x,B\n', "cannot be read as CSV near line 2"),
        (b"name\n" + b"x" * 200_000, "cannot be read as CSV near line 2"),
    ],
    ids=[
        "nothing",
        "nothing but a mark",
        "empty lines",
        "a heading without names",
        "a column that there is not",
        "two kinds of delimiters",
        "no heading",
        "a column twice",
        "another encoding",
        "UTF-16",
        "a quotation mark that is left open",
        "something after a quotation mark",
        "a cell longer than any may be",
    ],
)
def test_read_invalid_file_raises_file_refused(content: bytes, sentence: str) -> None:
    with pytest.raises(FileRefused) as refused:
        read(content, Kind.CUSTOMERS)
    assert sentence in refused.value.detail


def test_read_over_line_limit_raises_file_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(csv_records, "MOST_LINES", 3)
    assert len(cells("name\nA\nB\nC\n")) == 3
    with pytest.raises(FileRefused, match="more than 3 lines"):
        read(b"name\nA\nB\nC\nD\n", Kind.CUSTOMERS)


def test_columns_contain_settable_fields_and_parent_columns() -> None:
    assert COLUMNS[Kind.LICENSES][:7] == (
        "id",
        "customerId",
        "customerNumber",
        "customerName",
        "productId",
        "productName",
        "licenseType",
    )
    for kind, names in COLUMNS.items():
        settable = {item.name for item in described(csv_records.TYPES[kind]) if item.settable}
        assert settable <= set(names)
        assert not {"createdAt", "updatedAt", "etag"} & set(names)


# Cells.


@pytest.mark.parametrize(
    ("kind", "name", "cell", "value"),
    [
        (Kind.PRODUCTS, "active", "yes", True),
        (Kind.PRODUCTS, "active", "No", False),
        (Kind.PRODUCTS, "active", "TRUE", True),
        (Kind.PRODUCTS, "active", "false", False),
        (Kind.PRODUCTS, "active", "1", "1"),
        (Kind.PRODUCTS, "active", "", None),
        (Kind.PRODUCTS, "region", "ANZ", "anz"),
        (Kind.PRODUCTS, "region", "Internal", "internal"),
        (Kind.PRODUCTS, "region", "Mars", "Mars"),
        (Kind.LICENSES, "licenseType", "MANAGEDSERVICES", "managedServices"),
        (Kind.LICENSES, "licenseType", "Managed Services", "managedServices"),
        (Kind.LICENSES, "licenseType", "None", "none"),
        (Kind.PRODUCTS, "name", "Yes", "Yes"),
        (Kind.LICENSES, "numberOfUsers", "50", 50),
        (Kind.LICENSES, "numberOfUsers", "5.0", "5.0"),
        (Kind.LICENSES, "numberOfUsers", "1,000", "1,000"),
        (Kind.LICENSES, "numberOfUsers", "-1", "-1"),
        (Kind.LICENSES, "numberOfUsers", "٣", "٣"),
        (Kind.LICENSES, "numberOfUsers", "9" * 5000, "9" * 5000),
        (Kind.LICENSES, "startDate", "2026-07-01", "2026-07-01"),
        (Kind.LICENSES, "startDate", "01.07.2026", "01.07.2026"),
        (Kind.LICENSES, "wbs", "=1+1", "=1+1"),
    ],
)
def test_to_json_converts_cell_by_column_type_or_keeps_text(kind: Kind, name: str, cell: str, value: object) -> None:
    assert to_json(kind, {name: cell, "id": "x"}) == {name: value}
    assert type(to_json(kind, {name: cell})[name]) is type(value)


# There and back.

CUSTOMER = a_customer("Straße & Söhne, Inc.", number="=1+1")
PRODUCT = a_product('"Smart"; Send')


def back(kind: Kind, text: str, **more: Any) -> list[dict[str, Any]]:
    """What the file says of each record's fields, read as an import reads it."""
    lines, faults = read(text.encode(), kind)
    assert faults == []
    record_type = csv_records.TYPES[kind]
    said = [to_json(kind, line.cells) for line in lines]
    return [
        parse(record_type, {name: value for name, value in each.items() if value is not None}) | more for each in said
    ]


def build_record(record_type: type[Importable], fields: dict[str, Any], record: Importable) -> Importable:
    made: Importable = record_type(id=record.id, created_at=record.created_at, updated_at=record.updated_at, **fields)
    return made


_TEXT = st.text(st.characters(codec="utf-8", exclude_categories=["Cc"]), max_size=20)
_LINES = st.text(st.one_of(st.sampled_from('\r\n\t,;"= '), st.characters(codec="utf-8", exclude_categories=["Cc"])))
_DAY = st.none() | st.dates()
_RECORDS = st.one_of(
    st.builds(
        a_product,
        _TEXT,
        description=_LINES,
        region=st.sampled_from(Region),
        license_control_disabled=st.booleans(),
        terms_url=_TEXT,
        support_email=_TEXT,
        active=st.booleans(),
    ),
    st.builds(a_customer, _TEXT, description=_LINES, region=st.sampled_from(Region), number=_TEXT),
    st.builds(
        a_license,
        st.just(CUSTOMER.id),
        st.just(PRODUCT.id),
        license_type=st.sampled_from(LicenseType),
        enabled=st.booleans(),
        site_license=st.booleans(),
        number_of_users=st.none() | st.integers(1, 1_000_000),
        start_date=_DAY,
        end_date=_DAY,
        feature_disable_date=_DAY,
        agreement_start_date=_DAY,
        wbs=_TEXT,
        invoiced_as=_TEXT,
        notes=_LINES,
    ),
    st.builds(an_environment, st.just(CUSTOMER.id), _TEXT, tenant=_TEXT, active=st.booleans()),
)
_KIND_OF: dict[type, Kind] = {record_type: kind for kind, record_type in csv_records.TYPES.items()}


@given(st.lists(_RECORDS, min_size=1, max_size=4))
def test_write_then_read_returns_equal_records(records: list[Importable]) -> None:
    for kind, record_type in csv_records.TYPES.items():
        written = [normalized(record) for record in records if type(record) is record_type]
        text = write(kind, [(record, CUSTOMER, PRODUCT) for record in written])
        lines, faults = read(text.encode(), kind)
        assert faults == []
        assert [line.cells["id"] for line in lines] == [record.id for record in written]
        more = {"customer_id": CUSTOMER.id} if record_type in (CustomerProduct, Environment) else {}
        assert [
            build_record(record_type, fields, record)
            for fields, record in zip(back(kind, text, **more), written, strict=True)
        ] == written
        for line in lines:
            named = {name: line.cells[name] for name in line.cells if name.startswith("customer")}
            assert named in ({}, {"customerId": CUSTOMER.id, "customerNumber": "=1+1", "customerName": CUSTOMER.name})
            assert line.cells.get("productName", PRODUCT.name) == PRODUCT.name


def test_write_returns_expected_csv_text() -> None:
    license_ = a_license(CUSTOMER.id, PRODUCT.id, number_of_users=None, site_license=True, end_date=date(2027, 6, 30))
    heading, line, end = write(Kind.LICENSES, [(license_, CUSTOMER, PRODUCT)]).split("\r\n")
    assert (heading, end) == (",".join(COLUMNS[Kind.LICENSES]), "")
    assert line == (
        f'{license_.id},{CUSTOMER.id},=1+1,"Straße & Söhne, Inc.",{PRODUCT.id},"""Smart""; Send",'
        "annual,yes,yes,,,2027-06-30,,,,,"
    )
    assert write(Kind.PRODUCTS, []) == ",".join(COLUMNS[Kind.PRODUCTS]) + "\r\n"


def test_to_json_omits_missing_columns() -> None:
    assert to_json(Kind.CUSTOMERS, Line(2, {"name": "A", "number": ""}).cells) == {"name": "A", "number": None}
