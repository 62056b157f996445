"""A publisher's records for an export, and as the base of a plan."""

from licensing.bulk.csv_records import Entry, Kind
from licensing.bulk.plan import PublisherData
from licensing.catalogue.records import Customer, Product
from licensing.catalogue.store import CatalogueStore
from licensing.errors import Busy, PublisherNotFound
from licensing.identifiers import fold

_READS = 5


async def read_publisher(store: CatalogueStore, publisher_id: str) -> PublisherData:
    """All records, as they were between two changes. Raises PublisherNotFound and Busy."""
    for _ in range(_READS):
        version = await store.version(publisher_id)
        if version is None:
            raise PublisherNotFound("No publisher of this id is known here: check the id, or make the publisher first.")
        documents = await store.documents(publisher_id)
        products = await store.list_records(publisher_id, Product)
        if await store.version(publisher_id) == version:
            return PublisherData(publisher_id, version.number, products, documents)
    raise Busy("Others keep changing these records. Nothing was changed; try again.")


def entries_by_kind(kept: PublisherData) -> dict[Kind, list[Entry]]:
    """What each file holds, in an order that people find their way in."""
    products = {product.id: product for product in kept.products}
    files: dict[Kind, list[Entry]] = {kind: [] for kind in Kind}
    files[Kind.PRODUCTS] = [(product, None, None) for product in sorted(kept.products, key=_by_name)]
    documents = [(document.customer, document) for document in kept.documents if document.customer is not None]
    for customer, document in sorted(documents, key=lambda each: _by_name(each[0])):
        files[Kind.CUSTOMERS].append((customer, None, None))
        held = [(products[license_.product_id], license_) for license_ in document.customer_products.values()]
        held.sort(key=lambda each: (_by_name(each[0]), str(each[1].start_date or ""), each[1].id))
        files[Kind.LICENSES] += [(license_, customer, product) for product, license_ in held]
        environments = sorted(
            document.environments.values(), key=lambda each: (fold(each.serial_number), fold(each.tenant))
        )
        files[Kind.ENVIRONMENTS] += [(environment, customer, None) for environment in environments]
    return files


def _by_name(record: Product | Customer) -> tuple[str, str]:
    return fold(record.name), record.id
