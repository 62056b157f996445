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
from licensing.catalogue.copies import Absence
from licensing.catalogue.model import Product, Publisher
from licensing.catalogue.rows import VERSION_ROW
from licensing.catalogue.service import draft_record
from licensing.catalogue.store import Draft
from licensing.cli.backup_file import Backup, BackupRefused, Unfinished, head, writing
from licensing.cli.running import with_services
from licensing.errors import AlreadyExists, Busy, PublisherNotFound
from licensing.notices.model import Channel, Subscriber, SubscriberState, subscriber_id
from licensing.services import Services
from licensing.settings import Settings
from tests.catalogue.disturbed import Pass, disturbed
from tests.catalogue.ledger import check_everything
from tests.catalogue.records import a_customer, a_license, a_product, a_publisher, an_environment
from tests.cli.conftest import PATIENTLY, Command, Ended, environ_of
from tests.end_to_end.hosting import REPOSITORY, Served

RECORDS = int(os.environ.get("RECORDS", "600"))
_CUSTOMERS = RECORDS // 4
_AT_ONCE = 8
_KILLS = 3


@dataclass(frozen=True)
class Copied:
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

    for numbers in itertools.batched(range(_CUSTOMERS), _AT_ONCE, strict=False):
        await services.store.change(publisher.id, "test", partial(some, numbers))
    now = services.clock()
    address = "somebody@example.com"
    subscriber = Subscriber(
        id=subscriber_id(Channel.EMAIL, address),
        created_at=now,
        updated_at=now,
        address=address,
        state=SubscriberState.CONFIRMED,
        unsubscribe_key="k" * 32,
    )
    await services.notice_store.put_subscriber(publisher.id, subscriber)
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
def copied(service: Served, tmp_path_factory: pytest.TempPathFactory) -> Copied:
    async def make(services: Services) -> tuple[str, list[str], list[dict[str, Any]]]:
        publisher_id, serial_numbers = await fill(services)
        return publisher_id, serial_numbers, await every_row(services, publisher_id)

    publisher_id, serial_numbers, rows = with_services(service.settings, make)
    path = tmp_path_factory.mktemp("backup") / "all.backup"
    done = run("backup", path, "--publisher", publisher_id, settings=service.settings)
    assert done.returncode == 0, done.stderr
    return Copied(publisher_id, path, rows, serial_numbers)


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


