"""Every setting, read from an environment."""

import json
from dataclasses import fields
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from licensing.errors import ConfigurationError
from licensing.settings import Settings, SmtpSecurity

PUBLISHER_ID = "446d5d80-d20d-43c6-a96c-370628f5bd9f"
ACCOUNT = "DefaultEndpointsProtocol=https;AccountName=a;AccountKey=c2VjcmV0;EndpointSuffix=core.windows.net"
NAMES = {item.name: item.metadata["name"] for item in fields(Settings)}

# Attribute, what is set, what it becomes.
VALID_VALUES: list[tuple[str, str, Any]] = [
    ("public_url", "https://licenses.example.com", "https://licenses.example.com"),
    ("public_url", " https://licenses.example.com/ ", "https://licenses.example.com"),
    ("public_url", "http://127.0.0.1:7071", "http://127.0.0.1:7071"),
    ("public_url", "http://localhost:7071", "http://localhost:7071"),
    ("support_email", " help@example.com ", "help@example.com"),
    ("storage", ACCOUNT, ACCOUNT),
    ("storage", "https://a.table.core.windows.net", "https://a.table.core.windows.net"),
    ("storage_table", "records", "records"),
    ("publisher_storage", "{}", {}),
    ("publisher_storage", json.dumps({PUBLISHER_ID: ACCOUNT}), {PUBLISHER_ID: ACCOUNT}),
    ("publisher_storage", json.dumps({PUBLISHER_ID.upper(): ACCOUNT}), {PUBLISHER_ID: ACCOUNT}),
    ("storage_timeout_seconds", "0.1", 0.1),
    ("storage_timeout_seconds", "30", 30.0),
    ("version_read_interval_ms", "0", 0.0),
    ("version_read_interval_ms", "1000", 1000.0),
    ("cached_environments", "0", 0),
    ("cached_environments", "1000000", 1_000_000),
    ("max_stale_hours", "0", 0.0),
    ("max_stale_hours", "24", 24.0),
    ("refresh_after_hours", "0.1", 0.1),
    ("refresh_after_hours", "720", 720.0),
    ("reply_days", "0.1", 0.1),
    ("reply_days", "30", 30.0),
    ("validations_per_minute", "1", 1),
    ("validations_per_minute", "1000000", 1_000_000),
    ("signing_keys", '{"keys": []}', '{"keys": []}'),
    ("signing_keys_folder", "/keys", Path("/keys")),
    ("directory_id", PUBLISHER_ID.upper(), PUBLISHER_ID),
    ("api_client_id", f" {PUBLISHER_ID} ", PUBLISHER_ID),
    ("sign_in_authority", "https://login.microsoftonline.us/", "https://login.microsoftonline.us"),
    ("sign_in_authority", "http://127.0.0.1:8001", "http://127.0.0.1:8001"),
    ("smtp_host", " smtp.azurecomm.net ", "smtp.azurecomm.net"),
    ("smtp_host", "localhost", "localhost"),
    ("smtp_host", "127.0.0.1", "127.0.0.1"),
    ("smtp_port", "465", 465),
    ("smtp_user", "ada", "ada"),
    ("smtp_password", " pass word ", "pass word"),
    ("smtp_security", "tls", SmtpSecurity.TLS),
    ("smtp_security", " none ", SmtpSecurity.NONE),
    ("mail_folder", "/mail", Path("/mail")),
    ("mail_from", " licenses@example.com ", "licenses@example.com"),
    ("mail_from", "no-reply@localhost", "no-reply@localhost"),
    ("notices_schedule", " 0 */5 * * * MON-FRI ", "0 */5 * * * MON-FRI"),
    ("messages_per_minute", "100000", 100_000),
    ("subscription_mails_per_hour", "0", 0),
    ("auto_incidents", " True ", True),
    ("auto_incidents", "false", False),
    ("telemetry", "planted", "planted"),
    ("telemetry_as_identity", "true", True),
    ("traces_per_second", "0", 0.0),
    ("traces_per_second", "1000", 1000.0),
    ("telemetry_console", "true", True),
    ("non_production_hosts", " *.Test.example.com, dev ,", ("*.test.example.com", "dev")),
]
INVALID_VALUES: list[tuple[str, str]] = [
    ("public_url", "licenses.example.com"),
    ("public_url", "http://licenses.example.com"),
    ("public_url", "ftp://licenses.example.com"),
    ("public_url", "https://"),
    ("public_url", "http://127.0.0.1.example.com"),
    ("directory_id", "planted.onmicrosoft.com"),
    ("api_client_id", f"api://{PUBLISHER_ID}"),
    ("sign_in_authority", "http://login.microsoftonline.com"),
    ("smtp_host", "planted"),
    ("smtp_host", "smtp://planted.example.com"),
    ("smtp_host", "planted.example.com:587"),
    ("smtp_port", "0"),
    ("smtp_port", "65536"),
    ("smtp_security", "planted"),
    ("smtp_security", "false"),
    ("mail_from", "planted"),
    ("mail_from", "Planted <planted@example.com>"),
    ("mail_from", "planted@example.com, planted@example.org"),
    ("mail_from", "planted@example.com\nBcc: planted@example.org"),
    ("non_production_hosts", "https://planted.example.com"),
    ("publisher_storage", "planted"),
    ("publisher_storage", "[]"),
    ("publisher_storage", json.dumps({"planted": ACCOUNT})),
    *(
        (attribute, value)
        for attribute in (
            "storage_timeout_seconds",
            "version_read_interval_ms",
            "cached_environments",
            "max_stale_hours",
            "refresh_after_hours",
            "reply_days",
            "validations_per_minute",
            "traces_per_second",
        )
        for value in ("-1", "1e9", "nan", "inf", "planted", "1,5", "0x10")
    ),
    ("storage_timeout_seconds", "0"),
    ("refresh_after_hours", "0"),
    ("reply_days", "0"),
    ("reply_days", "30.1"),
    ("validations_per_minute", "0"),
    ("cached_environments", "1.5"),
    ("cached_environments", "9" * 5_000),
]


