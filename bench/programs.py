"""Server programs, started on a free port of this machine and ended again."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from devhost.azurite import free_port

START_SECONDS = 30.0
END_SECONDS = 10.0


@dataclass(frozen=True, kw_only=True)
class Program:
    """A program that listens."""

    url: str
    pid: int


@contextmanager
def program(arguments: Sequence[str], environ: Mapping[str, str]) -> Iterator[Program]:
    """`python <arguments>`, once it takes connections; {port} in the arguments becomes its port.

    Raises RuntimeError where it ends or does not listen in time.
    """
    port = free_port()
    command = [sys.executable, *(argument.format(port=port) for argument in arguments)]
    with subprocess.Popen(command, env={**os.environ, **environ}) as process:
        try:
            _wait_for(port, process)
            yield Program(url=f"http://127.0.0.1:{port}", pid=process.pid)
        finally:
            process.terminate()
            try:
                process.wait(END_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()


def _wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"{process.args!r} ended with {process.returncode} before it listened")
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise RuntimeError(f"{process.args!r} does not listen after {START_SECONDS:g} s")
