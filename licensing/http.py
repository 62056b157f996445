"""The one door to every function: limits, request id, problem documents, headers, and one log event a request."""

import inspect
import json
import logging
import re
import time
from codecs import BOM_UTF8
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import date, datetime
from http import HTTPStatus
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import azure.functions as func

from licensing import strict_json
from licensing.access.model import Caller
from licensing.errors import (
    BodyTooLarge,
    ConfigurationError,
    FieldError,
    LicensingError,
    MalformedRequest,
    MethodNotAllowed,
    NotFound,
    Unauthenticated,
    UnsupportedMediaType,
)
from licensing.fields import render
from licensing.permissions import ANONYMOUS, Access
from licensing.services import Services, services
from licensing.telemetry.model import OPERATIONS
from licensing.telemetry.service import NULL_TELEMETRY, Telemetry

_log = logging.getLogger(__name__)
_MAX_BODY_BYTES = 64 * 1024
"""Of a request to a door that names no other limit: a record is far smaller."""


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
    """A request as functions see it: read as far as its door allows, not yet believed; but `caller` has signed in."""

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
        """Who asks. Only at doors that do not let anybody in."""
        if self._caller is None:
            raise AssertionError("this door asks nobody who they are")
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


class Response(NamedTuple):
    """What a function answers with."""

    body: bytes
    content_type: str
    status: int = 200
    headers: Mapping[str, str] = {}
    """Besides Content-Type; no Set-Cookie, since `_Response` is not made for it."""
    event_fields: Mapping[str, Any] = {}
    """What telemetry is told of it besides (`RequestServed`)."""


def json_response(item: Any, status: int = 200, **headers: str) -> Response:
    """The dataclass as JSON; a record's ETag as header too."""
    if etag := getattr(item, "etag", ""):
        headers["ETag"] = f'"{etag}"'
    return Response(json.dumps(render(item), ensure_ascii=False).encode(), "application/json", status, headers)


type Handler = Callable[[Request], Awaitable[Response]]


@dataclass(frozen=True, slots=True, kw_only=True)
class OperationSpec:
    """What the connector tells of a door: from it and from the records, `make connector` writes its definition.

    `takes` and `answers` are dataclasses, described by their fields (`licensing.fields`); `lists`: the answer is a page
    of them. `partial`: it takes a merge patch of them. `refuses`: the statuses that it may answer besides.
    """

    summary: str
    response_model: type | None = None
    is_list: bool = False
    status: int = 200
    request_model: type | None = None
    partial: bool = False
    query: tuple[Parameter, ...] = ()
    error_statuses: tuple[int, ...] = ()
    produces: tuple[str, ...] = ("application/json",)


class Route(NamedTuple):
    """One function's address, for those who list them."""

    methods: tuple[str, ...]
    template: str
    access: Access
    name: str
    operation: OperationSpec | None
    doc: str
    """What the handler says of itself; "" where it says nothing."""


ROUTES: list[Route] = []
"""Every door there is, in the order in which the features were imported."""


def route(  # noqa: PLR0913 - all that a door has to say
    blueprint: func.Blueprint,
    method: str,
    template: str,
    access: Access,
    operation: OperationSpec | None = None,
    *,
    name: str = "",
    max_body_bytes: int = _MAX_BODY_BYTES,
) -> Callable[[Handler], Any]:
    """A decorator that makes a function of a handler, named as the handler is, or `name`. GET serves HEAD as well."""
    methods = ("GET", "HEAD") if method == "GET" else (method,)

    def decorate(handler: Handler) -> Any:
        known = Route(methods, template, access, name or handler.__name__, operation, inspect.getdoc(handler) or "")
        ROUTES.append(known)
        return _function(blueprint, known, handler, max_body_bytes)

    return decorate


def catch_all(blueprint: func.Blueprint) -> Callable[[Handler], Any]:
    """A decorator for the handler of all that no route matches."""
    methods = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
    return lambda handler: _function(
        blueprint, Route(methods, "{*path}", ANONYMOUS, handler.__name__, None, ""), handler, _MAX_BODY_BYTES
    )


