"""What does not depend on the clock's mood: reads on the wire, memory, and how long the app takes to be there."""

import asyncio
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, MutableMapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from urllib.parse import urlsplit

from rich.box import SIMPLE
from rich.table import Table
from rich.text import Text

from bench import dotnet_client
from bench.administration import waits
from bench.contestants import PUBLISHER_ID, serial_number, validate_requests
from bench.license_server import LicenseServer
from bench.load import LoadError, LoadResult, run_load
from bench.rounds import error_line, report_progress
from bench.sink import silent
from bench.wire import counting_proxy
from devhost.azurite import connection_string
from licensing.catalogue.rows import VERSION_ROW, serial_key
from licensing.signing.keys import KeySet

_READS = 50
_VALIDATIONS = 100_000
_INDEX = "import function_app; function_app.app.get_functions()"


@dataclass(frozen=True, kw_only=True)
class Size:
    """One thing measured, and what it should be."""

    name: str
    value: str
    target: str


@dataclass(frozen=True, kw_only=True)
class Section:
    """A part of the benchmark that yields its sizes and does not depend on the other parts."""

    name: str
    measure: Callable[[], Iterable[Size]]


def sections(server: LicenseServer, growing: LicenseServer, *, quick: bool) -> list[Section]:
    """All sections. With `quick` they measure fewer customers and validations.

    `server` has as many customers as the contestants have. The number of customers of `growing` increases from section
    to section.
    """
    personnel, seconds = (100, 2) if quick else (5_000, 20)
    validations = 1_000 if quick else _VALIDATIONS
    found = [
        Section(name="import of function_app", measure=partial(_start, 2 if quick else 7)),
        Section(name="reads of a validation, 100 customers", measure=partial(_reads, growing, 100)),
        Section(
            name=f"reads of licensing personnel, {personnel:,} customers",
            measure=partial(_waits, growing, personnel, seconds),
        ),
        Section(name="client in C#", measure=partial(_client, server, 20 if quick else 300)),
        Section(name="memory", measure=partial(_memory, server, validations)),
        Section(name="memory, telemetry unanswered", measure=partial(_memory, server, validations, telemetry=True)),
    ]
    if not quick:  # The last, because it takes longest to add its customers.
        found.append(Section(name="reads of a validation, 10,000 customers", measure=partial(_reads, growing, 10_000)))
    return found


def measure(chosen: Sequence[Section], measured: list[Size], errors: MutableMapping[str, str]) -> None:
    """Measure each section: add its sizes to `measured`, or its name and the reason of its failure to `errors`."""
    for number, section in enumerate(chosen, start=1):
        report_progress(f"section {number} of {len(chosen)}: {section.name} ... ")
        started = time.monotonic()
        try:
            for size in section.measure():
                measured.append(size)  # noqa: PERF402 - those before a failure stay
        except Exception as error:  # noqa: BLE001 - whatever it is, the other sections can be measured
            errors[section.name] = error_line(error)
            measured.append(Size(name=section.name, value="failed", target=""))
            report_progress(f"failed: {errors[section.name]}\n")
        else:
            report_progress(f"{time.monotonic() - started:.0f} s\n")


def sizes_table(measured: Iterable[Size]) -> Table:
    """The same for people."""
    shown = Table("", "measured", "wanted", box=SIMPLE, pad_edge=False)
    for size in measured:
        style = "bold red" if size.value == "failed" else ""
        shown.add_row(size.name, Text(size.value, style=style), size.target)
    return shown


def _ask(url: str, requests: Sequence[bytes], connections: int, count: int) -> LoadResult:
    """Like `run_load`, but raises LoadError where a reply was not 200."""
    load = run_load(url, requests, connections, None, count)
    if load.failures:
        raise LoadError(f"{load.failures} of {load.replies} replies were not 200: {dict(load.statuses)}")
    return load


