"""The event exporter over real HTTP: events arrive, and a destination that fails or hangs delays no other."""

import asyncio
import gzip
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import batched
from pathlib import Path
from typing import Any, Self

import aiodns
import pytest

from devhost.ingestion_sink import Answer, Envelope, Ingestion, accept, collecting
from licensing.telemetry import exporter
from licensing.telemetry.destinations import Destination, parse_destination
from licensing.telemetry.exporter import EventExporter, ExportQueue
from licensing.telemetry.model import AllowlistFilter
from tests.support.waiting import WAIT_TIMEOUT_SECONDS, http_get, until

REPOSITORY = Path(__file__).resolve().parents[2]
INSTANCE = "0b4cbb1f-5f0e-4e3c-9a51-5b6f3d8c7a10"


def destination(url: str) -> Destination:
    key = "10ca1000-0000-4000-8000-000000000001"
    return parse_destination(f"InstrumentationKey={key};IngestionEndpoint={url}", local=True)


@contextmanager
def running(ours: ExportQueue | None, seconds: float = WAIT_TIMEOUT_SECONDS) -> Iterator[EventExporter]:
    made = EventExporter(instance=INSTANCE, ours=ours)
    made.start()
    try:
        yield made
    finally:
        made.stop(seconds)


@pytest.fixture(autouse=True)
def _fast_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retry at once, and never give up or report because the machine is slow."""
    monkeypatch.setattr(exporter, "_BACKOFF_SECONDS", (0.01, 0.05))
    monkeypatch.setattr(exporter, "_POLL_INTERVAL_SECONDS", 0.02)
    monkeypatch.setattr(exporter, "_POST_SECONDS", 2 * WAIT_TIMEOUT_SECONDS)
    monkeypatch.setattr(exporter, "_REPORT_SECONDS", 3600)


def arrived(ingestion: Ingestion, name: str = "NoticeDelivered") -> list[dict[str, Any]]:
    """The events of that name that arrived, the oldest first."""
    envelopes = http_get(f"{ingestion.url}/envelopes").json()
    return [each for each in reversed(envelopes) if each["data"]["baseData"].get("name") == name]


def attempts(ingestion: Ingestion) -> list[int]:
    return [each["data"]["baseData"]["measurements"]["attempts"] for each in arrived(ingestion)]


def dropped(ingestion: Ingestion) -> dict[str, int]:
    """How many were dropped, by the reason that was reported."""
    events = [each["data"]["baseData"] for each in arrived(ingestion, "TelemetryDropped")]
    return {each["properties"]["reason"]: each["measurements"]["count"] for each in events}


def send_events(made: EventExporter, numbers: Sequence[int], *to: ExportQueue) -> None:
    made.events("NoticeDelivered", {"channel": "mail"}, [{"attempts": number} for number in numbers], to)


class RecordingServer:
    """An endpoint that keeps requests as they come, and answers as it is told."""

    def __init__(
        self, status: int = 200, headers: dict[str, str] | None = None, document: str = "", pieces: int = 1
    ) -> None:
        self.requests: list[tuple[str, dict[str, str], bytes]] = []
        received = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                received.requests.append((self.path, {k.lower(): v for k, v in self.headers.items()}, body))
                self.send_response(status)
                for name, value in {"Content-Length": str(len(document)), **(headers or {})}.items():
                    self.send_header(name, value)
                self.end_headers()
                for piece in batched(document.encode(), len(document) // pieces + 1, strict=False):
                    self.wfile.write(bytes(piece))
                    time.sleep(0.02 * (pieces > 1))

            def log_message(self, *_: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            request_queue_size = 128

        self._server = Server(("127.0.0.1", 0), Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


def test_event_exporter_sends_only_fields_passed_by_allowlist_filter() -> None:
    said = {
        "serialNumber": 'C0FFEE "0042" \u00e4\u4e16',
        "isProductionEnvironment": True,
        "hostUrl": "https://host.example",
    }
    each: list[dict[str, Any]] = [
        {"productName": "Alpha", "isEnabled": False, "enabledUsersCount": 3, "customer": "Contoso"},
        {"productName": "", "status": "two words", "modelName": None},
    ]
    with RecordingServer() as received:
        ours = ExportQueue(destination(received.url))
        with running(ours) as made:
            made.events("LicenseValidation", said, each, [ours])
            made.exception("KeyError", "licensing.http:99", [ours])
            made.exception("Key Error: C0FFEE", "C0FFEE", [ours])
        path, headers, _ = received.requests[0]
        told = [each for _, _, body in received.requests for each in json.loads(gzip.decompress(body))]
    assert path == "/v2.1/track"
    assert not headers.keys() - {
        *("host", "content-type", "content-encoding", "content-length", "accept", "accept-encoding", "user-agent")
    }
    envelopes = [each for each in told if each["data"]["baseData"].get("name") != "TelemetryDropped"]
    assert len(told) == len(envelopes) + 1
    assert [envelope["data"]["baseData"] for envelope in envelopes] == [
        {
            "ver": 2,
            "name": "LicenseValidation",
            "properties": {**said, "isProductionEnvironment": "true", "productName": "Alpha", "isEnabled": "false"},
            "measurements": {"enabledUsersCount": 3},
        },
        {
            "ver": 2,
            "name": "LicenseValidation",
            "properties": {**said, "isProductionEnvironment": "true", "productName": ""},
            "measurements": {},
        },
        {"ver": 2, "exceptions": [{"typeName": "KeyError", "message": "licensing.http:99"}]},
        {"ver": 2, "exceptions": [{"typeName": "Exception", "message": "?"}]},
    ]
    allowlist = AllowlistFilter()
    for envelope in envelopes:
        sanitize = allowlist.sanitize(envelope)
        assert sanitize is not None
        assert sanitize == envelope
        assert (envelope["iKey"], envelope["tags"]["ai.cloud.roleInstance"]) == (ours.destination.key, INSTANCE)
    assert not allowlist.dropped


def refusing(*statuses: int) -> Callable[[Sequence[Envelope]], Awaitable[Answer]]:
    """An endpoint that refuses with these statuses, one after the other, and then accepts."""
    left = iter(statuses)

    async def answer(envelopes: Sequence[Envelope]) -> Answer:
        if status := next(left, 0):
            return Answer(status, {"errors": []}, {"Retry-After": "Wed, 21 Oct 2026 07:28:00 GMT"})
        return await accept(envelopes)

    return answer


def test_event_exporter_resends_after_retryable_status() -> None:
    with collecting(answer=refusing(401, 403, 408, 429, 439, 500, 502, 503, 504)) as ingestion:
        ours = ExportQueue(destination(ingestion.url))
        with running(ours) as made:
            send_events(made, [1, 2], ours)
            until(lambda: not ours.is_healthy)
            # It arrives a moment before its sender receives the answer.
            until(lambda: attempts(ingestion) and ours.is_healthy and ours.backoff_seconds == 0)
        assert attempts(ingestion) == [1, 2]
        assert dropped(ingestion) == {}


def test_event_exporter_respects_retry_after(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exporter, "_BACKOFF_SECONDS", (0.01, 3600))
    with RecordingServer(429, {"Retry-After": "1800"}) as received:
        ours = ExportQueue(destination(received.url))
        started = time.monotonic()
        with running(ours) as made:
            send_events(made, [1], ours)
            until(lambda: ours.not_before)
            assert started + 1800 < ours.not_before <= time.monotonic() + 1800
        assert len(received.requests) == 2  # once more at the end


async def never_respond(_: Sequence[Envelope]) -> Answer:
    """Never answer."""
    await asyncio.Event().wait()
    raise AssertionError


def test_event_exporter_after_permanent_rejection_drops_events_and_logs_once(caplog: pytest.LogCaptureFixture) -> None:
    statuses = [400, 402, 404, 413, 307, 308]
    with collecting(answer=refusing(*statuses)) as ingestion:
        ours = ExportQueue(destination(ingestion.url))
        with running(ours) as made:
            for refused in range(3, 3 * len(statuses) + 1, 3):
                send_events(made, [1, 2, 3], ours)
                until(partial(lambda count: made.dropped["refused"] == count, refused))
            assert not ours.is_healthy
            send_events(made, [5], ours)
            until(lambda: ours.is_healthy)
        assert attempts(ingestion) == [5]
        assert dropped(ingestion) == {"refused": 3 * len(statuses)}
    assert caplog.messages == ["telemetry is not taken: 400"]


def test_event_exporter_at_shutdown_reports_last_dropped_events() -> None:
    with collecting(answer=refusing(400)) as ingestion:
        ours = ExportQueue(destination(ingestion.url))
        with running(ours) as made:
            send_events(made, [1, 2], ours)
        assert dropped(ingestion) == {"refused": 2}


def test_event_exporter_after_partial_success_resends_only_retryable_events() -> None:
    statuses = {1: 400, 2: 503, 4: 429, 99: 503}
    parts: list[int] = []

    async def take_some(envelopes: Sequence[Envelope]) -> Answer:
        parts.append(len(envelopes))
        if len(parts) > 1:
            return await accept(envelopes)
        errors = [{"index": index, "statusCode": status, "message": "no"} for index, status in statuses.items()]
        return Answer(206, {"itemsReceived": 5, "itemsAccepted": 2, "errors": errors})

    with collecting(answer=take_some) as ingestion:
        ours = ExportQueue(destination(ingestion.url))
        with running(ours) as made:
            send_events(made, [0, 1, 2, 3, 4], ours)
            until(lambda: len(attempts(ingestion)) == 4)
        assert sorted(attempts(ingestion)) == [0, 2, 3, 4]
        assert parts[:2] == [5, 2]


def test_event_exporter_after_repeated_partial_success_backs_off(caplog: pytest.LogCaptureFixture) -> None:
    with RecordingServer(
        206, document='{"errors": [{"index": 1, "statusCode": 429}, {"index": 0, "statusCode": 429}]}'
    ) as it:
        ours = ExportQueue(destination(it.url))
        with running(ours) as made:
            send_events(made, [1, 2, 3], ours)
            until(lambda: ours.backoff_seconds == 0.05)
        assert len(ours.take() or ()) == 2
    assert caplog.messages == ["telemetry is not taken: 206"]


@pytest.mark.parametrize(
    "document",
    ["", "{", "[]", "{}", '{"errors": null}', '{"errors": [1, {"index": "x"}]}', '{"errors": [{"index": 1e999}]}'],
)
def test_event_exporter_treats_unreadable_partial_success_as_rejected(document: str) -> None:
    with RecordingServer(206, document=document) as received:
        ours = ExportQueue(destination(received.url))
        with running(ours) as made:
            send_events(made, [1], ours)
            until(lambda: not ours.is_healthy)
            assert made.dropped["refused"] == 1
        assert ours.is_empty


def test_event_exporter_reads_partial_success_response_sent_in_pieces() -> None:
    errors = [{"index": index, "statusCode": 400, "message": "x" * 1000} for index in range(100)]
    with RecordingServer(206, document=json.dumps({"errors": errors}), pieces=2) as received:
        ours = ExportQueue(destination(received.url))
        with running(ours) as made:
            send_events(made, range(101), ours)
            until(lambda: made.dropped["refused"])
            assert made.dropped["refused"] == 100
            assert ours.is_healthy


def test_event_exporter_drops_unknown_event_and_sends_others() -> None:
    with collecting() as ingestion:
        ours = ExportQueue(destination(ingestion.url))
        with running(ours) as made:
            made.events("Unheard", {}, [{}], [ours])
            made.events("NoticeDelivered", {}, [], [ours])
            send_events(made, [1], ours)
        assert attempts(ingestion) == [1]
        assert dropped(ingestion) == {"notAllowed": 1}


def test_event_exporter_does_not_follow_redirects() -> None:
    with RecordingServer() as elsewhere, RecordingServer(308, {"Location": f"{elsewhere.url}/v2.1/track"}) as received:
        ours = ExportQueue(destination(received.url))
        with running(ours) as made:
            send_events(made, [1], ours)
        assert received.requests
        assert not elsewhere.requests


def test_event_exporter_when_endpoints_hang_or_fail_sends_to_other_destinations(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        gone = ExportQueue(destination(f"http://127.0.0.1:{closed.getsockname()[1]}"))
    with collecting() as ingestion, collecting(answer=never_respond) as hanging, RecordingServer(503) as failing:
        ours, slow, broken = (ExportQueue(destination(each.url)) for each in (ingestion, hanging, failing))
        with running(ours, seconds=0.5) as made:
            for number in range(20):
                send_events(made, [number], slow, gone, broken, ours)
            until(lambda: len(attempts(ingestion)) == 20)
            until(lambda: len(failing.requests) > 1)
        assert slow.sending is not None, "the end did not wait for the one that hangs"
        assert attempts(ingestion) == [*range(20)]
        assert not gone.is_empty
        assert "telemetry is not taken" in caplog.text
        assert gone.destination.key not in caplog.text


def test_export_queue_when_full_drops_oldest_events_and_reports_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exporter, "_BACKOFF_SECONDS", (3600, 3600))
    with collecting() as ingestion, RecordingServer(503) as failing:
        ours, broken = ExportQueue(destination(ingestion.url)), ExportQueue(destination(failing.url), max_bytes=6000)
        with running(ours) as made:
            for number in range(200):
                send_events(made, [number], broken)
            until(lambda: broken.not_before and not broken.sending and not made._queued)
            until(lambda: made.dropped["queueFull"] > 100)
            assert broken._bytes <= 6000
            left = [each for batch in broken._waiting for each in json.loads(b"[%s]" % batch.envelopes)]
        lost = dropped(ingestion)["queueFull"]
    assert left[-1]["data"]["baseData"]["measurements"]["attempts"] == 199
    assert 150 < lost < 200


def test_event_exporter_before_start_limits_pending_events_and_reports_drops(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exporter, "_MAX_QUEUED", 10)
    monkeypatch.setattr(exporter, "_REPORT_SECONDS", 0)
    with collecting() as ingestion:
        ours = ExportQueue(destination(ingestion.url))
        made = EventExporter(instance=INSTANCE, ours=ours)
        for number in range(15):
            send_events(made, [number, number], ours)
        assert made.dropped == {"queueFull": 10}
        made.start()
        until(lambda: len(attempts(ingestion)) == 20)
        made.stop(WAIT_TIMEOUT_SECONDS)
        assert dropped(ingestion) == {"queueFull": 10}


class FakeNameServer(asyncio.DatagramProtocol):
    """A name server: `ours.test` is this machine; of other names it says nothing, ever."""

    asked: set[bytes]

    def connection_made(self, transport: Any) -> None:
        self.transport, self.asked = transport, set()

    def datagram_received(self, data: bytes, addr: Any) -> None:
        end = data.index(0, 12) + 5
        self.asked.add(data[12:end])
        if data[12:].startswith(b"\4ours\4test\0"):
            is_v4 = data[end - 3 : end - 2] == b"\1"
            address = b"\xc0\x0c\0\1\0\1\0\0\0\x3c\0\4\x7f\0\0\1" if is_v4 else b""
            head = data[:2] + b"\x81\x80\0\1" + (b"\0\1" if is_v4 else b"\0\0") + bytes(4)
            self.transport.sendto(head + data[12:end] + address, addr)


async def test_event_exporter_when_dns_hangs_sends_to_other_destinations(monkeypatch: pytest.MonkeyPatch) -> None:
    loop = asyncio.get_running_loop()
    transport, names = await loop.create_datagram_endpoint(FakeNameServer, local_addr=("127.0.0.1", 0))
    port = transport.get_extra_info("sockname")[1]
    asking = partial(aiodns.DNSResolver, nameservers=["127.0.0.1"], udp_port=port, timeout=3600, tries=1)
    monkeypatch.setattr(aiodns, "DNSResolver", asking)
    with RecordingServer() as received:
        ours, *theirs = [
            ExportQueue(destination(received.url)._replace(endpoint=received.url.replace("127.0.0.1", f"{name}.test")))
            for name in ("ours", *range(50))
        ]
        with running(ours, seconds=0) as made:
            send_events(made, [1], *theirs, ours)
            await asyncio.to_thread(until, lambda: received.requests and len(names.asked) > 50)
            assert all(each.sending for each in theirs)
    transport.close()


def test_event_exporter_with_fifty_destinations_uses_one_thread() -> None:
    with RecordingServer() as received:
        ours = ExportQueue(destination(received.url))
        publishers = [ExportQueue(destination(received.url)) for _ in range(50)]
        before = set(threading.enumerate())
        with running(ours) as made:
            send_events(made, [1], ours, *publishers)
            until(lambda: len(received.requests) == 51)
            mine = [each for each in set(threading.enumerate()) - before if "process_request" not in each.name]
            assert [each.name for each in mine] == ["telemetry"]


def test_event_exporter_when_token_fails_posts_nothing_and_retains_events() -> None:
    async def token() -> str:
        raise RuntimeError("no identity here")

    with RecordingServer() as received:
        ours = ExportQueue(destination(received.url), token)
        with running(ours) as made:
            send_events(made, [1], ours)
            until(lambda: ours.backoff_seconds)
        assert received.requests == []
        assert not ours.is_empty


END = """
import signal, sys, time
from licensing.telemetry import exporter, service

