"""`python -m licensing backup` and `restore FILE` on a real store: the round trip, and what is killed or damaged.

`RECORDS=10000 pytest tests/cli/test_backup.py` does it at full size, which takes some minutes.
"""

import asyncio
import fcntl
import hashlib
import itertools
import json
import os
import random
import signal
import stat
import subprocess
import sys
from collections.abc import AsyncIterator, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from aiohttp import web

from devhost.azurite import Azurite, Emulator, azurite
from licensing.catalogue.draft import Draft
from licensing.catalogue.publisher_copy import ExclusiveRun
from licensing.catalogue.records import Product, Publisher
from licensing.catalogue.rows import VERSION_ROW
from licensing.catalogue.service import draft_record
from licensing.cli.recovery.backup_file import Backup, BackupRefused, Unfinished, head, writing
from licensing.cli.running import with_services
from licensing.errors import AlreadyExists, Busy, PublisherNotFound
from licensing.notices.model import ChannelKind, Subscriber, SubscriberState, subscriber_id
from licensing.services import Services
from licensing.settings import Settings
from tests.cli.conftest import TIMEOUT_OPTIONS, Command, CommandResult, environ_of
from tests.support.fault_proxy import Forward, fault_proxy
from tests.support.hosting import REPOSITORY, Served
from tests.support.invariants import check_invariants
from tests.support.records import a_customer, a_license, a_product, a_publisher, an_environment

RECORDS = int(os.environ.get("RECORDS", "600"))
_CUSTOMERS = RECORDS // 4
_CUSTOMERS_PER_CHANGE = 8
_KILLS = 3


@dataclass(frozen=True)
class BackupFixture:
    """A publisher with many records, and a backup of it."""

    publisher_id: str
    path: Path
    rows: list[dict[str, Any]]
    serial_numbers: list[str]

    @property
    def lines(self) -> list[bytes]:
        return self.path.read_bytes().splitlines(keepends=True)


async def fill(services: Services) -> tuple[str, list[str]]:
    """A publisher whose customers have two licenses and an environment each, and a subscriber; and serial numbers."""
    publisher, product = a_publisher(), a_product()
    await services.catalogue.create_publisher(publisher, actor="test")
    await services.catalogue.create(publisher.id, product, actor="test")

    async def some(numbers: Iterable[int], draft: Draft) -> None:
        for number in numbers:
            customer = await draft_record(draft, a_customer(f"Söhne {number}"))
            for end in (10, 20):
                license_ = a_license(customer.id, product.id, end_date=datetime(2027, 1, end, tzinfo=UTC).date())
                await draft_record(draft, license_)
            await draft_record(draft, an_environment(customer.id, f"Ö/{number}"))

    for numbers in itertools.batched(range(_CUSTOMERS), _CUSTOMERS_PER_CHANGE, strict=False):
        await services.store.change(publisher.id, "test", partial(some, numbers))
    now = services.clock()
    address = "somebody@example.com"
    subscriber = Subscriber(
        id=subscriber_id(ChannelKind.EMAIL, address),
        created_at=now,
        updated_at=now,
        address=address,
        state=SubscriberState.CONFIRMED,
        unsubscribe_key="k" * 32,
    )
    await services.subscriber_store.put_subscriber(publisher.id, subscriber)
    return publisher.id, [f"Ö/{number}" for number in range(_CUSTOMERS)]


async def draft_a_product(draft: Draft) -> None:
    draft.put(a_product())


async def every_row(services: Services, publisher_id: str) -> list[dict[str, Any]]:
    """All rows of all partitions of the publisher, read without the code that is tested."""
    query = "PartitionKey ge @first and PartitionKey lt @end"
    client = services.table(publisher_id).connect()
    found = client.query_entities(query, parameters={"first": publisher_id, "end": f"{publisher_id}~"})
    rows = [dict(row) async for row in found]
    return sorted(rows, key=lambda row: (row["PartitionKey"], row["RowKey"]))


def settings_on(account: str, service: Served) -> dict[str, str]:
    return {**service.settings, "LICENSING_STORAGE": account}


@pytest.fixture(scope="module")
def elsewhere() -> Iterator[Azurite]:
    """Another storage account, without a table."""
    with azurite() as running:
        yield running


