"""Records of a publisher, as short as a test needs them, and services to keep them with."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from licensing.catalogue.records import Customer, CustomerProduct, Environment, LicenseType, Product, Publisher
from licensing.services import Services
from licensing.settings import Settings

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)


def _new(fields: dict[str, Any]) -> dict[str, Any]:
    return {"id": str(uuid4()), "created_at": NOW, "updated_at": NOW, **fields}


def a_publisher(**fields: Any) -> Publisher:
    return Publisher(**_new({"name": "Contoso", **fields}))


def a_product(name: str = "SmartSend", **fields: Any) -> Product:
    return Product(**_new({"name": name, **fields}))


def a_customer(name: str = "Fabrikam", **fields: Any) -> Customer:
    return Customer(**_new({"name": name, **fields}))


def a_license(customer_id: str, product_id: str, **fields: Any) -> CustomerProduct:
    given = {"license_type": LicenseType.ANNUAL, "number_of_users": 10, **fields}
    return CustomerProduct(**_new({"customer_id": customer_id, "product_id": product_id, **given}))


def an_environment(customer_id: str, serial_number: str = "S-1", **fields: Any) -> Environment:
    given = {"tenant": "fabrikam.com", "serial_number": serial_number, **fields}
    return Environment(**_new({"customer_id": customer_id, **given}))


@asynccontextmanager
async def services_on(account: str, **settings: Any) -> AsyncIterator[Services]:
    """Services of their own, with an empty memory, on a storage account where the table is there already.

    Unless a test sets it, the time-out of storage is longer than a slow machine needs.
    """
    made = Services(Settings(**{"storage": account, "storage_timeout_seconds": 30, **settings}))
    try:
        yield made
    finally:
        await made.close()