_, destination, end, traces, flush_seconds = sys.argv
exporter._POST_SECONDS = 3600
service._FLUSH_SECONDS = float(flush_seconds)
if traces != "0":
    from licensing.telemetry import tracing
    tracing._EXPORT_SECONDS = 3600
telemetry = service.Telemetry(connection_string=destination, traces_per_second=float(traces))
if end == "by its own handler":
    def tell_and_end(*_):
        telemetry.record("NoticeDelivered", channel="mail", attempts=2)
        sys.exit()

    signal.signal(signal.SIGTERM, tell_and_end)
telemetry.start(lambda: None)
while traces != "0" and telemetry._tracing is None:
    time.sleep(0.02)
telemetry.record("NoticeDelivered", channel="mail", attempts=1)
with telemetry.storage("read"):
    pass
print("told", flush=True)
if end != "by itself":
    signal.pause()
"""


def end_process(
    ingestion: Ingestion,
    end: str,
    *,
    host: str = "127.0.0.1",
    traces: int = 0,
    flush_seconds: float = WAIT_TIMEOUT_SECONDS,
) -> None:
    """Start a process that records an event, and let it end. Raises TimeoutExpired where it does not end."""
    text = ingestion.connection_string.replace("127.0.0.1", host)
    program = [sys.executable, "-c", END, text, end, str(traces), str(flush_seconds)]
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(REPOSITORY)}
    with subprocess.Popen(program, stdout=subprocess.PIPE, env=environment) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"told\n"
        if end != "by itself":
            process.terminate()
        try:
            assert process.wait(WAIT_TIMEOUT_SECONDS) == (-signal.SIGTERM if end == "by SIGTERM" else 0)
        finally:
            process.kill()


@pytest.mark.parametrize(("end", "host"), [("by SIGTERM", "127.0.0.1"), ("by itself", "localhost")])
def test_process_exit_flushes_pending_events(end: str, host: str) -> None:
    with collecting() as ingestion:
        end_process(ingestion, end, host=host)
        assert attempts(ingestion) == [1]


def test_process_with_own_sigterm_handler_exports_events_until_exit() -> None:
    with collecting() as ingestion:
        end_process(ingestion, "by its own handler")
        assert attempts(ingestion) == [1, 2]


@pytest.mark.parametrize("end", ["by SIGTERM", "by itself"])
def test_process_exit_when_endpoint_hangs_ends_after_flush_timeout(end: str) -> None:
    """The endpoint never answers, so nothing but the limit of the flush ends the process."""
    with collecting(answer=never_respond) as ingestion:
        end_process(ingestion, end, traces=5, flush_seconds=0.5)