class App(func.FunctionApp):
    """A function app that cannot be indexed with a function that anybody could call unasked."""

    def get_functions(self) -> list[Any]:
        """All functions. Raises AssertionError for one that HTTP reaches, and that was not made by `route`."""
        functions: list[Any] = super().get_functions()
        for function in functions:
            name, trigger = function.get_function_name(), function.get_trigger()
            if trigger.get_binding_name() == "httpTrigger" and name not in _DECLARED:
                raise AssertionError(f"{name} does not declare who may call it: make it by licensing.http.route")
        return functions


_DECLARED: set[str] = set()
"""The functions that have said who may call them."""


def _function(blueprint: func.Blueprint, known: Route, handler: Handler, max_body_bytes: int) -> Any:
    async def function(req: func.HttpRequest, context: func.Context) -> func.HttpResponse:
        return await _serve(known, handler, req, max_body_bytes, context.invocation_id)

    _DECLARED.add(known.name)
    OPERATIONS.add(known.name)
    function.__name__ = function.__qualname__ = known.name
    function.__doc__ = handler.__doc__
    registered = blueprint.function_name(known.name)(function)
    return blueprint.route(
        route=known.template,
        methods=list(known.methods),
        auth_level=func.AuthLevel.ANONYMOUS,
        trigger_arg_name="req",
    )(registered)


async def _serve(
    known: Route, handler: Handler, req: func.HttpRequest, max_body_bytes: int, request_id: str
) -> func.HttpResponse:
    """The response. `request_id`: that of the invocation, by which Azure's own log knows it too."""
    started = time.perf_counter()
    telemetry = _telemetry()
    with telemetry.request(known.name, req.method, req.headers) as set_status:
        answer, code = await _respond(known, handler, req, max_body_bytes, request_id, telemetry)
        set_status(answer.status)
    duration_ms = (time.perf_counter() - started) * 1e3
    # The host tells of every invocation; ours is worth a line where it was refused.
    level = logging.INFO if code else logging.DEBUG
    _log.log(level, "%s %d %s %.1f ms, request %s", known.name, answer.status, code, duration_ms, request_id)
    telemetry.record(
        "RequestServed",
        function=known.name,
        status=str(answer.status),
        code=code,
        durationMs=duration_ms,
        **answer.event_fields,
    )
    headers = {
        "content-type": answer.content_type,  # as the worker looks for it
        "Cache-Control": "no-store",
        "X-Request-Id": request_id,
        "X-Content-Type-Options": "nosniff",
        **answer.headers,
    }
    return _WorkerResponse(answer.body, answer.status, headers)


class _WorkerResponse(func.HttpResponse):
    """What the worker asks of a response, and no more: to fill the library's own takes 2 % of a validation's time."""

    def __init__(self, body: bytes, status: int, headers: Mapping[str, str]) -> None:
        self._body = body
        self._status = status
        self._headers = headers

    @property
    def status_code(self) -> int:
        return self._status

    @property
    def headers(self) -> Mapping[str, str]:  # type: ignore[override]
        return self._headers

    def get_body(self) -> bytes:
        return self._body


async def _respond(  # noqa: PLR0913, PLR0917 - all that an answer depends on
    known: Route,
    handler: Handler,
    req: func.HttpRequest,
    max_body_bytes: int,
    request_id: str,
    telemetry: Telemetry,
) -> tuple[Response, str]:
    """The answer, and the code of the error where it is one."""
    try:
        body = req.get_body()
        if len(body) > max_body_bytes:
            raise BodyTooLarge(f"The request's body has {max_body_bytes:,} bytes at most.")
        parts, headers, parameters = services(), req.headers, req.route_params
        caller = None
        if known.access is not ANONYMOUS:
            token, publisher_id = headers.get("authorization"), parameters.get("publisherId")
            caller = await parts.authenticator.authenticate(known.access, token, publisher_id)
            _reject_unknown_parameters(known, req.params)
        request = Request(request_id, req.method, req.url, parameters, req.params, headers, body, parts, caller)
        return await handler(request), ""
    except LicensingError as error:
        if error.status == HTTPStatus.INTERNAL_SERVER_ERROR:  # the operator's to mend: what it says is for the log
            _log.error("%s: %s", error.code, error.detail)
        if isinstance(error, Unauthenticated):
            telemetry.record("SignInRefused", function=known.name, code=error.code)
        return _problem(error, request_id), error.code
    except Exception as error:  # noqa: BLE001 - the edge: nothing of a stranger's error reaches the caller
        place = _error_location(error)
        _log.error("%s in %s at %s, request %s", type(error).__name__, known.name, place, request_id)
        telemetry.exception(error, place)
        return _problem(LicensingError(""), request_id), LicensingError.code


