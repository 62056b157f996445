"""The expiry report: what is due, with the names that people know it by."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable, Collection
from datetime import date, datetime

from licensing.catalogue.dates import Dates, has_ended
from licensing.catalogue.records import Customer, CustomerProduct, LicenseType, Product
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
        now = self._clock()
        async for some in _whole_days(self._store.due(publisher_id, first, last)):
            await names.read(some)
            items = [item for each in some if (item := names.item(each, now))]
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
    """The customers and products of a publisher that were asked for, with what a report shows of them."""

    def __init__(self, store: CatalogueStore, publisher_id: str) -> None:
        self._store = store
        self._publisher_id = publisher_id
        self._products: dict[str, Product] = {}
        self._customers: dict[str, Customer | None] = {}
        self._licenses: dict[str, CustomerProduct] = {}

    async def read(self, due: Collection[Due]) -> None:
        """Read the customers and products of these, as far as they are not known."""
        if {each.product_id for each in due} - self._products.keys():
            self._products = {each.id: each for each in await self._store.list_records(self._publisher_id, Product)}
        unknown = {each.customer_id for each in due if each.customer_product_id not in self._licenses}
        for some in itertools.batched(unknown, _READS_AT_ONCE, strict=False):
            found = await asyncio.gather(*(self._store.find_document(self._publisher_id, each) for each in some))
            for customer_id, document in zip(some, found, strict=True):
                self._customers[customer_id] = document.customer if document else None
                self._licenses |= document.customer_products if document else {}

    def item(self, due: Due, now: datetime) -> ExpiryItem | None:
        """None where the customer product, its customer or its product is gone."""
        customer, product = self._customers[due.customer_id], self._products.get(due.product_id)
        license_ = self._licenses.get(due.customer_product_id)
        if customer is None or product is None or license_ is None:
            return None
        ended, is_perpetual = has_ended(due.end_date, Dates.at(now)), due.license_type is LicenseType.PERPETUAL
        return ExpiryItem(
            customer_name=customer.name,
            customer_number=customer.number,
            region=customer.region,
            product_name=product.name,
            license_type=due.license_type,
            end_date=due.end_date,
            feature_disable_date=license_.feature_disable_date,
            enabled=license_.enabled,
            days_left=(due.end_date - now.date()).days,
            expired=ended and not is_perpetual,
            maintenance_expired=ended and is_perpetual,
            customer_id=due.customer_id,
            product_id=due.product_id,
            customer_product_id=due.customer_product_id,
        )
