"""Requests and what they ask of storage, as spans by Microsoft's exporter, each case in a process of its own."""

import json
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast
from unittest import mock
from uuid import uuid4

import pytest
from azure.core.pipeline import PipelineContext, PipelineRequest
from azure.core.rest import HttpRequest
from azure.monitor.opentelemetry.exporter import AzureMonitorTraceExporter
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import SpanKind

from devhost.azurite import free_port
from devhost.ingestion_sink import Answer, Envelope, Ingestion, collecting
from licensing.telemetry import tracing
from licensing.telemetry.destinations import parse_destination
from licensing.telemetry.model import ROLE, AllowlistFilter
from licensing.telemetry.tracing import ENVIRONMENT, AllowlistPolicy, TraceSampler, exporter_options
from tests.support.waiting import WAIT_TIMEOUT_SECONDS, http_get
from tests.telemetry.spans import PARENT, TRACE
from tests.telemetry.test_exporter import RecordingServer

REPOSITORY = Path(__file__).resolve().parents[2]
DOCUMENT = REPOSITORY / "docs/telemetry.md"
SPANS = Path(__file__).with_name("spans.py")


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(tracing, "_EXPORT_SECONDS", WAIT_TIMEOUT_SECONDS)


def trace(ingestion: Ingestion, traces_per_second: float) -> dict[str, int]:
    """Have the spans made that spans.py makes; how many of them were dropped, and why. Nothing is logged."""
    program = [sys.executable, str(SPANS), ingestion.connection_string, str(traces_per_second)]
    result = subprocess.run(program, env={"PYTHONPATH": str(REPOSITORY)}, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr) == (0, "")
    return dict(json.loads(result.stdout))


@pytest.fixture(scope="module")
def envelopes_by_name() -> dict[str, dict[str, Any]]:
    """What arrived of requests and dependencies by their names: those of a request `validate` as `validate/...`."""
    with collecting() as ingestion:
        assert trace(ingestion, 1000) == {}
        text = http_get(f"{ingestion.url}/envelopes").text
    assert "PLANTED" not in text
    envelopes = json.loads(text)
    requests = {
        each["data"]["baseData"]["id"]: each["data"]["baseData"]["name"]
        for each in envelopes
        if each["data"]["baseType"] == "RequestData"
    }
    found: dict[str, dict[str, Any]] = {}
    for each in envelopes:
        within = requests.get(each["tags"].get("ai.operation.parentId", ""), "")
        found[f"{within}/{each['data']['baseData']['name']}".removeprefix("/")] = each
    assert len(found) == len(envelopes)
    return found


def test_tracing_exports_one_span_per_request_and_storage_call(envelopes_by_name: dict[str, Any]) -> None:
    kinds = {name: each["data"]["baseType"] for name, each in envelopes_by_name.items()}
    assert kinds == {
        **dict.fromkeys(("validate", "list_keys", "get_health"), "RequestData"),
        **dict.fromkeys(
            ("validate/storage.read", "list_keys/storage.read", "get_health/storage.read", "storage.write"),
            "RemoteDependencyData",
        ),
    }


def test_tracing_continues_trace_of_incoming_traceparent(envelopes_by_name: dict[str, Any]) -> None:
    for name in ("validate", "validate/storage.read"):
        assert envelopes_by_name[name]["tags"]["ai.operation.id"] == TRACE
    assert envelopes_by_name["validate"]["tags"]["ai.operation.parentId"] == PARENT
    assert envelopes_by_name["list_keys"]["tags"]["ai.operation.id"] == "a" * 32
    assert envelopes_by_name["get_health"]["tags"]["ai.operation.id"] not in (TRACE, "a" * 32)


def test_tracing_marks_failed_requests_and_storage_calls(envelopes_by_name: dict[str, Any]) -> None:
    outcomes = {name: each["data"]["baseData"]["success"] for name, each in envelopes_by_name.items()}
    assert {name for name, well in outcomes.items() if not well} == {"list_keys", "get_health", "storage.write"}
    codes = {name: envelopes_by_name[name]["data"]["baseData"]["responseCode"] for name in ("validate", "list_keys")}
    assert codes == {"validate": "200", "list_keys": "404"}


def test_telemetry_docs_list_all_envelope_tags_and_members(envelopes_by_name: dict[str, Any]) -> None:
    tags = {tag for each in envelopes_by_name.values() for tag in each["tags"]}
    about = {member for each in envelopes_by_name.values() for member in each} - {"ver", "name", "time", "data", "tags"}
    named = DOCUMENT.read_text()
    assert tags == set(re.findall(r"`(ai\.[\w.]+)`", named))
    assert about == {"iKey", "sampleRate"} & set(re.findall(r"`(\w+)`", named))


def test_trace_sampler_ignores_sampled_flag_of_caller() -> None:
    """A first turn there always is, for requests and for what is asked alone; after it none for an hour.

    What a request asks has no turn of its own: in those that are traced it stands for all that is asked in others.
    """
    with collecting() as ingestion:
        trace(ingestion, 1 / 3600)
        names = Counter(each["data"]["baseData"]["name"] for each in http_get(f"{ingestion.url}/envelopes").json())
    assert names == {"validate": 1, "storage.read": 1, "storage.write": 1}


