"""What the host does not start with, and says so in a line; how it starts, dies, comes back and ends."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import cast

import httpx
import pytest

from devhost.config import HostConfig, LocalSettings
from devhost.errors import StartError
from devhost.server import RunningHost, start
from tests.support.waiting import PROGRAM_TIMEOUT_SECONDS, WAIT_TIMEOUT_SECONDS, http_get, http_post, until

type WriteApp = Callable[..., Path]

REPOSITORY = Path(__file__).parent.parent.parent
HEAD = """
import azure.functions as func
app = func.FunctionApp(http_auth_level=func.AuthLevel.ANONYMOUS)
"""
NO_HTTP = """
import azure.functions as func
app = func.FunctionApp()
"""
ONE = """
@app.route("one")
def one(req: func.HttpRequest) -> str:
    return "one"
"""


def serve(folder: Path, environ: dict[str, str], *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "devhost", "serve", "--app", str(folder), "--port", "0", *options]
    return subprocess.run(
        command,
        cwd=REPOSITORY,
        env=environ,
        capture_output=True,
        text=True,
        timeout=PROGRAM_TIMEOUT_SECONDS,
        check=False,
    )


@pytest.mark.parametrize(
    ("code", "says"),
    [
        pytest.param(
            HEAD + ONE + '@app.route("ONE/")\ndef two(req: func.HttpRequest) -> str: ...\n',
            "one and two are on one route: 'api/one', 'api/ONE'.",
            id="two functions on one route",
        ),
        pytest.param(
            HEAD + ONE + "other = func.FunctionApp()\n",
            "The function app cannot be loaded: ValueError: More than one FunctionApp",
            id="two apps",
        ),
        pytest.param(
            HEAD + ONE + '@app.route("two")\ndef one(req: func.HttpRequest) -> str: ...\n',
            "does not have a unique function name",
            id="two functions of one name",
        ),
        pytest.param(NO_HTTP, "There are no functions: ", id="no function"),
        pytest.param("import nothing_of_this_name", "function_app.py:1: ModuleNotFoundError: ", id="a failed import"),
        pytest.param("def (", "function_app.py:1: SyntaxError: ", id="a file that cannot be read"),
        pytest.param(
            "import os; os._exit(9)", "The worker process ended with code 9 before it was ready.", id="a crash"
        ),
        pytest.param(HEAD + ONE.replace('"one")', '"one/{x:int}")'), "'{x:int}' in the route", id="a constraint"),
        pytest.param(
            HEAD + ONE.replace('"one")', '"administer")'), "Azure keeps routes that start", id="a route of Azure's"
        ),
        pytest.param(
            NO_HTTP
            + '@app.timer_trigger(schedule="%GONE%", arg_name="t")\ndef tick(t: func.TimerRequest) -> None: ...\n',
            "tick: its schedule should stand in the setting GONE, which is not set.",
            id="a setting that is missing",
        ),
        pytest.param(
            NO_HTTP
            + '@app.queue_trigger(arg_name="m", queue_name="q", connection="c")\ndef take(m: str) -> None: ...\n',
            "take: bindings of type queueTrigger are not known to this host.",
            id="a trigger that is not known here",
        ),
    ],
)
def test_serve_with_invalid_app_exits_with_error(
    write_app: WriteApp, environ: dict[str, str], code: str, says: str
) -> None:
    done = serve(write_app(code), environ)
    assert done.returncode == 1
    # The SDK has its own word to say on an app without HTTP functions.
    (line,) = [line for line in done.stderr.splitlines() if " WARNING root: Auth level" not in line]
    assert says in line


def test_serve_on_occupied_port_exits_with_error_and_fix(write_app: WriteApp, environ: dict[str, str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = serve(write_app(HEAD + ONE), environ, "--port", str(port))
    assert done.returncode == 1
    assert done.stderr == f"Port {port} is taken: stop what runs there, or PORT={port + 1} make run.\n"


def test_start_when_host_exits_early_raises_start_error(
    write_app: WriteApp, environ: dict[str, str], tmp_path: Path
) -> None:
    with (
        (tmp_path / "log").open("wb") as log,
        pytest.raises(StartError, match="ended with code 1 before it was ready"),
        start(write_app(NO_HTTP), environ=environ, log=log),
    ):
        pass


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("host.json", None, "There is no host.json in"),
        ("host.json", "{", "host.json cannot be read"),
        ("host.json", "[]", "host.json cannot be read"),
        ("host.json", '{"functionTimeout": "soon"}', "functionTimeout 'soon' cannot be read"),
        ("local.settings.json", '{"IsEncrypted": true}', "local.settings.json is encrypted"),
        ("local.settings.json", "{", "local.settings.json cannot be read"),
    ],
)
def test_config_read_with_invalid_file_raises_start_error_naming_it(
    tmp_path: Path, name: str, content: str | None, says: str
) -> None:
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(StartError, match=says):
        (HostConfig if name == "host.json" else LocalSettings).read(tmp_path)


def test_config_read_parses_host_json_and_local_settings(tmp_path: Path) -> None:
    host = {
        "functionTimeout": "1.00:01:02",
        "extensions": {"http": {"routePrefix": "/v1/", "customHeaders": {"a": "b"}}},
        "logging": {"logLevel": {"default": "Error", "Function": "Warning"}},
    }
    settings = {"IsEncrypted": False, "Values": {"A": "1", "B": 2}, "Host": {"LocalHttpPort": 7072}}
    (tmp_path / "host.json").write_text(json.dumps(host))
    (tmp_path / "local.settings.json").write_text("\ufeff" + json.dumps(settings))
    assert HostConfig.read(tmp_path) == HostConfig("v1", 86462.0, "WARNING", {"a": "b"})
    assert LocalSettings.read(tmp_path) == LocalSettings({"A": "1", "B": "2"}, 7072)


def test_config_read_without_values_uses_azure_defaults(tmp_path: Path) -> None:
    (tmp_path / "host.json").write_text("{}")
    assert HostConfig.read(tmp_path) == HostConfig("api", 1800.0, "INFO", {})
    assert LocalSettings.read(tmp_path) == LocalSettings({}, 7071)
    (tmp_path / "host.json").write_text('{"functionTimeout": "-1"}')
    assert HostConfig.read(tmp_path).function_timeout_seconds is None


CRASHING = (
    HEAD
    + """
