"""What is collected of a validation: what was promised, and no word more."""

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from licensing.catalogue.records import Publisher
from licensing.validation.model import Decision, Status
from licensing.validation.request import ValidationRequest
from licensing.validation.telemetry_event import is_production, scheme_and_host, telemetry_event

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)

ADDRESSES = {
    "a plain one": ("https://contoso.operations.dynamics.com", "https://contoso.operations.dynamics.com"),
    "with all that can be": ("https://user:secret@Host.example:8443/secret?secret#secret", "https://host.example"),
    "in capitals, with a dot at its end": ("HTTPS://HOST.EXAMPLE./", "https://host.example"),
    "http": ("http://localhost:8080", "http://localhost"),
    "with two users": ("https://secret@secret@host.example/", "https://host.example"),
    "with a port that is none": ("https://host.example:secret/", "https://host.example"),
    "what follows a semicolon": ("https://host.example;secret", None),
    "what follows a backslash": ("https://host.example\\secret", None),
    "what follows a percent": ("https://host.example%2fsecret", None),
    "what follows a space": ("https://host.example secret", None),
    "in another script": ("https://m\u00fcnchen.example", None),
    "IPv6": ("https://[::1]/", None),
    "brackets around a word": ("https://[secret]/", None),
    "a name with an underscore": ("https://dev_box.host.example/", "https://dev_box.host.example"),
    "a name that is too long": (f"https://{'host.' * 60}example", None),
    "no scheme": ("host.example/secret", None),
    "a scheme that is none": ("javascript:alert(1)//host.example", None),
    "a mailbox": ("mailto:secret@host.example", None),
    "a file": ("file://host.example/secret", None),
    "no host": ("https:///secret", None),
    "only dots": ("https://../secret", None),
    "a control character": ("https://host\x00secret.example", None),
    "nothing": ("", None),
    "not sent": (None, None),
}


@pytest.mark.parametrize(("address", "expected"), ADDRESSES.values(), ids=ADDRESSES.keys())
def test_scheme_and_host_returns_only_scheme_and_host_or_none(address: str | None, expected: str | None) -> None:
    assert scheme_and_host(address) == expected


_PART = st.text(st.characters(blacklist_characters="\t\r\n"), max_size=20)


@given(user=_PART, path=_PART, query=_PART, fragment=_PART)
def test_scheme_and_host_excludes_credentials_path_query_and_fragment(
    user: str, path: str, query: str, fragment: str
) -> None:
    secrets = f"{user}:ZQX1@HOST.example/{path}ZQX2?{query}ZQX3#{fragment}ZQX4"
    found = scheme_and_host(f"https://{secrets}") or ""
    # A user that holds a slash ends the host there: what stands before is all that there is of it.
    assert found in ("", "https://host.example") or (user and found.removeprefix("https://") in user.lower())
    assert "zqx" not in found.lower()


@given(st.text())
def test_scheme_and_host_accepts_any_text_without_error(text: str) -> None:
    for address in (text, f"https://{text}"):
        found = scheme_and_host(address)
        assert found is None or not set(found.partition("://")[2]) & set("/?#@:;\\ %[]")


NON_PRODUCTION = {
    "a sandbox": "https://contoso.sandbox.operations.dynamics.com",
    "a sandbox in a geography": "https://contoso.sandbox.operations.eu.dynamics.com",
    "a sandbox in China": "https://contoso.sandbox.operations.dynamics.cn",
    "an old sandbox": "https://contosodevaos.sandbox.ax.dynamics.com",
    "a sandbox of a test ring": "https://contoso.sandbox.operations.int.dynamics.com",
    "sandbox as the first label": "https://sandbox.operations.dynamics.com",
    "sandbox as the last label below the domain": "https://contoso.sandbox.dynamics.com",
    "sandbox as the only label": "https://sandbox.dynamics.cn",
    "a cloud-hosted environment": "https://usnconeboxax1aos.cloudax.dynamics.com",
    "a cloud-hosted environment of a test ring": "https://contoso.cloudax.int.dynamics.com",
    "a cloud-hosted environment, new name": "https://contosodevaos.axcloud.dynamics.com",
    "a cloud-hosted environment of another domain": "https://contosodevaos.axcloud.dynamics.cn",
    "the downloaded machine": "https://usnconeboxax1aos.cloud.onebox.dynamics.com",
    "the downloaded machine, renamed": "https://contoso.onebox.dynamics.com",
    "localhost": "https://localhost",
    "a name below localhost": "https://erp.localhost",
    "an IPv4 address": "https://10.0.0.4",
    "a public IPv4 address": "https://203.0.113.7:8443/x",
    "an IPv4 address as one number": "https://2130706433",
    "an IPv4 address as a hexadecimal number": "https://0x7f000001",
    "an IPv6 address": "https://[fe80::1]/",
    "the shortest IPv6 address": "https://[::]",
    "the IPv6 address of the machine itself": "https://[::1]:8443/x",
    "an IPv6 address in full": "http://[2001:DB8:0:0:0:0:0:1]",
    "an IPv6 address that holds an IPv4 address": "http://[::ffff:203.0.113.7]",
    "an IPv6 address with a zone": "http://[fe80::1%25eth0]/",
    "an IPv6 address without brackets": "fe80::1",
    "a host of the setting": "https://erp.test.example.com",
    "another host of the setting": "https://lab.example.net",
}
PRODUCTION: dict[str, str | None] = {
    "production": "https://contoso.operations.dynamics.com",
    "production in a geography": "https://contoso.operations.eu.dynamics.com",
    "production in China": "https://contoso.operations.dynamics.cn",
    "a unified environment, whose host shows nothing": "https://contoso-dev.operations.dynamics.com",
    "sandbox as a part of a label": "https://contoso-sandbox.operations.dynamics.com",
    "sandbox in another domain": "https://contoso.sandbox.example.com",
    "sandbox below a domain that only ends alike": "https://contoso.sandbox.notdynamics.com",
    "cloudax as the first label": "https://cloudax.dynamics.com.contoso.example",
    "onebox in another domain": "https://onebox.dynamics.com.contoso.example",
    "a domain below localhost's name": "https://localhost.example",
    "a label that is a number": "https://10.example.com",
    "letters of hexadecimal numbers and a port": "https://beef:8443/x",
    "the setting's domain itself": "https://test.example.com",
    "a longer name than the setting's": "https://xlab.example.net",
    "a test host in the query": "https://contoso.operations.dynamics.com/?back=https://x.cloudax.dynamics.com",
    "a test host in the path": "contoso.operations.dynamics.com/x.cloudax.dynamics.com",
    "an address in the path": "https://contoso.operations.dynamics.com/[fe80::1]",
    "nothing": "",
    "not sent": None,
}
CONFIGURED_HOSTS = ("*.test.example.com", "lab.example.net")


