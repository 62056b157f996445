"""`python -m licensing freeze`, `thaw` and `erase`; and a publisher that moves while everybody goes on writing."""

import asyncio
import json
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from aiohttp import web

from devhost.azurite import Azurite, Emulator, azurite
from licensing.catalogue.records import Customer, CustomerProduct, Publisher
from licensing.cli.running import with_services
from licensing.errors import Busy, Frozen, PublisherNotFound
from licensing.notices.model import ChannelKind, Notice, NoticeKind, Subscriber, begun, subscriber_id
from licensing.services import Services
from licensing.settings import Settings
from licensing.storage.errors import ConcurrencyConflict
from tests.cli.conftest import TIMEOUT_OPTIONS, Command
from tests.cli.test_backup import every_row, start
from tests.support.fault_proxy import Forward, fault_proxy
from tests.support.hosting import Served, create_licensed
from tests.support.invariants import check_invariants
from tests.support.records import a_customer, a_license, a_product, a_publisher, an_environment
from tests.support.waiting import WAIT_TIMEOUT_SECONDS


@pytest.fixture(scope="module")
def elsewhere() -> Iterator[Azurite]:
    with azurite() as running:
        yield running


@pytest.fixture
async def services(service: Served) -> AsyncIterator[Services]:
    made = service.services()
    yield made
    await made.close()


def a_subscriber(services: Services, address: str) -> Subscriber:
    now = services.clock()
    known_id = subscriber_id(ChannelKind.EMAIL, address)
    return Subscriber(id=known_id, created_at=now, updated_at=now, address=address, unsubscribe_key="k" * 32)


async def run_successfully(command: Command, *arguments: object, **settings: str) -> str:
    """What a command that did what it was to do has printed: beside whatever else goes on."""
    ended = await asyncio.to_thread(command, *arguments, **settings)
    assert ended.code == 0, ended.out + ended.err
    return ended.out


# Frozen.


async def test_freeze_blocks_changes_while_validation_continues(
    services: Services, service: Served, publisher_id: str, command: Command
) -> None:
    held = await create_licensed(services, publisher_id, licensed=False, license_control_disabled=True)
    # Somebody is in the midst of a change when it comes.
    begun_, frozen = asyncio.Event(), asyncio.Event()

    async def slowly(draft: Any) -> None:
        draft.put(a_customer("Slow"))
        begun_.set()
        await frozen.wait()

    slow = asyncio.create_task(services.store.change(publisher_id, "test", slowly))
    await begun_.wait()
    arguments = ("--publisher", publisher_id, "--apply")
    assert (await run_successfully(command, "freeze", *arguments)).startswith("From now on")
    rows = await every_row(services, publisher_id)
    frozen.set()
    with pytest.raises(Frozen) as refused:
        await slow
    assert (refused.value.status, refused.value.retry_after_seconds) == (503, 60)
    unsubscribe = services.subscriptions.unsubscribe
    for refusal in (
        unsubscribe(publisher_id, "any"),
        services.subscriptions.request(publisher_id, "new@example.com", ()),
        services.catalogue.create(publisher_id, a_customer(), actor="test"),
        services.subscriber_store.put_subscriber(publisher_id, a_subscriber(services, "new@example.com")),
        services.subscriber_store.delete_subscriber(publisher_id, "any"),
    ):
        with pytest.raises(Frozen):
            await refusal
    of_it = ("--url", service.url, "--publisher", publisher_id, "--serial", held.serial_number, *TIMEOUT_OPTIONS)
    asked = (*of_it, "--product", held.product_name)
    assert "licensed" in await run_successfully(command, "validate", *asked)
    found = await asyncio.to_thread(command, "diagnose", *of_it)
    assert "frozen: nobody can change its records" in found.out
    await services.notices.run()
    assert await every_row(services, publisher_id) == rows, "not even a license that a validation would make"
    assert (await run_successfully(command, "thaw", *arguments)).startswith("From now on")
    await run_successfully(command, "validate", *asked)
    assert await services.store.list_records(publisher_id, CustomerProduct, held.customer_id)


@pytest.fixture
def publisher_id() -> str:
    return str(uuid4())


