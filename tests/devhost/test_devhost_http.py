"""What a caller can notice, asked of a real host."""

import asyncio
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import cast

import httpx
import pytest

from devhost.app import BODY_LIMIT_BYTES
from devhost.process import Joining
from devhost.server import RunningHost, start
from tests.support.waiting import WAIT_TIMEOUT_SECONDS, http_get


@pytest.mark.parametrize(
    ("path", "function"),
    [
        pytest.param("/things/new", "literal", id="a literal goes before a parameter"),
        pytest.param("/things/NEW", "literal", id="a literal is found in any case"),
        pytest.param("/things/other", "by_name", id="a parameter goes before a catch-all"),
        pytest.param("/things/other/", "by_name", id="a slash at the end makes no difference"),
        pytest.param("/things/a/b", "catch_all", id="a catch-all comes last"),
        pytest.param("/things", "catch_all", id="a catch-all catches nothing, too"),
    ],
)
def test_routing_selects_most_specific_route(client: httpx.Client, path: str, function: str) -> None:
    assert client.get(path).json()["function"] == function


@pytest.mark.parametrize(
    ("method", "path"),
    [
        pytest.param("GET", "/nowhere", id="an unknown route is not found"),
        pytest.param("POST", "/answer", id="an unknown method is not found"),
        pytest.param("HEAD", "/answer", id="HEAD is not found where a function does not offer it"),
    ],
)
def test_unknown_route_or_method_returns_404(client: httpx.Client, method: str, path: str) -> None:
    response = client.request(method, path)
    assert (response.status_code, response.content) == (404, b"")


def test_route_without_prefix_returns_404(http_host: RunningHost) -> None:
    assert http_get(f"{http_host.url}/echo").status_code == 404


def test_function_without_methods_accepts_every_method(client: httpx.Client) -> None:
    assert client.request("PATCH", "/echo").json()["method"] == "PATCH"


def test_route_parameter_is_percent_decoded_except_slash(client: httpx.Client) -> None:
    assert client.get("/things/a%20b%C3%A9%2fc").json()["route"] == {"name": "a bé%2fc"}


def test_catch_all_parameter_keeps_slashes_and_is_omitted_when_empty(client: httpx.Client) -> None:
    assert client.get("/things/a/b/").json()["route"] == {"rest": "a/b/"}
    assert client.get("/things/").json()["route"] == {}


def test_repeated_header_values_are_joined_by_comma(client: httpx.Client) -> None:
    headers = client.get("/echo", headers=[("X-Many", "1"), ("x-many", "2")]).json()["headers"]
    assert headers["x-many"] == "1,2"


def test_repeated_query_values_are_joined_and_empty_ones_dropped(client: httpx.Client) -> None:
    assert client.get("/echo?a=1&b=&a=%202").json()["params"] == {"a": "1, 2"}


def test_request_url_is_passed_to_function_unchanged(client: httpx.Client) -> None:
    url = f"{client.base_url}echo?a=%20b"
    assert client.get(url).json()["url"] == url


def test_binary_body_is_transferred_unchanged(client: httpx.Client) -> None:
    body = bytes(range(256)) * 1000
    response = client.post("/bytes", content=body)
    assert response.content == body
    assert response.headers["content-type"] == "application/octet-stream"


def test_chunked_request_body_is_passed_complete_to_function(client: httpx.Client) -> None:
    assert client.post("/bytes", content=iter([b"one", b"two"])).content == b"onetwo"


def test_response_uses_function_values_but_computes_content_length(client: httpx.Client) -> None:
    response = client.get("/answer")
    assert (response.status_code, response.text) == (201, "made")
    assert response.headers["x-one"] == "1"
    assert response.headers["content-length"] == "4"
    assert response.headers["content-type"] == "text/plain; charset=utf-8"


def test_response_sends_one_set_cookie_header_per_cookie(client: httpx.Client) -> None:
    assert client.get("/answer").headers.get_list("set-cookie") == [
        "a=1; HttpOnly; Path=/; SameSite=Lax",
        "b=2%20and%20more; Max-Age=60; Secure",
    ]


