"""What may leave the process as telemetry: one table, and the filter that everything passes.

What the table does not name does not leave. A service that people trust with their serial numbers says beforehand what
it collects (docs/telemetry.md), so adding a line here is adding to a promise.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from pydantic_core import to_json

from licensing.identifiers import GUID

_CODE = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,63}")
_TYPE = re.compile(r"[A-Za-z_][\w.]{0,127}", re.ASCII)
_PLACE = re.compile(r"licensing(\.\w+)*:\d{1,6}", re.ASCII)
_HEX = re.compile(r"[0-9a-f]{16}([0-9a-f]{16})?")
_DURATION = re.compile(r"\d{1,3}\.\d\d:\d\d:\d\d\.\d{3}", re.ASCII)
_STATUS = re.compile(r"\d{1,3}", re.ASCII)
_VERSIONS = re.compile(r"[A-Za-z0-9_.:-]{1,100}")
_TIME = re.compile(r"[0-9T:.+-]{10,40}Z?")
_KEY = re.compile(GUID)
_MAX_NUMBER = 1e15
"""Of a number: beyond it Application Insights would not read an envelope, and with it all others of its request."""

HOST_URL = re.compile(r"(?=.{8,261}\Z)https?://[a-z0-9_-]+(\.[a-z0-9_-]+)*")
"""Scheme and host, and nothing else."""
ROLE = "license-manager"
"""What the service calls itself (`ai.cloud.role`)."""


def _text(most: int) -> Callable[[Any], str | None]:
    """A caller's own words, as far as customers were promised that they are collected."""
    # Half a character (a lone surrogate) could not be sent.
    return lambda value: value[:most].encode(errors="replace").decode() if isinstance(value, str) else None


def _like(pattern: re.Pattern[str]) -> Callable[[Any], str | None]:
    matches = lru_cache(1024)(pattern.fullmatch)  # the same few hosts and codes, again and again
    return lambda value: value if isinstance(value, str) and matches(value) else None


def _flag(value: Any) -> str | None:
    if isinstance(value, bool):
        return "true" if value else "false"
    return value if value in ("true", "false") else None


def _number(value: Any) -> float | None:
    return (
        value if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < _MAX_NUMBER else None
    )


def _operation(value: Any) -> str | None:
    return value if isinstance(value, str) and value in OPERATIONS else None


