"""host.json and local.settings.json, as far as this host knows them, and what the supervisor tells its worker."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, Self

from devhost.errors import StartError

DEFAULT_PORT = 7071
FUNCTION_KEY, MASTER_KEY = "DEVHOST_FUNCTION_KEY", "DEVHOST_MASTER_KEY"
# The exit code that says: do not start me again, it would end in the same way.
CANNOT_START = 3
# How long requests may take to end once the host is to stop.
DRAIN_SECONDS = 2
_TIME_SPAN = re.compile(r"(?:(\d+)\.)?(\d{1,2}):(\d{2}):(\d{2})")
_LOG_LEVELS = {
    "trace": "DEBUG",
    "debug": "DEBUG",
    "information": "INFO",
    "warning": "WARNING",
    "error": "ERROR",
    "critical": "CRITICAL",
    "none": "CRITICAL",
}


@dataclass(frozen=True)
class HostConfig:
    """What host.json says, but for what has no say on a laptop: hsts, scale, sampling, extension bundles."""

    route_prefix: str = "api"
    function_timeout_seconds: float | None = 1800.0
    log_level: str = "INFO"
    custom_headers: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, app_folder: Path) -> Self:
        """Read host.json. Raises StartError where it is missing or cannot be read."""
        found = _read_json(app_folder / "host.json")
        if found is None:
            raise StartError(f"There is no host.json in {app_folder}: is that the folder of a function app?")
        http = found.get("extensions", {}).get("http", {})
        levels = found.get("logging", {}).get("logLevel", {})
        level = str(levels.get("Function", levels.get("default", "Information")))
        return cls(
            route_prefix=str(http.get("routePrefix", cls.route_prefix)).strip("/"),
            function_timeout_seconds=_seconds(found.get("functionTimeout", "00:30:00")),
            log_level=_LOG_LEVELS.get(level.lower(), "INFO"),
            custom_headers=http.get("customHeaders", {}),
        )


@dataclass(frozen=True)
class LocalSettings:
    """What local.settings.json says; the file may be missing."""

    values: Mapping[str, str] = field(default_factory=dict)
    port: int = DEFAULT_PORT

    @classmethod
    def read(cls, app_folder: Path) -> Self:
        """Read local.settings.json. Raises StartError where it cannot be read."""
        found = _read_json(app_folder / "local.settings.json") or {}
        if found.get("IsEncrypted"):
            raise StartError('local.settings.json is encrypted: run "func settings decrypt", then start again.')
        return cls(
            values={name: str(value) for name, value in found.get("Values", {}).items()},
            port=int(found.get("Host", {}).get("LocalHttpPort", DEFAULT_PORT)),
        )


@dataclass(frozen=True)
class Options:
    """What the supervisor hands to the process that serves."""

    app_folder: str
    socket_fd: int
    url: str
    ready_file: str
    show_key: bool
    state_folder: str | None


def _read_json(path: Path) -> dict[str, Any] | None:
    try:
        found = json.loads(path.read_text("utf-8-sig"))
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise StartError(f"{path.name} cannot be read: {error}.") from None
    if not isinstance(found, dict):
        raise StartError(f"{path.name} cannot be read: a JSON object is needed.")
    return found


def _seconds(time_span: str) -> float | None:
    """Return the seconds of a .NET TimeSpan such as 00:05:00, or None for -1, without limit."""
    if str(time_span) == "-1":
        return None
    if not (match := _TIME_SPAN.fullmatch(str(time_span))):
        raise StartError(f'host.json: functionTimeout {time_span!r} cannot be read, write "hh:mm:ss".')
    days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
    return timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds).total_seconds()