import logging, os, threading

@app.route("pid", methods=["GET"])
def pid(req: func.HttpRequest) -> str:
    logging.info("asked for my pid")
    return str(os.getpid())

@app.route("die", methods=["POST"])
async def die(req: func.HttpRequest) -> str:
    os._exit(7)

@app.route("raise")
def fail(req: func.HttpRequest) -> str:
    raise ValueError("for the developer only")

@app.route("hang", methods=["GET"])
def hang(req: func.HttpRequest) -> str:
    logging.info("hanging")
    threading.Event().wait()

@app.route("guarded", auth_level=func.AuthLevel.FUNCTION)
def guarded(req: func.HttpRequest) -> str:
    return "in"
"""
)


@pytest.fixture(scope="module")
def run(write_app: WriteApp, environ: dict[str, str]) -> Callable[[], contextlib.AbstractContextManager[RunningHost]]:
    """Start a host without a key in its environment, and without a route prefix."""
    environ = {name: value for name, value in environ.items() if not name.startswith("DEVHOST_")}
    folder = write_app(CRASHING, host={"extensions": {"http": {"routePrefix": ""}}})

    @contextlib.contextmanager
    def run() -> Iterator[RunningHost]:
        with (folder / "log").open("wb") as log, start(folder, environ=environ, log=log) as host:
            yield host

    return run


@pytest.fixture
def host(run: Callable[[], contextlib.AbstractContextManager[RunningHost]]) -> Iterator[RunningHost]:
    """A host of the test's own, to end."""
    with run() as host:
        yield host


@pytest.fixture(scope="module")
def lasting_host(run: Callable[[], contextlib.AbstractContextManager[RunningHost]]) -> Iterator[RunningHost]:
    """A host whose worker processes may die."""
    with run() as host:
        yield host


