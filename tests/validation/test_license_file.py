"""License files: what an environment without a network is given, made of the same decisions as a reply."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from clients.python.license_client import LICENSE_FILE, REPLY, Client, Refused, Stored, verify
from licensing.catalogue.records import Customer, CustomerProduct, Environment, LicenseType, Product, Publisher
from licensing.errors import PublisherNotFound, RuleBroken, StorageUnavailable
from licensing.services import Services
from licensing.signing.keys import KeySet

SERIAL = "closed-1"


@pytest.fixture
async def environment(services: Services, publisher: Publisher) -> Environment:
    """A customer in a closed network: holds SmartSend, and not EdiConnect; LeaseBook is no longer sold."""
    now = services.clock()

    def common() -> dict[str, Any]:
        return {"id": str(uuid4()), "created_at": now, "updated_at": now}

    async def keep[R: Any](record: R) -> R:
        return await services.catalogue.create(publisher.id, record, actor="test")

    made = await keep(Customer(**common(), name="Fabrikam"))
    for name, held, active in (("SmartSend", True, True), ("EdiConnect", False, True), ("LeaseBook", True, False)):
        product = await keep(Product(**common(), name=name, active=active))
        if held:
            await keep(
                CustomerProduct(
                    **common(),
                    customer_id=made.id,
                    product_id=product.id,
                    license_type=LicenseType.ANNUAL,
                    site_license=True,
                    end_date=now.date() + timedelta(days=100),
                )
            )
    return await keep(Environment(**common(), customer_id=made.id, tenant="fabrikam.com", serial_number=SERIAL))


@pytest.mark.parametrize("days", [1, 400])
async def test_license_file_lists_licensed_products_and_expires_after_requested_days(
    services: Services, publisher: Publisher, environment: Environment, key_set: KeySet, days: int
) -> None:
    token = await services.validator.license_file(publisher.id, environment, days, actor="test")
    claims = verify(token.decode(), {key.kid: key.public_key for key in key_set.keys}, LICENSE_FILE)
    assert [(each["productName"], each["status"]) for each in claims["products"]] == [("SmartSend", "licensed")]
    assert [each["status"] for each in claims["products"][0]["changes"]] == ([] if days == 1 else ["expired"])
    assert (claims["aud"], claims["sub"], claims["stale"]) == (publisher.id, SERIAL, False)
    assert claims["exp"] - claims["iat"] == claims["refreshAfter"] - claims["iat"] == days * 86_400
    assert "nonce" not in claims


async def test_license_file_outlasting_its_license_prompts_then_disables_on_its_dates(
    services: Services, publisher: Publisher, environment: Environment, key_set: KeySet
) -> None:
    sold = {product.id: product.name for product in await services.store.list_records(publisher.id, Product)}
    licenses = await services.store.list_records(publisher.id, CustomerProduct, environment.customer_id)
    (license_,) = (each for each in licenses if sold[each.product_id] == "SmartSend")
    issued_at = datetime(2026, 11, 24, 9, 30, tzinfo=UTC)
    await services.catalogue.update(
        publisher.id,
        CustomerProduct,
        license_.id,
        lambda before: replace(before, end_date=date(2026, 12, 14), feature_disable_date=date(2027, 1, 13)),
        actor="test",
        parent=environment.customer_id,
    )
    validator = replace(services.validator, clock=lambda: issued_at)
    token = (await validator.license_file(publisher.id, environment, 400, actor="test")).decode()
    keys = {key.kid: key.public_key for key in key_set.keys}
    (product,) = verify(token, keys, LICENSE_FILE)["products"]
    assert (product["status"], product["action"]) == ("licensed", "allow")
    # A day ends at UTC-12, where it ends last: that is at noon of the next day.
    assert [(change["at"], change["status"], change["action"]) for change in product["changes"]] == [
        ("2026-12-15T12:00:00Z", "expired", "prompt"),
        ("2027-01-13T12:00:00Z", "featureDisabled", "disable"),
    ]
    client = Client(issuer=None, publisher_id=publisher.id, serial_number=SERIAL, pinned=keys)
    code, stored = client.after_license_file(token, Stored(), int(issued_at.timestamp()))
    assert code == "verified"
    actions = {}
    for day in (0, 19, 22, 49, 60, 399):
        now = int((issued_at + timedelta(days=day)).timestamp())
        actions[day] = client.state(["SmartSend"], stored, now).actions["SmartSend"]
    assert actions == {0: "allow", 19: "allow", 22: "prompt", 49: "prompt", 60: "disable", 399: "disable"}


async def test_verify_license_file_as_reply_raises_refused(
    services: Services, publisher: Publisher, environment: Environment, key_set: KeySet
) -> None:
    token = await services.validator.license_file(publisher.id, environment, 30, actor="test")
    with pytest.raises(Refused, match="another purpose"):
        verify(token.decode(), {key.kid: key.public_key for key in key_set.keys}, REPLY)


async def test_license_file_is_recorded_in_the_audit(
    services: Services, publisher: Publisher, environment: Environment, key_set: KeySet
) -> None:
    token = await services.validator.license_file(publisher.id, environment, 90, actor="ann@example.com")
    claims = verify(token.decode(), {key.kid: key.public_key for key in key_set.keys}, LICENSE_FILE)
    newest = await anext(services.store.audit(publisher.id))
    assert (newest.actor, newest.kind, newest.record_id) == ("ann@example.com", "licenseFile", claims["jti"])
    assert newest.after
    assert (newest.after["environmentId"], newest.after["serialNumber"]) == (environment.id, SERIAL)


async def test_license_file_without_active_product_or_publisher_raises(
    services: Services, publisher: Publisher, environment: Environment
) -> None:
    stranger = replace(environment, serial_number="nobody's")
    with pytest.raises(RuleBroken, match="holds no active product"):
        await services.validator.license_file(publisher.id, stranger, 30, actor="test")
    with pytest.raises(PublisherNotFound):
        await services.validator.license_file(str(uuid4()), environment, 30, actor="test")


async def test_license_file_with_stale_records_raises_storage_unavailable(
    services: Services, publisher: Publisher, environment: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = await services.environment_cache.get(publisher.id, SERIAL)

    async def stale(*_: str) -> Any:
        return replace(kept, stale=True)

    monkeypatch.setattr(services.environment_cache, "get", stale)
    with pytest.raises(StorageUnavailable):
        await services.validator.license_file(publisher.id, environment, 30, actor="test")
