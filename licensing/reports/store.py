"""The reminders that were sent to a publisher, in rows next to its records.

    reminder|<end date>|<id>|<nn>   that it was reminded of this customer product, nn days or less before it ends

No version guards these rows, since no rule depends on them.
"""

import itertools
from collections.abc import Callable, Iterable
from datetime import date, datetime, timedelta

from licensing.fields import instant
from licensing.reports.model import Reminded
from licensing.storage.batches import MAX_OPERATIONS, Operation, Row
from licensing.storage.keys import row_key
from licensing.storage.table import Table

_REMINDER = "reminder"


class SentReminders:
    """What publishers were reminded of. `table(publisher_id)` says where a publisher's rows are."""

    def __init__(self, table: Callable[[str], Table], clock: Callable[[], datetime]) -> None:
        self._table = table
        self._clock = clock

    async def read(self, publisher_id: str, first: date, last: date) -> set[Reminded]:
        """What the publisher was reminded of, among all that ends from the one day to the other, both included."""
        rows = self._table(publisher_id).rows(
            publisher_id,
            f"{_REMINDER}|",
            after=_day_key(first),
            until=_day_key(last + timedelta(days=1)),
            select=["endDate", "customerProductId", "threshold"],
        )
        return {
            Reminded(date.fromisoformat(row["endDate"]), row["customerProductId"], row["threshold"])
            async for row in rows
        }

    async def write(self, publisher_id: str, reminded: Iterable[Reminded]) -> None:
        """Keep that the publisher was reminded. Raises StorageUnavailable, and then some of it may be kept."""
        at = instant(self._clock())
        for some in itertools.batched(reminded, MAX_OPERATIONS, strict=False):
            operations = [Operation("put", _row(each, at)) for each in some]
            await self._table(publisher_id).commit(publisher_id, operations)


def _day_key(day: date) -> str:
    """What comes before all reminders of what ends on that day."""
    return row_key(_REMINDER, day.isoformat(), "")


def _row(reminded: Reminded, at: str) -> Row:
    key = row_key(_REMINDER, reminded.end_date.isoformat(), reminded.customer_product_id)
    return {
        "RowKey": f"{key}|{reminded.threshold:02d}",
        "customerProductId": reminded.customer_product_id,
        "endDate": reminded.end_date.isoformat(),
        "threshold": reminded.threshold,
        "at": at,
    }
