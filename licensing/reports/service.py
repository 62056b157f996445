"""The expiry report: what is due, with the names that people know it by."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable, Collection
from datetime import date, datetime

from licensing.catalogue.model import Customer, Product
from licensing.catalogue.store import CatalogueStore, Due
from licensing.reports.model import ExpiryItem, ExpiryWindow, last_day

_READS_AT_ONCE = 16
_ITEMS_AT_ONCE = 64
"""So many items or a few more are made at a time: who wants a page does not pay for the whole report."""


class ExpiryReports:
    """Reads what is due, and nothing of what is not."""

    def __init__(self, store: CatalogueStore, clock: Callable[[], datetime]) -> None:
        self._store = store
        self._clock = clock

    def report(
        self, publisher_id: str, window: ExpiryWindow, *, include_overdue: bool = False, after: list[str] | None = None
    ) -> AsyncIterator[ExpiryItem]:
        """What ends in the window, and where wanted what has ended before it; `after`: those behind that position."""
        today = self._clock().date()
        first = date.min if include_overdue else today
        return self.between(publisher_id, first, last_day(window, today), after=after)

    async def between(
        self, publisher_id: str, first: date, last: date, *, after: list[str] | None = None
    ) -> AsyncIterator[ExpiryItem]:
        """What ends from the one day to the other, by date, customer and product.

        What is deleted while this reads is left out. Raises StorageUnavailable.
        """
        if after is not None:
            first = max(first, date.fromisoformat(after[0]))
        names = _Names(self._store, publisher_id)
        today = self._clock().date()
        async for some in _whole_days(self._store.due(publisher_id, first, last)):
            await names.read(some)
            items = [item for each in some if (item := names.item(each, today))]
            for item in sorted(items, key=lambda item: item.position):
                if after is None or item.position > after:
                    yield item


async def _whole_days(due: AsyncIterator[Due]) -> AsyncIterator[list[Due]]:
    """The same in pieces, each of which ends where a day does: so to sort each of them is to sort them all."""
    piece: list[Due] = []
    async for each in due:
        if len(piece) >= _ITEMS_AT_ONCE and each.end_date != piece[-1].end_date:
            yield piece
            piece = []
        piece.append(each)
    if piece:
        yield piece


class _Names:
    """The names of those customers and products of a publisher that were asked for."""

    def __init__(self, store: CatalogueStore, publisher_id: str) -> None:
        self._store = store
        self._publisher_id = publisher_id
        self._products: dict[str, Product] = {}
        self._customers: dict[str, Customer | None] = {}

    async def read(self, due: Collection[Due]) -> None:
        """Read the names of these, as far as they are not known."""
        if {each.product_id for each in due} - self._products.keys():
            self._products = {each.id: each for each in await self._store.under(self._publisher_id, Product)}
        unknown = {each.customer_id for each in due} - self._customers.keys()
        for some in itertools.batched(unknown, _READS_AT_ONCE, strict=False):
            found = await asyncio.gather(*(self._store.find(self._publisher_id, Customer, each) for each in some))
            self._customers |= zip(some, found, strict=True)

    def item(self, due: Due, today: date) -> ExpiryItem | None:
        """None where its customer or its product is gone."""
        customer, product = self._customers[due.customer_id], self._products.get(due.product_id)
        if customer is None or product is None:
            return None
        days_left = (due.end_date - today).days
        return ExpiryItem(
            customer_name=customer.name,
            product_name=product.name,
            license_type=due.license_type,
            end_date=due.end_date,
            days_left=days_left,
            expired=days_left < 0,
            customer_id=due.customer_id,
            product_id=due.product_id,
            customer_product_id=due.customer_product_id,
        )