NON_PRODUCTION_NOTATIONS = [
    "HTTPS://user@X.CloudAX.dynamics.com.:8443/?x",
    "http://localhost:8080/x",
    "localhost",
    "localhost:8080",
    "contoso.sandbox.operations.dynamics.com",
    "user:secret@x.cloudax.dynamics.com/x",
    "//x.cloudax.dynamics.com",
    "\\\\x.cloudax.dynamics.com\\share",
    "https:x.cloudax.dynamics.com",
    "ftp://x.cloudax.dynamics.com",
    "<https://x.cloudax.dynamics.com>",
    " https://x.cloudax.dynamics.com",
    "https://[x.cloudax.dynamics.com]/",
    "https://m\u00fcnchen.cloudax.dynamics.com",
    *(f"https://x.cloudax.dynamics.com{rest}" for rest in ("\\x", "%20", "%2Fx", ";x", " x", ",x", "?x", "#x", ":x")),
]


@pytest.mark.parametrize("said", [True, False, None])
@pytest.mark.parametrize("address", NON_PRODUCTION.values(), ids=NON_PRODUCTION.keys())
def test_is_production_with_non_production_host_returns_false(address: str, *, said: bool | None) -> None:
    assert is_production(said, address, CONFIGURED_HOSTS) is False


@pytest.mark.parametrize("said", [True, False, None])
@pytest.mark.parametrize("address", NON_PRODUCTION_NOTATIONS)
def test_is_production_recognizes_non_production_host_in_any_notation(address: str, *, said: bool | None) -> None:
    assert is_production(said, address, CONFIGURED_HOSTS) is False


@given(st.text(st.characters(exclude_categories=["C"])))
def test_is_production_checks_the_same_host_that_is_collected(text: str) -> None:
    address = f"https://{text}"
    if found := scheme_and_host(address):
        assert is_production(True, address, (found.removeprefix("https://"),)) is False  # noqa: FBT003


@pytest.mark.parametrize("said", [True, False, None])
@pytest.mark.parametrize("address", PRODUCTION.values(), ids=PRODUCTION.keys())
def test_is_production_with_other_host_returns_reported_value(address: str | None, *, said: bool | None) -> None:
    assert is_production(said, address, CONFIGURED_HOSTS) is said


def collect(publisher: dict[str, Any], product: dict[str, Any], **said: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """What is collected of a validation of one product: without what was not sent."""
    body = {
        "publisherId": "11111111-2222-4333-8444-555555555555",
        "serialNumber": "C0FFEE-0042",
        "nonce": "nonce-nonce-nonce",
        "products": [{"productName": "Alpha", **product}],
        **said,
    }
    record = Publisher(id="p", created_at=NOW, updated_at=NOW, name="Publisher", **publisher)
    request = ValidationRequest.parse(body)
    of_all, (of_each,) = telemetry_event(request, [Decision(Status.LICENSED)], record, ())
    return (
        {name: value for name, value in of_all.items() if value is not None},
        {name: value for name, value in of_each.items() if value is not None},
    )


@pytest.mark.parametrize("switched_on", [False, True])
def test_telemetry_event_includes_enabled_users_only_if_switched_on(*, switched_on: bool) -> None:
    _, of_each = collect({"enabled_users_collected": switched_on}, {"enabledUsersCount": 7})
    assert of_each.get("enabledUsersCount") == (7 if switched_on else None)


def test_telemetry_event_omits_fields_absent_from_request() -> None:
    assert collect({"enabled_users_collected": True}, {}) == (
        {"serialNumber": "C0FFEE-0042"},
        {"productName": "Alpha", "status": "licensed", "action": "allow"},
    )


def test_telemetry_event_contains_sent_fields_once_and_no_caller_details() -> None:
    details = {"modelName": "AlphaModel", "modelVersion": "1.2.3.4", "isEnabled": False, "isInstalled": True}
    of_all, of_each = collect(
        {}, details, hostUrl="https://u:p@aos.cloudax.dynamics.com/x", isProductionEnvironment=True
    )
    assert of_all == {
        "serialNumber": "C0FFEE-0042",
        "hostUrl": "https://aos.cloudax.dynamics.com",
        "isProductionEnvironment": False,
    }
    assert of_each == {"productName": "Alpha", **details, "status": "licensed", "action": "allow"}
