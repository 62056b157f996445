"""`make run`, as a person runs it: what it shows, what it keeps, and what it leaves behind."""

import asyncio
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from devhost.azurite import free_port
from licensing.access.discovery import fetch
from licensing.access.tokens import TokenVerifier
from licensing.catalogue.records import Product, Publisher
from licensing.cli.seed import DEMO_PRODUCTS, DEMO_PUBLISHER_ID
from licensing.http.permissions import Identity
from licensing.services import Services, utc_now
from licensing.settings import Settings
from tests.support.waiting import PROGRAM_TIMEOUT_SECONDS, http_get, http_post, until

REPOSITORY = Path(__file__).resolve().parent.parent.parent


class Run:
    """`python -m devhost run` with what it has printed so far."""

    def __init__(self, port: int, folder: Path, telemetry: str) -> None:
        environ = {**os.environ, "PORT": str(port), "DATA_DIR": str(folder), "COLUMNS": "100", "TELEMETRY": telemetry}
        self.url = f"http://127.0.0.1:{port}"
        self.folder = folder
        self.out = ""
        self.process = subprocess.Popen(
            [sys.executable, "-m", "devhost", "run"],
            cwd=REPOSITORY,
            env=environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._serves = threading.Event()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        for line in self.process.stdout or ():
            self.out += line
            if "until Ctrl-C" in line:
                self._serves.set()
        self._serves.set()

    def wait_until_ready(self) -> None:
        assert self._serves.wait(PROGRAM_TIMEOUT_SECONDS), self.out
        assert self.process.poll() is None, self.out

    def end(self, number: int = signal.SIGINT) -> int:
        self.process.send_signal(number)
        return self.wait()

    def wait(self) -> int:
        code = self.process.wait(PROGRAM_TIMEOUT_SECONDS)
        self._reader.join()
        if self.process.stdout:
            self.process.stdout.close()
        return code

    def environ(self) -> dict[str, str]:
        lines = (self.folder / "settings.env").read_text().splitlines()
        return {line.partition("=")[0]: line.partition("=")[2].strip("'") for line in lines}

    @property
    def mail_sink_url(self) -> str:
        """Where the mail can be read, as it was shown."""
        return str(re.findall(r"^Mail +(http://127\.0\.0\.1:\d+), a LOCAL mail sink", self.out, re.MULTILINE)[0])

    def services(self) -> Services:
        return Services(Settings.read(self.environ()))

    def token(self) -> str:
        """What a person gets who follows what was shown."""
        command = [sys.executable, "-m", "licensing", "token", "--email", "ada@example.com", "--role", "GlobalAdmin"]
        environ = {**os.environ, **self.environ()}
        done = subprocess.run(command, cwd=REPOSITORY, env=environ, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    def signed_in(self, token: str) -> Identity:
        """Who comes in with the token, by the settings that were written."""

        async def verify() -> Identity:
            settings = self.services().settings
            verifier = TokenVerifier(
                authority=settings.sign_in_authority, audience=settings.api_client_id, fetch=fetch, clock=utc_now
            )
            return await verifier.verify(f"Bearer {token}", is_own)

        async def is_own(directory_id: str) -> bool:
            return directory_id == self.services().settings.directory_id

        return asyncio.run(verify())

    def is_storage_running(self) -> bool:
        port = int(self.services().settings.storage.partition("TableEndpoint=http://127.0.0.1:")[2].partition("/")[0])
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Callable[..., Run]]:
    started: list[Run] = []

    def start(port: int = 0, folder: Path | None = None, telemetry: str = "") -> Run:
        started.append(Run(port or free_port(), folder or tmp_path / "data", telemetry))
        return started[-1]

    yield start
    for each in started:
        if each.process.poll() is None:
            each.end()


def products_of(running: Run, publisher_id: str) -> list[str]:
    async def read() -> list[str]:
        services = running.services()
        products = await services.store.list_records(publisher_id, Product)
        await services.close()
        return sorted(product.name for product in products)

    return asyncio.run(read())


def test_run_shows_validation_keeps_data_and_stops_all_services(run: Callable[..., Run]) -> None:
    first = run(telemetry="local")
    first.wait_until_ready()
    for name in DEMO_PRODUCTS:
        assert name in first.out
    for status in (
        "licensed",
        "expired",
        "notStarted",
        "featureDisabled",
        "notEnabled",
        "notLicensed",
        "unknownProduct",
    ):
        assert status in first.out
    assert "verified, from " + first.url in first.out
    assert http_get(f"{first.url}/api/v1/health").json()["status"] == "healthy"
    keys = http_get(f"{first.url}/api/v1/keys").json()
    token = first.token()
    identity = first.signed_in(token)
    assert (identity.email, identity.roles) == ("ada@example.com", frozenset({"GlobalAdmin"}))
    authority = first.environ()["LICENSING_SIGN_IN_AUTHORITY"]
    assert f"Sign-in       {authority}, a LOCAL issuer" in first.out
    assert http_post(f"{first.url}/admin/functions/post_expiry_digest", json={}).status_code == 202
    mails = until(lambda: http_get(f"{first.mail_sink_url}/messages").json())  # the demo has licenses that expire soon
    assert "Licenses that expire soon" in mails[0]["subject"]

    (ingestion,) = re.findall(r"^Telemetry +(http://127\.0\.0\.1:\d+), a LOCAL endpoint", first.out, re.MULTILINE)
    assert f"IngestionEndpoint={ingestion}/" in first.environ()["LICENSING_TELEMETRY"]
    assert http_get(f"{ingestion}/envelopes").status_code == 200

    beside = run(folder=first.folder)
    assert beside.wait() == 1
    assert beside.out == f"{first.folder} is in use by another make run: stop that, or DATA_DIR=elsewhere make run\n"

    assert first.end() == 0
    assert first.out.endswith("Stopped.\n")
    assert not first.is_storage_running()
    with pytest.raises(httpx.ConnectError):
        http_get(authority)
    with pytest.raises(httpx.ConnectError):
        http_get(first.mail_sink_url)
    with pytest.raises(httpx.ConnectError):
        http_get(ingestion)

    second = run(folder=first.folder)
    second.wait_until_ready()
    assert products_of(second, DEMO_PUBLISHER_ID) == sorted(DEMO_PRODUCTS)
    assert http_get(f"{second.url}/api/v1/keys").json() == keys
    assert second.signed_in(token) == identity
    assert "Telemetry" not in second.out
    assert "LICENSING_TELEMETRY" not in second.environ()
    assert http_get(f"{second.mail_sink_url}/messages").json() == mails
    assert second.end(signal.SIGHUP) == 0
    assert not second.is_storage_running()


def test_run_with_unknown_telemetry_target_exits_with_error(run: Callable[..., Run]) -> None:
    refused = run(telemetry="azure")
    assert refused.wait() == 1
    assert refused.out == 'TELEMETRY is "local", or left out: it cannot be "azure".\n'


def test_run_with_existing_records_does_not_seed_demo(run: Callable[..., Run]) -> None:
    first = run()
    first.wait_until_ready()

    async def replace_the_demo() -> None:
        services = first.services()
        table, own = services.table(""), "00000000-0000-4000-8000-000000000001"
        async for row in table.connect().list_entities():
            await table.connect().delete_entity(row["PartitionKey"], row["RowKey"])
        now = services.clock()
        publisher = Publisher(id=own, created_at=now, updated_at=now, name="Own")
        await services.catalogue.create_publisher(publisher, actor="test")
        await services.close()

    asyncio.run(replace_the_demo())
    assert first.end() == 0
    second = run(folder=first.folder)
    second.wait_until_ready()
    assert products_of(second, DEMO_PUBLISHER_ID) == []
    assert "SmartSend" not in second.out


def test_run_when_startup_is_blocked_exits_with_one_line_error_and_fix(run: Callable[..., Run], tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        refused = run(port)
        assert refused.wait() == 1
        assert refused.out == f"Port {port} is taken: stop what runs there, or PORT={port + 1} make run.\n"

    keys = tmp_path / "data" / "keys" / "keys.json"
    keys.parent.mkdir(parents=True)
    keys.write_text("{}")
    keys.chmod(0o644)
    refused = run()
    assert refused.wait() == 1
    assert "chmod 600" in refused.out
    assert refused.out.count("\n") == 1
