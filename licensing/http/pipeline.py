"""One request: limits, authentication, the handler, problem documents, headers, and telemetry.

The only place where an error becomes a response.
"""

import json
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from http import HTTPStatus
from typing import Any

import azure.functions as func

from licensing.errors import (
    BodyTooLarge,
    ConfigurationError,
    FieldError,
    LicensingError,
    MalformedRequest,
    MethodNotAllowed,
    Unauthenticated,
)
from licensing.http.endpoints import Endpoint, Route
from licensing.http.permissions import ANONYMOUS
from licensing.http.request import Request, Services
from licensing.http.response import Response
from licensing.telemetry.service import NULL_TELEMETRY, Telemetry

_log = logging.getLogger(__name__)


async def serve(
    endpoint: Endpoint, req: func.HttpRequest, request_id: str, services: Callable[[], Services]
) -> func.HttpResponse:
    """Return the response of the endpoint.

    `request_id`: the id of the invocation, which Azure's own log has too. `services` may raise ConfigurationError.
    """
    started = time.perf_counter()
    name, parts, telemetry = endpoint.route.name, _resolved(services), NULL_TELEMETRY
    if not isinstance(parts, ConfigurationError):
        telemetry = parts.telemetry
    with telemetry.request(name, req.method, req.headers) as set_status:
        response, code = await _respond(endpoint, req, request_id, parts, telemetry)
        set_status(response.status)
    duration_ms = (time.perf_counter() - started) * 1e3
    # The host logs every invocation. Refused requests are worth a line of ours.
    level = logging.INFO if code else logging.DEBUG
    _log.log(level, "%s %d %s %.1f ms, request %s", name, response.status, code, duration_ms, request_id)
    telemetry.record(
        "RequestServed",
        function=name,
        status=str(response.status),
        code=code,
        durationMs=duration_ms,
        **response.event_fields,
    )
    headers = {
        "content-type": response.content_type,  # as the worker looks for it
        "Cache-Control": "no-store",
        "X-Request-Id": request_id,
        "X-Content-Type-Options": "nosniff",
        **response.headers,
    }
    return func.HttpResponse(response.body, status_code=response.status, headers=headers)


async def _respond(
    endpoint: Endpoint,
    req: func.HttpRequest,
    request_id: str,
    services: Services | ConfigurationError,
    telemetry: Telemetry,
) -> tuple[Response, str]:
    """The response, and the code of the error where it is one."""
    route = endpoint.route
    try:
        body = req.get_body()
        if len(body) > endpoint.max_body_bytes:
            raise BodyTooLarge(f"The request's body has {endpoint.max_body_bytes:,} bytes at most.")
        if isinstance(services, ConfigurationError):
            raise services
        headers, parameters = req.headers, req.route_params
        caller = None
        if route.access is not ANONYMOUS:
            token, publisher_id = headers.get("authorization"), parameters.get("publisherId")
            caller = await services.authenticate(route.access, token, publisher_id)
            _reject_unknown_parameters(route, req.params)
        request = Request(request_id, req.method, req.url, parameters, req.params, headers, body, services, caller)
        return await endpoint.handler(request), ""
    except LicensingError as error:
        if error.status == HTTPStatus.INTERNAL_SERVER_ERROR:  # for the operator to fix: its detail is for the log
            _log.error("%s: %s", error.code, error.detail)
        if isinstance(error, Unauthenticated):
            telemetry.record("SignInRefused", function=route.name, code=error.code)
        return _problem(error, request_id), error.code
    except Exception as error:  # noqa: BLE001 - the edge: no text of an unexpected error reaches the caller
        location = _error_location(error)
        _log.error("%s in %s at %s, request %s", type(error).__name__, route.name, location, request_id)
        telemetry.exception(error, location)
        return _problem(LicensingError(""), request_id), LicensingError.code


def _resolved(services: Callable[[], Services]) -> Services | ConfigurationError:
    """The services; the error while the settings are not valid."""
    try:
        return services()
    except ConfigurationError as error:
        return error


def _reject_unknown_parameters(route: Route, query: Mapping[str, str]) -> None:
    """Raise MalformedRequest where the query has a parameter that the operation does not declare.

    A parameter with a typing error would be ignored, and the caller would take the whole list for the filtered one.
    Public pages are not checked: mail scanners and calendars add parameters of their own.
    """
    declared = [each.name for each in route.operation.query] if route.operation else []
    unknown = [name[:128].encode(errors="replace").decode() for name in query if name not in declared]
    if unknown:
        faults = [FieldError(name, "unknownParameter", f"There is no query parameter {name}.") for name in unknown[:10]]
        names = f"The parameters are: {', '.join(declared)}." if declared else "This address has no parameters."
        raise MalformedRequest(" ".join([*(fault.message for fault in faults), names]), errors=faults)


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