def _members(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


_code, _type, _place = _like(_CODE), _like(_TYPE), _like(_PLACE)


@dataclass(frozen=True, slots=True)
class Event:
    """What an event of that name may carry: each property, and each measurement, with what reads its value.

    A reader gives the value as it may leave, or None.
    """

    properties: Mapping[str, Callable[[Any], str | None]]
    measurements: frozenset[str] = frozenset()


EVENTS: Mapping[str, Event] = {
    # The promise of the public FAQ: one for each product of a validation, and nothing else of a customer's.
    "LicenseValidation": Event(
        {
            "serialNumber": _text(128),
            "productName": _text(128),
            "modelName": _text(256),
            "modelVersion": _text(256),
            "hostUrl": _like(HOST_URL),
            "isEnabled": _flag,
            "isInstalled": _flag,
            "isProductionEnvironment": _flag,
            "status": _code,
            "action": _code,
        },
        frozenset({"enabledUsersCount"}),
    ),
    # How the service is: codes, durations and counts.
    "Started": Event({"currentKeyId": _like(_VERSIONS)}, frozenset({"currentKeyAgeDays", "nextKeys", "retiredKeys"})),
    "RequestServed": Event(
        {"function": _code, "status": _like(_STATUS), "code": _code, "stale": _flag},
        frozenset({"durationMs", "products", "storeMs", "signMs"}),
    ),
    "SignInRefused": Event({"function": _code, "code": _code}),
    "StorageSlow": Event({"operation": _code}, frozenset({"durationMs"})),
    "StorageFailed": Event({"operation": _code, "type": _code, "status": _like(_STATUS), "code": _code}),
    "HealthChecked": Event({"storage": _code, "signing": _code}),
    "NoticesPosted": Event({}, frozenset({"publishers", "deliveries", "durationMs"})),
    "NoticeDelivered": Event({"channel": _code}, frozenset({"attempts"})),
    "DeliveryFailed": Event({"channel": _code, "code": _code}, frozenset({"attempts"})),
    "DeliveryGivenUp": Event({"channel": _code, "code": _code}, frozenset({"attempts"})),
    "TelemetryDropped": Event({"reason": _code}, frozenset({"count"})),
}

OPERATIONS: set[str] = {"storage.read", "storage.query", "storage.write", "storage.create"}
"""What a request or a dependency may be called. Every function adds its name when it is declared."""

_TAGS: Mapping[str, Callable[[Any], str | None]] = {
    "ai.cloud.role": lambda value: value if value == ROLE else None,
    "ai.cloud.roleInstance": _like(re.compile(r"[0-9a-f-]{32,36}")),
    "ai.operation.id": _like(_HEX),
    "ai.operation.parentId": _like(_HEX),
    "ai.operation.name": _operation,
}
_EXPORTERS_OWN = frozenset(
    ("ai.device.id", "ai.device.locale", "ai.device.type", "ai.internal.nodeName", "ai.internal.sdkVersion")
)
"""What Microsoft's exporter says of itself and of the machine, each time: taken out, and no news."""
_ABOUT: Mapping[str, Callable[[Any], Any]] = {"time": _like(_TIME), "iKey": _like(_KEY), "sampleRate": _number}
"""What an envelope says of itself."""


_EVENT = b'{"ver":2,"name":"%s","properties":{%s},"measurements":{%s}}'


class AllowlistFilter:
    """Lets an envelope of Application Insights pass as far as the table allows, and counts what it takes out."""

    def __init__(self) -> None:
        self.dropped: Counter[str] = Counter()
        self._cached_fields = lru_cache(4096)(
            lambda name, names, values: _encoded_fields(name, dict(zip(names, values, strict=True)))
        )

    def sanitize(self, envelope: Mapping[str, Any]) -> dict[str, Any] | None:
        """The envelope with what the table names and nothing else; None where nothing of it may leave.

        Built anew from what is known, so what a later exporter adds does not slip through.
        """
        data = _members(envelope.get("data"))
        read = _KINDS.get(str(data.get("baseType")))
        base = read(self, _members(data.get("baseData"))) if read else None
        if base is None:
            self.dropped["notAllowed"] += 1
            return None
        return {
            "ver": 1,
            "name": f"Microsoft.ApplicationInsights.{str(data['baseType']).removesuffix('Data')}",
            **self._read(_ABOUT, {name: envelope.get(name) for name in _ABOUT}),
            "tags": self._read(_TAGS, _members(envelope.get("tags"))),
            "data": {"baseType": data["baseType"], "baseData": base},
        }

    def event(self, base: Mapping[str, Any]) -> dict[str, Any] | None:
        known = EVENTS.get(str(base.get("name")))
        if known is None:
            return None
        given = {**_members(base.get("properties")), **_members(base.get("measurements"))}
        properties, measurements, removed = _fields(known, given)
        if removed:
            self.dropped["notAllowed"] += removed
        return {"ver": 2, "name": base["name"], "properties": properties, "measurements": measurements}

    def events(
        self, name: str, common_fields: Mapping[str, Any], item_fields: Iterable[Mapping[str, Any]]
    ) -> Iterator[bytes]:
        """Events of one name as JSON, each with what is of all. None is no value.

        What is of each is remembered: environments of all customers tell the same of the same product.
        """
        if name not in EVENTS:
            self.dropped["notAllowed"] += 1
            return
        shared, encoded = _encoded_fields(name, common_fields), name.encode()
        for fields in item_fields:
            properties, measurements, removed = self._cached_fields(name, (*fields,), (*fields.values(),))
            if removed := shared[2] + removed:
                self.dropped["notAllowed"] += removed
            yield _EVENT % (encoded, _joined(shared[0], properties), _joined(shared[1], measurements))

    def exception(self, base: Mapping[str, Any]) -> dict[str, Any] | None:
        """Its type, and in place of its message where in our code it came from."""
        match base.get("exceptions"):
            case [first, *_]:
                told = _members(first)
                found = {
                    "typeName": _type(told.get("typeName")) or "Exception",
                    "message": _place(told.get("message")) or "?",
                }
                return {"ver": 2, "exceptions": [found]}
        return None

    def operation(self, base: Mapping[str, Any]) -> dict[str, Any] | None:
        """A request, or what it depended on: its name, how long it took, and how it ended."""
        return self._read(_OPERATION, {**base, "ver": 2}) if _operation(base.get("name")) else None

    def _read(self, known: Mapping[str, Callable[[Any], Any]], given: Mapping[str, Any]) -> dict[str, Any]:
        sanitized = {}
        for name, value in given.items():
            if (read := known.get(name)) and (allowed := read(value)) is not None:
                sanitized[name] = allowed
            elif value not in (None, {}, "") and name not in _EXPORTERS_OWN:
                self.dropped["notAllowed"] += 1
        return sanitized


def _encoded_fields(name: str, given: Mapping[str, Any]) -> tuple[bytes, bytes, int]:
    """Properties and measurements as JSON, without their braces; and how many were taken out."""
    properties, measurements, removed = _fields(EVENTS[name], given)
    return to_json(properties)[1:-1], to_json(measurements)[1:-1], removed


def _fields(known: Event, given: Mapping[str, Any]) -> tuple[dict[str, str], dict[str, float], int]:
    properties: dict[str, str] = {}
    measurements: dict[str, float] = {}
    removed = 0
    for name, value in given.items():
        if value is None:
            continue
        if (read := known.properties.get(name)) and (text := read(value)) is not None:
            properties[name] = text
        elif name in known.measurements and (number := _number(value)) is not None:
            measurements[name] = number
        else:
            removed += 1
    return properties, measurements, removed


def _joined(members: bytes, more: bytes) -> bytes:
    return members + b"," + more if members and more else members or more


_OPERATION: Mapping[str, Callable[[Any], Any]] = {
    "ver": _number,
    "name": _operation,
    "id": _like(_HEX),
    "duration": _like(_DURATION),
    "responseCode": _like(_STATUS),
    "resultCode": _like(_STATUS),
    "success": lambda value: value if isinstance(value, bool) else None,
    "type": lambda value: value if value in ("InProc", "N/A") else None,
}

_KINDS: Mapping[str, Callable[[AllowlistFilter, Mapping[str, Any]], dict[str, Any] | None]] = {
    "EventData": AllowlistFilter.event,
    "ExceptionData": AllowlistFilter.exception,
    "RequestData": AllowlistFilter.operation,
    "RemoteDependencyData": AllowlistFilter.operation,
}
