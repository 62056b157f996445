"""Storage dies, or hangs, under load: no environment is kept waiting, told anything wrong, or told nothing."""

import asyncio
import os
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
from aiohttp import web

from devhost import azurite
from licensing.catalogue.records import CustomerProduct, Product, Publisher
from licensing.health import Status
from licensing.signing.keys import KeySet
from tests.support.fault_proxy import Forward, fault_proxy
from tests.support.hosting import (
    VALIDATE,
    LicenseFixture,
    Served,
    create_licensed,
    question,
    replied,
    served,
    settings_for,
)
from tests.support.records import services_on
from tests.support.waiting import WAIT_TIMEOUT_SECONDS, until_async

WAIT_SECONDS = 5
LONGEST_SECONDS = 60
"""Nobody waits longer for a reply, on a slow machine either: it is some steps of `WAIT_SECONDS`, and not minutes."""
CLIENTS_EACH = 2


@dataclass(frozen=True)
class Answer:
    """What an environment was told: when it asked, how long it waited, and the product of the verified reply."""

    licensed: LicenseFixture
    asked_at: float
    took_seconds: float
    stale: bool
    status: str


@dataclass
class OutageFixture:
    """A store on disk, a host on it, and environments that are told different things."""

    folder: Path
    tables: azurite.Azurite
    host: Served
    client: httpx.AsyncClient
    jwk_set: dict[str, Any]
    licensed: LicenseFixture
    not_enabled: LicenseFixture
    not_licensed: LicenseFixture
    answers: list[Answer] = field(default_factory=list)

    async def ask(self, licensed: LicenseFixture) -> Answer:
        """A verified answer. Whatever else comes fails."""
        asked_at = time.monotonic()
        asked = question(licensed.publisher_id, licensed.serial_number, licensed.product_name)
        claims = replied(await self.client.post(VALIDATE, json=asked), self.jwk_set)
        took_seconds = time.monotonic() - asked_at
        answer = Answer(licensed, asked_at, took_seconds, claims["stale"], claims["products"][0]["status"])
        self.answers.append(answer)
        return answer

    async def ask_repeatedly(self, licensed: LicenseFixture) -> None:
        while True:
            await self.ask(licensed)
            await asyncio.sleep(0.01)

    async def until_each(self, is_so: Callable[[Answer], bool], times: int = 3) -> float:
        """Wait until each environment has been answered so a few times from now on; gives that time."""
        begun = len(self.answers)
        holdings = [self.licensed, self.not_enabled, self.not_licensed]

        def enough() -> bool:
            since = [answer.licensed for answer in self.answers[begun:] if is_so(answer)]
            return all(since.count(licensed) >= times for licensed in holdings)

        await until_async(enough)
        return time.monotonic()

    async def change_license(self, licensed: LicenseFixture, *, enabled: bool) -> tuple[float, float]:
        """Change it as another process; gives when that was begun and done."""
        begun = time.monotonic()
        services = self.host.services()
        try:
            await services.catalogue.update(
                licensed.publisher_id,
                CustomerProduct,
                licensed.license_id,
                lambda it: replace(it, enabled=enabled),
                actor="test",
                parent=licensed.customer_id,
            )
        finally:
            await services.close()
        return begun, time.monotonic()

    async def refused(self) -> httpx.Response:
        """What an environment is told that the host has never heard of."""
        asked = question(self.licensed.publisher_id, f"S-{uuid4()}", "SmartSend")
        started = time.monotonic()
        response = await self.client.post(VALIDATE, json=asked)
        assert time.monotonic() - started < LONGEST_SECONDS
        return response


