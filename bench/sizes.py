"""What does not depend on the clock's mood: reads on the wire, memory, and how long the app takes to be there."""

import asyncio
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import urlsplit

from rich.box import SIMPLE
from rich.table import Table

from bench import dotnet_client
from bench.administration import waits
from bench.contestants import PUBLISHER_ID, serial_number, validate_requests
from bench.license_server import LicenseServer
from bench.load import run_load
from bench.sink import silent
from bench.wire import counting_proxy
from devhost.azurite import azurite, connection_string
from licensing.catalogue.rows import VERSION_ROW, serial_key
from licensing.services import Services
from licensing.settings import Settings
from licensing.signing.keys import KeySet

_CUSTOMERS = (100, 10_000)
_READS = 50
_VALIDATIONS = 100_000
_INDEX = "import function_app; function_app.app.get_functions()"


@dataclass(frozen=True, kw_only=True)
class Size:
    """One thing measured, and what it should be."""

    name: str
    value: str
    target: str


def sizes(*, quick: bool, tell: Callable[[str], None]) -> Iterator[Size]:
    """All of them. Quick ones take fewer customers and validations."""
    tell("importing function_app and indexing ...\n")
    yield _start(rounds=2 if quick else 7)
    for customers in _CUSTOMERS[: 1 if quick else None]:
        tell(f"reads of a validation among {customers:,} customers ...\n")
        yield from _reads(customers)
    tell("reads of licensing personnel ...\n")
    yield _waits(*((100, 2) if quick else (5_000, 20)))
    tell("the client in C# ...\n")
    yield _client(20 if quick else 300)
    tell("memory ...\n")
    for telemetry in (False, True):
        yield _memory(1_000 if quick else _VALIDATIONS, telemetry=telemetry)


def sizes_table(measured: Iterable[Size]) -> Table:
    """The same for people."""
    shown = Table("", "measured", "wanted", box=SIMPLE, pad_edge=False)
    for size in measured:
        shown.add_row(size.name, size.value, size.target)
    return shown


def _start(rounds: int) -> Size:
    environ = {**os.environ, "LICENSING_SIGNING_KEYS": KeySet().created(datetime.now(UTC)).dump()}

    def once(code: str) -> float:
        started = time.perf_counter()
        subprocess.run([sys.executable, "-c", code], check=True, env=environ)
        return time.perf_counter() - started

    bare = statistics.median(once("pass") for _ in range(rounds))
    whole = statistics.median(once(_INDEX) for _ in range(rounds))
    return Size(
        name="import function_app and index it",
        value=f"{whole - bare:.2f} s (beyond Python's own {bare:.2f} s)",
        target="under 0.6 s",
    )


def _waits(customers: int, seconds: float) -> Size:
    first, median, p99 = waits(customers, seconds)
    return Size(
        name=f"reads of licensing personnel, 20 a second among {customers:,} customers",
        value=f"p50 {median:.0f} ms, p99 {p99:.0f} ms; the first list {first:.0f} ms",
        target="p99 under 100 ms",
    )


def _client(validations: int) -> Size:
    measured = dotnet_client.waits(validations)
    return Size(
        name=f"a live reply, verified by the client in C#, against curl, {validations} times",
        value=str(measured) if measured else "not measured: it needs Mono",
        target="under 10 ms more",
    )


def _reads(customers: int) -> Iterator[Size]:
    with azurite() as store, counting_proxy(f"http://127.0.0.1:{store.port}") as wire:
        ours = LicenseServer(store.connection_string, customers=customers)
        counted = {"LICENSING_STORAGE": connection_string(urlsplit(wire.url).port or 0)}
        ours.fill()
        with ours.start(counted) as host:
            requests = validate_requests(customers)
            run_load(host.url, requests[:1], 1, None, 1)  # the publisher's own state is read once for all
            wire.take()
            run_load(host.url, requests[1:2], 1, None, 1)
            cold = wire.take()
            run_load(host.url, requests[1:2], 1, None, 1)
            kept = wire.take()
        yield Size(
            name=f"storage requests and entities of a validation, {customers:,} customers",
            value=f"not kept {cold[0]} and {cold[1]}, kept {kept[0]} and {kept[1]}",
            target="the same for any number of customers",
        )
        with ours.start() as host:
            run_load(host.url, requests[:1], 1, None, 1)
            load = run_load(host.url, requests[1:], 1, None, _READS)
        point_read_ms = asyncio.run(_point_read_ms(store.connection_string))
        yield Size(
            name=f"time of a validation that is not kept, {customers:,} customers",
            value=f"{load.p50_ms:.1f} ms; one point read of Azurite {point_read_ms:.1f} ms",
            target="(the emulator scans a partition)",
        )


async def _point_read_ms(storage: str) -> float:
    services = Services(Settings(storage=storage, storage_table="bench"))
    table = services.table(PUBLISHER_ID)
    await table.find(PUBLISHER_ID, VERSION_ROW)
    times = []
    for number in range(_READS):
        started = time.perf_counter()
        await table.find(PUBLISHER_ID, serial_key(serial_number(number)))
        times.append(time.perf_counter() - started)
    await services.close()
    return statistics.median(times) * 1e3


def _memory(validations: int, *, telemetry: bool = False) -> Size:
    with azurite() as store, silent() as environ:
        ours = LicenseServer(store.connection_string)
        with ours.start(environ if telemetry else None) as host:
            seen = []
            for share in (0.1, 0.4, 0.5):
                run_load(host.url, validate_requests(), 16, None, int(validations * share))
                seen.append(_resident_mb(host.worker_pid))
    growth = " -> ".join(f"{megabytes:.0f}" for megabytes in seen)
    return Size(
        name=f"resident memory after 10 %, 50 % and all of {validations:,} validations"
        + (", telemetry unanswered" if telemetry else ""),
        value=f"{growth} MB",
        target="under 150 MB, and not growing",
    )


def _resident_mb(pid: int) -> float:
    shown = subprocess.run(["ps", "-o", "rss=", "-p", str(pid)], check=True, capture_output=True, text=True)
    return int(shown.stdout) / 1024
