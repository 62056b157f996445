"""The allowlist filter behind Microsoft's own exporters: nothing that was planted arrives."""

import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from azure.monitor.opentelemetry.exporter import (
    AzureMonitorLogExporter,
    AzureMonitorMetricExporter,
    AzureMonitorTraceExporter,
)
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry._logs import SeverityNumber
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import SimpleLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import SpanKind

from devhost.ingestion_sink import Ingestion, collecting
from licensing.telemetry import tracing
from licensing.telemetry.destinations import parse_destination
from licensing.telemetry.model import EVENTS, OPERATIONS, AllowlistFilter
from licensing.telemetry.tracing import ENVIRONMENT, exporter_options
from tests.support.waiting import WAIT_TIMEOUT_SECONDS, http_get

DOCUMENT = Path(__file__).resolve().parents[2] / "docs/telemetry.md"
DROPPED = DOCUMENT.parents[1] / "infra/workbooks/queries/telemetry-dropped.kql"
SECRET = "PLANTED"
INSTANCE = "0b4cbb1f-5f0e-4e3c-9a51-5b6f3d8c7a10"
RESOURCE = Resource(
    {
        "service.name": "license-manager",
        "service.instance.id": INSTANCE,
        "service.version": SECRET,
        "host.name": SECRET,
        "user.name": SECRET,
    }
)


@pytest.fixture
def ingestion() -> Iterator[Ingestion]:
    with collecting() as made:
        yield made


@pytest.fixture
def allowlist() -> AllowlistFilter:
    return AllowlistFilter()