@pytest.fixture(scope="module")
async def outage_run(key_set: KeySet, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[OutageFixture]:
    folder = tmp_path_factory.mktemp("outage")
    running = azurite.start(folder / "tables")
    try:
        settings = settings_for(
            running.connection_string,
            key_set,
            LICENSING_STORAGE_TIMEOUT_SECONDS=str(WAIT_SECONDS),
        )
        with served(settings, folder) as host:
            services = host.services()
            await services.table("").create()
            licensed, not_enabled, not_licensed = [
                await create_licensed(services, str(uuid4()), licensed=is_licensed)
                for is_licensed in (True, True, False)
            ]
            await services.close()
            async with httpx.AsyncClient(base_url=host.url, timeout=WAIT_TIMEOUT_SECONDS, trust_env=False) as client:
                jwk_set = (await client.get("/api/v1/keys")).json()
                made = OutageFixture(
                    folder / "tables", running, host, client, jwk_set, licensed, not_enabled, not_licensed
                )
                await made.change_license(made.not_enabled, enabled=False)
                azurite.stop(running)  # which has it write to disk all that it holds
                made.tables = running = azurite.start(made.folder, running.port)
                yield made
                running = made.tables
    finally:
        azurite.stop(running)


@pytest.fixture
async def load(outage_run: OutageFixture) -> AsyncIterator[None]:
    """Every environment asks without pause, by several clients, until the end of the test."""
    outage_run.answers.clear()
    async with asyncio.TaskGroup() as group:
        holdings = [outage_run.licensed, outage_run.not_enabled, outage_run.not_licensed]
        tasks = [
            group.create_task(outage_run.ask_repeatedly(licensed)) for licensed in holdings for _ in range(CLIENTS_EACH)
        ]
        await outage_run.until_each(lambda answer: not answer.stale)
        yield
        for task in tasks:
            task.cancel()


def check_all(outage_run: OutageFixture, changed: tuple[float, float], outage: tuple[float, float]) -> None:
    """Nobody waited too long, each was told what held for it when it asked, and was stale in the outage alone."""
    assert max(answer.took_seconds for answer in outage_run.answers) < LONGEST_SECONDS
    gone, back = outage
    # On a slow machine storage may take longer than that for a read. Such a reply is stale with good reason.
    answers = [answer for answer in outage_run.answers if not (answer.stale and answer.took_seconds >= WAIT_SECONDS)]
    stale = [answer for answer in answers if answer.stale]
    assert all(answer.asked_at + answer.took_seconds > gone and answer.asked_at < back for answer in stale)
    begun, done = changed
    for answer in answers:
        if answer.licensed == outage_run.not_enabled:
            assert answer.status == "notEnabled"
        elif answer.licensed == outage_run.not_licensed:
            assert answer.status == "notLicensed"
        elif answer.asked_at > done:
            assert (answer.status, answer.stale) == ("notEnabled", False)
        elif answer.asked_at + answer.took_seconds < begun:
            assert answer.status == "licensed"
        else:
            assert answer.status in {"licensed", "notEnabled"}


@pytest.mark.usefixtures("load")
async def test_validate_when_storage_is_killed_returns_stale_replies_until_recovery(outage_run: OutageFixture) -> None:
    gone = time.monotonic()
    os.kill(outage_run.tables.process.pid, signal.SIGKILL)
    outage_run.tables.process.wait()
    await outage_run.until_each(lambda answer: answer.stale)

    refused = await outage_run.refused()
    assert (refused.status_code, refused.json()["code"]) == (503, "storageUnavailable")
    assert int(refused.headers["retry-after"]) > 0
    assert refused.headers["content-type"] == "application/problem+json"
    health = await outage_run.client.get("/api/v1/health")
    assert health.status_code == 200
    assert health.json() == {
        "status": "degraded",
        "checks": {"storage": "degraded", "signing": "healthy", "telemetry": "healthy"},
    }
    assert (await outage_run.client.get("/api/v1/keys")).json() == outage_run.jwk_set

    outage_run.tables = await asyncio.to_thread(azurite.start, outage_run.folder, outage_run.tables.port)
    back = await outage_run.until_each(lambda answer: not answer.stale)
    changed = await outage_run.change_license(outage_run.licensed, enabled=False)
    assert (await outage_run.ask(outage_run.licensed)).status == "notEnabled"
    assert (await outage_run.refused()).status_code == 200

    check_all(outage_run, changed, (gone, back))
    assert (await outage_run.client.get("/api/v1/health")).json()["status"] == "healthy"
    await outage_run.change_license(outage_run.licensed, enabled=True)


@pytest.mark.usefixtures("load")
async def test_validate_when_storage_hangs_returns_stale_replies_until_recovery(outage_run: OutageFixture) -> None:
    gone = time.monotonic()
    os.kill(outage_run.tables.process.pid, signal.SIGSTOP)
    try:
        await outage_run.until_each(lambda answer: answer.stale, times=1)
        refused = await outage_run.refused()
        assert (refused.status_code, refused.json()["code"]) == (503, "storageUnavailable")
        started = time.monotonic()
        assert (await outage_run.client.get("/api/v1/health")).json()["status"] == "degraded"
        assert time.monotonic() - started < LONGEST_SECONDS
    finally:
        os.kill(outage_run.tables.process.pid, signal.SIGCONT)
    back = await outage_run.until_each(lambda answer: not answer.stale)
    changed = await outage_run.change_license(outage_run.licensed, enabled=False)
    assert (await outage_run.ask(outage_run.licensed)).status == "notEnabled"
    check_all(outage_run, changed, (gone, back))
    await outage_run.change_license(outage_run.licensed, enabled=True)


async def test_host_started_during_outage_returns_503_and_degraded_health(
    outage_run: OutageFixture, tmp_path: Path, key_set: KeySet
) -> None:
    nobody_listens = azurite.connection_string(1)
    settings = settings_for(nobody_listens, key_set)
    with served(settings, tmp_path) as cut_off:
        asked = question(outage_run.licensed.publisher_id, outage_run.licensed.serial_number, "SmartSend")
        async with httpx.AsyncClient(base_url=cut_off.url, timeout=WAIT_TIMEOUT_SECONDS, trust_env=False) as client:
            response = await client.post(VALIDATE, json=asked)
            assert (response.status_code, response.json()["code"]) == (503, "storageUnavailable")
            assert (await client.get("/api/v1/health")).json()["checks"]["storage"] == "degraded"
            assert (await client.get("/api/v1/keys")).json() == outage_run.jwk_set


async def test_storage_timeout_setting_allows_slow_storage_without_retries(tables: azurite.Emulator) -> None:
    """By validations, lists, health and status pages; and no request is repeated meanwhile."""
    answering, early = asyncio.Event(), Counter[str]()

    async def slowly(request: web.BaseRequest, pass_on: Forward) -> web.StreamResponse:
        if not answering.is_set():
            early[request.raw_path] += 1
            await answering.wait()
        return await pass_on()

    async with services_on(tables.connection_string) as quick:
        await quick.table("").create()
        licensed = await create_licensed(quick, str(uuid4()))
    async with (
        fault_proxy(tables, slowly) as server,
        services_on(server.account, storage_timeout_seconds=30) as services,
    ):
        asking = asyncio.gather(
            services.environment_cache.get(licensed.publisher_id, licensed.serial_number),
            services.store.find(licensed.publisher_id, Publisher, licensed.publisher_id),
            services.store.list_records(licensed.publisher_id, Product),
            services.public_view.read(licensed.publisher_id),
            services.health.checks(),
        )
        await until_async(lambda: early.total() == 5)
        await asyncio.sleep(3.5)  # storage is slow: longer than a request, health and status pages may take by default
        answering.set()
        _, publisher, products, page, health = await asking
    assert publisher == page.publisher
    assert products == list(page.products.values())
    assert health["storage"] is Status.HEALTHY
    assert sorted(early.values()) == [1, 1, 1, 2], "validations and lists read the version, each on their own"
