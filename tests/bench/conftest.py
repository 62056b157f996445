"""A server of a few lines for each test, that answers with exactly these bytes."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field

import pytest


@dataclass
class Server:
    url: str
    received_requests: list[bytes] = field(default_factory=list)  # whole requests, in the order in which they came


type Serve = Callable[[Callable[[bytes], bytes]], AbstractAsyncContextManager[Server]]


@asynccontextmanager
async def _serve(answer: Callable[[bytes], bytes]) -> AsyncIterator[Server]:
    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = head.lower().partition(b"content-length:")[2].split(b"\r\n")[0] or b"0"
                request = head + await reader.readexactly(int(length))
                server.received_requests.append(request)
                reply = answer(request)
                middle = len(reply) // 2  # in two pieces, as long replies come
                for piece in (reply[:middle], reply[middle:]):
                    writer.write(piece)
                    await writer.drain()
                    await asyncio.sleep(0)
                if not reply or b"Connection: close" in reply:
                    break
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the other side has what it wants
        finally:
            writer.close()

    async with await asyncio.start_server(connected, "127.0.0.1", 0) as listening:
        server = Server(url=f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}")
        yield server
        listening.close_clients()


@pytest.fixture
def serve() -> Serve:
    return _serve
