"""The local ingestion endpoint, with Microsoft's exporter and without: it takes, shows, and fails as it is told."""

import asyncio
import gzip
import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from threading import Event
from typing import Any

import httpx
import pytest
from azure.monitor.opentelemetry.exporter import AzureMonitorLogExporter
from opentelemetry._logs import SeverityNumber
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import SimpleLogRecordProcessor

from devhost.errors import StartError
from devhost.ingestion_sink import MAX_SHOWN, MOST_BYTES, MOST_KEPT, Answer, Envelope, Ingestion, accept, collecting
from tests.support.waiting import WAIT_TIMEOUT_SECONDS, http_get, http_post


@pytest.fixture
def ingestion() -> Iterator[Ingestion]:
    with collecting() as made:
        yield made


def an_event(name: str = "Started", **properties: Any) -> dict[str, Any]:
    base = {"ver": 2, "name": name, "properties": properties, "measurements": {"products": 3}}
    return {
        "ver": 1,
        "name": "Microsoft.ApplicationInsights.Event",
        "time": "2026-11-24T12:00:00.000000Z",
        "iKey": "0",
        "data": {"baseType": "EventData", "baseData": base},
    }


def post(ingestion: Ingestion, *envelopes: Any, path: str = "/v2.1/track") -> httpx.Response:
    return http_post(ingestion.url + path, json=envelopes)


def stored_event_names(ingestion: Ingestion) -> list[str]:
    """The names of the events that it shows to programs."""
    return [each["data"]["baseData"]["name"] for each in http_get(f"{ingestion.url}/envelopes").json()]


@pytest.mark.parametrize("path", ["/v2.1/track", "/v2/track"])
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("form", ["array", "lines"])
def test_ingestion_sink_accepts_envelopes_as_array_lines_or_gzip(
    ingestion: Ingestion, path: str, form: str, *, packed: bool
) -> None:
    events = [an_event("One"), an_event("Two")]
    text = json.dumps(events) if form == "array" else "\n".join(map(json.dumps, events)) + "\n"
    body, headers = text.encode(), {}
    if packed:
        body, headers = gzip.compress(body), {"Content-Encoding": "gzip"}
    answer = http_post(ingestion.url + path, content=body, headers=headers)
    assert (answer.status_code, answer.json()) == (200, {"itemsReceived": 2, "itemsAccepted": 2, "errors": []})
    assert http_get(f"{ingestion.url}/envelopes").json() == events[::-1]


