"""One host for all tests that need no host of their own, seeded with the demo's records."""

from collections.abc import AsyncIterator, Iterator
from typing import Any
from uuid import uuid4

import httpx
import pytest

from devhost.azurite import Azurite
from licensing.services import Services
from licensing.signing.keys import KeySet
from tests.end_to_end.hosting import Holding, Served, hold, seed_demo, served, settings_for


@pytest.fixture(scope="session")
def host(tables: Azurite, key_set: KeySet, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    # A table of its own: others seed the demo too.
    settings = settings_for(tables.connection_string, key_set, LICENSING_STORAGE_TABLE="endtoend")
    seed_demo(settings)
    with served(settings, tmp_path_factory.mktemp("host")) as running:
        yield running


@pytest.fixture(scope="session")
async def client(host: Served) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=host.url, timeout=20, trust_env=False) as made:
        yield made


@pytest.fixture(scope="session")
async def jwk_set(client: httpx.AsyncClient) -> dict[str, Any]:
    """The published keys."""
    document: dict[str, Any] = (await client.get("/.well-known/jwks.json")).json()
    return document


@pytest.fixture
async def beside(host: Served) -> AsyncIterator[Services]:
    """The services of another process, on the host's records."""
    services = host.services()
    yield services
    await services.close()


@pytest.fixture
async def holding(beside: Services) -> Holding:
    """Records of the test's own."""
    return await hold(beside, str(uuid4()))
