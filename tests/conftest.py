"""What tests share: a real Azurite, and services on it."""

from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import pytest

from devhost.azurite import Azurite, azurite
from licensing.catalogue.model import Publisher
from licensing.services import Services
from licensing.settings import Settings
from licensing.signing.keys import KeySet
from tests.clients.mono import LIBRARY, RUNNER, compile_strictly, require_mono

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)


@pytest.fixture(scope="session")
def tables() -> Iterator[Azurite]:
    """Azurite, in memory, for the whole run: tests keep apart by publishers of their own."""
    with azurite() as running:
        yield running


@pytest.fixture(scope="session")
def key_set() -> KeySet:
    """A current and a next signing key: made once, since to make them takes a while."""
    return KeySet().created(NOW)


@pytest.fixture
async def services(tables: Azurite, key_set: KeySet) -> AsyncIterator[Services]:
    """Services with an empty memory of their own, on the shared store."""
    made = Services(Settings(storage=tables.connection_string, signing_keys=key_set.dump()))
    await made.table("").create()
    yield made
    await made.close()


@pytest.fixture
async def publisher(services: Services) -> Publisher:
    """A publisher of the test's own, without any records yet."""
    now = services.clock()
    record = Publisher(id=str(uuid4()), created_at=now, updated_at=now, name="Test publisher")
    return await services.catalogue.create_publisher(record, actor="test")


@pytest.fixture(scope="session")
def dotnet_runner(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The client in C# and the program that runs it for tests, compiled."""
    require_mono()
    program = tmp_path_factory.mktemp("dotnet") / "runner.exe"
    compile_strictly(program, sources=[LIBRARY, RUNNER])
    return program
