"""Every setting: its name in the environment, its meaning, its default. Read once, from a mapping.

docs/configuration.md describes the same settings for operators; a test holds the two together.
"""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType
from typing import Any, Self
from urllib.parse import urlsplit
from uuid import UUID

from licensing.errors import ConfigurationError

_THIS_MACHINE = ("127.0.0.1", "localhost")
_SMTPS_PORT = 465


class SmtpSecurity(StrEnum):
    """How the way to the mail server is kept from others."""

    STARTTLS = "starttls"
    TLS = "tls"
    NONE = "none"


class _Refused(ValueError):
    """Why a value cannot be used, in words of ours: they repeat nothing of it, since it may be a secret."""


def _text(value: str) -> str:
    return value.strip()


def _url(value: str) -> str:
    url = value.strip().rstrip("/")
    parts = urlsplit(url)
    local = parts.scheme == "http" and parts.hostname in _THIS_MACHINE
    if not parts.hostname or not (parts.scheme == "https" or local):
        raise _Refused("an https:// address is needed (http:// only for this machine)")
    return url


def _guid(value: str) -> str:
    try:
        return str(UUID(value.strip()))
    except ValueError:
        raise _Refused("a GUID is needed") from None


def _address(value: str) -> str:
    if not re.fullmatch(r"[a-zA-Z0-9.+_-]+@[a-zA-Z0-9.-]+", value.strip()):
        raise _Refused("a plain email address is needed, as no-reply@example.com")
    return value.strip()


def _host(value: str) -> str:
    if not re.fullmatch(r"[a-zA-Z0-9-]+(\.[a-zA-Z0-9-]+)+|localhost", value.strip()):
        raise _Refused("a host name is needed, as smtp.azurecomm.net")
    return value.strip()


def _hosts(value: str) -> tuple[str, ...]:
    patterns = tuple(each.strip().lower() for each in value.split(",") if each.strip())
    if not all(re.fullmatch(r"[a-z0-9.*-]+", each) for each in patterns):
        raise _Refused("host names are needed, with * for any text and commas between")
    return patterns


def _security(value: str) -> SmtpSecurity:
    if value.strip() not in list(SmtpSecurity):
        raise _Refused(f"one of {', '.join(SmtpSecurity)} is needed")
    return SmtpSecurity(value.strip())


def _number(lowest: float, highest: float) -> Callable[[str], float]:
    def parse(value: str) -> float:
        number = float(value)
        if not lowest <= number <= highest:
            raise _Refused(f"a number from {lowest:g} to {highest:g} is needed")
        return number

    return parse


def _whole_number(lowest: int, highest: int) -> Callable[[str], int]:
    def parse(value: str) -> int:
        number = int(value)
        if not lowest <= number <= highest:
            raise _Refused(f"a whole number from {lowest} to {highest} is needed")
        return number

    return parse


def _schedule(value: str) -> str:
    if not re.fullmatch(r"[\w*/,-]+( +[\w*/,-]+){4,5}", value.strip(), re.ASCII):
        raise _Refused("an NCRONTAB expression is needed, as 0 * * * * *")
    return value.strip()


def _flag(value: str) -> bool:
    if value.strip().lower() not in ("true", "false"):
        raise _Refused("true or false is needed")
    return value.strip().lower() == "true"


def _accounts(value: str) -> dict[str, str]:
    accounts = json.loads(value)
    if not isinstance(accounts, dict):
        raise _Refused('a JSON object is needed, {"<publisherId>": "<account>"}')
    return {str(UUID(publisher_id)): str(account) for publisher_id, account in accounts.items()}


def _setting(name: str, meaning: str, parse: Callable[[str], Any], default: Any) -> Any:
    return field(default=default, metadata={"name": name, "meaning": meaning, "parse": parse})