def restored(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows but for what a restore adds: its own change, which moves the version and the publisher's."""
    own = max((row["RowKey"] for row in rows if row.get("actor", "").startswith("restore")), default=None)
    moved = ("version", "publisher|")
    return [row for row in rows if row["RowKey"] != own and not row["RowKey"].startswith(moved)]


# The file.


def test_a_backup_holds_all_rows_and_nobody_else_can_read_it(copied: Copied) -> None:
    head, *lines, end = map(json.loads, copied.lines)
    assert (head["backup"], head["publisherId"], head["name"]) == (1, copied.publisher_id, "Contoso")
    assert lines == copied.rows
    assert len({row["PartitionKey"] for row in lines}) == 2, "records and subscribers"
    assert end["rows"] == len(lines)
    assert stat.S_IMODE(copied.path.stat().st_mode) == 0o600
    assert not copied.path.with_name("all.backup.partial").exists()


def test_what_lay_there_under_its_name_makes_no_backup_readable_and_leads_nowhere_else(
    copied: Copied, service: Served, tmp_path: Path
) -> None:
    path = tmp_path / "readable.backup"
    beside = path.with_name("readable.backup.partial")
    beside.write_bytes(b"")
    beside.chmod(0o644)
    done = run("backup", path, "--publisher", copied.publisher_id, settings=service.settings)
    assert (done.returncode, stat.S_IMODE(path.stat().st_mode)) == (0, 0o600), done.stderr
    led = tmp_path / "led.backup"
    led.with_name("led.backup.partial").symlink_to(tmp_path / "elsewhere")
    done = run("backup", led, "--publisher", copied.publisher_id, settings=service.settings)
    assert done.returncode == 3
    assert not (tmp_path / "elsewhere").exists()


def test_whoever_waited_for_the_lock_does_not_write_over_the_backup_that_has_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
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


def test_whoever_looked_before_the_backup_ended_does_not_write_over_it_either(
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


def test_cut_off_after_any_byte_a_backup_goes_on_and_can_be_restored(tmp_path: Path) -> None:
    path, publisher_id = tmp_path / "cut.backup", str(uuid4())
    write_few(path, publisher_id)
    whole = path.read_bytes()
    for cut in range(len(whole) + 1):
        path.unlink()
        path.with_name("cut.backup.partial").write_bytes(whole[:cut])
        write_few(path, publisher_id)
        assert path.read_bytes() == whole
        assert list(Backup.open(path, publisher_id).read()) == a_few_rows(publisher_id)


def test_a_backup_that_does_not_read_back_is_no_backup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "lost.backup"
    as_it_is = Unfinished._write
    monkeypatch.setattr(Unfinished, "_write", lambda self, line: as_it_is(self, line) or self.file.seek(-1, 1))
    with pytest.raises(BackupRefused, match="is not what was written"):
        write_few(path, str(uuid4()))
    assert not path.exists()


def test_a_dry_run_makes_no_table(copied: Copied, service: Served, command: Command) -> None:
    table = f"t{uuid4().hex}"
    ended = command("restore", copied.path, "--publisher", copied.publisher_id, LICENSING_STORAGE_TABLE=table)
    assert ended.code == 0
    assert f"{len(copied.rows)} rows to put" in ended.out
    settings = {**service.settings, "LICENSING_STORAGE_TABLE": table}
    assert not with_services(settings, lambda services: services.table("").is_there())


def test_a_backup_that_was_killed_goes_on_where_it_was(copied: Copied, command: Command) -> None:
    path = copied.path.with_name("killed.backup")
    partial = path.with_name("killed.backup.partial")
    *most, _ = copied.lines[: len(copied.lines) // 2]
    head = json.loads(most[0])
    first = json.dumps({**head, "at": "then"}).encode() + b"\n"
    partial.write_bytes(b"".join([first, *most[1:]]) + b'{"PartitionKey": "cut o')
    ended = command("backup", path, "--publisher", copied.publisher_id, "--json")
    assert (ended.code, json.loads(ended.out)["rows"]) == (0, len(copied.rows))
    kept = path.read_bytes().splitlines(keepends=True)
    assert (kept[0], kept[1:-1]) == (first, copied.lines[1:-1])
    again = command("restore", path, "--publisher", copied.publisher_id)
    assert (again.code, "all of it is there already" in again.out) == (0, True), "its checksum is right"


def test_what_was_begun_before_a_change_is_begun_anew(copied: Copied, command: Command) -> None:
    path = copied.path.with_name("older.backup")
    head = json.loads(copied.lines[0])
    older = json.dumps({**head, "etag": "another"}).encode() + b'\n{"PartitionKey": "not", "RowKey": "so"}\n'
    path.with_name("older.backup.partial").write_bytes(older)
    ended = command("backup", path, "--publisher", copied.publisher_id)
    assert ended.code == 0
    assert path.read_bytes().splitlines(keepends=True)[1:-1] == copied.lines[1:-1]


def test_a_backup_begins_anew_where_somebody_changes_records_meanwhile(
    service: Served, tables: Emulator, tmp_path: Path
) -> None:
    """And gives up where that goes on: with what to do about it."""
    publisher = a_publisher()
    settings = dict(service.settings)
    with_services(settings, lambda services: services.catalogue.create_publisher(publisher, actor="test"))

    async def back_up(changes: int) -> Ended:
        left = changes

        async def answer(request: web.BaseRequest, pass_on: Pass) -> web.StreamResponse:
            nonlocal left
            if left and "PartitionKey%20gt" in request.raw_path.replace("+", "%20"):
                left -= 1
                other = Services(Settings.read(settings))
                await other.catalogue.create(publisher.id, a_product(str(uuid4())), actor="somebody")
                await other.close()
            return await pass_on()

        async with disturbed(tables, answer) as server:
            arguments = ("backup", tmp_path / f"{changes}.backup", "--publisher", publisher.id, "--json")
            done = await asyncio.to_thread(run, *arguments, settings=settings_on(server.account, service))
            return Ended(done.returncode, done.stdout, done.stderr)

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
def test_a_damaged_backup_is_refused_before_anything_is_written(
    copied: Copied, command: Command, elsewhere: Azurite, damage: Any, told: str
) -> None:
    path = copied.path.with_name("damaged")
    path.write_bytes(b"".join(damage(copied.lines)))
    ended = command(
        *("restore", path, "--publisher", copied.publisher_id, "--apply"),
        LICENSING_STORAGE=elsewhere.connection_string,
        LICENSING_STORAGE_TABLE="damaged",
    )
    assert (ended.code, ended.out) == (3, "")
    assert told in ended.err
    missing = command("restore", path / "none", "--publisher", copied.publisher_id)
    assert "cannot be read: " in missing.err
    other = command("restore", copied.path, "--publisher", uuid4())
    assert f"is a backup of Contoso ({copied.publisher_id})" in other.err


def write_backup(path: Path, lines: list[bytes]) -> Path:
    """A backup of a head and of rows that somebody has written by hand, with the end that they ask for."""
    whole = b"".join(lines)
    end = {"rows": len(lines) - 1, "sha256": hashlib.sha256(whole).hexdigest()}
    path.write_bytes(whole + json.dumps(end).encode() + b"\n")
    return path


@pytest.mark.parametrize("of", ["another", "this", "no change"])
def test_a_backup_that_somebody_has_written_by_hand_is_no_way_to_other_publishers(
    copied: Copied, command: Command, of: str
) -> None:
    head, *rows, _ = copied.lines
    if of == "another":
        rows = [row.replace(copied.publisher_id.encode(), str(uuid4()).encode(), 1) for row in rows]
    elif of == "this":
        rows = [*reversed(rows)]
    else:
        rows = [row.replace(b'"number":', b'"numbers":') for row in rows]
    path = write_backup(copied.path.with_name(f"by-hand-{of}"), [head, *rows])
    ended = command("restore", path, "--publisher", copied.publisher_id, "--replace", "--apply")
    assert (ended.code, ended.out) == (3, "")
    assert "is no backup, or is damaged" in ended.err


# The round trip.


@pytest.mark.slow
@pytest.mark.timeout(1800)  # at its full size, and on a slow machine
async def test_killed_again_and_again_a_restore_ends_in_the_same_rows(
    copied: Copied, service: Served, elsewhere: Azurite
) -> None:
    """And while it is half done nobody answers for the publisher, nor can another one be made of its id."""
    posts = 0
    kill_at: int | None = None
    process: subprocess.Popen[bytes] | None = None

    async def answer(request: web.BaseRequest, pass_on: Pass) -> web.StreamResponse:
        nonlocal posts
        posts += request.method == "POST"
        if process is not None and kill_at is not None and posts >= kill_at:
            process.send_signal(signal.SIGKILL)
            return await pass_on() if random.random() < 0.5 else web.Response(status=503)
        return await pass_on()

    arguments = ("restore", copied.path, "--publisher", copied.publisher_id, "--apply")
    batches = len(copied.rows) // 100
    async with disturbed(elsewhere, answer) as server:
        settings = settings_on(server.account, service)
        services = Services(Settings.read(settings_on(elsewhere.connection_string, service)))
        await services.table("").create()
        for _ in range(_KILLS):
            # The table is made, the publisher declared absent: then come its rows. All kills together leave some.
            posts, kill_at = 0, 3 + random.randrange(batches // (_KILLS + 1))
            process = start(*arguments, settings=settings)
            assert await asyncio.to_thread(process.wait) == -signal.SIGKILL
            with pytest.raises(PublisherNotFound):
                await services.snapshots.get(copied.publisher_id, copied.serial_numbers[0])
        with pytest.raises((Busy, AlreadyExists)):
            await services.catalogue.create_publisher(a_publisher(id=copied.publisher_id), actor="test")
        with pytest.raises(PublisherNotFound):  # whatever of its rows is there already
            await services.store.change(copied.publisher_id, "test", draft_a_product)
        kill_at = None
        process = start(*arguments, settings=settings)
        assert await asyncio.to_thread(process.wait) == 0
        rows = await every_row(services, copied.publisher_id)
        assert restored(rows) == restored(copied.rows)
        await check_everything(services, copied.publisher_id)
        (newest,) = [entry async for entry in services.store.audit(copied.publisher_id, most=1)]
        assert newest.actor.startswith("restore ")
        for serial_number in random.sample(copied.serial_numbers, 5):
            snapshot = await services.snapshots.get(copied.publisher_id, serial_number)
            assert snapshot.environment
            assert len(*snapshot.licenses.values()) == 2
        assert copied.publisher_id in await services.store.publisher_ids()
        process = start(*arguments, settings=settings)
        assert await asyncio.to_thread(process.wait) == 0, "once more does nothing"
        assert await every_row(services, copied.publisher_id) == rows
        (subscriber,) = [each async for each in services.notice_store.subscribers(copied.publisher_id)]
        await services.notice_store.delete_subscriber(copied.publisher_id, subscriber.id)
        process = start(*arguments, settings=settings)
        assert await asyncio.to_thread(process.wait) == 3, "but not where what is beside the records has changed"
        await services.close()


@pytest.fixture
async def small(service: Served, command: Command, tmp_path: Path) -> AsyncIterator[tuple[Services, Publisher, Path]]:
    """A publisher with one product, and a backup of it."""
    services = Services(Settings.read(service.settings))
    publisher = a_publisher()
    await services.catalogue.create_publisher(publisher, actor="test")
    await services.catalogue.create(publisher.id, a_product(), actor="test")
    path = tmp_path / "small.backup"
    assert (await asyncio.to_thread(command, "backup", path, "--publisher", publisher.id)).code == 0
    yield services, publisher, path
    await services.close()


@pytest.mark.slow
async def test_a_place_that_is_not_empty_is_refused_unless_its_rows_are_to_go(
    small: tuple[Services, Publisher, Path], service: Served
) -> None:
    services, publisher, path = small
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
    assert [product.name for product in await services.store.under(publisher.id, type(late))] == ["SmartSend"]
    found = await services.replica.get(publisher.id, type(late))
    assert [product.name for product in found.values()] == ["SmartSend"]


async def test_a_frozen_backup_goes_back_at_a_number_of_its_own_and_its_records_are_known_again(
    small: tuple[Services, Publisher, Path], command: Command, tmp_path: Path
) -> None:
    """Also by a backup of them that was made later: that is how a move sees that nothing came late."""
    services, publisher, _ = small
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
    (newest,) = [entry async for entry in services.store.audit(publisher.id, most=1)]
    assert (newest.number, newest.actor.split()[0]) == (after.number, "restore")
    for file in files:
        again = await asyncio.to_thread(command, "restore", file, "--publisher", publisher.id)
        assert (again.code, "all of it is there already" in again.out) == (0, True), again.err
    *most, _ = files[1].read_bytes().splitlines(keepends=True)
    reminder = {"PartitionKey": publisher.id, "RowKey": "reminder|late"}  # that no version guards
    late = write_backup(tmp_path / "late.backup", [*most[:-1], json.dumps(reminder).encode() + b"\n", most[-1]])
    refused = await asyncio.to_thread(command, "restore", late, "--publisher", publisher.id)
    assert (refused.code, "There are rows" in refused.err) == (3, True)


async def test_where_it_is_registered_and_is_not_it_may_live_elsewhere(
    small: tuple[Services, Publisher, Path], command: Command, elsewhere: Azurite
) -> None:
    _, publisher, path = small
    wrong = {"LICENSING_PUBLISHER_STORAGE": json.dumps({publisher.id: elsewhere.connection_string})}

    async def restore(*options: str) -> Ended:
        return await asyncio.to_thread(command, "restore", path, "--publisher", publisher.id, *options, **wrong)

    for options in ((), ("--apply",)):
        refused = await restore(*options)
        assert (refused.code, refused.out) == (3, "")
        assert f"no row of it is at 127.0.0.1:{elsewhere.port}" in refused.err
        assert "LICENSING_PUBLISHER_STORAGE" in refused.err
        assert "AccountKey" not in refused.err
    assert "Nothing was changed: add --apply" in (await restore("--replace")).out


async def test_an_unfinished_restore_that_lies_there_is_named(
    small: tuple[Services, Publisher, Path], command: Command
) -> None:
    services, publisher, path = small
    table = services.table(publisher.id)
    await Absence.begin(table, publisher.id, await table.find(publisher.id, "version"), "erasing", wait_seconds=0)
    refused = await asyncio.to_thread(command, "restore", path, "--publisher", publisher.id)
    assert (refused.code, refused.out) == (3, "")
    assert "An unfinished restore or erase" in refused.err
    assert "--replace goes on" in refused.err
    options = ("--publisher", publisher.id, "--replace", "--apply")
    done = await asyncio.to_thread(command, "restore", path, *options)
    assert done.code == 0, done.err
    assert await services.store.version(publisher.id)


async def test_a_publisher_that_the_register_has_lost_is_named_there_again(
    small: tuple[Services, Publisher, Path], command: Command
) -> None:
    services, publisher, path = small
    rows = await every_row(services, publisher.id)
    await services.store.unregister(publisher.id)
    found = await asyncio.to_thread(command, "diagnose", "--publisher", publisher.id, *PATIENTLY)
    assert "not registered" in found.out
    shown = await asyncio.to_thread(command, "restore", path, "--publisher", publisher.id)
    assert "But it is not registered: add --apply." in shown.out
    assert publisher.id not in await services.store.publisher_ids()
    done = await asyncio.to_thread(command, "restore", path, "--publisher", publisher.id, "--apply")
    assert "It is registered again." in done.out
    assert publisher.id in await services.store.publisher_ids()
    assert await every_row(services, publisher.id) == rows
    found = await asyncio.to_thread(command, "diagnose", "--publisher", publisher.id, *PATIENTLY)
    assert "not registered" not in found.out


async def test_a_publisher_that_somebody_changes_while_it_is_looked_at_is_not_taken_away(
    small: tuple[Services, Publisher, Path], tables: Emulator, command: Command
) -> None:
    services, publisher, path = small
    await services.catalogue.create(publisher.id, a_product("Early"), actor="test")
    late = [a_product("Late")]

    async def answer(request: web.BaseRequest, pass_on: Pass) -> web.StreamResponse:
        if late and "PartitionKey%20gt" in request.raw_path.replace("+", "%20"):
            await services.catalogue.create(publisher.id, late.pop(), actor="somebody")
        return await pass_on()

    async with disturbed(tables, answer) as server:
        options = ("--publisher", publisher.id, "--replace", "--apply")
        ended = await asyncio.to_thread(command, "restore", path, *options, LICENSING_STORAGE=server.account)
    assert (ended.code, "Somebody else changes these rows" in ended.err) == (3, True)
    assert "Late" in {product.name for product in await services.store.under(publisher.id, Product)}
    assert await services.store.version(publisher.id)


def test_rows_without_a_version_are_not_taken_for_nothing(elsewhere: Azurite, copied: Copied, command: Command) -> None:
    settings = {"LICENSING_STORAGE": elsewhere.connection_string, "LICENSING_STORAGE_TABLE": "stray"}

    async def stray(services: Services) -> None:
        table = services.table("")
        await table.create()
        await table.connect().create_entity(
            {"PartitionKey": f"{copied.publisher_id}|subscribers", "RowKey": copied.rows[-1]["RowKey"]}
        )

    with_services(settings, stray)
    ended = command("restore", copied.path, "--publisher", copied.publisher_id, "--apply", **settings)
    assert (ended.code, ended.out) == (3, "")
    assert "There are rows of" in ended.err


def test_a_file_that_is_there_is_not_overwritten(copied: Copied, command: Command) -> None:
    before = copied.path.read_bytes()
    ended = command("backup", copied.path, "--publisher", copied.publisher_id)
    assert (ended.code, ended.out) == (3, "")
    assert "exists already" in ended.err
    assert copied.path.read_bytes() == before
    unknown = command("backup", copied.path.with_name("unknown"), "--publisher", uuid4())
    assert "No publisher of this id" in unknown.err
    nowhere = command("backup", copied.path / "no" / "folder", "--publisher", copied.publisher_id)
    assert "cannot be written" in nowhere.err
