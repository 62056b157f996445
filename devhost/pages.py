"""What the small local servers have in common: on loopback only, and pages that can do no harm."""

import contextlib
import re
import socket
import threading
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import uvicorn
from markupsafe import Markup

from devhost.app import Receive, Scope, Send
from devhost.server import LOOPBACK

HTML, JSON = "text/html; charset=utf-8", "application/json"
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; frame-src 'self'; base-uri 'none'; form-action 'none'"
_HOST = re.compile(rb"(127\.0\.0\.1|localhost)(:\d+)?")
_PAGE = Markup(
    """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark"><title>{title}</title><style>
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 1.5rem auto; padding: 0 1rem }}
body, pre {{ overflow-wrap: anywhere }} pre {{ white-space: pre-wrap; font-size: .9rem }}
td {{ padding: .25rem 1rem .25rem 0; vertical-align: top }} .count {{ white-space: nowrap }}
iframe {{ width: 100%; height: 36rem; border: 1px solid #888 }}
</style></head><body><h1>{title}</h1>{main}</body></html>
"""
)

type App = Callable[[Scope, Receive, Send], Awaitable[None]]


class Found(NamedTuple):
    """What is to be shown."""

    media_type: str
    body: str
    policy: str = _POLICY
    status: int = 200


def listen_again(port_file: Path) -> socket.socket:
    """A listening socket: on the port of last time, so that what knows it goes on working, unless that is taken."""
    try:
        listener = socket.create_server((LOOPBACK, int(port_file.read_text())))
    except (OSError, ValueError):
        listener = socket.create_server((LOOPBACK, 0))
    port_file.write_text(str(listener.getsockname()[1]))
    return listener


def quiet_server(app: App) -> uvicorn.Server:
    """A server that keeps its words to itself, and waits a second at most for whoever is still there at its end."""
    return uvicorn.Server(
        uvicorn.Config(
            app,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=1,
        )
    )


@contextlib.contextmanager
def serving(server: uvicorn.Server, run: Callable[[], Any]) -> Iterator[None]:
    """The server runs, on a thread of its own, until the block ends."""
    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.should_exit = True
        thread.join()


def is_local(scope: Scope) -> bool:
    """Whether it was called by an address of this machine: a page elsewhere whose name leads here would read all."""
    hosts = [value for name, value in scope["headers"] if name == b"host"]
    return len(hosts) == 1 and _HOST.fullmatch(hosts[0]) is not None


async def show(send: Send, found: Found | None, notice: str) -> None:
    """Send what was found; where nothing was, a page that says so with the notice, and 404."""
    shown = found or Found(HTML, page("Nothing here", Markup.escape(notice)), status=404)
    headers = {
        "Content-Type": shown.media_type,
        "Content-Security-Policy": shown.policy,
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
        "Cache-Control": "no-store",
    }
    raw = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": shown.status, "headers": raw})
    await send({"type": "http.response.body", "body": shown.body.encode(errors="replace")})


def page(title: str, main: Markup) -> Markup:
    return _PAGE.format(title=title, main=main)


def joined(parts: list[Markup]) -> Markup:
    return Markup("").join(parts)