def test_freeze_and_thaw_preview_and_report_no_change_on_rerun(command: Command, service: Served) -> None:
    publisher = a_publisher()
    with_services(service.settings, lambda services: services.catalogue.create_publisher(publisher, actor="test"))

    def say(*arguments: str) -> dict[str, Any]:
        ended = command(*arguments, "--publisher", publisher.id, "--json")
        assert ended.code == 0
        report: dict[str, Any] = json.loads(ended.out)
        return report

    freeze, freeze_now = ("freeze",), ("freeze", "--apply")
    assert [say(*each)["changes"] for each in (("thaw", "--apply"), freeze, freeze, freeze_now, freeze_now)] == [
        False,
        True,
        True,
        True,
        False,
    ]
    assert say("thaw", "--apply")["changes"]
    for verb in ("freeze", "thaw"):
        for options in ((), ("--apply",)):
            unknown = command(verb, "--publisher", uuid4(), *options)
            assert (unknown.code, "No publisher of this id" in unknown.err) == (3, True)


# Moved.


@dataclass
class Writer:
    """An instance of the service in whose name somebody writes, as fast as it can; and what it was told is kept."""

    services: Services
    publisher_id: str
    customers: set[str] = field(default_factory=set)
    addresses: set[str] = field(default_factory=set)
    refusals: int = 0
    stopped: bool = False

    async def write(self) -> None:
        for number in count():
            if self.stopped:
                return
            customer = a_customer(f"Written {uuid4()}")
            address = f"{uuid4()}@example.com"
            try:
                if number % 2:
                    await self.services.catalogue.create(self.publisher_id, customer, actor="writer")
                    self.customers.add(customer.id)
                else:
                    subscriber = a_subscriber(self.services, address)
                    with suppress(ConcurrencyConflict):
                        await self.services.subscriber_store.put_subscriber(self.publisher_id, subscriber)
                        self.addresses.add(address)
            except (Frozen, Busy, PublisherNotFound):
                self.refusals += 1
                await asyncio.sleep(0.02)


@dataclass
class MoveFixture:
    """A publisher that is moved from one account to another, with those who write to it meanwhile."""

    command: Command
    publisher_id: str
    new: dict[str, str]
    at_old: Services
    """An instance with the old settings that validates."""
    stack: AsyncExitStack
    writers: list[Writer] = field(default_factory=list)
    tasks: list[asyncio.Task[None]] = field(default_factory=list)

    async def start(self, number: int, **settings: str) -> list[Writer]:
        """So many instances more, with these settings, that write until they are stopped."""
        made = []
        for _ in range(number):
            services = Services(Settings.read(settings))
            self.stack.push_async_callback(services.close)
            made.append(Writer(services, self.publisher_id))
        self.writers += made
        self.tasks += [asyncio.create_task(writer.write()) for writer in made]
        return made

    async def run(self, *arguments: object, new: bool) -> str:
        settings = self.new if new else {"LICENSING_STORAGE_TABLE": self.new["LICENSING_STORAGE_TABLE"]}
        return await run_successfully(self.command, *arguments, "--publisher", self.publisher_id, **settings)

    async def stop(self, *writers: Writer) -> None:
        for writer in writers:
            writer.stopped = True
        await asyncio.gather(*(self.tasks[self.writers.index(writer)] for writer in writers))


async def wait_for_writes(writers: list[Writer], number: int) -> None:
    while sum(len(writer.customers) for writer in writers) < number:  # noqa: ASYNC110 - nothing tells
        await asyncio.sleep(0.05)


async def validates(services: Services, publisher_id: str) -> None:
    snapshot = await services.environment_cache.get(publisher_id, "S-1")
    assert snapshot.environment
    assert len(snapshot.licenses) == 1
    assert not snapshot.stale


@pytest.fixture
async def move(
    command: Command, service: Served, elsewhere: Azurite, publisher_id: str
) -> AsyncIterator[tuple[MoveFixture, dict[str, str]]]:
    """The publisher, with an environment; and the old settings."""
    old = {**service.settings, "LICENSING_STORAGE_TABLE": "move"}
    new = {**old, "LICENSING_PUBLISHER_STORAGE": json.dumps({publisher_id: elsewhere.connection_string})}
    async with AsyncExitStack() as stack:
        services = Services(Settings.read(old))
        stack.push_async_callback(services.close)
        await services.table("").create()
        await services.catalogue.create_publisher(a_publisher(id=publisher_id), actor="test")
        product, customer = a_product(), a_customer()
        for record in (product, customer, a_license(customer.id, product.id), an_environment(customer.id, "S-1")):
            await services.catalogue.create(publisher_id, record, actor="test")
        yield MoveFixture(command, publisher_id, new, services, stack), old


