"""One validation on a real store: the license that it makes by itself, and what goes wrong in between."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any
from uuid import uuid4

import pytest

from clients.python.license_client import REPLY, verify
from licensing.catalogue.records import Customer, CustomerProduct, Environment, LicenseType, Product, Publisher, Record
from licensing.catalogue.service import Catalogue
from licensing.errors import Busy, PublisherNotFound, StorageUnavailable, TooManyRequests
from licensing.services import Services
from licensing.settings import Settings
from licensing.signing.keys import KeySet
from licensing.validation.rate import RateLimit
from licensing.validation.request import ValidationRequest
from licensing.validation.service import Validator

type Validate = Callable[..., Awaitable[list[dict[str, Any]]]]


@pytest.fixture
async def product_and_environment(services: Services, publisher: Publisher) -> tuple[Product, Environment]:
    """A product whose license control is disabled, and an environment of a customer without any license."""
    now = services.clock()

    async def keep[R: Record](record: R) -> R:
        return await services.catalogue.create(publisher.id, record, actor="test")

    def common() -> dict[str, Any]:
        return {"id": str(uuid4()), "created_at": now, "updated_at": now}

    customer = await keep(Customer(**common(), name="Fabrikam"))
    product = await keep(Product(**common(), name="CoreExtensions", license_control_disabled=True))
    environment = await keep(
        Environment(**common(), customer_id=customer.id, tenant="fabrikam.com", serial_number="C0FFEE")
    )
    return product, environment


@pytest.fixture
def validate(services: Services, publisher: Publisher, key_set: KeySet) -> Validate:
    """The products of a verified reply to this publisher's environment."""

    async def validate(*names: str, serial: str = "C0FFEE", validator: Validator | None = None) -> list[dict[str, Any]]:
        asked = ValidationRequest.parse(
            {
                "publisherId": publisher.id,
                "serialNumber": serial,
                "nonce": "n" * 16,
                "products": [{"productName": name} for name in names],
            }
        )
        reply = await (validator or services.validator).validate(asked, str(uuid4()))
        claims = verify(reply.token.decode(), {key.kid: key.public_key for key in key_set.keys}, REPLY)
        products: list[dict[str, Any]] = claims["products"]
        return products

    return validate


async def licenses_of(services: Services, publisher: Publisher, environment: Environment) -> list[CustomerProduct]:
    return await services.store.list_records(publisher.id, CustomerProduct, environment.customer_id)


async def test_validate_without_license_control_creates_perpetual_license(
    services: Services, publisher: Publisher, product_and_environment: tuple[Product, Environment], validate: Validate
) -> None:
    (reply,) = await validate("coreextensions")
    assert (reply["status"], reply["licenseType"], reply["siteLicense"]) == ("licensed", "perpetual", True)
    (made,) = await licenses_of(services, publisher, product_and_environment[1])
    assert (made.product_id, made.license_type, made.enabled) == (
        product_and_environment[0].id,
        LicenseType.PERPETUAL,
        True,
    )
    assert reply["startDate"] == str(made.start_date)
    assert made.end_date is None


async def test_validate_concurrently_creates_the_perpetual_license_once(
    services: Services, publisher: Publisher, product_and_environment: tuple[Product, Environment], validate: Validate
) -> None:
    names = ["CoreExtensions"] * 3
    replies = await asyncio.gather(*(validate(*names) for _ in range(10)))
    assert {product["status"] for reply in replies for product in reply} == {"licensed"}
    await validate("CoreExtensions")
    assert len(await licenses_of(services, publisher, product_and_environment[1])) == 1


async def test_validate_with_existing_license_creates_no_other(
    services: Services, publisher: Publisher, product_and_environment: tuple[Product, Environment], validate: Validate
) -> None:
    product, environment = product_and_environment
    now = services.clock()
    own = CustomerProduct(
        id=str(uuid4()),
        created_at=now,
        updated_at=now,
        customer_id=environment.customer_id,
        product_id=product.id,
        license_type=LicenseType.TEMP,
        enabled=False,
        number_of_users=1,
    )
    await services.catalogue.create(publisher.id, own, actor="test")
    (reply,) = await validate("CoreExtensions")
    assert (reply["status"], reply["licenseType"]) == ("licensed", "temp")
    assert [license_.id for license_ in await licenses_of(services, publisher, environment)] == [own.id]


