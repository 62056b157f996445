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

from devhost.ingestion_sink import collecting
from licensing.telemetry import exporter, service
from licensing.telemetry.destinations import HOST_COLLECTS, parse_destination
from licensing.telemetry.service import Telemetry
from tests.support.waiting import WAIT_TIMEOUT_SECONDS, until
from tests.telemetry.test_exporter import RecordingServer, arrived, dropped

KEY = "10ca1000-0000-4000-8000-000000000001"
PUBLISHER_SETTING = "LICENSING_TELEMETRY_OF_CONTOSO"


@pytest.fixture(autouse=True)
def _fast_telemetry(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is told arrives soon, and nothing is left to do at the end of the tests."""
    monkeypatch.setattr(exporter, "_POLL_INTERVAL_SECONDS", 0.02)
    monkeypatch.setattr(exporter, "_POST_SECONDS", 2 * WAIT_TIMEOUT_SECONDS)
    monkeypatch.setattr(service, "_FLUSH_SECONDS", WAIT_TIMEOUT_SECONDS)
    monkeypatch.setattr(Telemetry, "_close_at_end", lambda _: None)


@contextmanager
def running_telemetry(**options: Any) -> Iterator[Telemetry]:
    telemetry = Telemetry(**options)
    telemetry.start(lambda: None)
    try:
        yield telemetry
    finally:
        telemetry.close()


def validated(telemetry: Telemetry, serial_number: str, *, setting: str = PUBLISHER_SETTING, shared: bool) -> None:
    telemetry.record_validation(
        {"serialNumber": serial_number}, [{"productName": "Alpha"}], setting=setting, shared=shared
    )


def at(url: str) -> str:
    return f"InstrumentationKey={KEY};IngestionEndpoint={url}"


def test_telemetry_sends_token_only_to_own_destination(monkeypatch: pytest.MonkeyPatch) -> None:
    async def token() -> str:
        return "our-token"

    monkeypatch.setattr(service, "_token", lambda _audience: token)
    with RecordingServer() as ours, RecordingServer() as theirs:
        options = {"connection_string": at(ours.url), "lookup": {PUBLISHER_SETTING: at(theirs.url)}.get}
        with running_telemetry(**options, as_identity=True) as telemetry:
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
async def test_token_audience_matches_cloud_of_destination(
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
def test_record_validation_with_unusable_destination_reports_drops_and_logs_once(
    caplog: pytest.LogCaptureFixture, value: str
) -> None:
    lookup = {PUBLISHER_SETTING: value, "": ""}.get
    with collecting() as ingestion:
        with running_telemetry(connection_string=ingestion.connection_string, lookup=lookup) as telemetry:
            for _ in range(2):
                validated(telemetry, "C0FFEE-0042", shared=False)
        assert dropped(ingestion) == {"noDestination": 2}
        assert arrived(ingestion, "LicenseValidation") == []
    (said,) = caplog.messages
    assert said.startswith(f"{PUBLISHER_SETTING} cannot be used before it is fixed and the app restarted: ")
    assert "planted" not in said


def test_telemetry_without_own_destination_logs_dropped_events(caplog: pytest.LogCaptureFixture) -> None:
    with running_telemetry() as telemetry:
        telemetry.record("NoticeDelivered", channel="mail")  # off, so nothing is lost
        validated(telemetry, "C0FFEE-0042", shared=True)
        telemetry.record("NoticeDelivered", channel="mail")
    assert caplog.messages[1:] == ["telemetry was dropped: {'noDestination': 1}"]


def test_telemetry_console_prints_own_events_and_survives_print_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    class Ascii(io.StringIO):
        def write(self, text: str, /) -> int:
            if "gone" in text:
                raise BrokenPipeError
            return super().write(text.encode("ascii").decode())

    printed = Ascii()
    monkeypatch.setattr(sys, "stdout", printed)
    with RecordingServer() as theirs, RecordingServer() as ours:
        options = {"connection_string": at(ours.url), "lookup": {PUBLISHER_SETTING: at(theirs.url)}.get}
        with running_telemetry(**options, console=True) as telemetry:
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


def test_telemetry_console_without_destination_prints_events(capsys: pytest.CaptureFixture[str]) -> None:
    with running_telemetry(console=True) as telemetry:
        telemetry.record("NoticeDelivered", channel="mail")
    assert '"channel":"mail"' in capsys.readouterr().out


def test_telemetry_when_start_callback_raises_exports_events_and_starts_tracing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def after() -> None:
        raise ImportError("planted")

    with collecting() as ingestion:
        telemetry = Telemetry(connection_string=ingestion.connection_string)
        traced = threading.Event()
        monkeypatch.setattr(telemetry, "_start_tracing", lambda _: traced.set())
        telemetry.start(after)
        telemetry.record("NoticeDelivered", channel="mail", attempts=1)
        until(lambda: arrived(ingestion))
        assert traced.wait(WAIT_TIMEOUT_SECONDS)
        assert telemetry.is_healthy()
        telemetry.close()


def test_is_well_returns_false_after_exporter_thread_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    async def run(_: exporter.EventExporter) -> None:
        """As where aiohttp cannot be imported."""

    monkeypatch.setattr(exporter.EventExporter, "_run", run)
    with running_telemetry(connection_string=at("http://127.0.0.1:1")) as telemetry:
        until(lambda: not telemetry.is_healthy())


def test_is_well_returns_false_after_destination_rejects_events(caplog: pytest.LogCaptureFixture) -> None:
    with RecordingServer(400) as received, running_telemetry(connection_string=at(received.url)) as telemetry:
        assert telemetry.is_healthy()
        telemetry.record("NoticeDelivered", channel="mail")
        until(lambda: not telemetry.is_healthy())
    assert caplog.messages == ["telemetry is not taken: 400"]


@pytest.mark.parametrize("value", ["planted", "@Microsoft.KeyVault(SecretUri=https://planted.vault.azure.net)"])
def test_telemetry_with_invalid_connection_string_is_disabled_and_logs_error(
    caplog: pytest.LogCaptureFixture, value: str
) -> None:
    with running_telemetry(connection_string=value, traces_per_second=5) as telemetry:
        telemetry.record("NoticeDelivered", channel="mail")
        assert not telemetry.is_enabled_for("")
        assert not telemetry.is_healthy()
    (said,) = caplog.records
    assert said.levelno == logging.ERROR
    assert said.getMessage().startswith("LICENSING_TELEMETRY cannot be used, so telemetry is off: ")
    assert "planted" not in said.getMessage()


@pytest.mark.parametrize("name", HOST_COLLECTS)
def test_telemetry_start_logs_settings_that_make_functions_host_collect(
    caplog: pytest.LogCaptureFixture, name: str
) -> None:
    with running_telemetry(lookup={name: "planted"}.get):
        pass
    assert caplog.messages == [
        f"{name} is set, so the Functions host collects what nobody was told of: take it out of the app's settings."
    ]
