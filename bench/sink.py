"""Application Insights, as far as a benchmark needs it: a program that takes whatever comes, and looks at nothing."""

import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from bench.programs import program

_TAKEN = json.dumps({"itemsReceived": 1, "itemsAccepted": 1, "errors": []}).encode()
_KEY = "11111111-1111-1111-1111-111111111111"


@contextmanager
def taking() -> Iterator[dict[str, str]]:
    """The settings of a service whose telemetry is taken."""
    with program(["-m", "uvicorn", "--log-level", "warning", "--port", "{port}", "bench.sink:app"], {}) as sink:
        yield _settings(sink.url)


@contextmanager
def silent() -> Iterator[dict[str, str]]:
    """The settings of a service whose telemetry is never answered."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield _settings(f"http://127.0.0.1:{listener.getsockname()[1]}")


def _settings(url: str) -> dict[str, str]:
    return {"LICENSING_TELEMETRY": f"InstrumentationKey={_KEY};IngestionEndpoint={url}"}


async def app(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] != "http":
        return
    while (await receive()).get("more_body"):
        pass
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]})
    await send({"type": "http.response.body", "body": _TAKEN})
