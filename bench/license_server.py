"""Our own server as a contestant: the function app in the local host, over a catalogue filled for it."""

import asyncio
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, date, datetime
from functools import partial
from pathlib import Path
from typing import Any
from uuid import NAMESPACE_URL, uuid5

from bench.contestants import ENVIRONMENTS, PRODUCT_NAMES, PUBLISHER_ID, reply_check, serial_number, validate_requests
from bench.programs import function_host
from bench.rounds import Contestant, Running
from bench.sink import silent, taking
from devhost.server import RunningHost
from licensing.catalogue.records import Customer, CustomerProduct, Environment, LicenseType, Product, Publisher
from licensing.catalogue.rows import CustomerDocument, own_row, serial_row
from licensing.services import Services
from licensing.settings import Settings
from licensing.signing.keys import KeySet
from licensing.storage.batches import MAX_OPERATIONS, Operation, Row

TELEMETRY_TAKEN = "ours, kept, telemetry on"
TELEMETRY_DEAD = "ours, kept, telemetry unanswered"
_LOADING_SECONDS = 3.0
_REPOSITORY = Path(__file__).resolve().parent.parent
_NOW = datetime(2026, 1, 1, tzinfo=UTC)


class LicenseServer:
    """The server over a storage account (a connection string), with as many customers as are asked for."""

    def __init__(self, storage: str, *, customers: int = ENVIRONMENTS, storage_table: str = "bench") -> None:
        self._key_set = KeySet().created(_NOW)
        self._environ = {
            "LICENSING_STORAGE": storage,
            "LICENSING_STORAGE_TABLE": storage_table,
            # The longest that is allowed: the emulator shares the machine with the load.
            "LICENSING_STORAGE_TIMEOUT_SECONDS": "30",
            "LICENSING_SIGNING_KEYS": self._key_set.dump(),
            # The load of one environment is not what is measured.
            "LICENSING_VALIDATIONS_PER_MINUTE": "1000000",
        }
        self._customers = customers
        self._filled = False

    def fill(self) -> None:
        """Put the records into the table: one environment a customer, with a license of each product."""
        if not self._filled:
            asyncio.run(_fill(self.services(), self._customers))
            self._filled = True

    def services(self) -> Services:
        """The services of the server, in this process."""
        return Services(Settings.read(self._environ))

    @contextmanager
    def start(self, environ: dict[str, str] | None = None) -> Iterator[RunningHost]:
        """Run the server, with more settings where wanted."""
        self.fill()
        with function_host(_REPOSITORY, {**os.environ, **self._environ, **(environ or {})}) as host:
            yield host

    @contextmanager
    def contest(self, environ: dict[str, str] | None = None) -> Iterator[Running]:
        """Run the server against the clock."""
        with self.start(environ) as host:
            check = reply_check(self._key_set.current.public_key)
            yield Running(url=host.url, requests=validate_requests(self._customers), check=check)

    def contestants(self, connections: Sequence[int]) -> list[Contestant]:
        """With what it keeps, at each number of connections; with nothing kept; and with telemetry."""
        kept = [
            Contestant(name=f"ours, kept, {number} connections", connections=number, start=self.contest)
            for number in connections
        ]
        cold = Contestant(
            name="ours, nothing kept, 16 connections",
            connections=16,
            start=lambda: self.contest({"LICENSING_CACHED_ENVIRONMENTS": "0"}),
        )
        most = max(connections)
        told = [
            Contestant(name=f"{name}, {most} connections", connections=most, start=partial(self._tell, to))
            for name, to in ((TELEMETRY_TAKEN, taking), (TELEMETRY_DEAD, silent))
        ]
        return [*kept, cold, *told]

    @contextmanager
    def _tell(self, to: Callable[[], AbstractContextManager[dict[str, str]]]) -> Iterator[Running]:
        with to() as environ, self.contest(environ) as running:
            # What is loaded when telemetry is on is loaded beside the first requests, not beside those that are timed.
            time.sleep(_LOADING_SECONDS)
            yield running


async def _fill(services: Services, customers: int) -> None:
    products = [Product(**_common(name), name=name, support_email="support@example.com") for name in PRODUCT_NAMES]
    publisher = Publisher(**_common("publisher") | {"id": PUBLISHER_ID}, name="Contoso Add-ons")
    rows: list[Row] = [own_row(publisher), *map(own_row, products)]
    for number in range(customers):
        rows += _customer_rows(number, products)
    rows.append({"RowKey": "version", "number": 1})
    table = services.table(PUBLISHER_ID)
    try:
        await table.create()
        for first in range(0, len(rows), MAX_OPERATIONS):
            # `put`, because the contestant before may have failed while it filled the table.
            operations = [Operation("put", row) for row in rows[first : first + MAX_OPERATIONS]]
            await table.commit(PUBLISHER_ID, operations)
    finally:
        await services.close()


def _customer_rows(number: int, products: Sequence[Product]) -> list[Row]:
    customer = Customer(**_common(f"customer {number}"), name=f"Customer {number}")
    environment = Environment(
        **_common(f"environment {number}"),
        customer_id=customer.id,
        tenant="example.com",
        serial_number=serial_number(number),
    )
    licenses = [
        CustomerProduct(
            **_common(f"license {number} {product.name}"),
            customer_id=customer.id,
            product_id=product.id,
            license_type=LicenseType.ANNUAL,
            number_of_users=50,
            start_date=date(2026, 1, 1),
            end_date=date(2030, 12, 31),
        )
        for product in products
    ]
    document = CustomerDocument(customer, {each.id: each for each in licenses}, {environment.id: environment})
    return [document.to_row(1), serial_row(environment)]


def _common(name: str) -> dict[str, Any]:
    return {"id": str(uuid5(NAMESPACE_URL, name)), "etag": "1", "created_at": _NOW, "updated_at": _NOW}
