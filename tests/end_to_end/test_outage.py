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
from licensing.catalogue.model import CustomerProduct, Product, Publisher
from licensing.health import Status
from licensing.signing.keys import KeySet
from tests.catalogue.disturbed import Pass, disturbed
from tests.catalogue.records import services_on
from tests.end_to_end.hosting import VALIDATE, Holding, Served, hold, question, replied, served, settings_for
from tests.waiting import PATIENCE_SECONDS, until_async

WAIT_SECONDS = 5
LONGEST_SECONDS = 60
"""Nobody waits longer for a reply, on a slow machine either: it is some steps of `WAIT_SECONDS`, and not minutes."""
CLIENTS_EACH = 2


@dataclass(frozen=True)
class Answer:
    """What an environment was told: when it asked, how long it waited, and the product of the verified reply."""

    holding: Holding
    asked_at: float
    took_seconds: float
    stale: bool
    status: str


@dataclass
class Stage:
    """A store on disk, a host on it, and environments that are told different things."""

    folder: Path
    tables: azurite.Azurite
    host: Served
    client: httpx.AsyncClient
    jwk_set: dict[str, Any]
    licensed: Holding
    not_enabled: Holding
    not_licensed: Holding
    answers: list[Answer] = field(default_factory=list)

    async def ask(self, holding: Holding) -> Answer:
        """A verified answer. Whatever else comes fails."""
        asked_at = time.monotonic()
        asked = question(holding.publisher_id, holding.serial_number, holding.product_name)
        claims = replied(await self.client.post(VALIDATE, json=asked), self.jwk_set)
        took_seconds = time.monotonic() - asked_at
        answer = Answer(holding, asked_at, took_seconds, claims["stale"], claims["products"][0]["status"])
        self.answers.append(answer)
        return answer

    async def ask_on(self, holding: Holding) -> None:
        while True:
            await self.ask(holding)
            await asyncio.sleep(0.01)

    async def until_each(self, is_so: Callable[[Answer], bool], times: int = 3) -> float:
        """Wait until each environment has been answered so a few times from now on; gives that time."""
        begun = len(self.answers)
        holdings = [self.licensed, self.not_enabled, self.not_licensed]

        def enough() -> bool:
            since = [answer.holding for answer in self.answers[begun:] if is_so(answer)]
            return all(since.count(holding) >= times for holding in holdings)

        await until_async(enough)
        return time.monotonic()

    async def change_license(self, holding: Holding, *, enabled: bool) -> tuple[float, float]:
        """Change it as another process; gives when that was begun and done."""
        begun = time.monotonic()
        services = self.host.services()
        try:
            await services.catalogue.update(
                holding.publisher_id,
                CustomerProduct,
                holding.license_id,
                lambda it: replace(it, enabled=enabled),
                actor="test",
                parent=holding.customer_id,
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
async def stage(key_set: KeySet, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    folder = tmp_path_factory.mktemp("outage")
    running = azurite.start(folder / "tables")
    try:
        settings = settings_for(
            running.connection_string,
            key_set,
            LICENSING_STORAGE_WAIT_SECONDS=str(WAIT_SECONDS),
        )
        with served(settings, folder) as host:
            services = host.services()
            await services.table("").create()
            licensed, not_enabled, not_licensed = [
                await hold(services, str(uuid4()), licensed=is_licensed) for is_licensed in (True, True, False)
            ]
            await services.close()
            async with httpx.AsyncClient(base_url=host.url, timeout=PATIENCE_SECONDS, trust_env=False) as client:
                jwk_set = (await client.get("/api/v1/keys")).json()
                made = Stage(folder / "tables", running, host, client, jwk_set, licensed, not_enabled, not_licensed)
                await made.change_license(made.not_enabled, enabled=False)
                azurite.stop(running)  # which has it write to disk all that it holds
                made.tables = running = azurite.start(made.folder, running.port)
                yield made
                running = made.tables
    finally:
        azurite.stop(running)


@pytest.fixture
async def load(stage: Stage) -> AsyncIterator[None]:
    """Every environment asks without pause, by several clients, until the end of the test."""
    stage.answers.clear()
    async with asyncio.TaskGroup() as group:
        holdings = [stage.licensed, stage.not_enabled, stage.not_licensed]
        tasks = [group.create_task(stage.ask_on(holding)) for holding in holdings for _ in range(CLIENTS_EACH)]
        await stage.until_each(lambda answer: not answer.stale)
        yield
        for task in tasks:
            task.cancel()


def check_all(stage: Stage, changed: tuple[float, float], outage: tuple[float, float]) -> None:
    """Nobody waited too long, each was told what held for it when it asked, and was stale in the outage alone."""
    assert max(answer.took_seconds for answer in stage.answers) < LONGEST_SECONDS
    gone, back = outage
    # On a slow machine storage may take longer than that for a read. Such a reply is stale with good reason.
    answers = [answer for answer in stage.answers if not (answer.stale and answer.took_seconds >= WAIT_SECONDS)]
    stale = [answer for answer in answers if answer.stale]
    assert all(answer.asked_at + answer.took_seconds > gone and answer.asked_at < back for answer in stale)
    begun, done = changed
    for answer in answers:
        if answer.holding == stage.not_enabled:
            assert answer.status == "notEnabled"
        elif answer.holding == stage.not_licensed:
            assert answer.status == "notLicensed"
        elif answer.asked_at > done:
            assert (answer.status, answer.stale) == ("notEnabled", False)
        elif answer.asked_at + answer.took_seconds < begun:
            assert answer.status == "licensed"
        else:
            assert answer.status in {"licensed", "notEnabled"}


@pytest.mark.usefixtures("load")
async def test_storage_is_killed_and_comes_back(stage: Stage) -> None:
    gone = time.monotonic()
    os.kill(stage.tables.process.pid, signal.SIGKILL)
    stage.tables.process.wait()
    await stage.until_each(lambda answer: answer.stale)

    refused = await stage.refused()
    assert (refused.status_code, refused.json()["code"]) == (503, "storageUnavailable")
    assert int(refused.headers["retry-after"]) > 0
    assert refused.headers["content-type"] == "application/problem+json"
    health = await stage.client.get("/api/v1/health")
    assert health.status_code == 200
    assert health.json() == {
        "status": "degraded",
        "checks": {"storage": "degraded", "signing": "healthy", "telemetry": "healthy"},
    }
    assert (await stage.client.get("/api/v1/keys")).json() == stage.jwk_set

    stage.tables = await asyncio.to_thread(azurite.start, stage.folder, stage.tables.port)
    back = await stage.until_each(lambda answer: not answer.stale)
    changed = await stage.change_license(stage.licensed, enabled=False)
    assert (await stage.ask(stage.licensed)).status == "notEnabled"
    assert (await stage.refused()).status_code == 200

    check_all(stage, changed, (gone, back))
    assert (await stage.client.get("/api/v1/health")).json()["status"] == "healthy"
    await stage.change_license(stage.licensed, enabled=True)


@pytest.mark.usefixtures("load")
async def test_storage_hangs_and_goes_on(stage: Stage) -> None:
    gone = time.monotonic()
    os.kill(stage.tables.process.pid, signal.SIGSTOP)
    try:
        await stage.until_each(lambda answer: answer.stale, times=1)
        refused = await stage.refused()
        assert (refused.status_code, refused.json()["code"]) == (503, "storageUnavailable")
        started = time.monotonic()
        assert (await stage.client.get("/api/v1/health")).json()["status"] == "degraded"
        assert time.monotonic() - started < LONGEST_SECONDS
    finally:
        os.kill(stage.tables.process.pid, signal.SIGCONT)
    back = await stage.until_each(lambda answer: not answer.stale)
    changed = await stage.change_license(stage.licensed, enabled=False)
    assert (await stage.ask(stage.licensed)).status == "notEnabled"
    check_all(stage, changed, (gone, back))
    await stage.change_license(stage.licensed, enabled=True)


async def test_a_host_that_starts_during_an_outage_answers_nobody_and_says_so(
    stage: Stage, tmp_path: Path, key_set: KeySet
) -> None:
    nobody_listens = azurite.connection_string(1)
    settings = settings_for(nobody_listens, key_set)
    with served(settings, tmp_path) as cut_off:
        asked = question(stage.licensed.publisher_id, stage.licensed.serial_number, "SmartSend")
        async with httpx.AsyncClient(base_url=cut_off.url, timeout=PATIENCE_SECONDS, trust_env=False) as client:
            response = await client.post(VALIDATE, json=asked)
            assert (response.status_code, response.json()["code"]) == (503, "storageUnavailable")
            assert (await client.get("/api/v1/health")).json()["checks"]["storage"] == "degraded"
            assert (await client.get("/api/v1/keys")).json() == stage.jwk_set


async def test_slow_storage_is_waited_for_everywhere_where_the_setting_allows_it(tables: azurite.Emulator) -> None:
    """By validations, lists, health and status pages; and no request is repeated meanwhile."""
    answering, early = asyncio.Event(), Counter[str]()

    async def slowly(request: web.BaseRequest, pass_on: Pass) -> web.StreamResponse:
        if not answering.is_set():
            early[request.raw_path] += 1
            await answering.wait()
        return await pass_on()

    async with services_on(tables.connection_string) as quick:
        await quick.table("").create()
        holding = await hold(quick, str(uuid4()))
    async with (
        disturbed(tables, slowly) as server,
        services_on(server.account, storage_wait_seconds=30) as services,
    ):
        asking = asyncio.gather(
            services.snapshots.get(holding.publisher_id, holding.serial_number),
            services.store.find(holding.publisher_id, Publisher, holding.publisher_id),
            services.store.under(holding.publisher_id, Product),
            services.public_notices.read(holding.publisher_id),
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