def log_of(host: RunningHost) -> str:
    command = cast("list[str]", host.process.args)
    return (Path(command[command.index("--app") + 1]) / "log").read_text()


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_host_restarts_worker_process_that_dies(lasting_host: RunningHost) -> None:
    host = lasting_host
    assert http_get(f"{host.url}/pid").text == str(host.worker_pid)

    first = host.worker_pid
    with pytest.raises(httpx.RemoteProtocolError):
        http_post(f"{host.url}/die")
    # Who comes while there is no worker waits for the next.
    assert http_get(f"{host.url}/pid").text not in ("", str(first))

    second = host.worker_pid
    os.kill(second, signal.SIGKILL)
    until(lambda: host.worker_pid != second)
    assert http_get(f"{host.url}/pid").text == str(host.worker_pid)


def test_host_without_key_logs_generated_key_that_survives_worker_restart(lasting_host: RunningHost) -> None:
    log = log_of(lasting_host)
    key = log.partition("(x-functions-key): ")[2].split()[0]
    url = f"{lasting_host.url}/guarded"
    assert http_get(url).status_code == 401
    assert http_get(url, headers={"x-functions-key": key}).status_code == 200
    with contextlib.suppress(httpx.HTTPError):
        http_post(f"{lasting_host.url}/die")
    assert http_get(url, headers={"x-functions-key": key}).status_code == 200


def test_host_log_contains_function_logs_and_exceptions(lasting_host: RunningHost) -> None:
    http_get(f"{lasting_host.url}/pid")
    until(lambda: "INFO    root: asked for my pid" in log_of(lasting_host))
    assert http_get(f"{lasting_host.url}/raise").text == ""
    until(lambda: "ValueError: for the developer only" in log_of(lasting_host))


@contextlib.contextmanager
def hanging_request(host: RunningHost) -> Iterator[None]:
    """A request whose function has begun, and never ends."""
    with socket.create_connection(("127.0.0.1", httpx.URL(host.url).port or 80)) as connection:
        connection.sendall(b"GET /hang HTTP/1.1\r\nHost: h\r\n\r\n")
        until(lambda: "hanging" in log_of(host))
        yield


def test_host_on_terminate_exits_cleanly_while_function_hangs(host: RunningHost) -> None:
    worker_pid = host.worker_pid
    with hanging_request(host):
        host.process.terminate()
        assert host.process.wait(WAIT_TIMEOUT_SECONDS) == 0
    until(lambda: not is_alive(worker_pid))
    assert "timeout graceful shutdown exceeded" in log_of(host), "it was given time, and was not killed"


def test_idle_host_on_ctrl_c_exits_without_log_output(host: RunningHost) -> None:
    os.kill(host.worker_pid, signal.SIGINT)  # a terminal sends Ctrl-C to both
    host.process.send_signal(signal.SIGINT)
    assert host.process.wait(WAIT_TIMEOUT_SECONDS) == 0
    assert len(log_of(host).splitlines()) == 1, "the key, and nothing else: it has waited for nobody"


def test_host_and_worker_exit_when_parent_process_is_killed(write_app: WriteApp, tmp_path: Path) -> None:
    code = f"""
import os, pathlib, signal
from devhost.server import start
with start(pathlib.Path({str(write_app(HEAD + ONE))!r})) as host:
    pathlib.Path({str(tmp_path / "pids")!r}).write_text(f"{{host.pid}} {{host.worker_pid}}")
    os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, check=False, timeout=PROGRAM_TIMEOUT_SECONDS)
    assert done.returncode == -signal.SIGKILL
    pids = [int(pid) for pid in (tmp_path / "pids").read_text().split()]
    until(lambda: not any(map(is_alive, pids)))


def test_worker_exits_when_supervisor_is_killed(host: RunningHost) -> None:
    worker_pid = host.worker_pid
    with hanging_request(host):
        os.kill(host.pid, signal.SIGKILL)
        until(lambda: not is_alive(worker_pid))
