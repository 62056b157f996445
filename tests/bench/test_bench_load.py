"""The load generator, over real HTTP: it counts right, and refuses to measure what it does not understand."""

import asyncio
import re
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from bench.load import LoadError, post, run_load

if TYPE_CHECKING:
    from tests.bench.conftest import Serve

REQUESTS = [post("/validate", {"number": number}) for number in range(3)]
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
BROKEN = b"HTTP/1.1 500 Internal Server Error\r\ncontent-length: 0\r\nConnection: close\r\n\r\n"


async def test_run_load_sends_requests_in_turn_and_reports_every_reply(serve: "Serve") -> None:
    async with serve(lambda _: OK) as server:
        result = await asyncio.to_thread(run_load, server.url, REQUESTS, 2, None, 9)
    assert Counter(server.received_requests) == dict.fromkeys(REQUESTS, 3)
    assert (result.replies, result.statuses, result.failures) == (9, {200: 9}, 0)
    assert [sample.body for sample in result.samples] == [b"ok", b"ok"]
    assert result.p50_ms <= result.p95_ms <= result.p99_ms


async def test_run_load_with_fewer_requests_than_connections_sends_exactly_that_many(serve: "Serve") -> None:
    async with serve(lambda _: OK) as server:
        result = await asyncio.to_thread(run_load, server.url, REQUESTS, 16, None, 2)
    assert len(server.received_requests) == result.replies == 2


async def test_run_load_with_duration_stops_and_reports_every_reply(serve: "Serve") -> None:
    async with serve(lambda _: OK) as server:
        result = await asyncio.to_thread(run_load, server.url, REQUESTS, 4, 0.2, None)
    assert result.elapsed_seconds >= 0.2
    assert result.replies == len(server.received_requests) > 0


async def test_run_load_on_500_reports_failure_and_reconnects(serve: "Serve") -> None:
    async with serve(lambda request: BROKEN if request == REQUESTS[1] else OK) as server:
        result = await asyncio.to_thread(run_load, server.url, REQUESTS, 2, None, 9)
    assert (result.statuses, result.failures) == ({200: 6, 500: 3}, 3)


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        pytest.param(b"", "hung up instead of answering request 0", id="no reply"),
        pytest.param(b"HTTP/1.1 200 OK\r\n\r\nok", "not HTTP/1.1 with a Content-Length", id="no length"),
        pytest.param(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            "not HTTP/1.1 with a Content-Length",
            id="chunked",
        ),
        pytest.param(b"SSH-2.0 hello\r\n\r\n", "not HTTP/1.1 with a Content-Length", id="not HTTP"),
        pytest.param(OK + b"!", "1 bytes more than the Content-Length", id="too long"),
    ],
)
async def test_run_load_with_unsupported_reply_raises_load_error(serve: "Serve", reply: bytes, said: str) -> None:
    async with serve(lambda _: reply) as server:
        with pytest.raises(LoadError, match=re.escape(said)):
            await asyncio.to_thread(run_load, server.url, REQUESTS, 1, None, 9)


@pytest.mark.parametrize(
    "url",
    [
        "http://192.0.2.1:80",
        "http://0.0.0.0:80",
        "http://example.com:80",
        "http://127.0.0.1.example.com:80",
        "http://127.0.0.1@example.com:80",
        "https://127.0.0.1:443",
        "http://127.0.0.1",
    ],
)
def test_run_load_for_another_machine_raises_value_error(url: str) -> None:
    with pytest.raises(ValueError, match="load is made for this machine only"):
        run_load(url, REQUESTS, 1, None, 1)


@pytest.mark.parametrize(
    ("connections", "seconds", "count"),
    [(1, None, None), (1, 0.0, None), (1, 601.0, None), (1, None, 0), (1, None, 1_000_001), (0, 1.0, None)],
)
def test_run_load_without_valid_bounds_raises_value_error(
    connections: int, seconds: float | None, count: int | None
) -> None:
    with pytest.raises(ValueError, match=r"needed|at most"):
        run_load("http://127.0.0.1:1", REQUESTS, connections, seconds, count)