def test_ingestion_sink_accepts_envelopes_of_azure_monitor_exporter(
    ingestion: Ingestion, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("STATSBEAT_DISABLED_ALL", "SDKSTATS_DISABLED", "CONTROLPLANE_DISABLED"):
        monkeypatch.setenv(f"APPLICATIONINSIGHTS_{name}", "true")
    exporter = AzureMonitorLogExporter(connection_string=ingestion.connection_string, disable_offline_storage=True)
    provider = LoggerProvider(shutdown_on_exit=False)
    provider.add_log_record_processor(SimpleLogRecordProcessor(exporter))
    logger = provider.get_logger("test")
    attributes = {"microsoft.custom_event.name": "LicenseValidation", "serialNumber": "C0FFEE-0042"}
    logger.emit(body="", severity_number=SeverityNumber.INFO, attributes=attributes)
    logger.emit(body="a line", severity_number=SeverityNumber.INFO)
    provider.shutdown()
    line, event = http_get(f"{ingestion.url}/envelopes").json()
    assert (event["data"]["baseType"], event["data"]["baseData"]["name"]) == ("EventData", "LicenseValidation")
    assert event["data"]["baseData"]["properties"]["serialNumber"] == "C0FFEE-0042"
    assert event["iKey"] in ingestion.connection_string
    assert line["data"]["baseData"]["message"] == "a line"
    page = http_get(ingestion.url).text
    assert "<h2><bdi>LicenseValidation</bdi></h2>" in page
    assert "<h2><bdi>a line</bdi></h2>" in page


def test_ingestion_sink_page_lists_envelopes_newest_first(ingestion: Ingestion) -> None:
    post(ingestion, an_event("Started", currentKeyId="key-1"), an_event("RequestServed"), an_event("RequestServed"))
    failed = {"ver": 2, "exceptions": [{"typeName": "KeyError", "message": "licensing.http:99"}]}
    served = {"ver": 2, "name": "validate", "id": "0" * 16, "duration": "0.00:00:00.012", "success": True}
    for kind, base in (("ExceptionData", failed), ("RequestData", served)):
        post(ingestion, {**an_event(), "data": {"baseType": kind, "baseData": base}})
    page = http_get(ingestion.url).text
    assert "A LOCAL endpoint: nothing leaves this machine." in page
    told = [
        "<h2><bdi>validate</bdi></h2><p>Request 2026-11-24T12:00:00.000000Z</p>",
        "<td>duration</td><td><bdi>0.00:00:00.012</bdi></td>",
        "<h2><bdi>KeyError</bdi></h2><p>Exception ",
        "<td>place</td><td><bdi>licensing.http:99</bdi></td>",
        "<h2><bdi>RequestServed</bdi></h2><p>Event ",
        "<td>products</td><td><bdi>3</bdi></td>",
        "<h2><bdi>Started</bdi></h2>",
        "<td>currentKeyId</td><td><bdi>key-1</bdi></td>",
    ]
    places = [page.find(each) for each in told]
    assert -1 not in places
    assert places == sorted(places)
    assert '<tr><td class="count">2</td><td>Event</td><td><bdi>RequestServed</bdi></td></tr>' in page
    assert 'name="viewport"' in page


def test_ingestion_sink_page_escapes_html_in_telemetry(ingestion: Ingestion) -> None:
    evil = "<script>alert(1)</script>"
    post(ingestion, an_event(evil, **{evil: evil}), {**an_event(), "time": evil})
    page = http_get(ingestion.url)
    assert "&lt;script&gt;" in page.text
    assert "<script" not in page.text
    assert "default-src 'none'" in page.headers["Content-Security-Policy"]
    assert page.headers["X-Content-Type-Options"] == "nosniff"


def test_ingestion_sink_page_renders_envelopes_of_unexpected_shape(ingestion: Ingestion) -> None:
    for base in ({}, {"exceptions": [1]}, {"properties": [1], "measurements": 2, "name": {"a": 1}}):
        odd = {**an_event(), "data": {"baseType": "OddData", "baseData": base}}
        assert post(ingestion, odd).status_code == 200
    assert http_get(ingestion.url).status_code == 200


def test_ingestion_sink_keeps_newest_thousand_envelopes(ingestion: Ingestion) -> None:
    post(ingestion, *(an_event(f"Event{number}") for number in range(MOST_KEPT + 5)))
    names = stored_event_names(ingestion)
    assert (len(names), names[0], names[-1]) == (MOST_KEPT, f"Event{MOST_KEPT + 4}", "Event5")
    assert http_get(ingestion.url).text.count("<article>") == MAX_SHOWN


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (b"", {}, 200),
        (b"{", {}, 400),
        (b"\xff", {}, 400),
        (b"[1]", {}, 400),
        (b'{"name": "a", "time": "b", "data": {}}', {}, 400),
        (json.dumps([an_event("x" * 65 * 1024)]).encode(), {}, 400),
        (b"no gzip", {"Content-Encoding": "gzip"}, 400),
        (gzip.compress(json.dumps([an_event()]).encode())[:-20], {"Content-Encoding": "gzip"}, 400),
        (b" " * (MOST_BYTES + 1), {}, 413),
        (gzip.compress(b" " * (MOST_BYTES + 1)), {"Content-Encoding": "gzip"}, 413),
        (json.dumps([an_event()]).encode(), {"Origin": "https://evil.example.com"}, 403),
        (json.dumps([an_event()]).encode(), {"Host": "evil.example.com"}, 404),
    ],
    ids=[
        "nothing",
        "half",
        "no text",
        "no envelope",
        "an envelope without data",
        "a long envelope",
        "no gzip",
        "half a gzip",
        "too long",
        "too long unpacked",
        "from a web page",
        "under another name",
    ],
)
def test_ingestion_sink_does_not_store_invalid_request(
    ingestion: Ingestion, body: bytes, headers: dict[str, str], status: int
) -> None:
    assert http_post(f"{ingestion.url}/v2.1/track", content=body, headers=headers).status_code == status
    assert stored_event_names(ingestion) == []