@pytest.fixture
def exporting(ingestion: Ingestion, allowlist: AllowlistFilter, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """How exporters of Microsoft's are made, with the filter at their end."""
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(tracing, "_EXPORT_SECONDS", WAIT_TIMEOUT_SECONDS)
    return exporter_options(allowlist, parse_destination(ingestion.connection_string, local=True), None)


def arrived(ingestion: Ingestion) -> list[dict[str, Any]]:
    """The envelopes that arrived, the oldest first. None of them holds what was planted."""
    answer = http_get(f"{ingestion.url}/envelopes")
    assert SECRET.lower() not in answer.text.lower()
    return list(reversed(answer.json()))


def test_exported_span_contains_only_name_duration_and_outcome(ingestion: Ingestion, exporting: dict[str, Any]) -> None:
    provider = TracerProvider(sampler=ALWAYS_ON, resource=RESOURCE, shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(AzureMonitorTraceExporter(**exporting)))
    tracer = provider.get_tracer(SECRET)
    address: dict[str, str | int] = {
        "url.full": f"https://store.example/{SECRET}?{SECRET}",
        "url.path": f"/{SECRET}",
        "http.route": SECRET,
    }
    planted: dict[str, str | int] = {
        "http.response.status_code": 200,
        "server.address": f"{SECRET}.example",
        "client.address": SECRET,
        "user_agent.original": SECRET,
        "enduser.id": SECRET,
        "PartitionKey": SECRET,
    }
    asked: dict[str, str | int] = {
        "db.system": SECRET,
        "db.statement": f"PartitionKey eq '{SECRET}' and RowKey eq '{SECRET}'",
    }
    with (
        tracer.start_as_current_span(
            "storage.query", None, SpanKind.SERVER, {"http.request.method": "POST", **planted}
        ),
        tracer.start_as_current_span("storage.read", None, SpanKind.CLIENT, {**planted, **asked}) as within,
    ):
        within.record_exception(ValueError(f"serial number {SECRET}"))
        within.add_event(SECRET, {SECRET: SECRET})
    # Of these Microsoft's exporter makes names of its own, with the address in them.
    for kind in (SpanKind.SERVER, SpanKind.CLIENT):
        with tracer.start_as_current_span("storage.read", None, kind, {"http.request.method": "POST", **address}):
            pass
    provider.shutdown()
    found = {each["data"]["baseType"]: each for each in arrived(ingestion)}
    assert found.keys() == {"ExceptionData", "RemoteDependencyData", "RequestData"}
    exception, read, query = (found[kind] for kind in sorted(found))
    assert exception["data"]["baseData"]["exceptions"] == [{"typeName": "ValueError", "message": "?"}]
    request, dependency = query["data"]["baseData"], read["data"]["baseData"]
    assert request.keys() == {"ver", "name", "id", "duration", "responseCode", "success"}
    assert (request["name"], request["responseCode"], request["success"]) == ("storage.query", "200", True)
    assert (dependency["name"], dependency["success"]) == ("storage.read", True)
    assert dependency.keys() <= {"ver", "name", "id", "duration", "resultCode", "success"}
    assert query["tags"]["ai.cloud.roleInstance"] == INSTANCE
    assert query["tags"]["ai.operation.id"] == read["tags"]["ai.operation.id"]
    assert query["iKey"] in ingestion.connection_string


def test_exported_logs_contain_only_allowlisted_events(ingestion: Ingestion, exporting: dict[str, Any]) -> None:
    provider = LoggerProvider(resource=RESOURCE, shutdown_on_exit=False)
    provider.add_log_record_processor(SimpleLogRecordProcessor(AzureMonitorLogExporter(**exporting)))
    logger = provider.get_logger(SECRET)
    said: dict[str, Any] = {
        "serialNumber": "C0FFEE-0042",
        "hostUrl": f"https://{SECRET}@host.example",
        "status": f"{SECRET} in a sentence",
        "customerName": SECRET,
        "microsoft.client.ip": SECRET,
        "microsoft.custom_measurements": json.dumps({"enabledUsersCount": 7, SECRET: 7}),
    }
    for name in ("LicenseValidation", f"{SECRET}Event"):
        logger.emit(
            body=SECRET,
            severity_number=SeverityNumber.INFO,
            attributes={"microsoft.custom_event.name": name, **said},
        )
    logger.emit(body=f"mail to {SECRET}@contoso.example", severity_number=SeverityNumber.WARN)
    try:
        raise KeyError(SECRET)
    except KeyError as error:
        logger.emit(body=SECRET, severity_number=SeverityNumber.ERROR, exception=error)
    provider.shutdown()
    found = {each["data"]["baseType"]: each["data"]["baseData"] for each in arrived(ingestion)}
    event = found.pop("EventData")
    assert event["properties"] == {"serialNumber": "C0FFEE-0042"}
    assert event["measurements"] == {"enabledUsersCount": 7}
    assert found in ({}, {"ExceptionData": {"ver": 2, "exceptions": [{"typeName": "KeyError", "message": "?"}]}})


def test_exported_metrics_are_dropped(
    ingestion: Ingestion, allowlist: AllowlistFilter, exporting: dict[str, Any]
) -> None:
    exporter = AzureMonitorMetricExporter(**exporting)
    provider = MeterProvider([PeriodicExportingMetricReader(exporter, math.inf)], RESOURCE, shutdown_on_exit=False)
    provider.get_meter(SECRET).create_counter(SECRET).add(1, {SECRET: SECRET})
    provider.force_flush()
    provider.shutdown()
    assert arrived(ingestion) == []
    assert allowlist.dropped["notAllowed"] >= 1


def an_envelope(kind: str, base: Any, **more: Any) -> dict[str, Any]:
    return {"data": {"baseType": kind, "baseData": base}, **more}


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.just(10**400) | st.just("\ud800"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
_WORDS = st.sampled_from(["true", "licensed", "https://host.example", "12", "a" * 16, "x" * 9999, "0.00:00:00.012"])
_ANY = _JSON | _WORDS | st.sampled_from(sorted(OPERATIONS))
_FIELDS = sorted({name for event in EVENTS.values() for name in (*event.properties, *event.measurements)})
_PAIRS = _ANY | st.dictionaries(st.sampled_from([*_FIELDS, SECRET]), _ANY, max_size=6)
_BASES = _ANY | st.fixed_dictionaries(
    {},
    optional={
        "name": _ANY | st.sampled_from(sorted(EVENTS)),
        "properties": _PAIRS,
        "measurements": _PAIRS,
        "exceptions": _ANY | st.lists(st.fixed_dictionaries({"typeName": _ANY, "message": _ANY}), max_size=2),
        **dict.fromkeys(["id", "duration", "responseCode", "resultCode", "success", "type", "data", "url"], _ANY),
    },
)
_KINDS = st.sampled_from(["EventData", "ExceptionData", "RequestData", "RemoteDependencyData", "MessageData"]) | _ANY
_ENVELOPES = st.fixed_dictionaries(
    {"data": _ANY | st.fixed_dictionaries({"baseType": _KINDS, "baseData": _BASES})},
    optional={
        "tags": _ANY | st.dictionaries(st.sampled_from(["ai.cloud.role", "ai.operation.name", "ai.user.id"]), _ANY),
        **dict.fromkeys(["time", "iKey", "sampleRate", "name", SECRET], _ANY),
    },
)
_MAY_BE_LONG = {"modelName": 256, "modelVersion": 256, "hostUrl": 261}


def texts(value: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """Every text in it, with the name of the member that it is, or is in."""
    if isinstance(value, dict):
        for key, each in value.items():
            yield from texts(each, key)
    elif isinstance(value, list):
        for each in value:
            yield from texts(each, name)
    elif isinstance(value, str):
        yield name, value


@given(envelope=_ENVELOPES)
def test_allowlist_filter_with_any_envelope_passes_only_allowlisted_fields(envelope: dict[str, Any]) -> None:
    allowlist = AllowlistFilter()
    sanitize = allowlist.sanitize(envelope)
    if sanitize is None:
        assert allowlist.dropped["notAllowed"] == 1
        return
    assert sanitize.keys() <= {"ver", "name", "time", "iKey", "tags", "data", "sampleRate"}
    assert all(len(text) <= _MAY_BE_LONG.get(name, 128) for name, text in texts(sanitize))
    base = sanitize["data"]["baseData"]
    if sanitize["data"]["baseType"] == "EventData":
        known = EVENTS[base["name"]]
        assert base.keys() <= {"ver", "name", "properties", "measurements"}
        assert base["properties"].keys() <= known.properties.keys()
        assert base.get("measurements", {}).keys() <= known.measurements
    elif "exceptions" in base:
        assert [each.keys() for each in base["exceptions"]] == [{"typeName", "message"}]
    else:
        assert base["name"] in OPERATIONS
    # What arrives can be read, and passes once more as it is: a request may be sent again.
    json.dumps(sanitize, allow_nan=False).encode()
    dropped = allowlist.dropped.copy()
    assert allowlist.sanitize(sanitize) == sanitize
    assert allowlist.dropped == dropped


@given(
    name=st.sampled_from(sorted(EVENTS)), fields=st.dictionaries(st.sampled_from([*_FIELDS, SECRET]), _JSON | _WORDS)
)
def test_allowlist_filter_sanitizes_own_and_foreign_events_alike(name: str, fields: dict[str, Any]) -> None:
    hashable = {key: value for key, value in fields.items() if not isinstance(value, list | dict)}
    one, other = AllowlistFilter(), AllowlistFilter()
    for of_all, of_each in ((hashable, {}), ({}, hashable)):
        (event,) = one.events(name, of_all, [of_each])
        told = json.loads(event)
        sanitize = other.event({"name": name, "properties": hashable})
        assert sanitize is not None
        assert (told["properties"], told["measurements"]) == (sanitize["properties"], sanitize.get("measurements", {}))
    assert one.dropped == other.dropped


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf, 10**400, True, "7", [7]])
def test_allowlist_filter_removes_unreadable_measurement(number: Any) -> None:
    allowlist = AllowlistFilter()
    sanitize = allowlist.sanitize(an_envelope("EventData", {"name": "Started", "measurements": {"nextKeys": number}}))
    assert sanitize is not None
    assert sanitize["data"]["baseData"] == {"ver": 2, "name": "Started", "properties": {}, "measurements": {}}
    assert allowlist.dropped == {"notAllowed": 1}


def test_allowlist_filter_truncates_texts_and_records_removed_fields() -> None:
    allowlist = AllowlistFilter()
    properties = {"serialNumber": "s" * 999, "modelName": "m" * 999, "customerName": SECRET, "status": "two words"}
    base = {"name": "LicenseValidation", "properties": properties, "measurements": {"users": 1}}
    sanitize = allowlist.sanitize(an_envelope("EventData", base, tags={"ai.location.ip": SECRET, "ai.user.id": SECRET}))
    assert sanitize is not None
    assert sanitize["data"]["baseData"]["properties"] == {"serialNumber": "s" * 128, "modelName": "m" * 256}
    assert sanitize["tags"] == {}
    assert allowlist.dropped == {"notAllowed": 5}
    for kind in ("MessageData", "MetricData", "PageViewData", "AvailabilityData"):
        assert allowlist.sanitize(an_envelope(kind, {"name": "Started", "message": SECRET})) is None
    assert allowlist.dropped == {"notAllowed": 9}


@pytest.mark.parametrize(
    ("type_name", "message", "expected"),
    [
        ("KeyError", "licensing.http:99", ("KeyError", "licensing.http:99")),
        ("azure.core.HttpResponseError", "licensing:1", ("azure.core.HttpResponseError", "licensing:1")),
        ("KeyError", f"licensing.http:99 {SECRET}", ("KeyError", "?")),
        ("KeyError", f"{SECRET}", ("KeyError", "?")),
        (f"{SECRET}: a message", "other.module:9", ("Exception", "?")),
        (None, None, ("Exception", "?")),
    ],
)
def test_allowlist_filter_keeps_only_exception_type_and_own_location(
    type_name: Any, message: Any, expected: tuple[str, str]
) -> None:
    stack = [{"level": 0, "method": SECRET, "fileName": SECRET}]
    one = {"typeName": type_name, "message": message, "parsedStack": stack, "stack": SECRET}
    sanitize = AllowlistFilter().sanitize(
        an_envelope("ExceptionData", {"exceptions": [one, one], "properties": {SECRET: SECRET}})
    )
    assert sanitize is not None
    found = {"typeName": expected[0], "message": expected[1]}
    assert sanitize["data"]["baseData"] == {"ver": 2, "exceptions": [found]}


def test_telemetry_docs_list_exactly_the_allowlisted_events_and_fields() -> None:
    text = DOCUMENT.read_text()
    rows = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| `")]
    documented = {
        re.findall(r"`(\w+)`", cells[0])[0]: set(re.findall(r"`(\w+)`", cells[2])) for cells in rows if len(cells) == 3
    }
    of_environments = {name for cells in rows if len(cells) == 2 for name in re.findall(r"`(\w+)`", cells[0])}
    table = {name: {*event.properties, *event.measurements} for name, event in EVENTS.items()}
    assert of_environments == table.pop("LicenseValidation")
    assert documented == table


def test_telemetry_docs_list_span_names_and_drop_reasons() -> None:
    text = DOCUMENT.read_text()
    assert set(re.findall(r"`(storage\.\w+)`", text)) == {name for name in OPERATIONS if name.startswith("storage.")}
    sources = (DOCUMENT.parent.parent / "licensing/telemetry").glob("*.py")
    reasons = {name for source in sources for name in re.findall(r'dropped\["(\w+)"\]', source.read_text())}
    (line,) = (line for line in text.splitlines() if line.startswith("`reason` is"))
    assert set(re.findall(r"`(\w+)`", line)) - {"reason"} == reasons
    assert set(re.findall(r"(\w+): ", DROPPED.read_text())) == reasons


def test_allowlist_filter_records_removed_fields_on_every_call() -> None:
    allowlist = AllowlistFilter()
    fields = [{"productName": "Alpha", "customerName": SECRET}] * 2
    for _ in range(3):
        assert len(list(allowlist.events("LicenseValidation", {"city": SECRET}, fields))) == 2
    assert allowlist.dropped == {"notAllowed": 3 * 2 * 2}


def test_allowlist_filter_removes_machine_tags_without_recording_drops() -> None:
    allowlist = AllowlistFilter()
    tags = dict.fromkeys(("ai.device.id", "ai.device.locale", "ai.device.type", "ai.internal.nodeName"), SECRET)
    sanitize = allowlist.sanitize(an_envelope("RequestData", {"name": "storage.read", "url": ""}, tags=tags))
    assert sanitize is not None
    assert sanitize["tags"] == {}
    assert allowlist.dropped == {}


def test_allowlist_filter_drops_unknown_event() -> None:
    allowlist = AllowlistFilter()
    assert list(allowlist.events("Startled", {"currentKeyId": "key"}, [{}])) == []
    assert allowlist.dropped == {"notAllowed": 1}
