"""Every path over real HTTP, from the demo's records to a reply that somebody else's code verifies."""

import asyncio
import itertools
import json
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from licensing.catalogue.records import CustomerProduct, Environment, Product
from licensing.cli.seed import DEMO_PRODUCTS, DEMO_PUBLISHER_ID, DEMO_SERIAL_NUMBER
from licensing.services import Services
from licensing.signing.keys import KeySet
from tests.support.hosting import (
    PUBLIC_URL,
    VALIDATE,
    LicenseFixture,
    Served,
    create_licensed,
    question,
    replied,
    served,
    verified,
)
from tests.support.waiting import WAIT_TIMEOUT_SECONDS

ENVIRONMENT_OFF = "C0FFEE-0043"
# What the demo's environment is told: status, action, warnings, license type.
DEMO: dict[str, tuple[str, str, list[str], str | None]] = {
    "SmartSend": ("licensed", "allow", [], "annual"),
    "CoreExtensions": ("licensed", "allow", [], "perpetual"),
    "FinanceUtilities": ("licensed", "allow", ["maintenanceExpired"], "perpetual"),
    "ItemCreation": ("licensed", "allow", ["expiresSoon"], "annual"),
    "ForexRates": ("expired", "prompt", [], "subscription"),
    "EdiConnect": ("notStarted", "prompt", [], "quarter"),
    "DocuFlow": ("featureDisabled", "disable", [], "temp"),
    "PriceLabels": ("notEnabled", "prompt", [], "month"),
    "BankFeeds": ("notLicensed", "prompt", [], None),
    "LeaseBook": ("unknownProduct", "prompt", [], None),
}


async def validate_products(
    client: httpx.AsyncClient, jwk_set: dict[str, Any], publisher_id: str, serial_number: str, *products: str
) -> list[dict[str, Any]]:
    """The products of the verified reply."""
    response = await client.post(VALIDATE, json=question(publisher_id, serial_number, *products))
    answered: list[dict[str, Any]] = replied(response, jwk_set)["products"]
    return answered


async def status_of(client: httpx.AsyncClient, jwk_set: dict[str, Any], licensed: LicenseFixture) -> str:
    (product,) = await validate_products(
        client, jwk_set, licensed.publisher_id, licensed.serial_number, licensed.product_name
    )
    return str(product["status"])


# --- replies


async def test_validate_demo_environment_returns_every_demo_status(
    client: httpx.AsyncClient, jwk_set: dict[str, Any]
) -> None:
    products = await validate_products(client, jwk_set, DEMO_PUBLISHER_ID, DEMO_SERIAL_NUMBER, *DEMO)
    shown = {
        product["productName"]: (product["status"], product["action"], product["warnings"], product["licenseType"])
        for product in products
    }
    assert shown == DEMO
    assert list(DEMO) == list(DEMO_PRODUCTS)
    for product in products:
        assert (product["message"] is None) is (product["action"] == "allow")
        assert product["publisherName"] == "Contoso Apps (demo)"


async def test_validate_inactive_environment_returns_environment_inactive(
    client: httpx.AsyncClient, jwk_set: dict[str, Any]
) -> None:
    products = await validate_products(client, jwk_set, DEMO_PUBLISHER_ID, ENVIRONMENT_OFF, "SmartSend", "LeaseBook")
    assert [product["status"] for product in products] == ["environmentInactive", "unknownProduct"]


async def test_validate_unregistered_serial_number_returns_unknown_environment(
    client: httpx.AsyncClient, jwk_set: dict[str, Any]
) -> None:
    products = await validate_products(
        client, jwk_set, DEMO_PUBLISHER_ID, f"S-{uuid4()}", "SmartSend", "CoreExtensions"
    )
    assert [product["status"] for product in products] == ["unknownEnvironment", "licensed"]


