"""A load generator: keep-alive connections to this machine, each asking again as soon as it is answered.

It shares the machine with the server and the store it measures, so it runs in a process of its own and does
little for a request: one send, one select shared by whatever is ready, one receive. It knows one framing,
Content-Length, and raises LoadError on any other rather than measure something it does not understand.
"""

import gc
import ipaddress
import json
import multiprocessing
import re
import selectors
import signal
import socket
import time
from array import array
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple
from urllib.parse import urlsplit

MOST_CONNECTIONS = 1_000
MOST_REPLIES = 1_000_000
MOST_SECONDS = 600.0
PATIENCE_SECONDS = 120.0  # for any reply; a server of ours may wait 60 s for storage

_MOST_HEAD_BYTES = 64 * 1024
_READ_BYTES = 64 * 1024
_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*(\d+)[ \t]*(?:\r\n|\Z)")


class LoadError(Exception):
    """The server hung, hung up, or framed a reply strangely: what was measured is worth nothing."""


class Sample(NamedTuple):
    """The last reply of one connection, kept to be looked at."""

    request: int  # its index
    status: int
    body: bytes


@dataclass(frozen=True, kw_only=True)
class LoadResult:
    """What one run saw. Whether the replies were right is for the caller to check on the samples."""

    replies: int
    elapsed_seconds: float  # from the first request to the last reply
    statuses: Mapping[int, int]
    p50_ms: float
    p95_ms: float
    p99_ms: float
    generator_cpu_us: float  # what this generator itself cost, a request
    samples: Sequence[Sample]

    @property
    def rate(self) -> float:
        """Replies a second."""
        return self.replies / self.elapsed_seconds

    @property
    def failures(self) -> int:
        """How many replies were not 200."""
        return self.replies - self.statuses.get(200, 0)


def post(path: str, body: Any) -> bytes:
    """The bytes of a POST of this body as JSON."""
    content = json.dumps(body).encode()
    head = (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
    )
    return head.encode() + content


def run_load(
    url: str, requests: Sequence[bytes], connections: int, seconds: float | None, count: int | None
) -> LoadResult:
    """What the server at url answered, asked for so many seconds or so many times, whichever ends first.

    The requests are whole, head and body. All connections together send them in turn, and then from the first
    again. Runs in a new process and waits for it. Raises ValueError where the address is not this machine or
    a bound is passed, LoadError where the server cannot be measured.
    """
    address = _loopback(url)
    if not requests or not 1 <= connections <= MOST_CONNECTIONS:
        raise ValueError(f"at least one request and 1 to {MOST_CONNECTIONS} connections are needed")
    if seconds is None and count is None:
        raise ValueError("a number of seconds, a count, or both are needed")
    seconds = MOST_SECONDS if seconds is None else seconds
    count = MOST_REPLIES if count is None else count
    if not 0 < seconds <= MOST_SECONDS or not 0 < count <= MOST_REPLIES:
        raise ValueError(f"at most {MOST_SECONDS:g} seconds and {MOST_REPLIES} requests")
    # Ctrl-C reaches only the caller, which then terminates the pool.
    with multiprocessing.get_context("spawn").Pool(1, signal.signal, (signal.SIGINT, signal.SIG_IGN)) as process:
        result = process.apply_async(_generate, (address, requests, connections, seconds, count))
        return result.get(seconds + 2 * PATIENCE_SECONDS)  # a killed process would never finish


def _loopback(url: str) -> tuple[str, int]:
    parts = urlsplit(url)
    try:
        here = ipaddress.ip_address(parts.hostname or "").is_loopback
    except ValueError:
        here = False  # a name may lead anywhere
    if parts.scheme != "http" or not here or parts.port is None:
        raise ValueError(f"load is made for this machine only, http://127.0.0.1:<port>, not for {url}")
    return str(parts.hostname), parts.port


