"""The real thing for tests: Microsoft's worker serving this repository's function app, on a real store."""

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import httpx
import jwt

from devhost.ingestion_sink import Answer, Envelope, accept, collecting
from devhost.server import start
from licensing.catalogue.draft import Draft
from licensing.catalogue.records import Customer, CustomerProduct, Environment, LicenseType, Product, Publisher
from licensing.catalogue.service import draft_record
from licensing.cli import seed
from licensing.cli.running import with_services
from licensing.services import Services
from licensing.settings import Settings
from licensing.signing.keys import KeySet
from licensing.telemetry.model import AllowlistFilter
from tests.support.waiting import http_get, until

WATCHING = Path(__file__).with_name("watching")
REPOSITORY = Path(__file__).resolve().parent.parent.parent
VALIDATE = "/api/v1/licenses/validate"
NONCE = "9c1f8b0e6f5d4c3ab2a19087f6e5d4c3"
PUBLIC_URL = "https://licenses.example.com"


@dataclass(frozen=True)
class Served:
    """A running host: its address, its settings, and the file that holds all it has printed."""

    url: str
    settings: Mapping[str, str]
    log: Path
    told: list[Envelope]
    """What has arrived at its Application Insights."""

    def services(self) -> Services:
        """Services beside the host's own, on the same records: another process, as the host sees it."""
        return Services(Settings.read(self.settings))


def settings_for(storage: str, key_set: KeySet, **more: str) -> dict[str, str]:
    """Settings of a service for which a slow machine is no outage, and a fast one no flood."""
    return {
        "LICENSING_STORAGE": storage,
        "LICENSING_STORAGE_TIMEOUT_SECONDS": "30",
        "LICENSING_VALIDATIONS_PER_MINUTE": "1000000",
        "LICENSING_SIGNING_KEYS": key_set.dump(),
        "LICENSING_PUBLIC_URL": PUBLIC_URL,
        "LICENSING_SUPPORT_EMAIL": "service@example.com",
        **more,
    }


def environ_with(settings: Mapping[str, str]) -> dict[str, str]:
    """The environment of this process, with these settings and no others of ours."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("LICENSING_")}
    return {**own, **settings}


@contextmanager
def served(settings: Mapping[str, str], folder: Path, port: int = 0) -> Iterator[Served]:
    """A host with these settings, until the block ends; on any free port where none is named.

    Whatever it is used for, what it has told is looked at in the end.
    """
    log = folder / "host.log"
    told: list[Envelope] = []

    async def keep(envelopes: Sequence[Envelope]) -> Answer:
        told.extend(envelopes)
        return await accept(envelopes)

    with collecting(answer=keep) as ingestion:
        telling = {"LICENSING_TELEMETRY": ingestion.connection_string, "LICENSING_TRACES_PER_SECOND": "50"}
        environ = environ_with({**telling, **settings}) | {"PYTHONPATH": str(WATCHING)}
        with log.open("wb") as out, start(REPOSITORY, port, environ=environ, log=out) as host:
            # What only the first request takes, such as connecting to storage, is no test's time.
            http_get(f"{host.url}/api/v1/health")
            yield Served(host.url, settings, log, told)
            until(lambda: told)
    check_telemetry(told)
    check_log(log.read_text(), told)


# What only the records hold, and callers may send: no event has a place for it, and no line of the log.
_FORBIDDEN_IN_OUTPUT = r"@|Fabrikam|planted|Bearer|[?&]token="


def check_telemetry(told: Sequence[Envelope]) -> None:
    """Nothing has arrived but what docs/telemetry.md names."""
    assert told
    for module in REPOSITORY.glob("licensing/**/*functions.py"):
        # Each adds the names of its functions to the allowlist.
        import_module(".".join(module.relative_to(REPOSITORY).with_suffix("").parts))
    for envelope in told:
        allowlist = AllowlistFilter()
        assert allowlist.sanitize(envelope) == {"ver": 1, **envelope}, envelope
        assert not allowlist.dropped
        if envelope["data"]["baseData"].get("name") != "LicenseValidation":
            assert not re.search(rf"{_FORBIDDEN_IN_OUTPUT}|\b127\.0\.0\.1\b", json.dumps(envelope), re.IGNORECASE), (
                envelope
            )


def check_log(log: str, told: Sequence[Envelope]) -> None:
    """Nothing of callers is in the log, no serial number that was asked for, and nobody elsewhere was called."""
    properties = [each["data"]["baseData"].get("properties", {}) for each in told]
    serial_numbers = {each["serialNumber"] for each in properties if "serialNumber" in each}
    pattern = "|".join((_FORBIDDEN_IN_OUTPUT, "reaches out to", *map(re.escape, serial_numbers)))
    found = re.search(pattern, log, re.IGNORECASE)
    assert not found, (found, log)


def seed_demo(settings: Mapping[str, str]) -> None:
    assert with_services(settings, seed.seed), "the store was not empty"


def question(publisher_id: str, serial_number: str, *products: str, **members: Any) -> dict[str, Any]:
    """A request's body, as docs/protocol.md describes it."""
    return {
        "publisherId": publisher_id,
        "serialNumber": serial_number,
        "nonce": NONCE,
        "products": [{"productName": name} for name in products],
        **members,
    }