@pytest.mark.parametrize("path", ["/nothing", "/v2.1/track", "/envelopes/1", "/QuickPulseService.svc/ping"])
def test_ingestion_sink_with_unknown_path_returns_404(ingestion: Ingestion, path: str) -> None:
    assert http_get(ingestion.url + path).status_code == 404


@pytest.mark.parametrize("host", ["evil.example.com", "127.0.0.1.example.com"])
def test_ingestion_sink_rejects_foreign_host_header(ingestion: Ingestion, host: str) -> None:
    post(ingestion, an_event("Planted"))
    for path in ("/", "/envelopes"):
        answer = http_get(ingestion.url + path, headers={"Host": host})
        assert answer.status_code == 404
        assert "Planted" not in answer.text


@pytest.mark.parametrize("status", [429, 503])
def test_ingestion_sink_with_rejecting_callback_returns_its_status(status: int) -> None:
    async def refuse(envelopes: Sequence[Envelope]) -> Answer:
        return Answer(status, {"itemsReceived": len(envelopes), "itemsAccepted": 0, "errors": []}, {"Retry-After": "7"})

    with collecting(answer=refuse) as made:
        answer = post(made, an_event())
        assert (answer.status_code, answer.headers["Retry-After"]) == (status, "7")
        assert stored_event_names(made) == []


def test_ingestion_sink_with_partial_callback_stores_accepted_envelopes_only() -> None:
    async def take_all_but_the_second(envelopes: Sequence[Envelope]) -> Answer:
        errors = [{"index": 1, "statusCode": 503, "message": "later"}]
        return Answer(206, {"itemsReceived": len(envelopes), "itemsAccepted": len(envelopes) - 1, "errors": errors})

    with collecting(answer=take_all_but_the_second) as made:
        answer = post(made, an_event("A"), an_event("B"), an_event("C"))
        assert (answer.status_code, answer.json()["errors"][0]["index"]) == (206, 1)
        assert stored_event_names(made) == ["C", "A"]


def test_ingestion_sink_with_hanging_callback_serves_pages_and_stops() -> None:
    hanging = Event()

    async def hang(envelopes: Sequence[Envelope]) -> Answer:
        hanging.set()
        await asyncio.Event().wait()
        return await accept(envelopes)

    with ThreadPoolExecutor() as beside:
        with collecting(answer=hang) as made:
            sending = beside.submit(post, made, an_event())
            assert hanging.wait(WAIT_TIMEOUT_SECONDS)
            assert stored_event_names(made) == []
            assert not sending.done()
        with suppress(httpx.HTTPError):
            assert sending.result(WAIT_TIMEOUT_SECONDS).status_code == 500, "it was not accepted"


def test_ingestion_sink_on_occupied_port_raises_start_error(ingestion: Ingestion) -> None:
    port = httpx.URL(ingestion.url).port or 0
    with pytest.raises(StartError, match=f"Port {port} is taken"), collecting(port):
        pass


@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="only Linux tells it so")
def test_ingestion_sink_listens_on_loopback_only(ingestion: Ingestion) -> None:
    port = f":{httpx.URL(ingestion.url).port or 0:04X}"
    with Path("/proc/net/tcp").open() as table:
        listening = {line.split()[1] for line in table if line.split()[3] == "0A"}
    assert {address for address in listening if address.endswith(port)} == {f"0100007F{port}"}
