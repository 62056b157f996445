"""The counting proxy: what passes is unchanged, and counted."""

import json
from typing import TYPE_CHECKING

import httpx
import pytest

from bench.wire import counting_proxy
from tests.support.waiting import WAIT_TIMEOUT_SECONDS

if TYPE_CHECKING:
    from tests.bench.conftest import Serve

ROW = {"PartitionKey": "p", "RowKey": "r"}


def response_with_length(body: bytes, status: bytes = b"200 OK") -> bytes:
    return b"HTTP/1.1 %s\r\nContent-Length: %d\r\n\r\n%s" % (status, len(body), body)


def chunked(body: bytes) -> bytes:
    pieces = b"".join(b"%x\r\n%s\r\n" % (len(body[at : at + 7]), body[at : at + 7]) for at in range(0, len(body), 7))
    return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + pieces + b"0\r\n\r\n"


def answer(request: bytes) -> bytes:
    match request.split(b" ", 2):
        case [b"GET", b"/table()", _]:
            return chunked(json.dumps({"value": [ROW, ROW, ROW]}).encode())
        case [b"GET", b"/nothing()", _]:
            return response_with_length(b'{"value": []}')
        case [b"GET", b"/missing", _]:
            return response_with_length(b'{"odata.error": {}}', b"404 Not Found")
        case [b"GET", _, _]:
            return response_with_length(json.dumps(ROW).encode())
        case _:
            return b"HTTP/1.1 204 No Content\r\n\r\n"


async def test_counting_proxy_reports_requests_and_entities_read(serve: "Serve") -> None:
    async with serve(answer) as server, httpx.AsyncClient(timeout=WAIT_TIMEOUT_SECONDS) as client:
        with counting_proxy(server.url) as wire:
            found = await client.get(f"{wire.url}/table()")
            assert (found.json(), wire.take()) == ({"value": [ROW, ROW, ROW]}, (1, 3))
            point = await client.get(f"{wire.url}/table(PartitionKey='p',RowKey='r')")
            assert (point.json(), wire.take()) == (ROW, (1, 1))
            written = await client.post(f"{wire.url}/table", json=ROW)
            assert (written.status_code, wire.take()) == (204, (1, 0))
            assert server.received_requests[-1].endswith(b"\r\n\r\n" + written.request.content)
            await client.get(f"{wire.url}/nothing()")
            await client.get(f"{wire.url}/missing")
            assert wire.take() == (2, 0)


async def test_counting_proxy_with_unreadable_body_raises_at_exit(serve: "Serve") -> None:
    async def ask(url: str) -> None:
        async with httpx.AsyncClient(timeout=WAIT_TIMEOUT_SECONDS) as client:
            with counting_proxy(url) as wire, pytest.raises(httpx.RemoteProtocolError):
                await client.get(f"{wire.url}/table()")

    async with serve(lambda _: response_with_length(b"no JSON")) as server:
        with pytest.raises(ExceptionGroup, match="not all that passed"):
            await ask(server.url)
