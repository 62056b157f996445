"""`python -m licensing seed`: a demo publisher whose records show every status that a validation can have."""

import os
from collections.abc import Iterator
from datetime import date, datetime, timedelta
from typing import Any
from uuid import NAMESPACE_URL, uuid5

import typer

from licensing.catalogue.draft import Draft
from licensing.catalogue.records import (
    Customer,
    CustomerProduct,
    Environment,
    LicenseType,
    Product,
    Publisher,
    Record,
    Region,
    Role,
    User,
)
from licensing.catalogue.service import draft_record
from licensing.cli.running import with_services
from licensing.http.permissions import Privilege, View
from licensing.services import Services

DEMO_PUBLISHER_ID = "446d5d80-d20d-43c6-a96c-370628f5bd9f"
DEMO_SERIAL_NUMBER = "C0FFEE-0042"
DEMO_ADMIN = "admin@example.com"
DEMO_PRODUCTS = (
    "SmartSend",
    "CoreExtensions",
    "FinanceUtilities",
    "ItemCreation",
    "ForexRates",
    "EdiConnect",
    "DocuFlow",
    "PriceLabels",
    "BankFeeds",
    "LeaseBook",
)
"""What to ask for to see every status that one environment can show."""


def demo_records(now: datetime) -> Iterator[Record]:
    """The demo publisher, its users and its records, parents before their children, with dates around `now`."""
    today = now.date()

    def common(name: str) -> dict[str, Any]:
        return {"id": str(uuid5(NAMESPACE_URL, f"demo:{name}")), "created_at": now, "updated_at": now}

    def day(offset: int) -> date:
        return today + timedelta(days=offset)

    yield Publisher(
        **common("publisher") | {"id": DEMO_PUBLISHER_ID},
        name="Contoso Apps (demo)",
        support_email="support@example.com",
        allowed_domains=("example.com",),
    )
    products = {
        name: Product(
            **common(name),
            name=name,
            region=Region.GLOBAL,
            support_email="support@example.com",
            terms_url=f"https://example.com/{name.lower()}/terms",
            license_control_disabled=name == "CoreExtensions",
            active=name != "LeaseBook",
        )
        for name in DEMO_PRODUCTS
    }
    yield from products.values()
    role = Role(
        **common("role"),
        name="Sales",
        privileges={
            View.PRODUCTS: Privilege.READ,
            View.CUSTOMERS: Privilege.CREATE,
            View.CUSTOMER_PRODUCTS: Privilege.CREATE,
            View.ENVIRONMENTS: Privilege.CREATE,
            View.REPORTS: Privilege.READ,
        },
    )
    yield role
    yield User(**common("admin"), email=DEMO_ADMIN, name="Demo admin", organization_admin=True)
    yield User(**common("sales"), email="sales@example.com", name="Demo salesperson", role_ids=(role.id,))

    customer = Customer(**common("customer"), name="Fabrikam", region=Region.ANZ, number="C-1001")
    other = Customer(**common("other customer"), name="Northwind Traders", region=Region.NORDIC, number="C-1002")
    yield from (customer, other)
    yield Environment(
        **common("environment"), customer_id=customer.id, tenant="fabrikam.com", serial_number=DEMO_SERIAL_NUMBER
    )
    yield Environment(
        **common("inactive environment"),
        customer_id=other.id,
        tenant="northwind.com",
        serial_number="C0FFEE-0043",
        active=False,
    )

    def license_(name: str, license_type: LicenseType, start: int, end: int, **more: Any) -> CustomerProduct:
        fields: dict[str, Any] = {"number_of_users": 50, "start_date": day(start), "end_date": day(end), **more}
        return CustomerProduct(
            **common(f"license {name}"),
            customer_id=customer.id,
            product_id=products[name].id,
            license_type=license_type,
            **fields,
        )

    yield license_("SmartSend", LicenseType.ANNUAL, -165, 200)
    yield license_("FinanceUtilities", LicenseType.PERPETUAL, -800, -70, number_of_users=None, site_license=True)
    yield license_("ItemCreation", LicenseType.ANNUAL, -345, 20)
    yield license_("ForexRates", LicenseType.SUBSCRIPTION, -400, -35)
    yield license_("EdiConnect", LicenseType.QUARTER, 10, 100)
    yield license_("DocuFlow", LicenseType.TEMP, -90, -60, feature_disable_date=day(-30))
    yield license_("PriceLabels", LicenseType.MONTH, -20, 10, enabled=False)


async def seed(services: Services) -> bool:
    """True once the demo publisher is there anew; False where the store was not empty, and nothing was touched."""
    table = services.table(DEMO_PUBLISHER_ID)
    await table.create()
    if not await table.is_empty():
        return False

    async def prepare(draft: Draft) -> bool:
        if await draft.find(Publisher, DEMO_PUBLISHER_ID) is not None:
            return False
        for record in demo_records(draft.now):
            await draft_record(draft, record)
        return True

    return await services.store.change(DEMO_PUBLISHER_ID, "seed", prepare)


def command() -> None:
    """Put a demo publisher into the store, if that is empty.

    Its products, customers, licenses and environments show every status that a validation can have.
    """
    made = with_services(os.environ, seed)
    typer.echo(
        f"The demo publisher {DEMO_PUBLISHER_ID} is there now." if made else "The store is not empty: left as it is."
    )
