"""Who is told what, and what becomes of telemetry that is set up wrongly: no license depends on it."""

import io
import logging
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import azure.identity.aio
import pytest

from devhost.ingestion import collecting
from licensing.telemetry import courier, service
from licensing.telemetry.destinations import HOST_COLLECTS, parse_destination
from licensing.telemetry.service import Telemetry
from tests.telemetry.test_courier import Received, arrived, dropped
from tests.waiting import PATIENCE_SECONDS, until

KEY = "10ca1000-0000-4000-8000-000000000001"
THEIRS = "LICENSING_TELEMETRY_OF_CONTOSO"


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is told arrives soon, and nothing is left to do at the end of the tests."""
    monkeypatch.setattr(courier, "_EVERY_SECONDS", 0.02)
    monkeypatch.setattr(courier, "_POST_SECONDS", 2 * PATIENCE_SECONDS)
    monkeypatch.setattr(service, "_FLUSH_SECONDS", PATIENCE_SECONDS)
    monkeypatch.setattr(Telemetry, "_close_at_end", lambda _: None)


@contextmanager
def telling(**options: Any) -> Iterator[Telemetry]:
    telemetry = Telemetry(**options)
    telemetry.start(lambda: None)
    try:
        yield telemetry
    finally:
        telemetry.close()


def validated(telemetry: Telemetry, serial_number: str, *, setting: str = THEIRS, shared: bool) -> None:
    telemetry.validated({"serialNumber": serial_number}, [{"productName": "Alpha"}], setting=setting, shared=shared)


def at(url: str) -> str:
    return f"InstrumentationKey={KEY};IngestionEndpoint={url}"


def test_our_token_is_shown_to_ours_and_to_nobody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    async def token() -> str:
        return "our-token"

    monkeypatch.setattr(service, "_token", lambda _audience: token)
    with Received() as ours, Received() as theirs:
        options = {"connection_string": at(ours.url), "lookup": {THEIRS: at(theirs.url)}.get}
        with telling(**options, as_identity=True) as telemetry:
            validated(telemetry, "C0FFEE-0042", shared=True)
            until(lambda: ours.requests and theirs.requests)
    assert {headers.get("authorization") for _, headers, _ in ours.requests} == {"Bearer our-token"}
    assert "authorization" not in theirs.requests[0][1]
    assert "our-token" not in str(theirs.requests)


@pytest.mark.parametrize(
    ("host", "cloud"),
    [
        ("westeurope-5.in.applicationinsights.azure.com", "com"),
        ("dc.services.visualstudio.com", "com"),
        ("x.monitor.azure.cn", "cn"),
        ("x.applicationinsights.us", "us"),
        ("x.applicationinsights.azure.us", "us"),
    ],
)
async def test_the_token_is_for_the_cloud_that_it_is_shown_in(
    monkeypatch: pytest.MonkeyPatch, host: str, cloud: str
) -> None:
    class Credential:
        async def get_token(self, scope: str) -> Any:
            return type("Token", (), {"token": f"for {scope}"})

    monkeypatch.setattr(azure.identity.aio, "DefaultAzureCredential", Credential)
    destination = parse_destination(at(f"https://{host}"))
    assert await service._token(destination.audience)() == f"for https://monitor.azure.{cloud}/.default"
    # Microsoft's exporter takes it from there.
    assert destination.connection_string.endswith(f";AADAudience=https://monitor.azure.{cloud}")


@pytest.mark.parametrize("value", ["", "planted", "@Microsoft.KeyVault(SecretUri=https://planted.vault.azure.net)"])
def test_what_has_no_destination_is_counted_and_reported(caplog: pytest.LogCaptureFixture, value: str) -> None:
    lookup = {THEIRS: value, "": ""}.get
    with collecting() as ingestion:
        with telling(connection_string=ingestion.connection_string, lookup=lookup) as telemetry:
            for _ in range(2):
                validated(telemetry, "C0FFEE-0042", shared=False)
        assert dropped(ingestion) == {"noDestination": 2}
        assert arrived(ingestion, "LicenseValidation") == []
    (said,) = caplog.messages
    assert said.startswith(f"{THEIRS} cannot be used before it is mended and the app restarted: ")
    assert "planted" not in said


def test_where_nobody_else_is_told_the_log_says_what_was_dropped(caplog: pytest.LogCaptureFixture) -> None:
    with telling() as telemetry:
        telemetry.event("NoticeDelivered", channel="mail")  # off, so nothing is lost
        validated(telemetry, "C0FFEE-0042", shared=True)
        telemetry.event("NoticeDelivered", channel="mail")
    assert caplog.messages[1:] == ["telemetry was dropped: {'noDestination': 1}"]


def test_what_goes_to_ours_is_printed_and_nobody_minds_that_it_cannot_be(monkeypatch: pytest.MonkeyPatch) -> None:
    class Ascii(io.StringIO):
        def write(self, text: str, /) -> int:
            if "gone" in text:
                raise BrokenPipeError
            return super().write(text.encode("ascii").decode())

    printed = Ascii()
    monkeypatch.setattr(sys, "stdout", printed)
    with Received() as theirs, Received() as ours:
        options = {"connection_string": at(ours.url), "lookup": {THEIRS: at(theirs.url)}.get}
        with telling(**options, console=True) as telemetry:
            for serial_number in ("gone", "\u4e16"):
                validated(telemetry, serial_number, shared=True)
            validated(telemetry, "C0FFEE-0041", shared=False)
            validated(telemetry, "C0FFEE-0042", shared=True)
            telemetry.exception(KeyError("planted"), "licensing.http:99")
            until(lambda: "KeyError" in printed.getvalue())
    first, second = printed.getvalue().splitlines()
    assert first.startswith('telemetry {"ver":2,"name":"LicenseValidation"')
    assert "C0FFEE-0042" in first
    assert second == 'telemetry {"ver":2,"exceptions":[{"typeName":"KeyError","message":"licensing.http:99"}]}'


def test_without_a_destination_it_is_printed_all_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    with telling(console=True) as telemetry:
        telemetry.event("NoticeDelivered", channel="mail")
    assert '"channel":"mail"' in capsys.readouterr().out


def test_what_could_not_be_loaded_first_stops_neither_events_nor_spans(monkeypatch: pytest.MonkeyPatch) -> None:
    def after() -> None:
        raise ImportError("planted")

    with collecting() as ingestion:
        telemetry = Telemetry(connection_string=ingestion.connection_string)
        traced = threading.Event()
        monkeypatch.setattr(telemetry, "_start_tracing", lambda _: traced.set())
        telemetry.start(after)
        telemetry.event("NoticeDelivered", channel="mail", attempts=1)
        until(lambda: arrived(ingestion))
        assert traced.wait(PATIENCE_SECONDS)
        assert telemetry.is_well()
        telemetry.close()


def test_telemetry_whose_thread_has_ended_is_not_well(monkeypatch: pytest.MonkeyPatch) -> None:
    async def run(_: courier.Courier) -> None:
        """As where aiohttp cannot be imported."""

    monkeypatch.setattr(courier.Courier, "_run", run)
    with telling(connection_string=at("http://127.0.0.1:1")) as telemetry:
        until(lambda: not telemetry.is_well())


def test_telemetry_that_is_refused_is_not_well_until_something_is_taken(caplog: pytest.LogCaptureFixture) -> None:
    with Received(400) as received, telling(connection_string=at(received.url)) as telemetry:
        assert telemetry.is_well()
        telemetry.event("NoticeDelivered", channel="mail")
        until(lambda: not telemetry.is_well())
    assert caplog.messages == ["telemetry is not taken: 400"]


@pytest.mark.parametrize("value", ["planted", "@Microsoft.KeyVault(SecretUri=https://planted.vault.azure.net)"])
def test_telemetry_that_cannot_be_read_is_off_and_says_so(caplog: pytest.LogCaptureFixture, value: str) -> None:
    with telling(connection_string=value, traces_per_second=5) as telemetry:
        telemetry.event("NoticeDelivered", channel="mail")
        assert not telemetry.tells_of("")
        assert not telemetry.is_well()
    (said,) = caplog.records
    assert said.levelno == logging.ERROR
    assert said.getMessage().startswith("LICENSING_TELEMETRY cannot be used, so telemetry is off: ")
    assert "planted" not in said.getMessage()


@pytest.mark.parametrize("name", HOST_COLLECTS)
def test_what_the_functions_host_would_collect_is_told_at_the_start(
    caplog: pytest.LogCaptureFixture, name: str
) -> None:
    with telling(lookup={name: "planted"}.get):
        pass
    assert caplog.messages == [
        f"{name} is set, so the Functions host collects what nobody was told of: take it out of the app's settings."
    ]
