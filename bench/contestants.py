"""Who runs: the same 1,000 environments with 10 products each, asked in the same words, of each server."""

import functools
import json
import os
import tempfile
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jwt
from azure.data.tables import TableServiceClient
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from bench.load import post
from bench.programs import function_host, program
from bench.rounds import Contestant, Running

ENVIRONMENTS = 1_000
VALIDATE = "/api/v1/licenses/validate"
PUBLISHER_ID = "446d5d80-d20d-43c6-a96c-370628f5bd9f"
PRODUCT_NAMES = [f"Product {number:02}" for number in range(10)]

_TRANSACTION_ENTITIES = 100


def serial_number(environment: int) -> str:
    """The serial number of the environment of this number, from 0."""
    return f"C0FFEE-{environment:04}"


def validate_requests(environments: int = ENVIRONMENTS) -> list[bytes]:
    """One request of each environment, for all its products."""
    return [
        post(
            VALIDATE,
            {
                "publisherId": PUBLISHER_ID,
                "serialNumber": serial_number(environment),
                "nonce": uuid.uuid4().hex,
                "hostUrl": "https://contoso.operations.dynamics.com",
                "isProductionEnvironment": True,
                "products": [
                    {
                        "productName": name,
                        "modelName": f"DXC{name}",
                        "modelVersion": "10.0.34.20231031",
                        "isInstalled": True,
                        "isEnabled": True,
                        "enabledUsersCount": 48,
                    }
                    for name in PRODUCT_NAMES
                ],
            },
        )
        for environment in range(environments)
    ]


def reply_check(public_key: rsa.RSAPublicKey) -> Callable[[bytes, bytes], None]:
    """A check that raises unless a reply is signed with this key, answers its request and allows it all."""

    def check(request: bytes, body: bytes) -> None:
        asked = json.loads(request.partition(b"\r\n\r\n")[2])
        claims = jwt.decode(body, public_key, algorithms=["RS256"], audience=asked["publisherId"])
        answered = [product["productName"] for product in claims["products"]]
        if (claims["sub"], claims["nonce"], answered) != (
            asked["serialNumber"],
            asked["nonce"],
            PRODUCT_NAMES,
        ):
            raise ValueError(f"a reply to something else: {claims}")
        if any(product["action"] != "allow" for product in claims["products"]):
            raise ValueError(f"a reply that does not allow what is licensed: {claims}")

    return check


def plain_fastapi(storage: str, connections: Sequence[int]) -> list[Contestant]:
    """The plain FastAPI program, at each number of connections, over this storage (a connection string)."""
    fill = functools.cache(_fill_plain_table)  # when it first starts, once
    return [
        Contestant(
            name=f"plain FastAPI, {number} connections",
            connections=number,
            start=lambda: _start_plain_fastapi(storage, fill(storage)),
        )
        for number in connections
    ]


def bare_worker(connections: Sequence[int]) -> list[Contestant]:
    """The worker with one signature and nothing else: the ceiling of this machine."""
    return [
        Contestant(
            name=f"worker and signature only, {number} connections", connections=number, start=_start_bare_worker
        )
        for number in connections
    ]


@contextmanager
def _start_bare_worker() -> Iterator[Running]:
    with function_host(Path(__file__).parent / "bare_worker", os.environ) as host:
        yield Running(url=host.url, requests=validate_requests(), check=lambda _request, _body: None)


@contextmanager
def _start_plain_fastapi(storage: str, storage_table: str) -> Iterator[Running]:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    with tempfile.TemporaryDirectory() as folder:
        key_file = Path(folder, "key.pem")
        key_file.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        environ = {"STORAGE": storage, "STORAGE_TABLE": storage_table, "SIGNING_KEY_FILE": str(key_file)}
        # Logging each request would only slow it down.
        arguments = ["-m", "uvicorn", "bench.plain_fastapi:app", "--port", "{port}", "--log-level", "warning"]
        with program([*arguments, "--no-access-log"], environ) as running:
            yield Running(url=running.url, requests=validate_requests(), check=reply_check(key.public_key()))


def _fill_plain_table(storage: str) -> str:
    """The name of a new table with one entity an environment, its products as a reply tells them, in JSON."""
    name = f"plain{uuid.uuid4().hex}"
    products: list[dict[str, Any]] = [
        {
            "productName": product_name,
            "status": "active",
            "action": "allow",
            "warnings": [],
            "message": None,
            "licenseType": "annual",
            "siteLicense": False,
            "numberOfUsers": 50,
            "startDate": "2026-01-01",
            "endDate": "2030-12-31",
            "featureDisableDate": None,
            "changes": [],
            "publisherName": "Contoso Add-ons",
            "termsUrl": "https://www.example.com/terms",
            "userGuideUrl": "https://www.example.com/guide",
            "releaseNotesUrl": "https://www.example.com/releases",
            "supportEmail": "support@example.com",
        }
        for product_name in PRODUCT_NAMES
    ]
    entities = [
        {"PartitionKey": PUBLISHER_ID, "RowKey": serial_number(environment), "products": json.dumps(products)}
        for environment in range(ENVIRONMENTS)
    ]
    with TableServiceClient.from_connection_string(storage) as service:
        table = service.create_table(name)
        for first in range(0, ENVIRONMENTS, _TRANSACTION_ENTITIES):
            table.submit_transaction([("create", entity) for entity in entities[first : first + _TRANSACTION_ENTITIES]])
    return name