def test_tracing_records_rejected_span_as_dropped_without_logging_it() -> None:
    async def refuse_one(envelopes: Sequence[Envelope]) -> Answer:
        errors = [{"index": 0, "statusCode": 400, "message": "PLANTED"}]
        return Answer(206, {"itemsReceived": len(envelopes), "itemsAccepted": len(envelopes) - 1, "errors": errors})

    with collecting(answer=refuse_one) as ingestion:
        assert trace(ingestion, 1000) == {"refused": 1}


def export(url: str) -> dict[str, int]:
    """Have two spans exported there; how many were dropped, and why."""
    allowlist = AllowlistFilter()
    destination = parse_destination(f"InstrumentationKey={uuid4()};IngestionEndpoint={url}", local=True)
    exporter = AzureMonitorTraceExporter(**exporter_options(allowlist, destination, None))
    resource = Resource({"service.name": ROLE, "service.instance.id": str(uuid4())})
    tracer = TracerProvider(ALWAYS_ON, resource, shutdown_on_exit=False).get_tracer(ROLE)
    spans = [tracer.start_span("storage.read", kind=SpanKind.CLIENT) for _ in range(2)]
    for span in spans:
        span.end()
    exporter.export(cast("list[ReadableSpan]", spans))
    return +allowlist.dropped


TAKEN = '{"itemsReceived": 2, "itemsAccepted": 2, "errors": []}'
TAKEN_IN_PART = '{"itemsReceived": 2, "itemsAccepted": 1, "errors": [{"index": 0, "statusCode": 503, "message": ""}]}'


@pytest.mark.parametrize(
    ("status", "document", "refused"),
    [(200, TAKEN, 0), (206, TAKEN_IN_PART, 1), (206, "{", 2), (200, "<html>", 2)]
    + [(status, "", 2) for status in (308, 400, 401, 403, 429, 500, 503)],
)
def test_span_exporter_sends_once_and_records_rejected_spans_as_dropped(
    status: int, document: str, refused: int
) -> None:
    """Whoever is told to wait an hour would hold up all spans that come after."""
    with RecordingServer(status, {"Retry-After": "3600", "Location": "/v2.1/track"}, document) as received:
        assert export(received.url) == ({"refused": refused} if refused else {})
    assert len(received.requests) == 1


def test_span_exporter_when_endpoint_is_unreachable_records_spans_as_dropped() -> None:
    assert export(f"http://127.0.0.1:{free_port()}") == {"refused": 2}


def test_span_exporter_ignores_redirect_proxy_and_netrc_and_sends_documented_headers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever the answer leads, and whatever proxy and passwords the machine has."""
    (tmp_path / ".netrc").write_text("default login PLANTED password PLANTED")
    monkeypatch.setenv("HOME", str(tmp_path))
    with RecordingServer() as other, RecordingServer(308, {"Location": f"{other.url}/elsewhere"}) as received:
        monkeypatch.setenv("HTTP_PROXY", other.url)
        export(received.url)
    assert other.requests == []
    ((path, headers, body),) = received.requests
    assert path == "/v2.1/track"
    assert headers.keys() <= set(re.findall(r"`([a-z-]+)`", DOCUMENT.read_text().lower()))
    assert headers["user-agent"] == ROLE
    assert len(json.loads(body)) == 2


def test_export_policy_overwrites_url_and_headers_except_authorization() -> None:
    headers = {"Authorization": "Bearer x", "X-It": "PLANTED"}
    made = HttpRequest("POST", "http://planted.example/planted", headers=headers, json=[])
    destination = parse_destination(f"InstrumentationKey={uuid4()}")
    AllowlistPolicy(AllowlistFilter(), destination).on_request(PipelineRequest(made, PipelineContext(None)))
    assert made.url == "https://dc.services.visualstudio.com/v2.1/track"
    assert made.headers == {
        "Authorization": "Bearer x",
        "User-Agent": ROLE,
        "Content-Type": "application/json",
        "Content-Length": "2",
    }


@given(
    per_second=st.floats(0.1, 100),
    waits=st.lists(st.floats(0, 3, allow_nan=False), min_size=1, max_size=60),
)
def test_trace_sampler_percentages_add_up_to_all_requests(per_second: float, waits: list[float]) -> None:
    with mock.patch("licensing.telemetry.tracing.time.monotonic") as clock:
        clock.return_value = now = 1000.0
        turns = TraceSampler(per_second)
        passed_over, stood_for, taken = 0, 0.0, 0
        for wait in waits:
            clock.return_value = now = now + wait
            if (percent := turns.take()) is None:
                passed_over += 1
            else:
                assert 0 < percent <= 100
                assert 100 / percent == pytest.approx(passed_over + 1)
                passed_over, stood_for, taken = 0, stood_for + 100 / percent, taken + 1
    assert stood_for == pytest.approx(len(waits) - passed_over)
    assert taken <= max(per_second, 1) + sum(waits) * per_second + 1e-6