@pytest.mark.parametrize(("attribute", "raw", "value"), VALID_VALUES)
def test_settings_read_parses_valid_value(attribute: str, raw: str, value: Any) -> None:
    # The widest of the two that bound each other.
    wide = {"LICENSING_REFRESH_AFTER_HOURS": "0.1", "LICENSING_REPLY_DAYS": "30"}
    wide |= {"LICENSING_SMTP_USER": "user", "LICENSING_SMTP_PASSWORD": "password", "LICENSING_SMTP_SECURITY": "tls"}
    read = getattr(Settings.read({**wide, NAMES[attribute]: raw}), attribute)
    assert (read, type(read)) == (value, type(value))


def test_valid_value_cases_cover_every_setting() -> None:
    assert {case[0] for case in VALID_VALUES} == set(NAMES)


@pytest.mark.parametrize(("attribute", "raw"), INVALID_VALUES)
def test_settings_read_with_invalid_value_raises_naming_the_setting(attribute: str, raw: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Settings.read({NAMES[attribute]: raw})
    assert caught.value.detail.startswith(f"{NAMES[attribute]} cannot be used: ")
    assert "planted" not in caught.value.detail


ANY_TEXT = ("support_email", "storage", "storage_table", "signing_keys", "smtp_user", "smtp_password", "telemetry")
SECRETS = ["planted", "planted\\planted", "planted's", "planted\nline", "\x1bplanted", "planted" * 50]


@pytest.mark.parametrize("secret", SECRETS, ids=range(len(SECRETS)))
@pytest.mark.parametrize("attribute", [name for name in NAMES if name not in ANY_TEXT])
def test_settings_read_with_misplaced_secret_raises_without_echo(attribute: str, secret: str) -> None:
    """Nor is it in the chain of errors that a log may print."""
    if attribute == "non_production_hosts":
        secret = f"{secret}/"  # a name alone might be a host's
    if attribute in ("signing_keys_folder", "mail_folder"):
        assert "Path" not in repr(Settings.read({NAMES[attribute]: secret}))
        return
    with pytest.raises(ConfigurationError) as caught:
        Settings.read({NAMES[attribute]: secret})
    assert "planted" not in caught.value.detail
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


@given(st.sampled_from(["reply_days", "cached_environments", "publisher_storage", "public_url"]), st.text(min_size=7))
def test_settings_read_with_arbitrary_text_parses_or_raises_naming_the_setting(attribute: str, raw: str) -> None:
    try:
        Settings.read({NAMES[attribute]: raw})
    except ConfigurationError as error:
        assert error.detail.startswith(NAMES[attribute])  # noqa: PT017 - either outcome is right


@pytest.mark.parametrize("raw", ["", " ", "\n"])
def test_settings_read_treats_blank_as_unset(raw: str) -> None:
    assert Settings.read(dict.fromkeys(NAMES.values(), raw)) == Settings()


def test_settings_read_without_variables_returns_documented_defaults() -> None:
    settings = Settings.read({})
    assert (settings.refresh_after_hours, settings.reply_days, settings.max_stale_hours) == (24.0, 7.0, 24.0)
    assert (settings.storage, settings.signing_keys, settings.signing_keys_folder) == ("", "", None)


def test_settings_read_ignores_unknown_variables() -> None:
    assert Settings.read({"LICENSING_UNHEARD_OF": "1", "PATH": "/bin"}) == Settings()


@pytest.mark.parametrize(
    ("environ", "public_url"),
    [
        ({}, "http://127.0.0.1:7071"),
        ({"WEBSITE_HOSTNAME": ""}, "http://127.0.0.1:7071"),
        ({"WEBSITE_HOSTNAME": "app.azurewebsites.net"}, "https://app.azurewebsites.net"),
        ({"WEBSITE_HOSTNAME": "localhost:7071"}, "http://localhost:7071"),
        (
            {"WEBSITE_HOSTNAME": "app.azurewebsites.net", "LICENSING_PUBLIC_URL": "https://licenses.example.com"},
            "https://licenses.example.com",
        ),
        ({"WEBSITE_HOSTNAME": "app.azurewebsites.net", "LICENSING_PUBLIC_URL": " "}, "https://app.azurewebsites.net"),
    ],
)
def test_settings_public_url_defaults_to_website_hostname(environ: dict[str, str], public_url: str) -> None:
    assert Settings.read(environ).public_url == public_url


def test_settings_publisher_storage_resolves_account_from_named_variable() -> None:
    other = str(uuid4())
    environ = {
        "LICENSING_PUBLISHER_STORAGE": json.dumps({PUBLISHER_ID: "ACCOUNT_OF_CONTOSO", other: ACCOUNT}),
        "ACCOUNT_OF_CONTOSO": "https://contoso.table.core.windows.net",
    }
    assert Settings.read(environ).publisher_storage == {
        PUBLISHER_ID: "https://contoso.table.core.windows.net",
        other: ACCOUNT,
    }


def test_settings_read_with_refresh_longer_than_reply_days_raises() -> None:
    Settings.read({"LICENSING_REFRESH_AFTER_HOURS": "48", "LICENSING_REPLY_DAYS": "2"})
    with pytest.raises(ConfigurationError, match="LICENSING_REFRESH_AFTER_HOURS is longer than LICENSING_REPLY_DAYS"):
        Settings.read({"LICENSING_REFRESH_AFTER_HOURS": "49", "LICENSING_REPLY_DAYS": "2"})


def test_settings_read_with_version_interval_over_half_storage_timeout_raises() -> None:
    Settings.read({"LICENSING_VERSION_READ_INTERVAL_MS": "500", "LICENSING_STORAGE_TIMEOUT_SECONDS": "1"})
    with pytest.raises(ConfigurationError, match="LICENSING_VERSION_READ_INTERVAL_MS is more than half"):
        Settings.read({"LICENSING_VERSION_READ_INTERVAL_MS": "501", "LICENSING_STORAGE_TIMEOUT_SECONDS": "1"})


@pytest.mark.parametrize(
    ("environ", "why"),
    [
        ({"USER": "planted"}, "one is set, one is not"),
        ({"PASSWORD": "planted"}, "one is set, one is not"),
        ({"HOST": "smtp.example.com", "SECURITY": "none"}, "others could read the mail"),
        ({"HOST": "10.0.0.1", "SECURITY": "none"}, "others could read the mail"),
        ({"HOST": "127.0.0.1.example.com", "SECURITY": "none"}, "others could read the mail"),
        ({"HOST": "smtp.example.com", "PORT": "465"}, "set LICENSING_SMTP_SECURITY to tls"),
    ],
)
def test_settings_read_with_incomplete_or_insecure_smtp_raises(environ: dict[str, str], why: str) -> None:
    with pytest.raises(ConfigurationError, match=why) as caught:
        Settings.read({f"LICENSING_SMTP_{name}": value for name, value in environ.items()})
    assert "planted" not in caught.value.detail


@pytest.mark.parametrize(
    "environ",
    [
        {"HOST": "smtp.example.com", "PORT": "465", "SECURITY": "tls"},
        {"HOST": "smtp.azurecomm.net", "USER": "ada", "PASSWORD": "secret"},
        {"HOST": "127.0.0.1", "PORT": "2525", "SECURITY": "none"},
        {"HOST": "localhost", "PORT": "465", "SECURITY": "none"},
    ],
)
def test_settings_read_accepts_secure_smtp_combination(environ: dict[str, str]) -> None:
    Settings.read({f"LICENSING_SMTP_{name}": value for name, value in environ.items()})


def test_settings_repr_hides_secrets() -> None:
    settings = Settings.read({"LICENSING_STORAGE": ACCOUNT, "LICENSING_SIGNING_KEYS": "planted"})
    assert "c2VjcmV0" not in f"{settings!r} {settings}"
    assert "planted" not in f"{settings!r} {settings}"


def test_settings_fields_have_unique_prefixed_name_and_description() -> None:
    for item in fields(Settings):
        assert item.metadata["name"].startswith("LICENSING_")
        assert item.metadata["meaning"].endswith(".")
    assert len(set(NAMES.values())) == len(NAMES)