async def test_reply_claims_contain_issuer_audience_subject_and_validity(
    client: httpx.AsyncClient, jwk_set: dict[str, Any]
) -> None:
    asked = question(DEMO_PUBLISHER_ID.upper(), DEMO_SERIAL_NUMBER.lower(), "SmartSend")
    response = await client.post(VALIDATE, json=asked)
    claims = replied(response, jwk_set)
    assert (claims["iss"], claims["aud"], claims["sub"]) == (PUBLIC_URL, DEMO_PUBLISHER_ID, DEMO_SERIAL_NUMBER.lower())
    assert (claims["ver"], claims["stale"], claims["notices"]) == (1, False, [])
    assert claims["refreshAfter"] - claims["iat"] == timedelta(days=1).total_seconds()
    assert claims["exp"] - claims["iat"] == timedelta(days=7).total_seconds()
    assert claims["supportEmail"] == "support@example.com"
    assert claims["jti"] == str(UUID(response.headers["X-Request-Id"]))
    again = replied(await client.post(VALIDATE, json=asked), jwk_set)
    assert again["jti"] != claims["jti"]


async def test_validate_response_is_jose_with_server_timing_header(client: httpx.AsyncClient) -> None:
    response = await client.post(VALIDATE, json=question(DEMO_PUBLISHER_ID, DEMO_SERIAL_NUMBER, "SmartSend"))
    assert response.headers["content-type"] == "application/jose"
    assert response.headers["cache-control"] == "no-store"
    assert response.headers["x-content-type-options"] == "nosniff"
    assert UUID(response.headers["x-request-id"]).version == 4
    timings = dict(part.strip().split(";dur=") for part in response.headers["server-timing"].split(","))
    assert set(timings) == {"store", "sign"}
    assert all(float(milliseconds) >= 0 for milliseconds in timings.values())
    assert "set-cookie" not in response.headers


async def test_tampered_reply_fails_verification(client: httpx.AsyncClient, jwk_set: dict[str, Any]) -> None:
    """So that the tests above can fail."""
    asked = question(DEMO_PUBLISHER_ID, DEMO_SERIAL_NUMBER, "ForexRates")
    header, payload, signature = (await client.post(VALIDATE, json=asked)).text.split(".")
    other = payload[:-2] + ("AA" if payload[-2:] != "AA" else "BB")
    with pytest.raises(jwt.InvalidTokenError):
        verified(f"{header}.{other}.{signature}", jwk_set, audience=DEMO_PUBLISHER_ID)


# --- fresh


async def test_validate_reflects_every_change_immediately(
    client: httpx.AsyncClient, jwk_set: dict[str, Any], external_services: Services, licensed: LicenseFixture
) -> None:
    catalogue, today = external_services.catalogue, external_services.clock().date()
    publisher_id, parent = licensed.publisher_id, licensed.customer_id

    async def change_license(**changes: Any) -> None:
        await catalogue.update(
            publisher_id,
            CustomerProduct,
            licensed.license_id,
            lambda it: replace(it, **changes),
            actor="test",
            parent=parent,
        )

    async def change_product(**changes: Any) -> None:
        await catalogue.update(
            publisher_id, Product, licensed.product_id, lambda it: replace(it, **changes), actor="test"
        )

    assert await status_of(client, jwk_set, licensed) == "licensed"
    for enabled in (False, True):
        await change_license(enabled=enabled)
        assert await status_of(client, jwk_set, licensed) == ("licensed" if enabled else "notEnabled")
    await change_license(end_date=today - timedelta(days=3))
    assert await status_of(client, jwk_set, licensed) == "expired"
    await change_license(end_date=None)
    assert await status_of(client, jwk_set, licensed) == "licensed"
    for active in (False, True):
        await change_product(active=active)
        assert await status_of(client, jwk_set, licensed) == ("licensed" if active else "unknownProduct")
    (environment,) = await external_services.store.list_records(publisher_id, Environment, parent)
    await catalogue.delete(publisher_id, Environment, environment.id, actor="test", parent=parent)
    assert await status_of(client, jwk_set, licensed) == "unknownEnvironment"
    await catalogue.create(publisher_id, replace(environment, etag=""), actor="test")
    assert await status_of(client, jwk_set, licensed) == "licensed"
    await catalogue.delete(publisher_id, Environment, environment.id, actor="test", parent=parent)
    await catalogue.delete(publisher_id, CustomerProduct, licensed.license_id, actor="test", parent=parent)
    await catalogue.create(publisher_id, replace(environment, etag=""), actor="test")
    assert await status_of(client, jwk_set, licensed) == "notLicensed"


