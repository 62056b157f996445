"""Servers that storage must be proof against: one before Azurite that disturbs what passes, one that only hangs."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import aiohttp
from aiohttp import web
from yarl import URL

from devhost.azurite import Emulator, connection_string

type Forward = Callable[[], Awaitable[web.Response]]
"""Passes the request on to Azurite and gives back its answer."""


@dataclass
class FaultProxy:
    """Where the server is, and how many requests have come."""

    account: str
    requests: list[str] = field(default_factory=list)  # "GET", "POST", in the order in which they came


@asynccontextmanager
async def fault_proxy(
    tables: Emulator, answer: Callable[[web.BaseRequest, Forward], Awaitable[web.StreamResponse]]
) -> AsyncIterator[FaultProxy]:
    """An account that answers each request as `answer` does, which may pass it on to the emulator, or not."""
    server = FaultProxy("")

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        server.requests.append(request.method)
        body = await request.read()

        async def pass_on() -> web.Response:
            url = URL(f"http://127.0.0.1:{tables.port}{request.raw_path}", encoded=True)
            headers = {name: value for name, value in request.headers.items() if name != "Content-Length"}
            async with session.request(request.method, url, data=body or None, headers=headers) as reply:
                kept = {name: value for name, value in reply.headers.items() if name in ("Content-Type", "Etag")}
                return web.Response(status=reply.status, body=await reply.read(), headers=kept)

        return await answer(request, pass_on)

    runner = web.ServerRunner(web.Server(handle), shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    server.account = connection_string(int(site.name.rsplit(":", 1)[1]))
    async with aiohttp.ClientSession(skip_auto_headers=["User-Agent"]) as session:
        try:
            yield server
        finally:
            await runner.cleanup()


async def busy(_request: web.BaseRequest, _pass_on: Forward) -> web.Response:
    """What Azure answers when it throttles."""
    return web.json_response(
        {"odata.error": {"code": "ServerBusy", "message": {"lang": "en-US", "value": "secret-of-the-server"}}},
        status=503,
    )


@asynccontextmanager
async def hanging() -> AsyncIterator[str]:
    """An account that takes connections and never answers."""
    hung_up = asyncio.Event()

    async def connected(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await hung_up.wait()
        writer.close()

    async with await asyncio.start_server(connected, "127.0.0.1", 0) as server:
        yield connection_string(server.sockets[0].getsockname()[1])
        hung_up.set()
        server.close_clients()