def _reject_unknown_parameters(known: Route, query: Mapping[str, str]) -> None:
    """Raise MalformedRequest where the query has a parameter that the operation does not declare.

    A parameter with a typing error would be ignored, and the caller would take the whole list for the filtered one.
    Public pages are not checked: mail scanners and calendars add parameters of their own.
    """
    declared = [each.name for each in known.operation.query] if known.operation else []
    unknown = [name[:128].encode(errors="replace").decode() for name in query if name not in declared]
    if unknown:
        faults = [FieldError(name, "unknownParameter", f"There is no query parameter {name}.") for name in unknown[:10]]
        names = f"The parameters are: {', '.join(declared)}." if declared else "This address has no parameters."
        raise MalformedRequest(" ".join([*(fault.message for fault in faults), names]), errors=faults)


def _telemetry() -> Telemetry:
    """Where to tell of a request: nowhere, as long as the settings cannot be read."""
    try:
        return services().telemetry
    except ConfigurationError:
        return NULL_TELEMETRY


def _problem(error: LicensingError, request_id: str) -> Response:
    """The error as a problem document (RFC 9457)."""
    document: dict[str, Any] = {
        "type": f"urn:license-manager:problem:{error.code}",
        "title": error.title,
        "status": error.status,
        "code": error.code,
        "requestId": request_id,
    }
    if error.status == HTTPStatus.INTERNAL_SERVER_ERROR:  # without detail: see docs/protocol.md
        document |= {"title": LicensingError.title, "code": LicensingError.code}
        document["type"] = f"urn:license-manager:problem:{LicensingError.code}"
    else:
        document["detail"] = error.detail
    if error.errors:
        document["errors"] = [asdict(fault) for fault in error.errors]
    headers = {}
    if error.retry_after_seconds is not None:
        headers["Retry-After"] = str(error.retry_after_seconds)
    if isinstance(error, Unauthenticated):
        # RFC 6750, section 3: what makes a client refresh its token.
        headers["WWW-Authenticate"] = f'Bearer error="invalid_token", error_description="{error.detail}"'
    if isinstance(error, MethodNotAllowed):
        headers["Allow"] = ", ".join(error.allowed)
    body = json.dumps(document, ensure_ascii=False).encode()
    return Response(body, "application/problem+json", error.status, headers)


def _error_location(error: Exception) -> str:
    """Where in our own code it happened: no message, since that may hold what a caller sent."""
    traceback = error.__traceback__
    place = "?"
    while traceback is not None:
        module = traceback.tb_frame.f_globals.get("__name__", "")
        if module.startswith("licensing."):
            place = f"{module}:{traceback.tb_lineno}"
        traceback = traceback.tb_next
    return place


def allowed_methods(path: str) -> list[str]:
    """The methods that some route offers at this path; none where the path is nothing at all."""
    return [method for known in ROUTES if _matches(known.template, path) for method in known.methods]


def _matches(template: str, path: str) -> bool:
    pattern = "".join("[^/]+" if part.startswith("{") else re.escape(part) for part in _parts(template))
    return re.fullmatch(pattern, path, re.IGNORECASE) is not None


def _parts(template: str) -> Iterator[str]:
    return filter(None, re.split(r"(\{[^}]*\})", template))


def raise_not_found(path: str) -> Response:
    """Raise what is true of a path that no function serves: NotFound, or MethodNotAllowed."""
    if allowed := allowed_methods(path.strip("/")):
        raise MethodNotAllowed(f"Use {' or '.join(allowed)} here.", allowed=allowed)
    raise NotFound("No such path. docs/protocol.md lists those that there are.")
