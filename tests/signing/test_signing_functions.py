"""The endpoints of the public keys, called as the worker calls them."""

import json
from collections.abc import Awaitable, Callable
from datetime import timedelta

import azure.functions as func
import pytest

from clients.python.license_client import KEY_SET, verify
from licensing.http.app import App
from licensing.services import Services
from licensing.settings import Settings
from licensing.signing.functions import endpoints
from licensing.signing.keys import KeySet
from tests.support.invocation import invoke
from tests.vectors import make

Get = Callable[[str], Awaitable[func.HttpResponse]]


@pytest.fixture
def services(key_set: KeySet) -> Services:
    return Services(Settings(signing_keys=key_set.dump(), public_url=make.ISSUER), clock=lambda: make.NOW)


@pytest.fixture
def get(services: Services) -> Get:
    return get_from(services)


def get_from(services: Services) -> Get:
    """Call the endpoints of an app with these services."""
    app = App(lambda: services)
    app.register(endpoints)
    functions = {function.get_dict_repr()["bindings"][0]["route"]: function for function in app.get_functions()}

    async def get(path: str) -> func.HttpResponse:
        folder, _, file = path.rpartition("/")
        route, params = (path, {}) if path in functions else (f"{folder}/{{file}}", {"file": file})
        return await invoke(functions[route], func.HttpRequest("GET", f"/{path}", route_params=params, body=b""))

    return get


@pytest.mark.parametrize("path", [".well-known/jwks.json", "api/v1/keys"])
async def test_key_set_endpoints_return_jwk_set(get: Get, path: str) -> None:
    response = await get(path)
    assert json.loads(response.get_body()) == json.loads((make.FOLDER / "jwk-set.json").read_text())
    assert (response.status_code, response.headers["Content-Type"]) == (200, "application/jwk-set+json")
    assert response.headers["Cache-Control"] == "public, max-age=300"


async def test_signed_key_set_endpoint_returns_verifiable_jws(get: Get, key_set: KeySet) -> None:
    response = await get("api/v1/keys/signed")
    trusted = {key_set.current.kid: key_set.current.public_key}
    claims = verify(response.get_body().decode(), trusted, KEY_SET)
    assert [jwk["kid"] for jwk in claims["keys"]] == [key.kid for key in key_set.keys]
    assert (claims["iss"], claims["iat"]) == (make.ISSUER, make.IAT)
    assert (response.status_code, response.headers["Content-Type"]) == (200, "application/jose")


@pytest.mark.parametrize(("extension", "media_type"), [("pem", "application/x-pem-file"), ("xml", "application/xml")])
async def test_key_endpoint_returns_current_key_in_requested_format(
    get: Get, key_set: KeySet, extension: str, media_type: str
) -> None:
    response = await get(f"api/v1/keys/{key_set.current.kid}.{extension}")
    assert response.get_body().strip() == (make.FOLDER / f"current.{extension}").read_bytes().strip()
    assert (response.status_code, response.headers["Content-Type"]) == (200, media_type)


@pytest.mark.parametrize(
    "file", ["unknown.pem", "unknown.xml", "{kid}", "{kid}.json", "{kid}.pem.xml", "signed.pem", ".pem"]
)
async def test_key_endpoint_with_unknown_file_returns_404(get: Get, key_set: KeySet, file: str) -> None:
    response = await get("api/v1/keys/" + file.replace("{kid}", key_set.current.kid))
    assert (response.status_code, response.headers["Content-Type"]) == (404, "application/problem+json")
    assert json.loads(response.get_body())["code"] == "notFound"


async def test_key_endpoint_of_retired_key_after_publication_period_returns_404(
    get: Get, key_set: KeySet, services: Services
) -> None:
    retired = key_set.keys[2]
    assert retired.published_until
    assert (await get(f"api/v1/keys/{retired.kid}.pem")).status_code == 200
    later = retired.published_until + timedelta(seconds=1)
    services.clock = lambda: later
    assert (await get(f"api/v1/keys/{retired.kid}.pem")).status_code == 404


async def test_key_set_endpoint_without_configured_keys_returns_500_without_details() -> None:
    response = await get_from(Services(Settings()))("api/v1/keys")
    assert response.status_code == 500
    assert b"LICENSING" not in response.get_body()
