"""Azurite, Microsoft's emulator of Table Storage, as a child process on this machine."""

import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from devhost.errors import StartError
from devhost.node import node

_PROGRAM = Path(__file__).resolve().parent.parent / "node_modules/azurite/dist/src/table/main.js"
# Safety nets. A slow machine may need minutes to start it; one that is killed before it has saved loses data.
_START_SECONDS = 300
_STOP_SECONDS = 60
# The emulator's account, the same on every machine: Microsoft publishes it, so it is no secret.
_ACCOUNT = "devstoreaccount1"
_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="


@dataclass
class Emulator:
    """A running emulator, known by its port."""

    port: int

    @property
    def connection_string(self) -> str:
        return connection_string(self.port)


@dataclass
class Azurite(Emulator):
    """An emulator that this process has started."""

    process: subprocess.Popen[bytes]


def connection_string(port: int) -> str:
    """How a client reaches the emulator, or something before it, at this port."""
    return (
        f"DefaultEndpointsProtocol=http;AccountName={_ACCOUNT};AccountKey={_KEY};"
        f"TableEndpoint=http://127.0.0.1:{port}/{_ACCOUNT};"
    )


@contextmanager
def azurite(folder: Path | None = None, port: int = 0) -> Iterator[Azurite]:
    """A table service, until the block ends: its data kept in the folder, or in memory only.

    Port 0 is any free one. Raises StartError where it does not start.
    """
    running = start(folder, port)
    try:
        yield running
    finally:
        stop(running)


def start(folder: Path | None = None, port: int = 0) -> Azurite:
    """A table service that answers. Whoever starts it stops it."""
    port = port or free_port()
    kept = ["--location", str(folder)] if folder else ["--inMemoryPersistence"]
    process = subprocess.Popen(
        [node(), str(_PROGRAM), "--silent", "--disableTelemetry", *kept, "--tablePort", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        # Of its own group: Ctrl-C reaches only us, and we stop it once nobody needs it any more.
        start_new_session=True,
    )
    deadline = time.monotonic() + _START_SECONDS
    while not _answers(port):
        if process.poll() is not None or time.monotonic() > deadline:
            process.kill()
            process.wait()
            raise StartError("Azurite, the Table Storage emulator, does not start: make clean, then try again.")
        time.sleep(0.02)
    return Azurite(port, process)


def stop(running: Azurite) -> None:
    """End it in good order, so that it keeps its data; by force where it does not end."""
    # It saves what it holds on this signal only.
    running.process.send_signal(signal.SIGINT)
    try:
        running.process.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        running.process.kill()
        running.process.wait()


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def _answers(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1):
            return True
    except OSError:
        return False