@dataclass(frozen=True, kw_only=True, repr=False)
class Settings:
    """What the operator has decided. Raises ConfigurationError naming the setting that cannot be read.

    Never printed whole: some settings are secrets.
    """

    public_url: str = _setting(
        "LICENSING_PUBLIC_URL",
        "The service's address as callers know it: the `iss` of every reply. On Azure the app's own host name, where "
        "it is not set.",
        _url,
        "http://127.0.0.1:7071",
    )
    support_email: str = _setting(
        "LICENSING_SUPPORT_EMAIL",
        "Where a customer finds help, in replies of publishers that name no address of their own.",
        _text,
        "",
    )
    storage: str = _setting(
        "LICENSING_STORAGE",
        "The storage account of the records: a connection string, or the https address of its table service, which is "
        "then reached as the app's managed identity.",
        _text,
        "",
    )
    storage_table: str = _setting(
        "LICENSING_STORAGE_TABLE", "The name of the table that holds the records.", _text, "catalogue"
    )
    publisher_storage: Mapping[str, str] = _setting(
        "LICENSING_PUBLISHER_STORAGE",
        "Publishers with a storage account of their own: a JSON object from publisherId to an account, written like "
        "LICENSING_STORAGE, or to the name of the app setting that holds it.",
        _accounts,
        MappingProxyType({}),
    )
    storage_timeout_seconds: float = _setting(
        "LICENSING_STORAGE_TIMEOUT_SECONDS",
        "How long a validation waits for storage before it answers with what it has kept. Everything "
        "else that waits for storage waits at least as long.",
        _number(0.1, 30),
        2.0,
    )
    version_read_interval_ms: float = _setting(
        "LICENSING_VERSION_READ_INTERVAL_MS",
        "The least time between two reads of a publisher's version, while many validations share them.",
        _number(0, 1000),
        7.0,
    )
    cached_environments: int = _setting(
        "LICENSING_CACHED_ENVIRONMENTS",
        "How many environments an instance keeps in memory; those not seen for longest go first.",
        _whole_number(0, 1_000_000),
        10_000,
    )
    max_stale_hours: float = _setting(
        "LICENSING_MAX_STALE_HOURS",
        "How old what is kept may be to answer for storage that cannot be reached.",
        _number(0, 24),
        24.0,
    )
    refresh_after_hours: float = _setting(
        "LICENSING_REFRESH_AFTER_HOURS",
        "After how long an environment should validate again: `refreshAfter` of a reply.",
        _number(0.1, 720),
        24.0,
    )
    reply_days: float = _setting(
        "LICENSING_REPLY_DAYS",
        "For how long a reply counts while the service cannot be reached: `exp` of a reply.",
        _number(0.1, 30),
        7.0,
    )
    validations_per_minute: int = _setting(
        "LICENSING_VALIDATIONS_PER_MINUTE",
        "How many validations one environment of a publisher may ask an instance for, a minute.",
        _whole_number(1, 1_000_000),
        300,
    )
    signing_keys: str = _setting(
        "LICENSING_SIGNING_KEYS",
        "The signing keys: a private JWK Set, usually through a Key Vault reference. A secret.",
        _text,
        "",
    )
    signing_keys_folder: Path | None = _setting(
        "LICENSING_SIGNING_KEYS_FOLDER",
        "Where the signing keys lie instead, for local use: a folder with the private JWK Set in keys.json.",
        Path,
        None,
    )
    directory_id: str = _setting(
        "LICENSING_DIRECTORY_ID",
        "The service's own Entra directory (tenant): people and applications of it may sign in.",
        _guid,
        "",
    )
    api_client_id: str = _setting(
        "LICENSING_API_CLIENT_ID",
        "The client id of the service's app registration: the `aud` of every access token that counts here.",
        _guid,
        "",
    )
    sign_in_authority: str = _setting(
        "LICENSING_SIGN_IN_AUTHORITY",
        "Who signs people in: Entra ID, that of a national cloud, or for local use an issuer on this machine.",
        _url,
        "https://login.microsoftonline.com",
    )
    smtp_host: str = _setting(
        "LICENSING_SMTP_HOST",
        "The server that mail is handed to; for Azure Communication Services smtp.azurecomm.net.",
        _host,
        "",
    )
    smtp_port: int = _setting("LICENSING_SMTP_PORT", "The port of that server.", _whole_number(1, 65535), 587)
    smtp_user: str = _setting("LICENSING_SMTP_USER", "Who signs in there.", _text, "")
    smtp_password: str = _setting("LICENSING_SMTP_PASSWORD", "The password of that user. A secret.", _text, "")
    smtp_security: SmtpSecurity = _setting(
        "LICENSING_SMTP_SECURITY",
        "How the way there is kept from others: by STARTTLS, by TLS from the start (port 465), or, for a server on "
        "this machine alone, not at all.",
        _security,
        SmtpSecurity.STARTTLS,
    )
    mail_folder: Path | None = _setting(
        "LICENSING_MAIL_FOLDER",
        "Where mail is put instead of being sent, for local use: a folder, a file for each message.",
        Path,
        None,
    )
    mail_from: str = _setting(
        "LICENSING_MAIL_FROM", "The address that mail of the service comes from.", _address, "no-reply@localhost"
    )

    notices_schedule: str = _setting(
        "LICENSING_NOTICES_SCHEDULE",
        "When notices are announced and delivered: an NCRONTAB expression, in UTC.",
        _schedule,
        "0 * * * * *",
    )
    messages_per_minute: int = _setting(
        "LICENSING_MESSAGES_PER_MINUTE",
        "How many messages about notices go out for a publisher, a minute: as many as the mail service takes.",
        _whole_number(1, 100_000),
        30,
    )
    subscription_mails_per_hour: int = _setting(
        "LICENSING_SUBSCRIPTION_MAILS_PER_HOUR",
        "How many mails about subscriptions strangers may ask for at a publisher, within an hour.",
        _whole_number(0, 2000),
        200,
    )
    auto_incidents: bool = _setting(
        "LICENSING_AUTO_INCIDENTS",
        "Whether the service opens an incident by itself where it is not well, and closes it.",
        _flag,
        True,  # noqa: FBT003 - its default
    )

    # Read where it is used: no license depends on it, so it stops nothing.
    telemetry: str = _setting(
        "LICENSING_TELEMETRY",
        "Where telemetry goes: the connection string of an Application Insights resource. Without it nothing is told.",
        _text,
        "",
    )
    telemetry_as_identity: bool = _setting(
        "LICENSING_TELEMETRY_AS_IDENTITY",
        "Whether telemetry is sent as the app's managed identity: where that resource takes no keys alone.",
        _flag,
        False,  # noqa: FBT003 - its default
    )
    traces_per_second: float = _setting(
        "LICENSING_TRACES_PER_SECOND",
        "About how many requests a second an instance tells of as traces, with what they asked of storage; events are "
        "not sampled.",
        _number(0, 1000),
        5.0,
    )
    telemetry_console: bool = _setting(
        "LICENSING_TELEMETRY_CONSOLE",
        "Whether what is told is also printed, for local use.",
        _flag,
        False,  # noqa: FBT003 - its default
    )
    non_production_hosts: tuple[str, ...] = _setting(
        "LICENSING_NON_PRODUCTION_HOSTS",
        "Hosts that are not production whatever they say, beside Microsoft's own for sandboxes and development: "
        "patterns as *.test.example.com, with commas between.",
        _hosts,
        (),
    )

    @classmethod
    def read(cls, environ: Mapping[str, str]) -> Self:
        """Read all settings. An empty value counts as unset. Raises ConfigurationError."""
        values: dict[str, Any] = {}
        for setting in fields(cls):
            name = setting.metadata["name"]
            if raw := environ.get(name, "").strip():
                try:
                    values[setting.name] = setting.metadata["parse"](raw)
                except ValueError as error:
                    reason = str(error) if isinstance(error, _Refused) else "it cannot be read"
                    raise ConfigurationError(f"{name} cannot be used: {reason}.") from None
        if "public_url" not in values and (host_name := environ.get("WEBSITE_HOSTNAME")):
            # Core Tools set it too, for this machine.
            values["public_url"] = f"{'http' if host_name.startswith('localhost') else 'https'}://{host_name}"
        for publisher_id, account in values.get("publisher_storage", {}).items():
            values["publisher_storage"][publisher_id] = environ.get(account, account)
        settings = cls(**values)
        if settings.refresh_after_hours > settings.reply_days * 24:
            raise ConfigurationError(
                "LICENSING_REFRESH_AFTER_HOURS is longer than LICENSING_REPLY_DAYS: a reply must count until the next."
            )
        if settings.version_read_interval_ms > settings.storage_timeout_seconds * 500:
            raise ConfigurationError(
                "LICENSING_VERSION_READ_INTERVAL_MS is more than half of LICENSING_STORAGE_TIMEOUT_SECONDS: "
                "validations would time out before the next read starts."
            )
        settings._refuse_unsafe_mail()
        return settings

    def _refuse_unsafe_mail(self) -> None:
        """Raise ConfigurationError where mail could not go out, or others could read it on its way."""
        if bool(self.smtp_user) != bool(self.smtp_password):
            raise ConfigurationError("Of LICENSING_SMTP_USER and LICENSING_SMTP_PASSWORD one is set, one is not.")
        if self.smtp_host and self.smtp_security is SmtpSecurity.NONE and self.smtp_host not in _THIS_MACHINE:
            raise ConfigurationError(
                "LICENSING_SMTP_SECURITY is none, and LICENSING_SMTP_HOST elsewhere: others could read the mail."
            )
        if self.smtp_port == _SMTPS_PORT and self.smtp_security is SmtpSecurity.STARTTLS:
            raise ConfigurationError(
                "LICENSING_SMTP_PORT is 465, where TLS is spoken from the start: set LICENSING_SMTP_SECURITY to tls."
            )
