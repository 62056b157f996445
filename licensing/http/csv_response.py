"""A list as a sheet: CSV (RFC 4180), made for Excel."""

import csv
import io
from collections.abc import Iterable
from typing import Any

from licensing.fields import described
from licensing.http.request import Request
from licensing.http.response import Response

JSON, CSV = "application/json", "text/csv"
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
"""What makes a formula of a cell, in some program and some language: the last four are = + - @ in full width."""


def wants_csv(request: Request) -> bool:
    """Whether CSV is what the caller names before JSON. How much it likes either (q) is not looked at."""
    accepted = request.headers.get("accept", "").split(",")
    named = [each.partition(";")[0].strip().lower() for each in accepted]
    return next((each for each in named if each in (JSON, CSV)), JSON) == CSV


def csv_response(kind: type, items: Iterable[Any], name: str) -> Response:
    """The sheet as a file of that name."""
    headers = {"Content-Disposition": f'attachment; filename="{name}.csv"'}
    return Response(csv_bytes(kind, items), f"{CSV}; charset=utf-8; header=present", headers=headers)


def csv_bytes(kind: type, items: Iterable[Any]) -> bytes:
    """A row for each item, below the labels of its kind's fields. UTF-8 with the mark by which Excel knows it."""
    columns = [column for column in described(kind) if column.shown]
    out = io.StringIO(newline="")
    writer = csv.writer(out)
    writer.writerow(column.label for column in columns)
    writer.writerows([_cell(getattr(item, column.attribute)) for column in columns] for item in items)
    return out.getvalue().encode("utf-8-sig")


def _cell(held: Any) -> Any:
    """The value as text that no program takes for a formula. A number of ours is a number, also below 0."""
    if held is None:
        return ""
    if isinstance(held, bool):
        return "yes" if held else "no"
    if isinstance(held, int):
        return held
    text = ", ".join(map(str, held)) if isinstance(held, tuple) else str(held)
    return f"'{text}" if text.startswith(_FORMULA) else text
