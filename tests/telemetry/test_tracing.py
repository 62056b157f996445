"""Requests and what they ask of storage, as spans by Microsoft's exporter, each case in a process of its own."""

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any
from unittest import mock

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from devhost.ingestion import Ingestion, collecting
from licensing.telemetry.tracing import Turns
from tests.telemetry.spans import PARENT, TRACE

REPOSITORY = Path(__file__).resolve().parents[2]
SPANS = Path(__file__).with_name("spans.py")


def trace(ingestion: Ingestion, traces_per_second: float) -> None:
    """Have the spans made that spans.py makes."""
    program = [sys.executable, str(SPANS), ingestion.connection_string, str(traces_per_second)]
    result = subprocess.run(
        program, env={"PYTHONPATH": str(REPOSITORY)}, capture_output=True, text=True, check=False, timeout=60
    )
    assert result.returncode == 0, result.stderr


@pytest.fixture(scope="module")
def all_of_them() -> dict[str, dict[str, Any]]:
    """What arrived of requests and dependencies by their names: those of a request `validate` as `validate/...`."""
    with collecting() as ingestion:
        trace(ingestion, 1000)
        text = httpx.get(f"{ingestion.url}/envelopes").text
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


def test_a_request_is_one_span_and_each_reading_of_storage_one_below_it(all_of_them: dict[str, Any]) -> None:
    kinds = {name: each["data"]["baseType"] for name, each in all_of_them.items()}
    assert kinds == {
        **dict.fromkeys(("validate", "list_keys", "get_health"), "RequestData"),
        **dict.fromkeys(
            ("validate/storage.read", "list_keys/storage.read", "get_health/storage.read", "storage.write"),
            "RemoteDependencyData",
        ),
    }


def test_it_continues_the_trace_of_whoever_asks(all_of_them: dict[str, Any]) -> None:
    for name in ("validate", "validate/storage.read"):
        assert all_of_them[name]["tags"]["ai.operation.id"] == TRACE
    assert all_of_them["validate"]["tags"]["ai.operation.parentId"] == PARENT
    assert all_of_them["list_keys"]["tags"]["ai.operation.id"] == "a" * 32
    assert all_of_them["get_health"]["tags"]["ai.operation.id"] not in (TRACE, "a" * 32)


def test_what_failed_is_told_as_failed(all_of_them: dict[str, Any]) -> None:
    outcomes = {name: each["data"]["baseData"]["success"] for name, each in all_of_them.items()}
    assert {name for name, well in outcomes.items() if not well} == {"list_keys", "get_health", "storage.write"}
    codes = {name: all_of_them[name]["data"]["baseData"]["responseCode"] for name in ("validate", "list_keys")}
    assert codes == {"validate": "200", "list_keys": "404"}


def test_whoever_says_that_it_is_sampled_gets_no_more_than_others() -> None:
    """A first turn there always is, for requests and for what is asked alone; after it none for an hour."""
    with collecting() as ingestion:
        trace(ingestion, 1 / 3600)
        names = Counter(each["data"]["baseData"]["name"] for each in httpx.get(f"{ingestion.url}/envelopes").json())
    assert names["validate"] == 1
    assert not names["list_keys"] + names["get_health"]


@given(
    per_second=st.floats(0.1, 100),
    waits=st.lists(st.floats(0, 3, allow_nan=False), min_size=1, max_size=60),
)
def test_the_percentages_add_up_to_all_that_came(per_second: float, waits: list[float]) -> None:
    with mock.patch("licensing.telemetry.tracing.time.monotonic") as clock:
        clock.return_value = now = 1000.0
        turns = Turns(per_second)
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