async def test_validate_finds_new_publisher_immediately(
    client: httpx.AsyncClient, jwk_set: dict[str, Any], external_services: Services
) -> None:
    publisher_id = str(uuid4())
    asked = question(publisher_id, f"S-{publisher_id}", "SmartSend")
    response = await client.post(VALIDATE, json=asked)
    assert (response.status_code, response.json()["code"]) == (404, "publisherNotFound")
    assert await status_of(client, jwk_set, await create_licensed(external_services, publisher_id)) == "licensed"


async def test_validate_without_license_control_creates_one_perpetual_license(
    client: httpx.AsyncClient, jwk_set: dict[str, Any], external_services: Services
) -> None:
    licensed = await create_licensed(external_services, str(uuid4()), licensed=False, license_control_disabled=True)
    asked = (licensed.publisher_id, licensed.serial_number, licensed.product_name)
    replies = await asyncio.gather(*(validate_products(client, jwk_set, *asked) for _ in range(8)))
    assert {product["status"] for products in replies for product in products} == {"licensed"}
    (product,) = await validate_products(client, jwk_set, *asked)
    assert (product["licenseType"], product["siteLicense"]) == ("perpetual", True)
    made = await external_services.store.list_records(licensed.publisher_id, CustomerProduct, licensed.customer_id)
    assert [license_.product_id for license_ in made] == [licensed.product_id]


# --- keys


async def test_key_endpoints_return_public_jwk_set(client: httpx.AsyncClient, key_set: KeySet) -> None:
    for path in ("/.well-known/jwks.json", "/api/v1/keys"):
        response = await client.get(path)
        assert response.headers["content-type"] == "application/jwk-set+json"
        assert response.json() == {"keys": [key.public_jwk for key in key_set.keys]}


async def test_signed_key_set_is_signed_by_current_key(
    client: httpx.AsyncClient, jwk_set: dict[str, Any], key_set: KeySet
) -> None:
    response = await client.get("/api/v1/keys/signed")
    assert response.headers["content-type"] == "application/jose"
    assert jwt.get_unverified_header(response.text)["kid"] == key_set.current.kid
    assert verified(response.text, jwk_set, "jwk-set+jwt")["keys"] == jwk_set["keys"]


async def test_key_files_contain_every_key_as_pem_and_xml(client: httpx.AsyncClient, jwk_set: dict[str, Any]) -> None:
    for jwk in jwk_set["keys"]:
        pem = await client.get(f"/api/v1/keys/{jwk['kid']}.pem")
        loaded = load_pem_public_key(pem.content)
        assert isinstance(loaded, rsa.RSAPublicKey)
        assert json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(loaded))["n"] == jwk["n"]
        xml = await client.get(f"/api/v1/keys/{jwk['kid']}.xml")
        assert xml.headers["content-type"] == "application/xml"
        assert xml.text.startswith("<RSAKeyValue><Modulus>")


async def test_key_endpoints_return_no_private_key_members(client: httpx.AsyncClient, key_set: KeySet) -> None:
    private = [jwk[name] for jwk in json.loads(key_set.dump())["keys"] for name in ("d", "p", "q", "dp", "dq", "qi")]
    files = [f"{key.kid}.{extension}" for key in key_set.keys for extension in ("pem", "xml")]
    paths = ["/.well-known/jwks.json", "/api/v1/keys", *(f"/api/v1/keys/{file}" for file in ("signed", *files))]
    for path in paths:
        text = (await client.get(path)).text
        assert not [member for member in private if member in text]
        assert "PRIVATE" not in text


# --- the rest


async def test_get_health_returns_component_statuses_only(client: httpx.AsyncClient) -> None:
    response = await client.get("/api/v1/health")
    assert (response.status_code, response.headers["content-type"]) == (200, "application/json")
    assert response.json() == {
        "status": "healthy",
        "checks": {"storage": "healthy", "signing": "healthy", "telemetry": "healthy"},
    }
    assert response.headers["cache-control"] == "no-store"


@pytest.mark.parametrize("path", ["/api/v1/health", "/.well-known/jwks.json", "/api/v1/keys", "/api/v1/keys/signed"])
async def test_head_returns_headers_of_get_without_body(client: httpx.AsyncClient, path: str) -> None:
    got, headed = await client.get(path), await client.head(path)
    assert (headed.status_code, headed.content) == (got.status_code, b"")
    for name in ("content-type", "content-length", "cache-control", "x-content-type-options"):
        assert headed.headers[name] == got.headers[name]


