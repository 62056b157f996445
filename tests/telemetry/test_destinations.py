"""Where telemetry may go, and where it may not, whatever a setting says."""

import pytest

from licensing.telemetry.destinations import parse_destination

KEY = "10ca1000-0000-4000-8000-000000000001"
ALLOWED = (
    "applicationinsights.azure.com",
    "applicationinsights.azure.cn",
    "applicationinsights.us",
    "applicationinsights.azure.us",
    "monitor.azure.com",
    "monitor.azure.cn",
    "monitor.azure.us",
    "services.visualstudio.com",
)


def at(endpoint: str) -> str:
    return f"InstrumentationKey={KEY};IngestionEndpoint={endpoint}"


@pytest.mark.parametrize("suffix", ALLOWED)
def test_parse_destination_accepts_each_azure_cloud(suffix: str) -> None:
    expected = f"https://westeurope-5.in.{suffix}"
    for endpoint in (expected, f"{expected}/", f"{expected.upper()}/a/path?x#y", f"{expected}."):
        destination = parse_destination(at(endpoint))
        assert destination.endpoint == expected
        assert destination.connection_string.startswith(f"InstrumentationKey={KEY};IngestionEndpoint={expected}/;AAD")


def test_parse_destination_with_key_only_uses_legacy_endpoint() -> None:
    assert parse_destination(f"instrumentationkey = {KEY.upper()}") == (
        KEY,
        "https://dc.services.visualstudio.com",
        f"{at('https://dc.services.visualstudio.com/')};AADAudience=https://monitor.azure.com",
    )


REFUSED = {
    "http": "http://x.applicationinsights.azure.com",
    "a file": "file:///etc/passwd",
    "a file with a host of Azure": "file://x.applicationinsights.azure.com/",
    "no scheme": "x.applicationinsights.azure.com",
    "nothing": "",
    "somebody else": "https://evil.example",
    "a suffix that goes on": "https://x.applicationinsights.azure.com.evil.example",
    "a suffix without its dot": "https://evilapplicationinsights.azure.com",
    "the suffix itself": "https://applicationinsights.azure.com",
    "the suffix with its dot": "https://.applicationinsights.azure.com",
    "an empty label": "https://x..monitor.azure.com",
    "Azure, but not where telemetry goes": "https://evil.blob.core.windows.net",
    "Azure as user": "https://x.applicationinsights.azure.com@evil.example",
    "Azure as user and password": "https://x:y.applicationinsights.azure.com@evil.example",
    "a user at Azure": "https://user:secret@x.applicationinsights.azure.com",
    "Azure in the path": "https://evil.example/x.applicationinsights.azure.com",
    "Azure in the query": "https://evil.example?.applicationinsights.azure.com",
    "Azure in the fragment": "https://evil.example#.applicationinsights.azure.com",
    "a backslash": "https://evil.example\\.applicationinsights.azure.com",
    "a percent": "https://evil.example%2f.applicationinsights.azure.com",
    "a space": "https://evil.example .applicationinsights.azure.com",
    "a zero byte": "https://evil.example\0.applicationinsights.azure.com",
    "a port": "https://x.applicationinsights.azure.com:8443",
    "no port at all": "https://x.applicationinsights.azure.com:0",
    "a word for a port": "https://x.applicationinsights.azure.com:https",
    "a full stop of another script": "https://evil.example\u3002applicationinsights.azure.com",
    "letters of another script": "https://x.applicationinsights.\u0430zure.com",
    "a slash of another script": "https://evil.example\u2215.applicationinsights.azure.com",
    "IPv6": "https://[::1]",
    "IPv6 with a suffix": "https://[::1].applicationinsights.azure.com",
    "IPv4": "https://169.254.169.254",
    "this machine": "http://127.0.0.1:8080",
    "this machine by name": "http://localhost:8080",
}


@pytest.mark.parametrize("endpoint", REFUSED.values(), ids=REFUSED.keys())
def test_parse_destination_rejects_other_endpoint_without_repeating_it(endpoint: str) -> None:
    with pytest.raises(ValueError, match="is needed") as refused:
        parse_destination(at(endpoint))
    assert KEY not in str(refused.value)
    assert "evil" not in str(refused.value)


@pytest.mark.parametrize("endpoint", ["https://evil.ex\nample", "https://evil.example\r\nHost: x.monitor.azure.com"])
def test_parse_destination_ignores_line_breaks_and_rejects_foreign_host(endpoint: str) -> None:
    with pytest.raises(ValueError, match="is needed"):
        parse_destination(at(endpoint))
    assert parse_destination(at("https://x.mon\r\nitor.azure.com")).endpoint == "https://x.monitor.azure.com"


@pytest.mark.parametrize("text", ["", "InstrumentationKey=", "InstrumentationKey=key", f"Key={KEY}", KEY, "=;=;", "\0"])
def test_parse_destination_with_invalid_key_raises(text: str) -> None:
    with pytest.raises(ValueError, match="connection string of Application Insights"):
        parse_destination(text)


def test_parse_destination_discards_other_connection_string_fields() -> None:
    more = "LiveEndpoint=https://evil.example;AADAudience=https://evil.example;ProfilerEndpoint=https://evil.example"
    said = f"EndpointSuffix=evil.example;{at('https://x.monitor.azure.com')};{more};ApplicationId=evil;Location=evil"
    assert "evil" not in "".join(parse_destination(said))


def test_parse_destination_with_local_accepts_only_loopback_http() -> None:
    for host in ("127.0.0.1:8080", "localhost:8080"):
        assert parse_destination(at(f"http://{host}/"), local=True).endpoint == f"http://{host}"
    for endpoint in ("http://evil.example", "http://127.0.0.1.evil.example", "http://0.0.0.0", "http://u:p@127.0.0.1"):
        with pytest.raises(ValueError, match="is needed"):
            parse_destination(at(endpoint), local=True)
