"""Servers on a free port of this machine, started and stopped as child processes."""

import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from devhost import server
from devhost.azurite import free_port
from devhost.errors import StartError

START_SECONDS = 120.0  # on a loaded machine
END_SECONDS = 10.0


@dataclass(frozen=True, kw_only=True)
class Program:
    """A program that listens."""

    url: str
    pid: int


@contextmanager
def program(arguments: Sequence[str], environ: Mapping[str, str]) -> Iterator[Program]:
    """`python <arguments>`, once it takes connections; {port} in the arguments becomes its port.

    Raises StartError if the program ends or does not listen in time.
    """
    port = free_port()
    command = [sys.executable, *(argument.format(port=port) for argument in arguments)]
    with (
        tempfile.TemporaryFile() as log,
        subprocess.Popen(command, env={**os.environ, **environ}, stdout=log, stderr=log) as process,
    ):
        try:
            _wait_for(port, process, log)
            yield Program(url=f"http://127.0.0.1:{port}", pid=process.pid)
        finally:
            process.terminate()
            try:
                process.wait(END_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()


@contextmanager
def function_host(app_folder: Path, environ: Mapping[str, str]) -> Iterator[server.RunningHost]:
    """The local host with the function app in this folder. `environ` is its whole environment.

    Raises StartError if the host does not start. The message ends with the last line that the host printed.
    """
    with tempfile.TemporaryFile() as log:
        try:
            with server.start(app_folder, environ=environ, log=log) as host:
                yield host
        except StartError as error:
            raise StartError(f"{error} {_last_line(log)}") from error


def _last_line(log: IO[bytes]) -> str:
    log.seek(0)
    return log.read().decode(errors="replace").rstrip().rpartition("\n")[2]


def _wait_for(port: int, process: subprocess.Popen[bytes], log: IO[bytes]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise StartError(f"The program ended with code {process.returncode} before it listened: {_last_line(log)}")
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise StartError(f"The program did not listen within {START_SECONDS:g} s: {_last_line(log)}")