@pytest.mark.slow
async def test_move_to_another_account_loses_no_write(
    move: tuple[MoveFixture, dict[str, str]], tables: Emulator, tmp_path: Path
) -> None:
    """The runbook, while instances of the old and the new settings write, and validate."""
    the, old = move
    publisher_id = the.publisher_id
    laggard, *others = await the.start(3, **old)
    await wait_for_writes(the.writers, 30)
    await the.run("freeze", "--apply", new=False)
    await the.run("backup", tmp_path / "moving", new=False)
    await validates(the.at_old, publisher_id)
    await the.run("restore", tmp_path / "moving", "--replace", "--apply", new=True)
    await the.stop(*others)  # they are started anew with the new settings; one is not
    moved = await the.start(2, **the.new)
    await asyncio.gather(*(validates(each, publisher_id) for each in (the.at_old, *(new.services for new in moved))))
    await the.run("backup", tmp_path / "again", new=False)
    assert "all of it is there already" in await the.run("restore", tmp_path / "again", new=True)
    assert not any(writer.customers or writer.addresses for writer in moved), "it is frozen there too"
    left = ("--left-in", tables.connection_string, "--confirm", publisher_id)
    assert f"Nothing of {publisher_id} is left." in await the.run("erase", *left, "--apply", new=True)
    await the.run("thaw", "--apply", new=True)
    await wait_for_writes(moved, 10)
    with pytest.raises(PublisherNotFound):  # nobody is answered from what is old
        await the.at_old.environment_cache.get(publisher_id, "S-1")
    with pytest.raises(PublisherNotFound):  # nor told that it was unsubscribed, where it was not
        await the.at_old.subscriptions.unsubscribe(publisher_id, "any")
    await the.stop(*moved, laggard)
    await assert_all_writes_stored(moved[0].services, the.writers)
    assert all(writer.refusals for writer in the.writers), "each was refused for a while"
    assert await every_row(the.at_old, publisher_id) == []
    assert publisher_id in await moved[0].services.store.register.publisher_ids(), "who lists publishers finds it"


async def assert_all_writes_stored(services: Services, writers: list[Writer]) -> None:
    """All that anybody was told is kept, and nothing else; and the audit tells of all of it."""
    publisher_id = writers[0].publisher_id
    found, entries = await check_invariants(services, publisher_id)
    told = set[str]().union(*(writer.customers for writer in writers))
    customers = {fields["id"] for fields in found.of(Customer.kind).values() if fields["name"].startswith("Written")}
    assert customers == told
    assert {entry.record_id for entry in entries if entry.actor == "writer"} == told
    subscribers = {each.address async for each in services.subscriber_store.subscribers(publisher_id)}
    assert subscribers >= set[str]().union(*(writer.addresses for writer in writers))


# Erased.


async def create_full_publisher(services: Services, publisher_id: str) -> None:
    """A publisher with records, a notice, somebody who is told of it, and messages on their way."""
    await create_licensed(services, publisher_id)
    await services.subscriber_store.put_subscriber(publisher_id, a_subscriber(services, "somebody@example.com"))
    now = services.clock()
    notice = Notice(
        id=str(uuid4()),
        created_at=now,
        updated_at=now,
        notice_kind=NoticeKind.INCIDENT,
        title="Slow",
        body="We look into it.",
    )
    await services.catalogue.create(publisher_id, begun(notice, notice.notice_kind), actor="test")
    await services.outbox.run(publisher_id, asyncio.get_running_loop().time() + WAIT_TIMEOUT_SECONDS)


async def test_erase_removes_all_rows_of_publisher_and_keeps_others(
    services: Services, publisher_id: str, command: Command
) -> None:
    other = str(uuid4())
    await create_full_publisher(services, other)
    await create_full_publisher(services, publisher_id)
    kept = await every_row(services, other)

    async def erase(*options: str) -> tuple[int, dict[str, Any]]:
        ended = await asyncio.to_thread(command, "erase", "--publisher", publisher_id, "--json", *options)
        return ended.code, json.loads(ended.out) if ended.out else {"told": ended.err}

    code, shown = await erase()
    assert (code, shown["applied"]) == (0, False)
    assert all(shown["rows"][name] for name in ("records", "subscribers", "outbox", "publishers"))
    for confirmed in ((), ("--confirm", other)):
        code, refused = await erase("--apply", *confirmed)
        assert (code, "--confirm" in refused["told"]) == (3, True)
    code, refused = await erase("--apply", "--confirm", publisher_id)
    assert (code, "Freeze it first" in refused["told"]) == (3, True)
    assert (await erase())[1]["rows"] == shown["rows"], "nothing has changed"
    await services.store.freeze(publisher_id, frozen=True)
    assert (await erase("--apply", "--confirm", publisher_id))[0] == 0
    code, proof = await erase()
    assert (code, proof["leftInAll"]) == (0, 0)
    assert (proof["account"], proof["table"]) == (services.table(publisher_id).host, "commands")
    assert set(proof["rows"].values()) == {0}
    assert await every_row(services, publisher_id) == []
    assert await services.store.register.keys_of(publisher_id) == []
    with pytest.raises(PublisherNotFound):
        await services.environment_cache.get(publisher_id, "S-1")
    assert await every_row(services, other) == kept
    await create_licensed(services, publisher_id)
    await check_invariants(services, publisher_id)


