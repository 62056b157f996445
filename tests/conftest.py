"""What tests share: a real Azurite, and services on it."""

from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import hypothesis
import pytest
from xdist.scheduler import LoadScopeScheduling

from devhost.azurite import Emulator, azurite
from licensing.catalogue.records import Publisher
from licensing.services import Services
from licensing.settings import Settings
from licensing.signing.keys import KeySet
from licensing.signing.service import Signer
from tests.support import mono

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
EMULATOR = pytest.StashKey[Emulator]()


# A slow machine is no reason to fail.
hypothesis.settings.register_profile(
    "any machine", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("any machine")

SHARED_HOST_FOLDERS = ("tests/cli", "tests/end_to_end")
"""Folders of tests that share a host: they run in one process, so that a run starts it once."""


@pytest.hookimpl(trylast=True)  # after `-m` has selected
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave one skipped test of all that need Mono, where there is none, and run the files with slow tests first."""
    needs_mono = [item for item in items if _needs_mono(item)]
    if needs_mono and not mono.is_installed():
        needs_mono[0].add_marker(pytest.mark.skip(f"{len(needs_mono)} tests of the C# client. {mono.INSTALL_MONO}"))
        config.hook.pytest_deselected(items=needs_mono[1:])
        items[:] = [item for item in items if item not in needs_mono[1:]]
    slow = {_scope(item.nodeid) for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: _scope(item.nodeid) not in slow)


def _needs_mono(item: pytest.Item) -> bool:
    return item.get_closest_marker("mono") is not None or "dotnet_runner" in getattr(item, "fixturenames", ())


def _scope(nodeid: str) -> str:
    """The file of a test, or its folder where that shares a host: its tests run in one process, one after the other."""
    path = nodeid.partition("::")[0]
    return next((folder for folder in SHARED_HOST_FOLDERS if path.startswith(f"{folder}/")), path)


class SharedHostScheduling(LoadScopeScheduling):
    """Distributes the tests over the processes by scope."""

    def _split_scope(self, nodeid: str) -> str:
        return _scope(nodeid)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling:
    return SharedHostScheduling(config, log)


def pytest_configure(config: pytest.Config) -> None:
    """Start the one Azurite of a run with several processes, in the process that distributes the tests."""
    if config.getoption("numprocesses", None):
        stack = ExitStack()
        config.stash[EMULATOR] = stack.enter_context(azurite())
        config.add_cleanup(stack.close)


def pytest_configure_node(node: Any) -> None:
    """Pass the port of that Azurite to a process of the run."""
    node.workerinput["emulator_port"] = node.config.stash[EMULATOR].port


@pytest.fixture(scope="session")
def tables(pytestconfig: pytest.Config) -> Iterator[Emulator]:
    """Azurite, in memory, for the whole run: tests keep apart by publishers or tables of their own."""
    if shared := getattr(pytestconfig, "workerinput", None):
        yield Emulator(shared["emulator_port"])
    else:
        with azurite() as running:
            yield running


@pytest.fixture(scope="session")
def key_set() -> KeySet:
    """A current and a next signing key: made once, since to make them takes a while."""
    return KeySet().created(NOW)


@pytest.fixture
async def services(tables: Emulator, key_set: KeySet) -> AsyncIterator[Services]:
    """Services with an empty memory of their own, on the shared store."""
    made = Services(Settings(storage=tables.connection_string, storage_timeout_seconds=30, signing_keys=key_set.dump()))
    made.signer = Signer(key_set)  # to parse the keys takes longer than most tests
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
    program = tmp_path_factory.mktemp("dotnet") / "runner.exe"
    mono.compile_strictly(program, sources=[mono.LIBRARY, mono.RUNNER])
    return program
