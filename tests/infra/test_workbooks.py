"""The questions to our telemetry: they parse, ask for nothing that is not sent, and the workbook has them all."""

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from devhost.node import node
from infra.workbooks.__main__ import PARAMETERS, QUERIES, SECTIONS, WORKBOOK, read, written
from licensing.http.endpoints import ROUTES
from licensing.telemetry.model import EVENTS
from licensing.validation import functions as _functions  # noqa: F401 - for the route it adds
from licensing.validation.model import Action, Status
from licensing.validation.request import ValidationRequest

PARSER = Path(__file__).parent / "parse_queries.mjs"
_OF_ALL = {"TimeGenerated": "datetime", "AppRoleInstance": "string", "ItemCount": "int"}
_OPERATION = {**_OF_ALL, "Name": "string", "DurationMs": "real", "Success": "bool"}
TABLES = {
    "AppEvents": {**_OF_ALL, "Name": "string", "Properties": "dynamic", "Measurements": "dynamic"},
    "AppRequests": _OPERATION,
    "AppDependencies": _OPERATION,
    "AppExceptions": {**_OF_ALL, "ExceptionType": "string", "OuterMessage": "string"},
    "_LogOperation": {"TimeGenerated": "datetime", "Category": "string", "Detail": "string"},
}
"""The tables of Log Analytics, with those of their columns that we fill; the last is Azure's own."""
NAMES = sorted(file.stem for file in QUERIES.glob("*.kql"))


def verdicts(queries: dict[str, str]) -> dict[str, list[str]]:
    """What Microsoft's parser has to say of each."""
    asked = json.dumps({"tables": TABLES, "queries": queries})
    done = subprocess.run([node(), PARSER], input=asked, text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, list[str]] = json.loads(done.stdout)
    return found


def events_of(query: str) -> set[str]:
    """The events that a query asks for."""
    compared = re.findall(r'\bName (?:==|in) (\([^)]*\)|"\w+")', query)
    return {name for each in compared for name in re.findall(r'"(\w+)"', each)}


def not_sent(query: str) -> list[str]:
    """What a query asks for and nobody sends: events, their properties and their measurements."""
    unknown = [*(events_of(query) - EVENTS.keys())]
    asked = [EVENTS[name] for name in events_of(query) & EVENTS.keys()]
    for bag, sent in (
        ("Properties", {name for event in asked for name in event.properties}),
        ("Measurements", {name for event in asked for name in event.measurements}),
    ):
        named = re.findall(rf'\b{bag}(?:\.(\w+)|\["(\w+)"\])', query)
        unknown += [f"{bag}.{name or other}" for name, other in named if (name or other) not in sent]
    return unknown


def workbook() -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = json.loads(WORKBOOK.read_text("utf-8"))["items"]
    return items


def test_queries_parse_against_table_schema() -> None:
    said = verdicts({name: read(name)[2] for name in NAMES})
    assert said == {name: [] for name in NAMES}


def test_workbook_queries_parse_with_parameters_filled_in() -> None:
    filled = {
        item["name"]: re.sub(r"{\w+}", "1,2,3\n4,5,6" if "```" in item["content"]["query"] else "1", query)
        for item in workbook()
        if item["type"] == 3 and (query := item["content"]["query"])
    }
    assert verdicts(filled) == {name: [] for name in filled}


def test_query_parser_reports_invalid_queries() -> None:
    broken = {
        "AppEvents | wher Name == 'Started'",
        "AppEvents | where Nam == 'Started'",
        "customEvents | count",
        "AppRequests | summarize avg(durationMs)",
        "AppEvents | extend x = nosuch(Name)",
        "AppEvents | summarize sum(Name)",
        "AppRequests | where Url has 'x'",
    }
    said = verdicts({query: query for query in broken})
    assert {query for query, found in said.items() if found} == broken


@pytest.mark.parametrize("name", NAMES)
def test_query_uses_only_recorded_telemetry(name: str) -> None:
    query = read(name)[2]
    assert not_sent(query) == []
    if "AppEvents" in query:
        assert events_of(query), "without a name it would take every event"


ALERTS = (Path(__file__).parents[2] / "infra/alerts.bicep").read_text("utf-8")