@pytest.mark.slow
async def test_erase_killed_repeatedly_completes_on_rerun(
    services: Services, service: Served, tables: Emulator, command: Command, publisher_id: str
) -> None:
    await create_full_publisher(services, publisher_id)
    await services.store.freeze(publisher_id, frozen=True)
    process: Any = None
    kill_at = posts = 0

    async def answer(request: web.BaseRequest, pass_on: Forward) -> web.StreamResponse:
        nonlocal posts
        posts += request.method == "POST"
        if process is not None and kill_at and posts >= kill_at:
            process.send_signal(signal.SIGKILL)
            return await pass_on() if kill_at % 2 else web.Response(status=503)
        return await pass_on()

    arguments = ("erase", "--publisher", publisher_id, "--confirm", publisher_id, "--apply")
    async with fault_proxy(tables, answer) as server:
        settings = {**service.settings, "LICENSING_STORAGE": server.account}
        for at in (2, 1):
            posts, kill_at = 0, at
            process = start(*arguments, settings=settings)
            assert await asyncio.to_thread(process.wait) == -signal.SIGKILL
            with pytest.raises(PublisherNotFound):
                await services.environment_cache.get(publisher_id, "S-1")
        found = await asyncio.to_thread(command, "diagnose", "--publisher", publisher_id, *TIMEOUT_OPTIONS)
        assert "is not whole: erasing it has not come to its end" in found.out
        kill_at = 0
        process = start(*arguments, settings=settings)
        assert await asyncio.to_thread(process.wait) == 0
    assert await every_row(services, publisher_id) == []
    assert await services.store.register.keys_of(publisher_id) == []


async def test_erase_at_wrong_account_exits_with_code_3_and_keeps_publisher(
    services: Services, publisher_id: str, command: Command, elsewhere: Azurite
) -> None:
    """The settings lack its own account; or they name the account that it is said to have left wrongly."""
    away = {
        "LICENSING_PUBLISHER_STORAGE": json.dumps({publisher_id: elsewhere.connection_string}),
        "LICENSING_STORAGE_TABLE": "commands",
    }
    there = Services(Settings.read({"LICENSING_STORAGE": elsewhere.connection_string, **away}))
    await there.table(publisher_id).create()
    await create_licensed(services, publisher_id)
    host = there.table(publisher_id).host
    await there.close()
    for options in ((), ("--confirm", publisher_id, "--apply")):
        ended = await asyncio.to_thread(command, "erase", "--publisher", publisher_id, *options, **away)
        assert (ended.code, ended.out) == (3, "")
        assert f"is registered, but no row of it is at {host}" in ended.err
        left_in = ("--left-in", elsewhere.connection_string)
        ended = await asyncio.to_thread(command, "erase", "--publisher", publisher_id, *left_in, *options)
        assert (ended.code, ended.out) == (3, "")
        assert f"no row is at {host}: it has been erased there already, or --left-in is wrong" in ended.err
    assert publisher_id in await services.store.register.publisher_ids()
    assert await services.store.version(publisher_id)


@pytest.mark.parametrize(("where", "told"), [("here", "has not moved from there"), ("elsewhere", "is not frozen at")])
def test_erase_left_in_rejects_account_in_use(
    command: Command, service: Served, elsewhere: Azurite, where: str, told: str
) -> None:
    publisher: Publisher = a_publisher()
    make: Callable[[Services], Any] = lambda services: services.catalogue.create_publisher(publisher, actor="test")  # noqa: E731 - made twice
    with_services(service.settings, make)
    other = {**service.settings, "LICENSING_STORAGE": elsewhere.connection_string}

    async def make_elsewhere(services: Services) -> None:
        await services.table("").create()
        await make(services)

    with_services(other, make_elsewhere)
    account = service.settings["LICENSING_STORAGE"] if where == "here" else elsewhere.connection_string
    ended = command(
        *("erase", "--publisher", publisher.id, "--confirm", publisher.id, "--apply", "--left-in", "ACCOUNT"),
        ACCOUNT=account,
    )
    assert (ended.code, ended.out) == (3, "")
    assert told in ended.err
