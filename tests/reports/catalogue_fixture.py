"""Publishers whose customer products end on given days, kept through the service's own use cases."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

from licensing.catalogue.records import Customer, CustomerProduct, Product, Publisher
from licensing.catalogue.rows import CustomerDocument, due_row
from licensing.services import Services
from licensing.storage.batches import MAX_OPERATIONS, Operation, Row
from tests.support.records import a_customer, a_license, a_product, a_publisher


@dataclass(frozen=True)
class CatalogueFixture:
    """A publisher, and the instance of the service that keeps its records."""

    services: Services
    publisher: Publisher

    @property
    def publisher_id(self) -> str:
        return self.publisher.id

    async def create[R: (Product, Customer, CustomerProduct)](self, record: R) -> R:
        return await self.services.catalogue.create(self.publisher_id, record, actor="test")

    async def add_license(self, customer: str, product: str, end_date: date | None, **fields: Any) -> CustomerProduct:
        """A license of a product of that name to a customer of that name: both are made where they are not there."""
        customer_id = await self._id(Customer, customer) or (await self.create(a_customer(customer))).id
        product_id = await self._id(Product, product) or (await self.create(a_product(product))).id
        return await self.create(a_license(customer_id, product_id, end_date=end_date, **fields))

    async def _id(self, kind: type[Product | Customer], name: str) -> str | None:
        found = await self.services.store.list_records(self.publisher_id, kind)
        return next((each.id for each in found if each.name == name), None)

    async def add_customers(self, customers: int, product: Product, end_dates: Sequence[date]) -> None:
        """So many customers more, each with a license of the product that ends on each of the dates.

        Written as the store would, but for the audit, in far fewer transactions.
        """
        rows = [row for _ in range(customers) for row in _rows(a_customer("Filler", etag="1"), product, end_dates)]
        for first in range(0, len(rows), MAX_OPERATIONS):
            operations = [Operation("create", row) for row in rows[first : first + MAX_OPERATIONS]]
            await self.services.table(self.publisher_id).commit(self.publisher_id, operations)


def _rows(customer: Customer, product: Product, end_dates: Sequence[date]) -> Iterator[Row]:
    licenses = [a_license(customer.id, product.id, end_date=day, etag="1") for day in end_dates]
    yield CustomerDocument(customer, {each.id: each for each in licenses}).to_row(1)
    for license_, day in zip(licenses, end_dates, strict=True):
        yield due_row(license_, day)


async def create_catalogue_fixture(services: Services, **fields: Any) -> CatalogueFixture:
    """A new publisher without records."""
    return CatalogueFixture(services, await services.catalogue.create_publisher(a_publisher(**fields), actor="test"))
