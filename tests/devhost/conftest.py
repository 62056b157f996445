"""Function apps of a few lines, and the real host that serves them: real worker, real HTTP."""

import json
import os
import socket
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from devhost.server import RunningHost, start
from tests.support.waiting import WAIT_TIMEOUT_SECONDS

type WriteApp = Callable[..., Path]

ENVIRON = {**os.environ, "DEVHOST_FUNCTION_KEY": "function-key", "DEVHOST_MASTER_KEY": "master-key"}

HTTP_APP = """
import asyncio, json, sys, threading
import azure.functions as func

app = func.FunctionApp(http_auth_level=func.AuthLevel.ANONYMOUS)
Response = func.HttpResponse

def told(req, **more):
    return Response(json.dumps({
        "method": req.method, "url": req.url, "headers": dict(req.headers), "params": dict(req.params),
        "route": dict(req.route_params), "length": len(req.get_body()), **more}), mimetype="application/json")

@app.route("echo")
async def echo(req: func.HttpRequest) -> Response:
    return told(req)

@app.route("bytes", methods=["POST"])
async def bytes_back(req: func.HttpRequest) -> Response:
    return Response(req.get_body(), mimetype="application/octet-stream")

@app.route("length", methods=["POST"])
async def length(req: func.HttpRequest) -> Response:
    return Response(str(len(req.get_body())))

@app.route("things/{name}", methods=["GET"])
async def by_name(req: func.HttpRequest) -> Response:
    return told(req, function="by_name")

@app.route("things/new", methods=["GET"])
async def literal(req: func.HttpRequest) -> Response:
    return told(req, function="literal")

@app.route("things/{*rest}", methods=["GET", "HEAD"])
async def catch_all(req: func.HttpRequest) -> Response:
    return told(req, function="catch_all")

@app.route("answer", methods=["GET"])
async def answer(req: func.HttpRequest) -> Response:
    response = Response("made", status_code=201, headers={"x-one": "1", "Content-Length": "9999"})
    response.headers.add("Set-Cookie", "a=1; Path=/; HttpOnly; SameSite=Lax")
    response.headers.add("Set-Cookie", 'b="2 and more"; Max-Age=60; Secure')
    return response

@app.route("status/{code}")
async def status(req: func.HttpRequest) -> Response:
    return Response("body", status_code=int(req.route_params["code"]))

@app.route("header")
async def header(req: func.HttpRequest) -> Response:
    return Response("body", headers={"x-bad": "\\u20ac"})

@app.route("text")
def text(req: func.HttpRequest) -> str:
    return "h\\u00e9"

@app.route("nothing")
def nothing(req: func.HttpRequest) -> Response:
    return None

@app.route("raises/{what}")
async def raises(req: func.HttpRequest) -> Response:
    kinds = {"error": ValueError, "exit": SystemExit, "interrupt": KeyboardInterrupt}
    raise kinds.get(req.route_params["what"], asyncio.CancelledError)("secret text")

@app.route("raises_in_thread")
def raises_in_thread(req: func.HttpRequest) -> Response:
    sys.exit("secret text")

@app.route("where")
async def where(req: func.HttpRequest) -> Response:
    import os
    return Response(json.dumps([os.getcwd(), os.environ["FROM_SETTINGS"], os.environ["SET_ALREADY"]]))

arrived, all_there = 0, asyncio.Event()
barrier = threading.Barrier(4)

@app.route("meet_async")
async def meet_async(req: func.HttpRequest) -> Response:
    global arrived
    arrived += 1
    if arrived == 4:
        all_there.set()
    await all_there.wait()
    return Response(threading.current_thread().name)

@app.route("meet_sync")
def meet_sync(req: func.HttpRequest) -> Response:
    barrier.wait()
    return Response(threading.current_thread().name)

calls = 0

@app.route("calls")
async def count_calls(req: func.HttpRequest) -> Response:
    global calls
    calls += 1
    return Response(str(calls))

@app.route("guarded", auth_level=func.AuthLevel.FUNCTION)
async def guarded(req: func.HttpRequest) -> Response:
    return Response("in")

@app.route("guarded_admin", auth_level=func.AuthLevel.ADMIN)
async def guarded_admin(req: func.HttpRequest) -> Response:
    return Response("in")
"""


@pytest.fixture(scope="session")
def write_app(tmp_path_factory: pytest.TempPathFactory) -> WriteApp:
    """Write a function app into a folder of its own; host.json and local.settings.json as dictionaries."""

    def write(code: str, host: Any = None, settings: Any = None) -> Path:
        folder = tmp_path_factory.mktemp("app")
        (folder / "function_app.py").write_text(textwrap.dedent(code))
        (folder / "host.json").write_text(json.dumps(host or {"version": "2.0"}))
        if settings is not None:
            (folder / "local.settings.json").write_text(json.dumps(settings))
        return folder

    return write


@pytest.fixture(scope="session")
def environ() -> dict[str, str]:
    """The environment of every host here: the keys are known, and one setting is set already."""
    return {**ENVIRON, "SET_ALREADY": "in the environment"}


@pytest.fixture(scope="session")
def http_host(
    write_app: WriteApp, environ: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningHost]:
    """A host with a function for everything that a caller can notice."""
    folder = write_app(
        HTTP_APP,
        host={
            "version": "2.0",
            "extensions": {"http": {"customHeaders": {"X-All": "1"}}},
        },
        settings={"Values": {"FROM_SETTINGS": "in the file", "SET_ALREADY": "in the file"}},
    )
    log = tmp_path_factory.mktemp("log") / "host.log"
    with log.open("wb") as out, start(folder, environ=environ, log=out) as host:
        yield host


@pytest.fixture(scope="session")
def client(http_host: RunningHost) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=f"{http_host.url}/api", timeout=WAIT_TIMEOUT_SECONDS) as client:
        yield client


@pytest.fixture
def raw(http_host: RunningHost) -> Iterator[socket.socket]:
    """A bare connection to the host."""
    address = httpx.URL(http_host.url)
    with socket.create_connection((address.host, address.port or 80), timeout=WAIT_TIMEOUT_SECONDS) as connection:
        yield connection