def _start(rounds: int) -> Iterator[Size]:
    environ = {**os.environ, "LICENSING_SIGNING_KEYS": KeySet().created(datetime.now(UTC)).dump()}

    def once(code: str) -> float:
        started = time.perf_counter()
        subprocess.run([sys.executable, "-c", code], check=True, env=environ)
        return time.perf_counter() - started

    bare = statistics.median(once("pass") for _ in range(rounds))
    whole = statistics.median(once(_INDEX) for _ in range(rounds))
    yield Size(
        name="import function_app and index it",
        value=f"{whole - bare:.2f} s (beyond Python's own {bare:.2f} s)",
        target="under 0.6 s",
    )


def _waits(server: LicenseServer, customers: int, seconds: float) -> Iterator[Size]:
    first, median, p99 = waits(server, customers, seconds)
    yield Size(
        name=f"reads of licensing personnel, 20 a second among {customers:,} customers",
        value=f"p50 {median:.0f} ms, p99 {p99:.0f} ms; the first list {first:.0f} ms",
        target="p99 under 100 ms",
    )


def _client(server: LicenseServer, validations: int) -> Iterator[Size]:
    measured = dotnet_client.waits(server, validations)
    yield Size(
        name=f"a live reply, verified by the client in C#, against curl, {validations} times",
        value=str(measured) if measured else "not measured: it needs Mono",
        target="under 10 ms more",
    )


def _reads(server: LicenseServer, customers: int) -> Iterator[Size]:
    requests = validate_requests(customers)
    with counting_proxy(f"http://127.0.0.1:{server.store().port}") as wire:
        counted = {"LICENSING_STORAGE": connection_string(urlsplit(wire.url).port or 0)}
        with server.start(counted, customers=customers) as host:
            _ask(host.url, requests[:1], 1, 1)  # the publisher's own state is read once for all
            wire.take()
            _ask(host.url, requests[1:2], 1, 1)
            cold = wire.take()
            _ask(host.url, requests[1:2], 1, 1)
            kept = wire.take()
    yield Size(
        name=f"storage requests and entities of a validation, {customers:,} customers",
        value=f"not kept {cold[0]} and {cold[1]}, kept {kept[0]} and {kept[1]}",
        target="the same for any number of customers",
    )
    with server.start(customers=customers) as host:
        _ask(host.url, requests[:1], 1, 1)
        load = _ask(host.url, requests[1:], 1, _READS)
    point_read_ms = asyncio.run(_point_read_ms(server))
    yield Size(
        name=f"time of a validation that is not kept, {customers:,} customers",
        value=f"{load.p50_ms:.1f} ms; one point read of Azurite {point_read_ms:.1f} ms",
        target="(the emulator scans a partition)",
    )


async def _point_read_ms(server: LicenseServer) -> float:
    services = server.services()
    table = services.table(PUBLISHER_ID)
    times = []
    try:
        await table.find(PUBLISHER_ID, VERSION_ROW)
        for number in range(_READS):
            started = time.perf_counter()
            await table.find(PUBLISHER_ID, serial_key(serial_number(number)))
            times.append(time.perf_counter() - started)
    finally:
        await services.close()
    return statistics.median(times) * 1e3


def _memory(server: LicenseServer, validations: int, *, telemetry: bool = False) -> Iterator[Size]:
    answered, seen = 0, []
    with silent() as environ, server.start(environ if telemetry else None) as host:
        for share in (0.1, 0.4, 0.5):
            answered += _ask(host.url, validate_requests(), 16, int(validations * share)).replies
            seen.append(f"{_resident_mb(host.worker_pid):.0f} MB after {answered:,}")
    yield Size(
        name="resident memory after validations" + (", telemetry unanswered" if telemetry else ""),
        value=", ".join(seen),
        target="under 150 MB, and not growing",
    )


def _resident_mb(pid: int) -> float:
    shown = subprocess.run(["ps", "-o", "rss=", "-p", str(pid)], check=True, capture_output=True, text=True)
    return int(shown.stdout) / 1024