def test_alert_queries_parse_and_use_only_recorded_telemetry() -> None:
    (requests,) = re.findall(r"^var requests = '(.*)'$", ALERTS, re.MULTILINE)
    found = dict(re.findall(r"name: '([\w-]+)'\n(?:.*\n){1,5}? {4}query: '(.*)'$", ALERTS, re.MULTILINE))
    queries = {name: re.sub(r"\$\{\w+\}", "x", query.replace("${requests}", requests)) for name, query in found.items()}
    assert len(queries) == ALERTS.count(" query: '")
    assert verdicts(queries) == {name: [] for name in queries}
    assert {name: not_sent(query) for name, query in queries.items()} == {name: [] for name in queries}
    assert [name for name, query in queries.items() if not events_of(query)] == ["logs-full"]


def test_availability_test_body_is_valid_validation_request() -> None:
    (probe,) = re.findall(r"^var probe = '(.*)'$", ALERTS, re.MULTILINE)
    filled = probe.replace("${probePublisherId}", "446d5d80-d20d-43c6-a96c-370628f5bd9f")
    assert ValidationRequest.parse(json.loads(re.sub(r"\$\{\w+\}", "x", filled))).products


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ('AppEvents | where Name == "Startled"', "Startled"),
        ('AppEvents | where Name in ("Started", "Startled")', "Startled"),
        ('AppEvents | where Name == "Started" | extend Properties.serialNumber', "Properties.serialNumber"),
        (
            'AppEvents | where Name == "LicenseValidation" | extend Properties["licensedUsers"]',
            "Properties.licensedUsers",
        ),
        ('AppEvents | where Name == "StorageSlow" | extend Measurements.count', "Measurements.count"),
        ('AppEvents | where Name == "StorageSlow" | extend Properties.durationMs', "Properties.durationMs"),
    ],
)
def test_not_sent_returns_unknown_event_or_property(query: str, found: str) -> None:
    assert not_sent(query) == [found]


def test_every_telemetry_event_has_query() -> None:
    assert {event for name in NAMES for event in events_of(read(name)[2])} == EVENTS.keys()


def test_query_comparison_values_exist() -> None:
    known = {"function": {route.name for route in ROUTES}, "action": {*Action}}
    known["status"] = {*Status, "4", "5"}  # beside those of a product, the first digit of an answer's
    for name in NAMES:
        for field, values in re.findall(
            r'(?:\b|Properties\.)(function|action|status)\)? (?:[!=]=|!?in|startswith) (\([^)]*\)|"\w+")', read(name)[2]
        ):
            assert {*re.findall(r'"(\w+)"', values)} <= known[field], name


@pytest.mark.parametrize("name", NAMES)
def test_query_file_has_question_and_explanation(name: str) -> None:
    question, reading, query = read(name)
    lines = (QUERIES / f"{name}.kql").read_text("utf-8").splitlines()
    assert question.endswith("?")
    assert reading.endswith(".")
    assert "//" not in query
    assert max(map(len, lines)) <= 120


def test_workbook_matches_queries() -> None:
    assert WORKBOOK.read_text("utf-8") == written(), "run make workbook"


def test_workbook_contains_each_query_once_with_its_parameters() -> None:
    shown = {item["name"]: item["content"] for item in workbook() if item["type"] == 3}
    assert sorted(name for section in SECTIONS.values() for name in section) == sorted(shown) == NAMES
    asked = {found for each in shown.values() for found in re.findall(r"{(\w+)}", each["query"])}
    asked |= {each["timeContextFromParameter"] for each in shown.values() if "timeContextFromParameter" in each}
    (parameters,) = [item["content"]["parameters"] for item in workbook() if item["type"] == 9]
    assert asked == {each["name"] for each in parameters}
    assert {name for name, _ in PARAMETERS.values()} < asked
    for each in shown.values():
        assert ("timeContext" in each) == ("ago(" in each["query"])


def test_workbook_size_fits_load_text_content_limit() -> None:
    """Bicep's loadTextContent takes 131,072 characters at most."""
    assert len(WORKBOOK.read_text("utf-8")) < 131_072
