"""How long licensing personnel wait: reads at a steady pace, among many customers."""

import asyncio
import itertools
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from uuid import NAMESPACE_URL, uuid5

import httpx

from bench.contestants import PRODUCT_NAMES, PUBLISHER_ID
from bench.license_server import LicenseServer
from bench.load import PATIENCE_SECONDS
from devhost.azurite import azurite
from devhost.issuer import issuing
from licensing.cli.local_issuer import DEMO_API_CLIENT_ID, DEMO_DIRECTORY_ID

_A_SECOND = 20


def waits(customers: int, seconds: float) -> tuple[float, float, float]:
    """The very first list, the median and the 99th percentile of all reads after it, in ms."""
    with tempfile.TemporaryDirectory() as folder, azurite() as store, issuing(Path(folder)) as issuer:
        sign_in = {
            "LICENSING_SIGN_IN_AUTHORITY": issuer.url,
            "LICENSING_DIRECTORY_ID": DEMO_DIRECTORY_ID,
            "LICENSING_API_CLIENT_ID": DEMO_API_CLIENT_ID,
        }
        server = LicenseServer(store.connection_string, customers=customers)
        with server.start(sign_in) as host:
            token = issuer.token(email="bench@example.com", roles=["GlobalAdmin"])
            return asyncio.run(_read(f"{host.url}/api/v1/publishers/{PUBLISHER_ID}", token, customers, seconds))


async def _read(url: str, token: str, customers: int, seconds: float) -> tuple[float, float, float]:
    """As many reads a second as there are to be, whether those before them have been answered or not."""
    headers = {"Authorization": f"Bearer {token}"}
    async with httpx.AsyncClient(headers=headers, timeout=PATIENCE_SECONDS, trust_env=False) as http:

        async def read(path: str) -> float:
            started = time.perf_counter()
            (await http.get(f"{url}{path}")).raise_for_status()
            return (time.perf_counter() - started) * 1e3

        paths = _paths(customers)
        first = await read(next(paths))
        reads = []
        for path in itertools.islice(paths, int(seconds * _A_SECOND)):
            reads.append(asyncio.create_task(read(path)))
            await asyncio.sleep(1 / _A_SECOND)
        took = await asyncio.gather(*reads)
    return first, statistics.median(took), statistics.quantiles(took, n=100)[98]


def _paths(customers: int) -> Iterator[str]:
    """What a person looks at, again and again: lists, searches, a customer with what it has."""
    product = uuid5(NAMESPACE_URL, PRODUCT_NAMES[0])
    for number in itertools.count():
        customer = uuid5(NAMESPACE_URL, f"customer {number * 7 % customers}")
        yield "/customers"
        yield f"/customers?search=customer {number % 100}&limit=200"
        yield f"/customers/{customer}"
        yield f"/customers/{customer}/products"
        yield f"/customers/{customer}/environments"
        yield "/products"
        yield f"/products/{product}/customers"