async def test_validate_unknown_environment_replies_licensed_and_creates_no_license(
    services: Services, publisher: Publisher, product_and_environment: tuple[Product, Environment], validate: Validate
) -> None:
    (reply,) = await validate("CoreExtensions", serial="unknown")
    assert (reply["status"], reply["licenseType"]) == ("licensed", None)
    assert await licenses_of(services, publisher, product_and_environment[1]) == []


async def test_validate_inactive_environment_creates_perpetual_license(
    services: Services, publisher: Publisher, product_and_environment: tuple[Product, Environment], validate: Validate
) -> None:
    """The table of docs/protocol.md asks for no more than that the environment is known."""
    environment = product_and_environment[1]
    await services.catalogue.update(
        publisher.id,
        Environment,
        environment.id,
        lambda it: replace(it, active=False),
        actor="test",
        parent=environment.customer_id,
    )
    (reply,) = await validate("CoreExtensions")
    assert (reply["status"], reply["licenseType"]) == ("licensed", "perpetual")


class _FailingCatalogue(Catalogue):
    """A catalogue that makes no license: it raises, or where there is nothing to raise it hangs."""

    def __init__(self, error: Exception | None) -> None:
        self._error = error
        self.tries = 0

    async def grant_perpetual(self, *_: Any, **__: Any) -> CustomerProduct:
        self.tries += 1
        if self._error:
            raise self._error
        await asyncio.Event().wait()
        raise AssertionError


@pytest.mark.usefixtures("product_and_environment")
@pytest.mark.parametrize(
    "error", [StorageUnavailable("gone"), Busy("busy"), None], ids=["storage is gone", "busy", "storage hangs"]
)
async def test_validate_when_license_cannot_be_created_still_replies_licensed(
    services: Services, validate: Validate, error: Exception | None
) -> None:
    settings = replace(services.settings, storage_timeout_seconds=0.2)
    catalogue = _FailingCatalogue(error)
    validator = replace(services.validator, catalogue=catalogue, settings=settings)
    replies = await validate(*["CoreExtensions"] * 200, validator=validator)
    assert {(reply["status"], reply["licenseType"]) for reply in replies} == {("licensed", None)}
    assert catalogue.tries == 1, "after a failure none of the other 199 is tried"


@pytest.mark.usefixtures("product_and_environment")
async def test_validate_rate_limit_ignores_case_and_spaces_of_serial_number(
    services: Services, validate: Validate
) -> None:
    validator = replace(services.validator, limit=RateLimit(2))
    for serial in ("C0FFEE", " c0ffee "):
        await validate("CoreExtensions", serial=serial, validator=validator)
    with pytest.raises(TooManyRequests):
        await validate("CoreExtensions", serial="C0ffee", validator=validator)
    await validate("CoreExtensions", serial="another", validator=validator)


async def test_validate_with_unknown_publisher_raises_publisher_not_found(services: Services) -> None:
    asked = ValidationRequest.parse(
        {
            "publisherId": str(uuid4()),
            "serialNumber": "C0FFEE",
            "nonce": "n" * 16,
            "products": [{"productName": "CoreExtensions"}],
        }
    )
    with pytest.raises(PublisherNotFound):
        await services.validator.validate(asked, str(uuid4()))


async def test_validate_without_storage_or_cache_raises_storage_unavailable(key_set: KeySet) -> None:
    nobody_listens = "DefaultEndpointsProtocol=http;AccountName=a;AccountKey=YQ==;TableEndpoint=http://127.0.0.1:1/a;"
    cut_off = Services(Settings(storage=nobody_listens, signing_keys=key_set.dump()))
    asked = ValidationRequest.parse(
        {
            "publisherId": str(uuid4()),
            "serialNumber": "C0FFEE",
            "nonce": "n" * 16,
            "products": [{"productName": "CoreExtensions"}],
        }
    )
    try:
        with pytest.raises(StorageUnavailable) as caught:
            await cut_off.validator.validate(asked, str(uuid4()))
    finally:
        await cut_off.close()
    assert caught.value.retry_after_seconds