class _Connection:
    """A socket and what is under way on it."""

    __slots__ = ("address", "index", "received", "sent_at", "socket")

    def __init__(self, address: tuple[str, int]) -> None:
        self.address = address
        self.received = b""
        self.index = 0
        self.sent_at = 0.0
        self.open()

    def open(self) -> None:
        self.socket = socket.create_connection(self.address, timeout=PATIENCE_SECONDS)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.settimeout(0)

    def send(self, index: int, request: bytes) -> None:
        self.index = index
        self.sent_at = time.perf_counter()
        if self.socket.send(request) != len(request):
            raise LoadError(f"request {index} has {len(request)} bytes, more than this socket takes at once")

    def receive(self) -> tuple[int, bytes, bool] | None:
        """Status, body and whether the server will hang up, once the reply is whole."""
        data = self.socket.recv(_READ_BYTES)
        if not data:
            raise LoadError(f"the server hung up instead of answering request {self.index}")
        if self.received:
            data = self.received + data
        reply = _parse_reply(data)
        self.received = b"" if reply else data
        return reply


def _parse_reply(data: bytes) -> tuple[int, bytes, bool] | None:
    """Status, body and whether the server will hang up; None where the reply is not whole yet."""
    head_end = data.find(b"\r\n\r\n")
    if head_end < 0:
        if len(data) > _MOST_HEAD_BYTES:
            raise LoadError(f"a reply without an end of its headers: {data[:100]!r}")
        return None
    head = data[:head_end].lower()
    length = _LENGTH.search(head)
    if not head.startswith(b"http/1.1 ") or not length or b"\r\ntransfer-encoding:" in head:
        raise LoadError(f"a reply that is not HTTP/1.1 with a Content-Length: {data[:head_end]!r}")
    missing = head_end + 4 + int(length[1]) - len(data)
    if missing > 0:
        return None
    if missing < 0:
        raise LoadError(f"{-missing} bytes more than the Content-Length: {data[:head_end]!r}")
    return int(head[9:12]), data[head_end + 4 :], b"\r\nconnection: close" in head


class _Generator:
    """One run, in its own process."""

    def __init__(self, requests: Sequence[bytes], seconds: float, count: int) -> None:
        self.requests = requests
        self.count = count
        self.sent = 0
        self.latencies = array("d")
        self.statuses = Counter[int]()
        self.samples: list[Sample] = []
        self.selector = selectors.DefaultSelector()
        self.started_at = self.answered_at = time.perf_counter()
        self.deadline = self.started_at + seconds

    def send_next(self, connection: _Connection) -> None:
        index = self.sent % len(self.requests)
        connection.send(index, self.requests[index])
        self.sent += 1

    def run(self, connections: Sequence[_Connection]) -> None:
        for connection in connections:
            self.selector.register(connection.socket, selectors.EVENT_READ, connection)
            self.send_next(connection)
        under_way = len(connections)
        while under_way:
            ready = self.selector.select(PATIENCE_SECONDS)
            if not ready:
                raise LoadError(f"no reply for {PATIENCE_SECONDS:g} seconds")
            for key, _ in ready:
                under_way -= not self.goes_on(key.data)
        self.selector.close()

    def goes_on(self, connection: _Connection) -> bool:
        """Take what this connection has received; whether anything is still under way on it."""
        reply = connection.receive()
        if reply is None:
            return True
        self.answered_at = time.perf_counter()
        self.latencies.append(self.answered_at - connection.sent_at)
        status, body, hangs_up = reply
        self.statuses[status] += 1
        ended = self.sent >= self.count or self.answered_at >= self.deadline
        if ended or hangs_up:
            self.selector.unregister(connection.socket)
            connection.socket.close()
        if ended:
            self.samples.append(Sample(connection.index, status, body))
            return False
        if hangs_up:
            connection.open()
            self.selector.register(connection.socket, selectors.EVENT_READ, connection)
        self.send_next(connection)
        return True


def _generate(
    address: tuple[str, int], requests: Sequence[bytes], connections: int, seconds: float, count: int
) -> LoadResult:
    gc.disable()  # nothing here makes cycles, and a collection would count as latency
    opened = [_Connection(address) for _ in range(min(connections, count))]
    generator = _Generator(requests, seconds, count)
    cpu_before = time.process_time()
    generator.run(opened)
    cpu_seconds = time.process_time() - cpu_before
    ordered = sorted(generator.latencies)
    p50, p95, p99 = (ordered[len(ordered) * percent // 100] * 1000 for percent in (50, 95, 99))
    return LoadResult(
        replies=len(ordered),
        elapsed_seconds=generator.answered_at - generator.started_at,
        statuses=dict(generator.statuses),
        p50_ms=p50,
        p95_ms=p95,
        p99_ms=p99,
        generator_cpu_us=cpu_seconds / len(ordered) * 1e6,
        samples=generator.samples,
    )
