"""A request as handlers see it, and what the pipeline needs of the services behind it."""

import re
from codecs import BOM_UTF8
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, NamedTuple, Protocol
from urllib.parse import urlsplit

from licensing.errors import FieldError, MalformedRequest, UnsupportedMediaType
from licensing.http import strict_json
from licensing.http.permissions import Access, Caller
from licensing.settings import Settings
from licensing.telemetry.service import Telemetry


class Services(Protocol):
    """The composition root, as far as HTTP needs it (`licensing.services.Services`)."""

    settings: Settings
    clock: Callable[[], datetime]

    @property
    def telemetry(self) -> Telemetry: ...

    def get[T](self, kind: type[T]) -> T:
        """Return the one service of this class. Raises ConfigurationError where the settings do not allow it."""

    def secrets(self, purpose: str) -> list[bytes]:
        """Return the secrets that seal what callers hand back, the current one last."""

    async def authenticate(self, access: Access, authorization: str | None, publisher_id: str | None) -> Caller:
        """Return the caller. Raises Unauthenticated, Forbidden, PublisherNotFound, SignInUnavailable."""


class Parameter(NamedTuple):
    """What may stand in the query of a request: a text, a whole number, a day, true or false, or a choice (StrEnum)."""

    name: str
    label: str
    hint: str
    type: type = str
    default: Any = None
    span: tuple[int, int] | None = None
    """The least and the greatest that a number may be."""


@dataclass(frozen=True, slots=True)
class Request:
    """A request as handlers see it: bounded, but not validated. `caller` is authenticated."""

    id: str
    method: str
    url: str
    route_params: Mapping[str, str]
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes
    services: Services
    _caller: Caller | None = None

    @property
    def caller(self) -> Caller:
        """The authenticated caller. Raises AssertionError at an anonymous endpoint."""
        if self._caller is None:
            raise AssertionError("this endpoint is anonymous")
        return self._caller

    @property
    def path(self) -> str:
        return urlsplit(self.url).path

    @property
    def publisher_id(self) -> str:
        return self.route_params["publisherId"].lower()

    @property
    def if_match(self) -> str | None:
        """The ETag that a record must have to be changed (RFC 9110, section 13.1.1); an empty one is that of none."""
        given = self.headers.get("if-match")
        return None if given is None else given.strip().removeprefix("W/").strip('"')

    def parameter(self, known: Parameter) -> Any:
        """What the query says, of the parameter's type; its default where it says nothing. Raises MalformedRequest."""
        given = self.query.get(known.name, "")
        if not given:
            return known.default
        try:
            read = _QUERY_READERS.get(known.type, known.type)(given)
            if known.span is not None and not known.span[0] <= read <= known.span[1]:
                raise ValueError(given)
        except ValueError:
            message = f"{known.label} cannot be read. {known.hint}"
            raise MalformedRequest(message, errors=[FieldError(known.name, "malformed", message)]) from None
        return read

    def json(self) -> Any:
        """The body as JSON (RFC 8259), UTF-8, no member twice. Raises UnsupportedMediaType, MalformedRequest."""
        media_type = self.headers.get("content-type", "").partition(";")[0].strip().lower()
        # A patch is a merge patch (RFC 7396), whether its sender knows that name or not.
        if media_type != "application/json" and (self.method, media_type) != ("PATCH", "application/merge-patch+json"):
            raise UnsupportedMediaType("Send the request as Content-Type: application/json.")
        try:
            return strict_json.parse(self.body.removeprefix(BOM_UTF8).decode())
        except ValueError:
            raise MalformedRequest(
                "The request's body is not valid JSON in UTF-8, is nested too deeply, or has a member twice."
            ) from None


def _flag(given: str) -> bool:
    if given.lower() not in ("true", "false"):
        raise ValueError(given)
    return given.lower() == "true"


def _like[T](pattern: str, read: Callable[[str], T]) -> Callable[[str], T]:
    """A reader of what is written in this one way, where Python reads several."""

    def strictly(given: str) -> T:
        if not re.fullmatch(pattern, given, re.ASCII):
            raise ValueError(given)
        return read(given)

    return strictly


_QUERY_READERS: dict[type, Callable[[str], Any]] = {
    str: str.strip,
    int: _like(r"-?\d{1,9}", int),
    bool: _flag,
    date: _like(r"\d{4}-\d\d-\d\d", date.fromisoformat),
    # RFC 3339. A + that was not encoded arrives as a space.
    datetime: _like(
        r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+ -]\d\d:\d\d)",
        lambda given: datetime.fromisoformat(given.replace(" ", "+").upper()),
    ),
}
