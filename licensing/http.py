"""The one door to every function: limits, request id, problem documents, headers, and one log event a request."""

import json
import logging
import re
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from http import HTTPStatus
from typing import Any, NamedTuple
from uuid import uuid4

import azure.functions as func

from licensing import strict_json
from licensing.errors import (
    BodyTooLarge,
    LicensingError,
    MalformedRequest,
    MethodNotAllowed,
    NotFound,
    Unauthenticated,
    UnsupportedMediaType,
)
from licensing.services import Services, services

_log = logging.getLogger(__name__)


class Access(StrEnum):
    """Who may come through a door. Every door says so."""

    ANONYMOUS = "anonymous"


@dataclass(frozen=True, slots=True)
class Request:
    """A request as functions see it: read as far as its door allows, not yet believed."""

    id: str
    method: str
    route_params: Mapping[str, str]
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes
    services: Services

    def json(self) -> Any:
        """The body as JSON (RFC 8259), UTF-8, no member twice. Raises UnsupportedMediaType, MalformedRequest."""
        media_type = self.headers.get("content-type", "").partition(";")[0].strip().lower()
        if media_type != "application/json":
            raise UnsupportedMediaType("Send the request as Content-Type: application/json.")
        try:
            return strict_json.parse(self.body.decode("utf-8-sig"))
        except ValueError:
            raise MalformedRequest(
                "The request's body is not valid JSON in UTF-8, is nested too deeply, or has a member twice."
            ) from None


@dataclass(frozen=True, slots=True)
class Answer:
    """What a function answers with."""

    body: bytes
    content_type: str
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)


type Handler = Callable[[Request], Awaitable[Answer]]


class Route(NamedTuple):
    """One function's address, for those who list them."""

    methods: tuple[str, ...]
    template: str
    access: Access


ROUTES: list[Route] = []
"""Every door there is, in the order in which the features were imported."""


def route(
    blueprint: func.Blueprint, method: str, template: str, access: Access, *, max_body_bytes: int = 0
) -> Callable[[Handler], Any]:
    """A decorator that makes a function of a handler, named as the handler is. GET serves HEAD as well."""
    methods = ("GET", "HEAD") if method == "GET" else (method,)
    ROUTES.append(Route(methods, template, access))
    return _function(blueprint, methods, template, max_body_bytes)


def route_the_rest(blueprint: func.Blueprint) -> Callable[[Handler], Any]:
    """A decorator for the handler of all that no route matches."""
    methods = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
    return _function(blueprint, methods, "{*path}", 0)


def _function(
    blueprint: func.Blueprint, methods: Sequence[str], template: str, max_body_bytes: int
) -> Callable[[Handler], Any]:
    def decorate(handler: Handler) -> Any:
        name = handler.__name__

        async def function(req: func.HttpRequest) -> func.HttpResponse:
            return await _serve(name, handler, req, max_body_bytes)

        function.__name__ = function.__qualname__ = name
        function.__doc__ = handler.__doc__
        registered = blueprint.function_name(name)(function)
        return blueprint.route(
            route=template, methods=list(methods), auth_level=func.AuthLevel.ANONYMOUS, trigger_arg_name="req"
        )(registered)

    return decorate


async def _serve(name: str, handler: Handler, req: func.HttpRequest, max_body_bytes: int) -> func.HttpResponse:
    started = time.perf_counter()
    request_id = str(uuid4())
    code, level = "", logging.DEBUG  # the host tells of every invocation; ours is worth a line where it was refused
    try:
        body = req.get_body()
        if len(body) > max_body_bytes > 0:
            raise BodyTooLarge(f"The request's body has {max_body_bytes:,} bytes at most.")
        request = Request(request_id, req.method, req.route_params, req.params, req.headers, body, services())
        answer = await handler(request)
    except LicensingError as error:
        code, level = error.code, logging.INFO
        answer = _problem(error, request_id)
        if error.status == HTTPStatus.INTERNAL_SERVER_ERROR:  # the operator's to mend: what it says is for the log
            _log.error("%s: %s", code, error.detail)
    except Exception as error:  # noqa: BLE001 - the edge: nothing of a stranger's error reaches the caller
        code, level = LicensingError.code, logging.INFO
        answer = _problem(LicensingError(""), request_id)
        _log.error("%s in %s at %s, request %s", type(error).__name__, name, _place(error), request_id)
    duration_ms = (time.perf_counter() - started) * 1e3
    _log.log(level, "%s %d %s %.1f ms, request %s", name, answer.status, code, duration_ms, request_id)
    return func.HttpResponse(
        answer.body,
        status_code=answer.status,
        headers={
            "Content-Type": answer.content_type,
            "Cache-Control": "no-store",
            "X-Request-Id": request_id,
            "X-Content-Type-Options": "nosniff",
            **answer.headers,
        },
    )


def _problem(error: LicensingError, request_id: str) -> Answer:
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
    return Answer(body, "application/problem+json", error.status, headers)


def _place(error: Exception) -> str:
    """Where in our own code it happened: no message, since that may hold what a caller sent."""
    traceback = error.__traceback__
    place = "?"
    while traceback is not None:
        module = traceback.tb_frame.f_globals.get("__name__", "")
        if module.startswith("licensing."):
            place = f"{module}:{traceback.tb_lineno}"
        traceback = traceback.tb_next
    return place


def methods_offered(path: str) -> list[str]:
    """The methods that some route offers at this path; none where the path is nothing at all."""
    return [method for known in ROUTES if _matches(known.template, path) for method in known.methods]


def _matches(template: str, path: str) -> bool:
    pattern = "".join("[^/]+" if part.startswith("{") else re.escape(part) for part in _parts(template))
    return re.fullmatch(pattern, path, re.IGNORECASE) is not None


def _parts(template: str) -> Iterator[str]:
    return filter(None, re.split(r"(\{[^}]*\})", template))


def refuse(path: str) -> Answer:
    """Raise what is true of a path that no function serves: NotFound, or MethodNotAllowed."""
    if allowed := methods_offered(path.strip("/")):
        raise MethodNotAllowed(f"Use {' or '.join(allowed)} here.", allowed=allowed)
    raise NotFound("No such path. docs/protocol.md lists those that there are.")