def verified(token: str, jwk_set: Mapping[str, Any], typ: str = "license-reply+jwt", **options: Any) -> dict[str, Any]:
    """The claims, verified by PyJWT: none of our own code has a say in it."""
    header = jwt.get_unverified_header(token)
    assert header == {"alg": "RS256", "kid": header["kid"], "typ": typ}
    key = jwt.PyJWKSet.from_dict(dict(jwk_set))[header["kid"]]
    claims: dict[str, Any] = jwt.decode(token, key, algorithms=["RS256"], issuer=PUBLIC_URL, **options)
    return claims


def replied(response: httpx.Response, jwk_set: Mapping[str, Any]) -> dict[str, Any]:
    """The claims of the verified reply to a `question`."""
    assert response.status_code == 200, response.text
    asked = response.request.read()
    body = httpx.Response(200, content=asked).json()
    required = ["iss", "aud", "sub", "nonce", "jti", "iat", "exp"]
    claims = verified(
        response.text, jwk_set, audience=body["publisherId"].lower(), options={"require": required, "strict_aud": True}
    )
    assert (claims["sub"], claims["nonce"]) == (body["serialNumber"], body["nonce"])
    asked_names = [product["productName"] for product in body["products"]]
    assert [product["productName"] for product in claims["products"]] == asked_names
    return claims


@dataclass(frozen=True)
class LicenseFixture:
    """A publisher with one product, whose one customer holds a license of it and has an environment."""

    publisher_id: str
    customer_id: str
    product_id: str
    license_id: str
    product_name: str
    serial_number: str


async def create_licensed(
    services: Services, publisher_id: str, *, licensed: bool = True, **product: Any
) -> LicenseFixture:
    """A new holding, the license of which has no end."""
    now = services.clock()

    def common(name: str) -> dict[str, Any]:
        return {"id": f"{name}-{publisher_id}", "created_at": now, "updated_at": now}

    async def prepare(draft: Draft) -> LicenseFixture:
        await draft_record(draft, Publisher(**common("publisher") | {"id": publisher_id}, name="Test publisher"))
        made = await draft_record(draft, Product(**common("product"), name="SmartSend", **product))
        customer = await draft_record(draft, Customer(**common("customer"), name="Fabrikam"))
        environment = await draft_record(
            draft,
            Environment(
                **common("environment"),
                customer_id=customer.id,
                tenant="fabrikam.com",
                serial_number=f"S-{publisher_id}",
            ),
        )
        license_ = CustomerProduct(
            **common("license"),
            customer_id=customer.id,
            product_id=made.id,
            license_type=LicenseType.SUBSCRIPTION,
            number_of_users=10,
        )
        if licensed:
            await draft_record(draft, license_)
        return LicenseFixture(publisher_id, customer.id, made.id, license_.id, made.name, environment.serial_number)

    return await services.store.change(publisher_id, "test", prepare)
