"""The one process that serves: `python -m devhost.process <Options as JSON>`, started by `server`."""

import asyncio
import json
import logging
import os
import signal
import socket
import sys
from pathlib import Path
from typing import Any

import uvicorn
import uvloop
from azure_functions_runtime.bindings.datumdef import Datum
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from devhost.app import App, Keys
from devhost.config import CANNOT_START, DRAIN_SECONDS, FUNCTION_KEY, MASTER_KEY, HostConfig, Options
from devhost.errors import StartError
from devhost.timers import Schedule, Timer
from devhost.worker import Function, Worker


def main(options: Options) -> None:
    """Serve until a signal comes, or the supervisor has gone. Does not return."""
    # So that Ctrl-C ends the process as SIGTERM does: without a traceback, and once requests have ended.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        uvloop.run(_serve(options))
        code = 0
    except StartError as error:
        print(error, file=sys.stderr, flush=True)
        code = CANNOT_START
    # Azure ends a worker likewise: without waiting for threads that hang, and without exit handlers.
    logging.shutdown()
    os._exit(code)


async def _serve(options: Options) -> None:
    app_folder = Path(options.app_folder)
    config = HostConfig.read(app_folder)
    _set_up_logging(config.log_level)
    worker = await Worker.load(app_folder, config.function_timeout_seconds)
    timers = _timers(worker, options.state_folder)
    keys = Keys(os.environ[FUNCTION_KEY], os.environ[MASTER_KEY])
    server = uvicorn.Server(
        uvicorn.Config(
            App(worker, timers, config, keys),
            http=_Protocol,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=130,  # as Azure's web server
            timeout_graceful_shutdown=DRAIN_SECONDS,
        )
    )
    _stop_with_supervisor(server)
    keeping = [asyncio.create_task(timer.keep_time()) for timer in timers.values()]
    if options.show_key and keys.needed(worker.functions):
        print(
            f"Key for functions that ask for one (x-functions-key): {os.environ[FUNCTION_KEY]}",
            file=sys.stderr,
            flush=True,
        )
    # The supervisor listens already: who connects now is answered as soon as the server runs.
    _announce(options)
    await server.serve([socket.socket(fileno=options.socket_fd)])
    for task in keeping:
        task.cancel()


class _Protocol(HttpToolsProtocol):
    """HTTP whose answers leave in one piece, head and body: each piece costs the kernel as much as both."""

    def connection_made(self, transport: Any) -> None:
        super().connection_made(Joining(transport))  # type: ignore[arg-type]


class Joining:
    """A transport that sends together what is written in one turn of the loop."""

    def __init__(self, transport: Any) -> None:
        self._transport = transport
        self._pieces: list[bytes] = []

    def write(self, piece: bytes) -> None:
        if not self._pieces:
            asyncio.get_running_loop().call_soon(self._send)
        self._pieces.append(piece)

    def close(self) -> None:
        self._send()
        self._transport.close()

    def _send(self) -> None:
        if self._pieces and not self._transport.is_closing():
            self._transport.write(b"".join(self._pieces))
        self._pieces.clear()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


def _timers(worker: Worker, state_folder: str | None) -> dict[str, Timer]:
    """Return the timers by their functions' names in lower case."""
    if state_folder:
        Path(state_folder).mkdir(parents=True, exist_ok=True)
    return {
        function.name.lower(): _timer(worker, function, state_folder)
        for function in worker.functions
        if function.trigger["type"] == "timerTrigger"
    }


def _timer(worker: Worker, function: Function, state_folder: str | None) -> Timer:
    try:
        schedule = Schedule.parse(function.trigger["schedule"], os.environ)
    except StartError as error:
        raise StartError(f"{function}: {error}") from None

    async def invoke(description: str) -> None:
        await worker.invoke(function, Datum(description, "json"))

    state_file = Path(state_folder) / f"{function.name}.json" if state_folder else None
    return Timer(function.trigger, schedule, invoke, state_file)


def _stop_with_supervisor(server: uvicorn.Server) -> None:
    """Stop when the supervisor is gone, however it went: that closes the pipe on our standard input."""

    def stop() -> None:
        asyncio.get_running_loop().remove_reader(sys.stdin)
        server.should_exit = True

    asyncio.get_running_loop().add_reader(sys.stdin, stop)


def _announce(options: Options) -> None:
    ready_file = Path(options.ready_file)
    fresh = ready_file.with_suffix(".new")
    fresh.write_text(json.dumps({"url": options.url, "pid": os.getppid(), "worker_pid": os.getpid()}))
    fresh.replace(ready_file)


def _set_up_logging(level: str) -> None:
    logging.basicConfig(level=level, stream=sys.stderr, format="%(asctime)s %(levelname)-7s %(name)s: %(message)s")
    for name in ("azure.functions", "azure_functions_runtime", "uvicorn", "asyncio"):
        # At INFO they tell of every call that they make.
        logging.getLogger(name).setLevel("WARNING")


if __name__ == "__main__":
    main(Options(**json.loads(sys.argv[1])))
