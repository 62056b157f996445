"""What goes over the wire to Table Storage, counted: a small proxy that stands before the emulator.

For counting only: every byte passes through Python, so nothing is to be timed through it.
"""

import asyncio
import json
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from urllib.parse import urlsplit

from bench.programs import START_SECONDS


@dataclass
class Wire:
    """What has passed so far. A storage client is given url, or a connection string in which it stands."""

    url: str
    requests: int = 0
    entities: int = 0  # in the replies to reads: point reads that found one, and all rows of queries

    def take(self) -> tuple[int, int]:
        """(requests, entities) since this was last asked."""
        counted = self.requests, self.entities
        self.requests = self.entities = 0
        return counted


@contextmanager
def counting_proxy(target_url: str) -> Iterator[Wire]:
    """A Wire that leads to the server at target_url (http, this machine). It runs in a thread of its own.

    Raises at the end where something passed that it could not read: then its count is not to be believed.
    """
    target = urlsplit(target_url)
    wire = Wire(url="")
    faults: list[Exception] = []
    stopping: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = Future()

    async def serve() -> None:
        async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                await _relay(reader, writer, (target.hostname or "", target.port or 80), wire)
            except (ConnectionError, asyncio.CancelledError):
                pass  # somebody hung up, or the proxy ends
            except Exception as error:  # noqa: BLE001 - told by the thread that waits for it
                faults.append(error)
            finally:
                writer.close()

        stop = asyncio.Event()
        server = await asyncio.start_server(connected, "127.0.0.1", 0)
        wire.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        stopping.set_result((asyncio.get_running_loop(), stop))
        await stop.wait()
        server.close()
        server.close_clients()
        await server.wait_closed()

    thread = threading.Thread(target=asyncio.run, args=(serve(),), name="wire")
    thread.start()
    loop, stop = stopping.result(timeout=START_SECONDS)
    try:
        yield wire
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()
    if faults:
        raise ExceptionGroup("what was counted is not all that passed", faults)


async def _relay(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, target: tuple[str, int], wire: Wire
) -> None:
    """Pass requests and their replies, one after the other, until either side hangs up."""
    up_reader, up_writer = await asyncio.open_connection(*target)
    try:
        while head := await _read_head(reader):
            up_writer.write(head + (await _read_body(reader, head))[0])
            reply_head = await _read_head(up_reader)
            status = int(reply_head.split(b" ", 2)[1])
            raw, content = (b"", b"") if status in (204, 304) else await _read_body(up_reader, reply_head)
            wire.requests += 1
            if head.startswith(b"GET ") and status == 200:  # noqa: PLR2004 - OK
                found = json.loads(content)
                wire.entities += len(found["value"]) if "value" in found else 1
            writer.write(reply_head + raw)
            await writer.drain()
    finally:
        up_writer.close()
        with suppress(ConnectionError):
            await up_writer.wait_closed()


async def _read_head(reader: asyncio.StreamReader) -> bytes:
    """Everything to the empty line; nothing where the other side has hung up before a new one."""
    try:
        return await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError as error:
        if error.partial:
            raise
        return b""


async def _read_body(reader: asyncio.StreamReader, head: bytes) -> tuple[bytes, bytes]:
    """The body as it passed, and its content without chunks."""
    lines = (line.partition(b":") for line in head.lower().split(b"\r\n")[1:])
    headers = {name: value.strip() for name, _, value in lines}
    if b"transfer-encoding" not in headers:
        content = await reader.readexactly(int(headers.get(b"content-length", 0)))
        return content, content
    raw = content = b""
    while True:
        size = await reader.readuntil(b"\r\n")
        chunk = await reader.readexactly(int(size.split(b";")[0], 16) + 2)
        raw, content = raw + size + chunk, content + chunk[:-2]
        if chunk == b"\r\n":
            return raw, content
