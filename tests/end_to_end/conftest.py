"""Two hosts for all tests that need no host of their own: one seeded with the demo's records, one to sign in at."""

from collections.abc import AsyncIterator, Iterator
from typing import Any
from uuid import uuid4

import httpx
import pytest

from devhost.azurite import Emulator
from devhost.issuer import Issuer, issuing
from licensing.cli.local_issuer import DEMO_API_CLIENT_ID
from licensing.cli.running import with_services
from licensing.services import Services
from licensing.settings import Settings
from licensing.signing.keys import KeySet
from tests.support.administration import FOREIGN_DIRECTORY, OWN_DIRECTORY, People, PublisherApi
from tests.support.hosting import LicenseFixture, Served, create_licensed, seed_demo, served, settings_for
from tests.support.waiting import WAIT_TIMEOUT_SECONDS


@pytest.fixture(scope="session")
def host(tables: Emulator, key_set: KeySet, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    # A table of its own: others seed the demo too.
    settings = settings_for(tables.connection_string, key_set, LICENSING_STORAGE_TABLE="endtoend")
    seed_demo(settings)
    with served(settings, tmp_path_factory.mktemp("host")) as running:
        yield running


@pytest.fixture(scope="session")
async def client(host: Served) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=host.url, timeout=WAIT_TIMEOUT_SECONDS, trust_env=False) as made:
        yield made


@pytest.fixture(scope="session")
async def jwk_set(client: httpx.AsyncClient) -> dict[str, Any]:
    """The published keys."""
    document: dict[str, Any] = (await client.get("/.well-known/jwks.json")).json()
    return document


@pytest.fixture
async def external_services(host: Served) -> AsyncIterator[Services]:
    """The services of another process, on the host's records."""
    services = host.services()
    yield services
    await services.close()


@pytest.fixture
async def licensed(external_services: Services) -> LicenseFixture:
    """Records of the test's own."""
    return await create_licensed(external_services, str(uuid4()))


@pytest.fixture(scope="session")
def issuer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Issuer]:
    """Who signs people in, instead of Entra ID."""
    with issuing(tmp_path_factory.mktemp("issuer")) as running:
        yield running


@pytest.fixture(scope="session")
def admin_settings(tables: Emulator, key_set: KeySet, issuer: Issuer) -> dict[str, str]:
    """Settings of a host at which people sign in, on a table of its own that is empty at first."""
    settings = settings_for(
        tables.connection_string,
        key_set,
        LICENSING_STORAGE_TABLE="administration",
        LICENSING_DIRECTORY_ID=OWN_DIRECTORY,
        LICENSING_API_CLIENT_ID=DEMO_API_CLIENT_ID,
        LICENSING_SIGN_IN_AUTHORITY=issuer.url,
    )
    with_services(settings, lambda services: services.table("").create())
    return settings


@pytest.fixture(scope="session")
def admin_host(admin_settings: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(admin_settings, tmp_path_factory.mktemp("admin")) as running:
        yield running


@pytest.fixture(scope="session")
async def people(admin_host: Served, issuer: Issuer) -> AsyncIterator[People]:
    """Those who sign in at the host."""
    async with httpx.AsyncClient(base_url=admin_host.url, timeout=WAIT_TIMEOUT_SECONDS, trust_env=False) as client:
        made = People(client, issuer)
        await made.create_publisher_api(directoryId=FOREIGN_DIRECTORY)
        yield made


@pytest.fixture
async def api(people: People) -> PublisherApi:
    """A publisher of the test's own, and its organization admin."""
    return await people.create_publisher_api()


@pytest.fixture
async def instance(admin_settings: dict[str, str]) -> AsyncIterator[Services]:
    """Another instance of the host, in this process, on the same records."""
    made = Services(Settings.read(admin_settings))
    yield made
    await made.close()