NOTHING = ["/", "/nothing", "/api/v1", "/api/v2/licenses/validate", "/api/v1/health/x", f"{VALIDATE}/x"]


@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/api/v1/keys/nothing.pem"), *itertools.product(["GET", "POST"], NOTHING)]
)
async def test_unknown_path_returns_404_problem_document(client: httpx.AsyncClient, path: str, method: str) -> None:
    response = await client.request(method, path)
    assert (response.status_code, response.json()["code"]) == (404, "notFound")
    assert response.headers["content-type"] == "application/problem+json"
    assert response.headers["x-request-id"] == response.json()["requestId"]


OFFERED = {
    VALIDATE: "POST",
    "/api/v1/health": "GET, HEAD",
    "/api/v1/keys": "GET, HEAD",
    "/api/v1/keys/signed": "GET, HEAD",
    "/.well-known/jwks.json": "GET, HEAD",
}


METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
NOT_OFFERED = [(method, path) for path in OFFERED for method in METHODS if method not in OFFERED[path].split(", ")]


@pytest.mark.parametrize(("method", "path"), NOT_OFFERED)
async def test_unsupported_method_returns_405_with_allow_header(
    client: httpx.AsyncClient, path: str, method: str
) -> None:
    response = await client.request(method, path)
    assert (response.status_code, response.headers["allow"]) == (405, OFFERED[path])
    assert response.headers["content-type"] == "application/problem+json"
    if method != "HEAD":
        assert response.json()["code"] == "methodNotAllowed"


async def test_paths_are_case_insensitive(client: httpx.AsyncClient, jwk_set: dict[str, Any]) -> None:
    asked = question(DEMO_PUBLISHER_ID, DEMO_SERIAL_NUMBER, "SmartSend")
    replied(await client.post(VALIDATE.upper(), json=asked), jwk_set)
    assert (await client.get(VALIDATE.upper())).headers["allow"] == "POST"


async def test_validate_over_rate_limit_returns_429_for_that_environment_only(
    host: Served, external_services: Services, tmp_path: Path, jwk_set: dict[str, Any]
) -> None:
    licensed = await create_licensed(external_services, str(uuid4()))
    asked = question(licensed.publisher_id, licensed.serial_number, licensed.product_name)
    settings = {**host.settings, "LICENSING_VALIDATIONS_PER_MINUTE": "1"}
    with served(settings, tmp_path) as limited:
        async with httpx.AsyncClient(base_url=limited.url, timeout=WAIT_TIMEOUT_SECONDS, trust_env=False) as client:
            replied(await client.post(VALIDATE, json=asked), jwk_set)
            refused = await client.post(VALIDATE, json=asked)
            assert (refused.status_code, refused.json()["code"]) == (429, "tooManyRequests")
            assert 1 <= int(refused.headers["retry-after"]) <= 60
            assert refused.headers["content-type"] == "application/problem+json"
            same = await client.post(VALIDATE, json=asked | {"serialNumber": f" {licensed.serial_number.lower()} "})
            assert same.status_code == 429
            replied(await client.post(VALIDATE, json=asked | {"serialNumber": "another"}), jwk_set)
            replied(
                await client.post(VALIDATE, json=question(DEMO_PUBLISHER_ID, DEMO_SERIAL_NUMBER, "SmartSend")), jwk_set
            )


async def test_host_log_contains_no_request_content(host: Served, client: httpx.AsyncClient) -> None:
    planted = "planted-4b1d"
    await client.post(
        VALIDATE,
        json=question(
            DEMO_PUBLISHER_ID,
            planted,
            planted,
            nonce=f"{planted}-0123456789",
            hostUrl=f"https://{planted}.operations.dynamics.com",
        ),
        headers={"x-planted": planted, "user-agent": planted},
    )
    await client.post(f"{VALIDATE}?q={planted}", json=question(planted, planted, planted))
    await client.get(f"/{planted}?q={planted}")
    await client.get(f"/api/v1/keys/{planted}.pem")
    answered = await client.get("/nothing")
    log = host.log.read_text()
    assert answered.headers["x-request-id"] in log
    assert planted not in log
