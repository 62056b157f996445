"""The operator's commands as an operator calls them, and something between them and the service."""

import os
import sys
from collections.abc import Callable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import NamedTuple

import httpx
import pytest

from devhost.azurite import Emulator
from licensing.__main__ import main
from licensing.signing.keys import KeySet
from tests.support.hosting import Served, environ_with, seed_demo, served, settings_for
from tests.support.waiting import WAIT_TIMEOUT_SECONDS, http_get, http_post


class CommandResult(NamedTuple):
    """How a command ended: its exit code, and what it printed."""

    code: int
    out: str
    err: str


class ProxyResponse(NamedTuple):
    """What a caller is answered with."""

    status: int
    headers: dict[str, str]
    body: bytes


type Command = Callable[..., CommandResult]
type AlterResponse = Callable[[str, ProxyResponse], ProxyResponse]
type AlteringProxy = Callable[[AlterResponse], str]


@pytest.fixture(scope="session")
def service(tables: Emulator, key_set: KeySet, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A host with the demo's records, in a table of its own."""
    settings = settings_for(tables.connection_string, key_set, LICENSING_STORAGE_TABLE="commands")
    seed_demo(settings)
    with served(settings, tmp_path_factory.mktemp("commands")) as running:
        yield running


TIMEOUT_OPTIONS = ("--timeout", str(WAIT_TIMEOUT_SECONDS))
"""For `validate` and `diagnose`, where a test is not about who answers too late."""


def environ_of(settings: Mapping[str, str], verb: object) -> dict[str, str]:
    """The environment of a command with the service's settings.

    `restore` and `erase` wait twice as long as a validation may take, so that those that have begun can end. Tests
    have none under way then.
    """
    if verb in ("restore", "erase"):
        settings = {**settings, "LICENSING_STORAGE_TIMEOUT_SECONDS": "0.1"}
    return environ_with(settings)


@pytest.fixture
def command(service: Served, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Run `python -m licensing` in this process, with the service's settings and those given; None takes one away."""

    def run(*arguments: object, **settings: str | None) -> CommandResult:
        wanted = {**environ_of(service.settings, arguments[0] if arguments else ""), "COLUMNS": "200", **settings}
        with monkeypatch.context() as patch:
            for name in os.environ.keys() | wanted.keys():
                if (value := wanted.get(name)) is None:
                    patch.delenv(name, raising=False)
                else:
                    patch.setenv(name, value)
            patch.setattr(sys, "argv", ["licensing", *map(str, arguments)])
            with pytest.raises(SystemExit) as ended:
                main()
        printed = capsys.readouterr()
        assert "Traceback" not in printed.out + printed.err
        return CommandResult(int(ended.value.code or 0), printed.out, printed.err)

    return run


@pytest.fixture
def between(service: Served) -> Iterator[AlteringProxy]:
    """Stand between callers and the service; gives the address where `alter` has the last word on every answer."""
    servers: list[ThreadingHTTPServer] = []

    def stand(alter: AlterResponse) -> str:
        server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(service.url, alter))
        servers.append(server)
        Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return f"http://127.0.0.1:{server.server_port}"

    yield stand
    for server in servers:
        server.shutdown()
        server.server_close()


def _handler(url: str, alter: AlterResponse) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer(http_get(f"{url}{self.path}"))

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            headers = {"content-type": self.headers["content-type"]}
            self._answer(http_post(f"{url}{self.path}", content=body, headers=headers))

        def _answer(self, response: httpx.Response) -> None:
            whole = ProxyResponse(response.status_code, dict(response.headers), response.content)
            status, headers, body = alter(self.path, whole)
            self.send_response_only(status)
            for name, value in (headers | {"content-length": str(len(body))}).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    return Handler
