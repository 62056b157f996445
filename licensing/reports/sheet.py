"""The expiry report as a sheet: CSV (RFC 4180), made for Excel."""

import csv
import io
from collections.abc import Iterable
from typing import Any

from licensing.fields import described
from licensing.reports.model import ExpiryItem

_COLUMNS = described(ExpiryItem)
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
"""What makes a formula of a cell, in some program and some language: the last four are = + - @ in full width."""


def sheet(items: Iterable[ExpiryItem]) -> bytes:
    """A row for each item, below the labels of its fields. UTF-8 with the mark by which Excel knows it."""
    out = io.StringIO(newline="")
    writer = csv.writer(out)
    writer.writerow(column.label for column in _COLUMNS)
    writer.writerows([_cell(getattr(item, column.attribute)) for column in _COLUMNS] for item in items)
    return out.getvalue().encode("utf-8-sig")


def _cell(held: Any) -> Any:
    """The value as text that no program takes for a formula. A number of ours is a number, also below 0."""
    if isinstance(held, bool):
        return "yes" if held else "no"
    if isinstance(held, int):
        return held
    text = str(held)
    return f"'{text}" if text.startswith(_FORMULA) else text