@pytest.fixture(scope="module")
def full_backup(service: Served, tmp_path_factory: pytest.TempPathFactory) -> BackupFixture:
    async def make(services: Services) -> tuple[str, list[str], list[dict[str, Any]]]:
        publisher_id, serial_numbers = await fill(services)
        return publisher_id, serial_numbers, await every_row(services, publisher_id)

    publisher_id, serial_numbers, rows = with_services(service.settings, make)
    path = tmp_path_factory.mktemp("backup") / "all.backup"
    done = run("backup", path, "--publisher", publisher_id, settings=service.settings)
    assert done.returncode == 0, done.stderr
    return BackupFixture(publisher_id, path, rows, serial_numbers)


def run(*arguments: object, settings: dict[str, str] | Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "licensing", *map(str, arguments)],
        cwd=REPOSITORY,
        env=environ_of(settings, arguments[0]),
        capture_output=True,
        text=True,
        check=False,
    )


def start(*arguments: object, settings: dict[str, str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "licensing", *map(str, arguments)],
        cwd=REPOSITORY,
        env=environ_of(settings, arguments[0]),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def without_restore_entry(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows but for what a restore adds: its own change, which moves the version and the publisher's."""
    own = max((row["RowKey"] for row in rows if row.get("actor", "").startswith("restore")), default=None)
    moved = ("version", "publisher|")
    return [row for row in rows if row["RowKey"] != own and not row["RowKey"].startswith(moved)]


# The file.


def test_backup_contains_all_rows_and_is_readable_by_owner_only(full_backup: BackupFixture) -> None:
    head, *lines, end = map(json.loads, full_backup.lines)
    assert (head["backup"], head["publisherId"], head["name"]) == (1, full_backup.publisher_id, "Contoso")
    assert lines == full_backup.rows
    assert len({row["PartitionKey"] for row in lines}) == 2, "records and subscribers"
    assert end["rows"] == len(lines)
    assert stat.S_IMODE(full_backup.path.stat().st_mode) == 0o600
    assert not full_backup.path.with_name("all.backup.partial").exists()


def test_backup_over_existing_partial_file_restricts_mode_and_rejects_symlink(
    full_backup: BackupFixture, service: Served, tmp_path: Path
) -> None:
    path = tmp_path / "readable.backup"
    beside = path.with_name("readable.backup.partial")
    beside.write_bytes(b"")
    beside.chmod(0o644)
    done = run("backup", path, "--publisher", full_backup.publisher_id, settings=service.settings)
    assert (done.returncode, stat.S_IMODE(path.stat().st_mode)) == (0, 0o600), done.stderr
    led = tmp_path / "led.backup"
    led.with_name("led.backup.partial").symlink_to(tmp_path / "elsewhere")
    done = run("backup", led, "--publisher", full_backup.publisher_id, settings=service.settings)
    assert done.returncode == 3
    assert not (tmp_path / "elsewhere").exists()


def test_backup_writing_after_lock_wait_keeps_completed_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, first = tmp_path / "one.backup", head("id", "Contoso", 1, "etag", "now")
    real = fcntl.flock

    def lock_after_the_other_has_ended(descriptor: int, how: int) -> None:
        path.with_name("one.backup.partial").rename(path)
        path.write_bytes(b"whole")
        real(descriptor, how)

    monkeypatch.setattr(fcntl, "flock", lock_after_the_other_has_ended)
    with pytest.raises(BackupRefused, match="Somebody else"), writing(path, first):
        pass
    assert path.read_bytes() == b"whole"


def test_backup_writing_when_file_appears_before_lock_keeps_completed_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, first = tmp_path / "one.backup", head("id", "Contoso", 1, "etag", "now")
    monkeypatch.setattr(fcntl, "flock", lambda *_: path.write_bytes(b"whole"))
    with pytest.raises(BackupRefused, match="exists already"), writing(path, first):
        pass
    assert [each.name for each in tmp_path.iterdir()] == ["one.backup"]
    assert path.read_bytes() == b"whole"


def a_few_rows(publisher_id: str) -> list[dict[str, Any]]:
    version = {"PartitionKey": publisher_id, "RowKey": VERSION_ROW, "number": 1}
    return [version, *({**version, "RowKey": f"{VERSION_ROW}ö{number}"} for number in range(2))]


def write_few(path: Path, publisher_id: str) -> None:
    """A backup of those rows, gone on with where it was cut off."""
    with writing(path, head(publisher_id, "Contoso", 1, "etag", "now")) as backup:
        for row in a_few_rows(publisher_id):
            if backup.last is None or row["RowKey"] > backup.last.key:
                backup.add(row)
        backup.end()


def test_backup_cut_off_after_any_byte_resumes_to_identical_file(tmp_path: Path) -> None:
    path, publisher_id = tmp_path / "cut.backup", str(uuid4())
    write_few(path, publisher_id)
    whole = path.read_bytes()
    for cut in range(len(whole) + 1):
        path.unlink()
        path.with_name("cut.backup.partial").write_bytes(whole[:cut])
        write_few(path, publisher_id)
        assert path.read_bytes() == whole
        assert list(Backup.open(path, publisher_id).read()) == a_few_rows(publisher_id)


def test_backup_with_failed_read_back_raises_backup_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "lost.backup"
    as_it_is = Unfinished._write
    monkeypatch.setattr(Unfinished, "_write", lambda self, line: as_it_is(self, line) or self.file.seek(-1, 1))
    with pytest.raises(BackupRefused, match="is not what was written"):
        write_few(path, str(uuid4()))
    assert not path.exists()


def test_restore_dry_run_creates_no_table(full_backup: BackupFixture, service: Served, command: Command) -> None:
    table = f"t{uuid4().hex}"
    ended = command("restore", full_backup.path, "--publisher", full_backup.publisher_id, LICENSING_STORAGE_TABLE=table)
    assert ended.code == 0
    assert f"{len(full_backup.rows)} rows to put" in ended.out
    settings = {**service.settings, "LICENSING_STORAGE_TABLE": table}
    assert not with_services(settings, lambda services: services.table("").exists())


def test_backup_after_kill_resumes_partial_file(full_backup: BackupFixture, command: Command) -> None:
    path = full_backup.path.with_name("killed.backup")
    partial = path.with_name("killed.backup.partial")
    *most, _ = full_backup.lines[: len(full_backup.lines) // 2]
    head = json.loads(most[0])
    first = json.dumps({**head, "at": "then"}).encode() + b"\n"
    partial.write_bytes(b"".join([first, *most[1:]]) + b'{"PartitionKey": "cut o')
    ended = command("backup", path, "--publisher", full_backup.publisher_id, "--json")
    assert (ended.code, json.loads(ended.out)["rows"]) == (0, len(full_backup.rows))
    kept = path.read_bytes().splitlines(keepends=True)
    assert (kept[0], kept[1:-1]) == (first, full_backup.lines[1:-1])
    again = command("restore", path, "--publisher", full_backup.publisher_id)
    assert (again.code, "all of it is there already" in again.out) == (0, True), "its checksum is right"


def test_backup_with_outdated_partial_file_starts_over(full_backup: BackupFixture, command: Command) -> None:
    path = full_backup.path.with_name("older.backup")
    head = json.loads(full_backup.lines[0])
    older = json.dumps({**head, "etag": "another"}).encode() + b'\n{"PartitionKey": "not", "RowKey": "so"}\n'
    path.with_name("older.backup.partial").write_bytes(older)
    ended = command("backup", path, "--publisher", full_backup.publisher_id)
    assert ended.code == 0
    assert path.read_bytes().splitlines(keepends=True)[1:-1] == full_backup.lines[1:-1]


def test_backup_with_concurrent_changes_restarts_and_finally_gives_up(
    service: Served, tables: Emulator, tmp_path: Path
) -> None:
    """And gives up where that goes on: with what to do about it."""
    publisher = a_publisher()
    settings = dict(service.settings)
    with_services(settings, lambda services: services.catalogue.create_publisher(publisher, actor="test"))

    async def back_up(changes: int) -> CommandResult:
        left = changes

        async def answer(request: web.BaseRequest, pass_on: Forward) -> web.StreamResponse:
            nonlocal left
            if left and "PartitionKey%20gt" in request.raw_path.replace("+", "%20"):
                left -= 1
                other = Services(Settings.read(settings))
                await other.catalogue.create(publisher.id, a_product(str(uuid4())), actor="somebody")
                await other.close()
            return await pass_on()

        async with fault_proxy(tables, answer) as server:
            arguments = ("backup", tmp_path / f"{changes}.backup", "--publisher", publisher.id, "--json")
            done = await asyncio.to_thread(run, *arguments, settings=settings_on(server.account, service))
            return CommandResult(done.returncode, done.stdout, done.stderr)

    ended = asyncio.run(back_up(2))
    assert (ended.code, json.loads(ended.out)["version"]) == (0, 3)
    busy = asyncio.run(back_up(100))
    assert busy.code == 3
    assert f"freeze --publisher {publisher.id} --apply" in busy.err
    assert not (tmp_path / "100.backup").exists()


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (lambda lines: [*lines[:-1]], "cut off"),
        (lambda lines: [*lines[:9]], "cut off"),
        (lambda lines: [*lines[:9], lines[9][:20]], "damaged"),
        (lambda lines: [*lines[:9], *lines[10:]], "checksum"),
        (lambda lines: [*lines[:9], lines[9].replace(b"test", b"tset"), *lines[10:]], "checksum"),
        (lambda lines: [*lines[:9], lines[10], lines[9], *lines[11:]], "damaged"),
        (lambda lines: [*lines, lines[9]], "goes on after its end"),
        (lambda lines: [lines[0].replace(b'"backup":1', b'"backup":2'), *lines[1:]], "another version"),
        (lambda lines: [lines[0].replace(b"Contoso", b"Fabrikam"), *lines[1:]], "checksum"),
        (lambda _: [], "damaged"),
        (lambda _: [b"\x00\xff\n" * 3], "damaged"),
        (lambda _: [b"[]\n"], "damaged"),
        (lambda _: [b"[" * 200_000], "damaged"),
    ],
    ids=[
        "without its end",
        "cut off after a line",
        "cut off in a line",
        "a line is missing",
        "a letter is another",
        "lines in another order",
        "more after its end",
        "of another format",
        "its head is another",
        "empty",
        "no text",
        "no object",
        "of more brackets than can be read",
    ],
)
def test_restore_rejects_damaged_backup_before_writing(
    full_backup: BackupFixture, command: Command, elsewhere: Azurite, damage: Any, told: str
) -> None:
    path = full_backup.path.with_name("damaged")
    path.write_bytes(b"".join(damage(full_backup.lines)))
    ended = command(
        *("restore", path, "--publisher", full_backup.publisher_id, "--apply"),
        LICENSING_STORAGE=elsewhere.connection_string,
        LICENSING_STORAGE_TABLE="damaged",
    )
    assert (ended.code, ended.out) == (3, "")
    assert told in ended.err
    missing = command("restore", path / "none", "--publisher", full_backup.publisher_id)
    assert "cannot be read: " in missing.err
    other = command("restore", full_backup.path, "--publisher", uuid4())
    assert f"is a backup of Contoso ({full_backup.publisher_id})" in other.err


def write_backup(path: Path, lines: list[bytes]) -> Path:
    """A backup of a head and of rows that somebody has written by hand, with the end that they ask for."""
    whole = b"".join(lines)
    end = {"rows": len(lines) - 1, "sha256": hashlib.sha256(whole).hexdigest()}
    path.write_bytes(whole + json.dumps(end).encode() + b"\n")
    return path


@pytest.mark.parametrize("of", ["another", "this", "no change"])
def test_restore_rejects_hand_written_backup(full_backup: BackupFixture, command: Command, of: str) -> None:
    head, *rows, _ = full_backup.lines
    if of == "another":
        rows = [row.replace(full_backup.publisher_id.encode(), str(uuid4()).encode(), 1) for row in rows]
    elif of == "this":
        rows = [*reversed(rows)]
    else:
        rows = [row.replace(b'"number":', b'"numbers":') for row in rows]
    path = write_backup(full_backup.path.with_name(f"by-hand-{of}"), [head, *rows])
    ended = command("restore", path, "--publisher", full_backup.publisher_id, "--replace", "--apply")
    assert (ended.code, ended.out) == (3, "")
    assert "is no backup, or is damaged" in ended.err


# The round trip.


@pytest.mark.slow
@pytest.mark.timeout(1800)  # at its full size, and on a slow machine
async def test_restore_killed_repeatedly_ends_with_identical_rows(
    full_backup: BackupFixture, service: Served, elsewhere: Azurite
) -> None:
    """And while it is half done nobody answers for the publisher, nor can another one be made of its id."""
    posts = 0
    kill_at: int | None = None
    process: subprocess.Popen[bytes] | None = None

    async def answer(request: web.BaseRequest, pass_on: Forward) -> web.StreamResponse:
        nonlocal posts
        posts += request.method == "POST"
        if process is not None and kill_at is not None and posts >= kill_at:
            process.send_signal(signal.SIGKILL)
            return await pass_on() if random.random() < 0.5 else web.Response(status=503)
        return await pass_on()

    arguments = ("restore", full_backup.path, "--publisher", full_backup.publisher_id, "--apply")
    batches = len(full_backup.rows) // 100
    async with fault_proxy(elsewhere, answer) as server:
        settings = settings_on(server.account, service)
        services = Services(Settings.read(settings_on(elsewhere.connection_string, service)))
        await services.table("").create()
        for _ in range(_KILLS):
            # The table is made, the publisher declared absent: then come its rows. All kills together leave some.
            posts, kill_at = 0, 3 + random.randrange(batches // (_KILLS + 1))
            process = start(*arguments, settings=settings)
            assert await asyncio.to_thread(process.wait) == -signal.SIGKILL
            with pytest.raises(PublisherNotFound):
                await services.environment_cache.get(full_backup.publisher_id, full_backup.serial_numbers[0])
        with pytest.raises((Busy, AlreadyExists)):
            await services.catalogue.create_publisher(a_publisher(id=full_backup.publisher_id), actor="test")
        with pytest.raises(PublisherNotFound):  # whatever of its rows is there already
            await services.store.change(full_backup.publisher_id, "test", draft_a_product)
        kill_at = None
        process = start(*arguments, settings=settings)
        assert await asyncio.to_thread(process.wait) == 0
        rows = await every_row(services, full_backup.publisher_id)
        assert without_restore_entry(rows) == without_restore_entry(full_backup.rows)
        await check_invariants(services, full_backup.publisher_id)
        (newest,) = [entry async for entry in services.store.audit(full_backup.publisher_id, limit=1)]
        assert newest.actor.startswith("restore ")
        for serial_number in random.sample(full_backup.serial_numbers, 5):
            snapshot = await services.environment_cache.get(full_backup.publisher_id, serial_number)
            assert snapshot.environment
            assert len(*snapshot.licenses.values()) == 2
        assert full_backup.publisher_id in await services.store.register.publisher_ids()
        process = start(*arguments, settings=settings)
        assert await asyncio.to_thread(process.wait) == 0, "once more does nothing"
        assert await every_row(services, full_backup.publisher_id) == rows
        (subscriber,) = [each async for each in services.subscriber_store.subscribers(full_backup.publisher_id)]
        await services.subscriber_store.delete_subscriber(full_backup.publisher_id, subscriber.id)
        process = start(*arguments, settings=settings)
        assert await asyncio.to_thread(process.wait) == 3, "but not where what is beside the records has changed"
        await services.close()


@pytest.fixture
async def small_backup(
    service: Served, command: Command, tmp_path: Path
) -> AsyncIterator[tuple[Services, Publisher, Path]]:
    """A publisher with one product, and a backup of it."""
    services = Services(Settings.read(service.settings))
    publisher = a_publisher()
    await services.catalogue.create_publisher(publisher, actor="test")
    await services.catalogue.create(publisher.id, a_product(), actor="test")
    path = tmp_path / "small_backup.backup"
    assert (await asyncio.to_thread(command, "backup", path, "--publisher", publisher.id)).code == 0
    yield services, publisher, path
    await services.close()


@pytest.mark.slow
async def test_restore_over_existing_rows_requires_replace_option(
    small_backup: tuple[Services, Publisher, Path], service: Served
) -> None:
    services, publisher, path = small_backup
    before = await services.store.version(publisher.id)
    late = a_product("Late")
    await services.catalogue.create(publisher.id, late, actor="test")
    rows = await every_row(services, publisher.id)

    async def restore(*options: str) -> subprocess.CompletedProcess[str]:
        arguments = ("restore", path, "--publisher", publisher.id, *options)
        return await asyncio.to_thread(run, *arguments, settings=service.settings)

    for options in ((), ("--apply",)):
        refused = await restore(*options)
        assert refused.returncode == 3
        assert "0 would be put, 2 deleted. Nothing was changed" in refused.stderr
    shown = await restore("--replace")
    assert "0 rows to put, 2 to delete" in shown.stdout
    assert await every_row(services, publisher.id) == rows
    done = await restore("--replace", "--apply")
    assert done.returncode == 0, done.stderr
    assert before
    after = await services.store.version(publisher.id)
    assert after
    assert after.number == before.number + 2, "no number comes twice"
    assert [product.name for product in await services.store.list_records(publisher.id, type(late))] == ["SmartSend"]
    found = await services.publisher_cache.get(publisher.id, type(late))
    assert [product.name for product in found.values()] == ["SmartSend"]


async def test_restore_frozen_backup_takes_new_version_number_and_matches_on_rerun(
    small_backup: tuple[Services, Publisher, Path], command: Command, tmp_path: Path
) -> None:
    """Also by a backup of them that was made later: that is how a move sees that nothing came late."""
    services, publisher, _ = small_backup
    files = tmp_path / "one.backup", tmp_path / "two.backup"
    await services.store.freeze(publisher.id, frozen=True)
    for file in files:
        assert (await asyncio.to_thread(command, "backup", file, "--publisher", publisher.id)).code == 0
    assert files[0].read_bytes() != files[1].read_bytes()
    before = await services.store.version(publisher.id)
    await services.store.freeze(publisher.id, frozen=False)
    await services.catalogue.create(publisher.id, a_product("Late"), actor="test")
    options = ("--publisher", publisher.id, "--replace", "--apply")
    done = await asyncio.to_thread(command, "restore", files[0], *options)
    assert done.code == 0, done.err
    assert f"in the table commands at {services.table('').host}" in done.out
    after = await services.store.version(publisher.id)
    assert before
    assert after
    assert (after.number, after.frozen) == (before.number + 2, True)
    (newest,) = [entry async for entry in services.store.audit(publisher.id, limit=1)]
    assert (newest.number, newest.actor.split()[0]) == (after.number, "restore")
    for file in files:
        again = await asyncio.to_thread(command, "restore", file, "--publisher", publisher.id)
        assert (again.code, "all of it is there already" in again.out) == (0, True), again.err
    *most, _ = files[1].read_bytes().splitlines(keepends=True)
    reminder = {"PartitionKey": publisher.id, "RowKey": "reminder|late"}  # that no version guards
    late = write_backup(tmp_path / "late.backup", [*most[:-1], json.dumps(reminder).encode() + b"\n", most[-1]])
    refused = await asyncio.to_thread(command, "restore", late, "--publisher", publisher.id)
    assert (refused.code, "There are rows" in refused.err) == (3, True)


async def test_restore_with_wrong_publisher_storage_requires_replace_option(
    small_backup: tuple[Services, Publisher, Path], command: Command, elsewhere: Azurite
) -> None:
    _, publisher, path = small_backup
    wrong = {"LICENSING_PUBLISHER_STORAGE": json.dumps({publisher.id: elsewhere.connection_string})}

    async def restore(*options: str) -> CommandResult:
        return await asyncio.to_thread(command, "restore", path, "--publisher", publisher.id, *options, **wrong)

    for options in ((), ("--apply",)):
        refused = await restore(*options)
        assert (refused.code, refused.out) == (3, "")
        assert f"no row of it is at 127.0.0.1:{elsewhere.port}" in refused.err
        assert "LICENSING_PUBLISHER_STORAGE" in refused.err
        assert "AccountKey" not in refused.err
    assert "Nothing was changed: add --apply" in (await restore("--replace")).out


async def test_restore_over_unfinished_restore_requires_replace_option(
    small_backup: tuple[Services, Publisher, Path], command: Command
) -> None:
    services, publisher, path = small_backup
    table = services.table(publisher.id)
    await ExclusiveRun.begin(table, publisher.id, await table.find(publisher.id, "version"), "erasing", wait_seconds=0)
    refused = await asyncio.to_thread(command, "restore", path, "--publisher", publisher.id)
    assert (refused.code, refused.out) == (3, "")
    assert "An unfinished restore or erase" in refused.err
    assert "--replace goes on" in refused.err
    options = ("--publisher", publisher.id, "--replace", "--apply")
    done = await asyncio.to_thread(command, "restore", path, *options)
    assert done.code == 0, done.err
    assert await services.store.version(publisher.id)


async def test_restore_registers_publisher_missing_from_register(
    small_backup: tuple[Services, Publisher, Path], command: Command
) -> None:
    services, publisher, path = small_backup
    rows = await every_row(services, publisher.id)
    await services.store.register.remove(publisher.id)
    found = await asyncio.to_thread(command, "diagnose", "--publisher", publisher.id, *TIMEOUT_OPTIONS)
    assert "not registered" in found.out
    shown = await asyncio.to_thread(command, "restore", path, "--publisher", publisher.id)
    assert "But it is not registered: add --apply." in shown.out
    assert publisher.id not in await services.store.register.publisher_ids()
    done = await asyncio.to_thread(command, "restore", path, "--publisher", publisher.id, "--apply")
    assert "It is registered again." in done.out
    assert publisher.id in await services.store.register.publisher_ids()
    assert await every_row(services, publisher.id) == rows
    found = await asyncio.to_thread(command, "diagnose", "--publisher", publisher.id, *TIMEOUT_OPTIONS)
    assert "not registered" not in found.out


async def test_restore_with_concurrent_change_aborts_and_keeps_records(
    small_backup: tuple[Services, Publisher, Path], tables: Emulator, command: Command
) -> None:
    services, publisher, path = small_backup
    await services.catalogue.create(publisher.id, a_product("Early"), actor="test")
    late = [a_product("Late")]

    async def answer(request: web.BaseRequest, pass_on: Forward) -> web.StreamResponse:
        if late and "PartitionKey%20gt" in request.raw_path.replace("+", "%20"):
            await services.catalogue.create(publisher.id, late.pop(), actor="somebody")
        return await pass_on()

    async with fault_proxy(tables, answer) as server:
        options = ("--publisher", publisher.id, "--replace", "--apply")
        ended = await asyncio.to_thread(command, "restore", path, *options, LICENSING_STORAGE=server.account)
    assert (ended.code, "Somebody else changes these rows" in ended.err) == (3, True)
    assert "Late" in {product.name for product in await services.store.list_records(publisher.id, Product)}
    assert await services.store.version(publisher.id)


def test_restore_over_rows_without_version_row_exits_with_code_3(
    elsewhere: Azurite, full_backup: BackupFixture, command: Command
) -> None:
    settings = {"LICENSING_STORAGE": elsewhere.connection_string, "LICENSING_STORAGE_TABLE": "stray"}

    async def stray(services: Services) -> None:
        table = services.table("")
        await table.create()
        await table.connect().create_entity(
            {"PartitionKey": f"{full_backup.publisher_id}|subscribers", "RowKey": full_backup.rows[-1]["RowKey"]}
        )

    with_services(settings, stray)
    ended = command("restore", full_backup.path, "--publisher", full_backup.publisher_id, "--apply", **settings)
    assert (ended.code, ended.out) == (3, "")
    assert "There are rows of" in ended.err


def test_backup_keeps_existing_file_and_reports_unknown_publisher_or_path(
    full_backup: BackupFixture, command: Command
) -> None:
    before = full_backup.path.read_bytes()
    ended = command("backup", full_backup.path, "--publisher", full_backup.publisher_id)
    assert (ended.code, ended.out) == (3, "")
    assert "exists already" in ended.err
    assert full_backup.path.read_bytes() == before
    unknown = command("backup", full_backup.path.with_name("unknown"), "--publisher", uuid4())
    assert "No publisher of this id" in unknown.err
    nowhere = command("backup", full_backup.path / "no" / "folder", "--publisher", full_backup.publisher_id)
    assert "cannot be written" in nowhere.err
