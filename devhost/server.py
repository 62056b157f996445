"""Start and stop the host: `serve` here until a signal comes, `start` as a program beside the caller.

The supervisor, which runs `serve`, holds the listening socket and one worker process. When that dies,
however it does, another takes its place; callers that connect in between wait instead of being refused.
"""

import contextlib
import errno
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

from devhost.config import CANNOT_START, DRAIN_SECONDS, FUNCTION_KEY, MASTER_KEY, LocalSettings, Options
from devhost.errors import StartError

LOOPBACK = "127.0.0.1"
# Safety nets: a host that hangs is ended by force. A second Ctrl-C does that at once.
_START_SECONDS = 300
_STOP_SECONDS = DRAIN_SECONDS + 28
_REPOSITORY = Path(__file__).resolve().parent.parent


def serve(  # noqa: PLR0913 - each an option of the command
    app_folder: Path,
    port: int | None = None,
    *,
    host: str = LOOPBACK,
    environ: Mapping[str, str] | None = None,
    state_folder: Path | None = None,
    ready_file: Path | None = None,
    stop_with_stdin: bool = False,
) -> None:
    """Serve the function app until SIGINT or SIGTERM.

    Raises StartError where it cannot start, SystemExit where its worker process has said why already.

    Port 0 is a free port; None the one of local.settings.json, else 7071. `environ` is what the functions see
    on top of this process's own environment; local.settings.json fills in what neither has. Timers keep the
    time of their last run in `state_folder`. `ready_file` holds {"url", "pid", "worker_pid"} once requests are
    answered. `stop_with_stdin` is for a caller that may be killed: its end of the pipe closes then. The keys for
    functions that ask for one are DEVHOST_FUNCTION_KEY and DEVHOST_MASTER_KEY; what is not set is made up.
    """
    app_folder = app_folder.resolve()
    settings = LocalSettings.read(app_folder)
    environ = {**settings.values, **os.environ, **(environ or {})}
    show_key = not environ.get(FUNCTION_KEY)
    made_up = {name: secrets.token_urlsafe(24) for name in (FUNCTION_KEY, MASTER_KEY) if not environ.get(name)}
    stop_on_signals()
    if stop_with_stdin:
        threading.Thread(target=_interrupt_at_end_of_stdin, daemon=True).start()
    with (
        listen(host, settings.port if port is None else port) as listener,
        tempfile.TemporaryDirectory(prefix="devhost-") as scratch,
        contextlib.suppress(KeyboardInterrupt),
    ):
        options = Options(
            app_folder=str(app_folder),
            socket_fd=listener.fileno(),
            url=f"http://{host}:{listener.getsockname()[1]}",
            ready_file=str(ready_file or Path(scratch) / "ready.json"),
            show_key=show_key,
            state_folder=str(state_folder.resolve()) if state_folder else None,
        )
        _supervise(options, {**environ, **made_up})


def stop_on_signals() -> None:
    """Have SIGTERM, and a terminal that closes, unwind the stack as Ctrl-C does.

    Ctrl-C even where a shell has us ignore it.
    """
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)


@dataclass(frozen=True)
class RunningHost:
    """A host that `start` has started: it answers at `url`."""

    url: str
    process: subprocess.Popen[bytes]
    ready_file: Path

    @property
    def pid(self) -> int:
        """The supervisor's process id."""
        return self.process.pid

    @property
    def worker_pid(self) -> int:
        """The process id of the worker process that was ready last."""
        return int(json.loads(self.ready_file.read_text())["worker_pid"])


@contextlib.contextmanager
def start(
    app_folder: Path,
    port: int = 0,
    *,
    environ: Mapping[str, str] | None = None,
    state_folder: Path | None = None,
    log: IO[bytes] | None = None,
) -> Iterator[RunningHost]:
    """Start a host as a program of its own; yields it once it answers, and stops it at the end.

    `environ` is the whole environment of that program, this one's own if None. What the host and its
    functions print goes to `log`, to where this program's output goes if None. Raises StartError where it
    does not start.
    """
    with tempfile.TemporaryDirectory(prefix="devhost-") as scratch:
        ready_file = Path(scratch) / "ready.json"
        command = [sys.executable, "-m", "devhost", "serve", "--app", str(app_folder.resolve())]
        command += ["--port", str(port), "--ready-file", str(ready_file), "--stop-with-stdin"]
        if state_folder:
            command += ["--state", str(state_folder.resolve())]
        with subprocess.Popen(
            command, cwd=_REPOSITORY, env=environ, stdin=subprocess.PIPE, stdout=log, stderr=log
        ) as process:
            try:
                yield RunningHost(_wait_for(ready_file, process)["url"], process, ready_file)
            finally:
                _stop(process, _STOP_SECONDS + 1)


def _wait_for(ready_file: Path, process: subprocess.Popen[bytes]) -> dict[str, str]:
    deadline = time.monotonic() + _START_SECONDS
    while not ready_file.exists():
        if process.poll() is not None:
            raise StartError(f"The host ended with code {process.returncode} before it was ready: its output says why.")
        if time.monotonic() > deadline:
            raise StartError(f"The host was not ready after {_START_SECONDS} s.")
        time.sleep(0.02)
    ready: dict[str, str] = json.loads(ready_file.read_text())
    return ready


def _interrupt_at_end_of_stdin() -> None:
    while os.read(0, 1024):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


def listen(host: str, port: int) -> socket.socket:
    """Return a listening socket. Raises StartError with the cure where the port is taken."""
    try:
        return socket.create_server((host, port), backlog=2048)
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise StartError(f"Nothing can listen on {host}:{port}: {error.strerror}.") from None
        cure = f"stop what runs there, or PORT={port + 1} make run"
        raise StartError(f"Port {port} is taken: {cure}.") from None


def _supervise(options: Options, environ: Mapping[str, str]) -> None:
    """Keep one worker process running. Raises StartError when one ends before it was ready."""
    command = [sys.executable, "-m", "devhost.process", json.dumps(asdict(options))]
    while True:
        # Its standard input is how it notices that we are gone.
        with subprocess.Popen(
            command, cwd=_REPOSITORY, env=environ, stdin=subprocess.PIPE, pass_fds=[options.socket_fd]
        ) as worker:
            try:
                code = worker.wait()
            finally:
                _stop(worker, _STOP_SECONDS)
        if code == CANNOT_START:
            raise SystemExit(1)  # it has said why
        if not _was_ready(options, worker.pid):
            raise StartError(f"The worker process ended with code {code} before it was ready.")
        print(f"The worker process ended with code {code}: starting another.", file=sys.stderr, flush=True)


def _was_ready(options: Options, worker_pid: int) -> bool:
    try:
        return bool(json.loads(Path(options.ready_file).read_text())["worker_pid"] == worker_pid)
    except FileNotFoundError:
        return False


def _stop(process: subprocess.Popen[bytes], wait_seconds: float) -> None:
    process.terminate()
    try:
        process.wait(wait_seconds)
    except (subprocess.TimeoutExpired, KeyboardInterrupt):
        process.kill()
        process.wait()