def test_custom_headers_of_host_json_are_added_to_every_response(client: httpx.Client) -> None:
    assert client.get("/answer").headers["x-all"] == "1"
    assert client.get("/nowhere").headers["x-all"] == "1"


def test_function_returning_string_sends_text_response(client: httpx.Client) -> None:
    response = client.get("/text")
    assert response.content == "hé".encode()
    assert response.headers["content-type"] == "text/plain; charset=utf-8"


def test_head_returns_headers_of_get_without_body(raw: socket.socket) -> None:
    raw.sendall(b"HEAD /api/things/a/b HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
    head, _, body = b"".join(iter(lambda: raw.recv(65536), b"")).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK")
    assert b"content-length: 0" not in head
    assert b"content-length: " in head
    assert body == b""


def test_204_response_has_no_body_and_no_content_length(client: httpx.Client) -> None:
    response = client.get("/status/204")
    assert (response.status_code, response.content) == (204, b"")
    assert "content-length" not in response.headers


@pytest.mark.parametrize(
    "path",
    [
        pytest.param("/raises/error", id="an exception"),
        pytest.param("/raises/exit", id="an exit"),
        pytest.param("/raises/interrupt", id="an interrupt"),
        pytest.param("/raises/cancelled", id="a cancellation"),
        pytest.param("/raises_in_thread", id="an exit on a thread"),
        pytest.param("/nothing", id="no answer"),
        pytest.param("/status/700", id="a status that is none"),
        pytest.param("/status/0", id="a status that is no number"),
        pytest.param("/header", id="a header that cannot be sent"),
    ],
)
def test_failing_function_returns_empty_500_and_worker_survives(
    client: httpx.Client, http_host: RunningHost, path: str
) -> None:
    worker_pid = http_host.worker_pid
    response = client.get(path)
    assert (response.status_code, response.content) == (500, b"")
    assert client.get("/text").status_code == 200
    assert http_host.worker_pid == worker_pid


OVERRUNNING = """
import asyncio, threading
import azure.functions as func

app = func.FunctionApp(http_auth_level=func.AuthLevel.ANONYMOUS)

@app.route("awaiting")
async def awaiting(req: func.HttpRequest) -> str:
    await asyncio.Event().wait()

@app.route("on_a_thread")
def on_a_thread(req: func.HttpRequest) -> str:
    threading.Event().wait()

@app.route("text")
def text(req: func.HttpRequest) -> str:
    return "text"
"""


def test_function_exceeding_timeout_returns_empty_500_and_worker_survives(
    write_app: Callable[..., Path], environ: dict[str, str]
) -> None:
    folder = write_app(OVERRUNNING, host={"version": "2.0", "functionTimeout": "00:00:10"})
    with (
        (folder / "log").open("wb") as log,
        start(folder, environ=environ, log=log) as host,
        httpx.Client(base_url=f"{host.url}/api", timeout=WAIT_TIMEOUT_SECONDS) as client,
        ThreadPoolExecutor() as together,
    ):
        worker_pid = host.worker_pid
        answers = [*together.map(client.get, ["/awaiting", "/on_a_thread"])]
        assert [(answer.status_code, answer.content) for answer in answers] == [(500, b"")] * 2
        assert client.get("/text").text == "text"
        assert host.worker_pid == worker_pid
    assert (folder / "log").read_text().count("was given up after 10.0 s (functionTimeout)") == 2


def test_worker_runs_in_app_folder_and_environment_overrides_local_settings(
    client: httpx.Client, http_host: RunningHost
) -> None:
    folder, from_settings, set_already = client.get("/where").json()
    assert folder in cast("list[str]", http_host.process.args)
    assert (from_settings, set_already) == ("in the file", "in the environment")


@pytest.mark.parametrize(("path", "thread"), [("/meet_async", "MainThread"), ("/meet_sync", "ThreadPoolExecutor")])
def test_concurrent_requests_run_def_on_threads_and_async_def_on_event_loop(
    client: httpx.Client, path: str, thread: str
) -> None:
    """Each of four requests is answered only once all four have arrived."""
    with ThreadPoolExecutor() as together:
        answers = [*together.map(client.get, [path] * 4)]
    assert [(answer.status_code, answer.text.partition("-")[0]) for answer in answers] == [(200, thread)] * 4


@pytest.mark.parametrize(
    ("path", "key", "status"),
    [
        pytest.param("/guarded", "", 401, id="a function that asks for a key is closed without one"),
        pytest.param("/guarded", "wrong", 401, id="a wrong key opens nothing"),
        pytest.param("/guarded", "function-key", 200, id="the function key opens a function"),
        pytest.param("/guarded", "master-key", 200, id="the master key opens a function"),
        pytest.param("/guarded_admin", "function-key", 401, id="the function key opens no admin function"),
        pytest.param("/guarded_admin", "master-key", 200, id="the master key opens an admin function"),
    ],
)
def test_function_key_is_checked_per_auth_level(client: httpx.Client, path: str, key: str, status: int) -> None:
    assert client.get(path, headers={"x-functions-key": key}).status_code == status
    assert client.get(path, params={"code": key}).status_code == status


def test_request_body_of_100_mb_is_accepted(client: httpx.Client) -> None:
    assert client.post("/length", content=bytes(BODY_LIMIT_BYTES)).text == str(BODY_LIMIT_BYTES)


def test_request_body_over_limit_is_rejected_before_it_is_read(raw: socket.socket) -> None:
    head = f"POST /api/length HTTP/1.1\r\nHost: h\r\nContent-Length: {BODY_LIMIT_BYTES + 1}\r\n\r\n"
    raw.sendall(head.encode())
    assert raw.recv(65536).startswith(b"HTTP/1.1 413 ")


def test_chunked_request_body_over_limit_is_rejected_before_its_end(raw: socket.socket) -> None:
    raw.sendall(b"POST /api/length HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n")
    for _ in range(BODY_LIMIT_BYTES // (1 << 20) + 1):
        raw.sendall(b"100000\r\n" + bytes(1 << 20) + b"\r\n")
    assert raw.recv(65536).startswith(b"HTTP/1.1 413 "), "its last chunk has not come yet"


def test_client_disconnect_during_request_body_skips_function_call(raw: socket.socket, client: httpx.Client) -> None:
    calls = int(client.get("/calls").text)
    raw.sendall(b"POST /api/calls HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\nhalf")
    raw.shutdown(socket.SHUT_WR)
    assert raw.recv(1) == b"", "the host has noticed"
    assert [int(client.get("/calls").text) for _ in range(3)] == [calls + 1, calls + 2, calls + 3]


async def test_joining_sends_writes_of_one_event_loop_iteration_together() -> None:
    received, closed = list[bytes](), list[str]()

    class Transport:
        def write(self, piece: bytes) -> None:
            received.append(piece)

        def close(self) -> None:
            closed.append(f"after {len(received)}")

        def is_closing(self) -> bool:
            return bool(closed)

    joining = Joining(Transport())
    joining.write(b"head ")
    joining.write(b"body")
    assert received == []
    await asyncio.sleep(0)
    joining.write(b"next")
    await asyncio.sleep(0)
    assert received == [b"head body", b"next"]
    joining.write(b"last")
    joining.close()
    joining.write(b"too late")
    await asyncio.sleep(0)
    assert (received[2:], closed) == ([b"last"], ["after 3"])


def test_connection_is_reused_for_next_request(raw: socket.socket) -> None:
    for _ in range(2):
        raw.sendall(b"GET /api/text HTTP/1.1\r\nHost: h\r\n\r\n")
        answer = b""
        while not answer.endswith("hé".encode()):
            answer += raw.recv(65536) or pytest.fail(f"closed after {answer!r}")


@pytest.mark.parametrize("request_line", [b"GET", b"\x00\x01", b"GET /%ZZ%80 HTTP/1.1", b"OPTIONS * HTTP/1.1"])
def test_malformed_request_does_not_stop_host(raw: socket.socket, client: httpx.Client, request_line: bytes) -> None:
    raw.sendall(request_line + b"\r\nHost: h\r\nConnection: close\r\n\r\n")
    raw.recv(65536)
    assert client.get("/text").status_code == 200
