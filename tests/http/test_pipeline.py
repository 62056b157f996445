"""The HTTP pipeline, called as the worker calls it: responses, and the log."""

import json
import logging
from collections.abc import Awaitable, Callable
from datetime import UTC, date, datetime
from typing import Any
from uuid import UUID

import azure.functions as func
import pytest

from licensing import services as services_module
from licensing.errors import (
    AlreadyExists,
    BodyTooLarge,
    Busy,
    ConfigurationError,
    Conflict,
    FieldError,
    HasChildren,
    LicensingError,
    MalformedRequest,
    MethodNotAllowed,
    NotFound,
    PreconditionFailed,
    PublisherNotFound,
    RuleBroken,
    StorageUnavailable,
    TooManyRequests,
    UnsupportedMediaType,
)
from licensing.http import endpoints as endpoints_module
from licensing.http.app import App
from licensing.http.endpoints import Endpoints, allowed_methods, raise_not_found
from licensing.http.permissions import ANONYMOUS
from licensing.http.request import Parameter, Request
from licensing.http.response import Response
from licensing.services import Services, services
from licensing.settings import Settings
from tests.support.invocation import invoke

SECRET = "planted-5ec4e7"
MEMBERS = {"type", "title", "status", "detail", "code", "requestId"}

type Handler = Callable[[Request], Awaitable[Response]]
type Call = Callable[..., Awaitable[func.HttpResponse]]


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> Call:
    """Register a handler as an endpoint, and send it one request."""
    monkeypatch.setattr(services_module, "_services", Services(Settings()))
    monkeypatch.setattr(endpoints_module, "ROUTES", [])
    caplog.set_level(logging.DEBUG)

    async def call(
        handler: Handler, body: bytes = b"", *, most: int = 999, invocation_id: str = "", **parts: Any
    ) -> func.HttpResponse:
        endpoints = Endpoints()
        endpoints.route("POST", "api/v1/things/{id}", ANONYMOUS, max_body_bytes=most)(handler)
        app = App(services)
        app.register(endpoints)
        (function,) = app.get_functions()
        request = func.HttpRequest("POST", f"/api/v1/things/7?q={SECRET}", body=body, **parts)
        return await invoke(function, request, invocation_id)

    return call


def handler_that_raises(error: BaseException) -> Handler:
    async def fail(_: Request) -> Response:
        raise error

    return fail


async def greet(request: Request) -> Response:
    return Response(request.body, "text/x-greeting", 201, {"X-Own": "1", "Cache-Control": "public"})


def problem(response: func.HttpResponse) -> dict[str, Any]:
    """The problem document; its request id is that of the header."""
    assert response.headers["Content-Type"] == "application/problem+json"
    document: dict[str, Any] = json.loads(response.get_body())
    assert document["status"] == response.status_code
    assert document["requestId"] == response.headers["X-Request-Id"]
    assert UUID(document["requestId"]).version == 4
    return document


# --- answers


async def test_endpoint_passes_response_on_and_its_headers_override_defaults(call: Call) -> None:
    response = await call(greet, b"hello")
    assert (response.status_code, response.headers["Content-Type"], response.get_body()) == (
        201,
        "text/x-greeting",
        b"hello",
    )
    assert response.headers["X-Own"] == "1"
    assert response.headers["Cache-Control"] == "public"
    assert response.headers["X-Content-Type-Options"] == "nosniff"


async def test_endpoint_passes_request_parts_and_id_to_the_handler(call: Call) -> None:
    seen: list[Request] = []

    async def look(request: Request) -> Response:
        seen.append(request)
        return Response(b"", "text/plain")

    response = await call(look, b"body", headers={"X-Any": "1"}, params={"q": "1"}, route_params={"id": "7"}, most=4)
    (request,) = seen
    assert (request.method, request.body, request.id) == ("POST", b"body", response.headers["X-Request-Id"])
    assert (request.headers["x-any"], request.query["q"], request.route_params["id"]) == ("1", "1", "7")
    assert request.services is services()


async def test_endpoint_uses_invocation_id_as_request_id(call: Call) -> None:
    known: list[str] = []

    async def note(request: Request) -> Response:
        known.append(request.id)
        return await greet(request)

    seen = [(await call(note, invocation_id=each)).headers["X-Request-Id"] for each in ("one", "two")]
    assert seen == known == ["one", "two"]


@pytest.mark.parametrize(("length", "status"), [(4, 201), (5, 413)])
async def test_endpoint_accepts_bodies_up_to_max_body_bytes(call: Call, length: int, status: int) -> None:
    assert (await call(greet, b"x" * length, most=4)).status_code == status


# --- errors

ERRORS: list[tuple[LicensingError, int, str]] = [
    (MalformedRequest("Why."), 400, "malformedRequest"),
    (NotFound("Why."), 404, "notFound"),
    (PublisherNotFound("Why."), 404, "publisherNotFound"),
    (MethodNotAllowed("Why.", allowed=["GET", "HEAD"]), 405, "methodNotAllowed"),
    (Conflict("Why."), 409, "conflict"),
    (AlreadyExists("Why."), 409, "alreadyExists"),
    (HasChildren("Why."), 409, "hasChildren"),
    (PreconditionFailed("Why."), 412, "preconditionFailed"),
    (BodyTooLarge("Why."), 413, "bodyTooLarge"),
    (UnsupportedMediaType("Why."), 415, "unsupportedMediaType"),
    (RuleBroken("Why."), 422, "ruleBroken"),
    (TooManyRequests("Why.", retry_after_seconds=7), 429, "tooManyRequests"),
    (StorageUnavailable("Why.", retry_after_seconds=7), 503, "storageUnavailable"),
    (Busy("Why.", retry_after_seconds=7), 503, "busy"),
]


@pytest.mark.parametrize(("error", "status", "code"), ERRORS, ids=[case[2] for case in ERRORS])
async def test_endpoint_on_licensing_error_returns_problem_document(
    call: Call, error: LicensingError, status: int, code: str
) -> None:
    response = await call(handler_that_raises(error))
    document = problem(response)
    assert set(document) == MEMBERS
    assert (document["status"], document["code"], document["detail"]) == (status, code, "Why.")
    assert (document["type"], document["title"]) == (f"urn:license-manager:problem:{code}", error.title)
    assert response.headers.get("Retry-After") == ("7" if status in (429, 503) else None)
    assert response.headers.get("Allow") == ("GET, HEAD" if status == 405 else None)
    assert response.headers["Cache-Control"] == "no-store"
    assert response.headers["X-Content-Type-Options"] == "nosniff"


async def test_endpoint_on_field_errors_lists_them_in_the_problem_document(call: Call) -> None:
    fault = FieldError("numberOfUsers", "usersOrSite", "Fill in No. of Users.")
    document = problem(await call(handler_that_raises(RuleBroken("Why.", errors=[fault]))))
    assert document["errors"] == [{"field": "numberOfUsers", "code": "usersOrSite", "message": "Fill in No. of Users."}]


def unexpected() -> list[BaseException]:
    chained = KeyError(SECRET)
    chained.__cause__ = ValueError(SECRET)
    noted = RuntimeError(SECRET)
    noted.add_note(SECRET)
    return [
        ValueError(SECRET),
        chained,
        noted,
        ExceptionGroup(SECRET, [ValueError(SECRET)]),
        UnicodeDecodeError("utf-8", SECRET.encode(), 0, 1, SECRET),
        MemoryError(SECRET),
        RecursionError(SECRET),
        TimeoutError(SECRET),
        type(f"Strange{'Error'}", (Exception,), {})(SECRET),
    ]


@pytest.mark.parametrize("error", unexpected(), ids=lambda error: type(error).__name__)
async def test_endpoint_on_unexpected_exception_returns_500_without_its_message(
    call: Call, caplog: pytest.LogCaptureFixture, error: BaseException
) -> None:
    response = await call(handler_that_raises(error))
    document = problem(response)
    assert set(document) == MEMBERS - {"detail"}
    assert (document["status"], document["code"]) == (500, "internalError")
    assert type(error).__name__ not in json.dumps(document)
    assert SECRET not in response.get_body().decode() + str(dict(response.headers))
    assert SECRET not in caplog.text
    (told,) = (record for record in caplog.records if record.levelno == logging.ERROR)
    assert told.exc_info is None
    # What and where, for the operator; whose it was is found by the request's id.
    assert type(error).__name__ in told.getMessage()
    assert "licensing.http.pipeline:" in told.getMessage()
    assert document["requestId"] in told.getMessage()


async def test_endpoint_on_configuration_error_logs_detail_and_returns_generic_500(
    call: Call, caplog: pytest.LogCaptureFixture
) -> None:
    response = await call(handler_that_raises(ConfigurationError("LICENSING_STORAGE is not set.")))
    document = problem(response)
    assert (document["status"], document["code"]) == (500, "internalError")
    assert (document["title"], document["type"]) == (LicensingError.title, "urn:license-manager:problem:internalError")
    assert "LICENSING" not in response.get_body().decode()
    assert "configuration" not in response.get_body().decode()
    assert "LICENSING_STORAGE is not set." in caplog.text


async def test_endpoint_with_invalid_settings_returns_500_and_logs_setting_name(
    call: Call, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(services_module, "_services", None)
    monkeypatch.setenv("LICENSING_REPLY_DAYS", SECRET)
    assert problem(await call(greet))["code"] == "internalError"
    assert "LICENSING_REPLY_DAYS" in caplog.text
    assert SECRET not in caplog.text


# --- the log


@pytest.mark.parametrize(
    ("handler", "told"),
    [
        (greet, "greet 201"),
        (handler_that_raises(NotFound(SECRET)), "fail 404 notFound"),
        (
            handler_that_raises(MalformedRequest(SECRET, errors=[FieldError("field", "code", SECRET)])),
            "fail 400 malformedRequest",
        ),
        (handler_that_raises(ConfigurationError("Set it.")), "fail 500 configurationError"),
        (handler_that_raises(ValueError(SECRET)), "fail 500 internalError"),
    ],
    ids=["served", "not found", "malformed", "not set up", "broken"],
)
async def test_endpoint_logs_one_event_per_request_without_request_data(
    call: Call, caplog: pytest.LogCaptureFixture, handler: Handler, told: str
) -> None:
    response = await call(
        handler, SECRET.encode(), headers={"x-planted": SECRET}, params={"q": SECRET}, route_params={"id": SECRET}
    )
    (event,) = (record for record in caplog.records if record.levelno in (logging.DEBUG, logging.INFO))
    assert (event.levelno == logging.INFO) == (response.status_code >= 400), "the host tells of the others"
    assert " ".join(event.getMessage().split()).startswith(told)
    assert response.headers["X-Request-Id"] in event.getMessage()
    assert SECRET not in caplog.text


# --- the body as JSON


def request_with_body(body: bytes, content_type: str = "application/json") -> Request:
    return Request("id", "POST", "/", {}, {}, {"content-type": content_type}, body, Services(Settings()))


@pytest.mark.parametrize(
    ("body", "value"),
    [
        (b'{"a": [1, 2.5, null, true, "\xc3\xb6"]}', {"a": [1, 2.5, None, True, "ö"]}),
        (b"\xef\xbb\xbf{}", {}),
        (b' "x" ', "x"),
        (b'{"a": {"b": 1}, "b": 2}', {"a": {"b": 1}, "b": 2}),
    ],
)
def test_request_json_parses_valid_body(body: bytes, value: Any) -> None:
    assert request_with_body(body).json() == value


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"\xff",
        b'{"a": 1, "a": 1}',
        b'[{"a": 1, "\\u0061": 2}]',
        b"NaN",
        b"[Infinity]",
        b"[" * 100_000,
        b"9" * 5_000,
        SECRET.encode(),
    ],
    ids=repr,
)
def test_request_json_with_invalid_body_raises_without_echo(body: bytes) -> None:
    with pytest.raises(MalformedRequest) as caught:
        request_with_body(body).json()
    assert SECRET not in caught.value.detail


@pytest.mark.parametrize("content_type", ["", "text/plain", "application/json-seq", "application/merge-patch+json"])
def test_request_json_with_other_media_type_raises_unsupported_media_type(content_type: str) -> None:
    with pytest.raises(UnsupportedMediaType):
        request_with_body(b"{}", content_type).json()


# --- routes


def test_app_with_function_without_declared_access_fails_indexing() -> None:
    blueprint = func.Blueprint()

    @blueprint.function_name("open_to_all")
    @blueprint.route(route="api/v1/open", auth_level=func.AuthLevel.ANONYMOUS, trigger_arg_name="req")
    async def open_to_all(req: func.HttpRequest) -> str:
        return str(req.method)

    app = App(services)
    app.register_functions(blueprint)
    with pytest.raises(AssertionError, match="open_to_all does not declare who may call it"):
        app.get_functions()


def test_route_without_access_raises_type_error() -> None:
    with pytest.raises(TypeError, match="access"):
        Endpoints().route("GET", "api/v1/open")  # type: ignore[call-arg]


async def empty_handler(_: Request) -> Response:
    return Response(b"", "text/plain")


@pytest.mark.parametrize(
    ("path", "methods"),
    [
        ("things", ["GET", "HEAD", "POST"]),
        ("THINGS", ["GET", "HEAD", "POST"]),
        ("things/7", ["GET", "HEAD", "DELETE"]),
        ("things/7/parts", []),
        ("things/", []),
        ("thing", []),
        ("xthings", []),
        ("a.b", ["GET", "HEAD"]),
        ("aXb", []),
        ("", []),
    ],
)
def test_allowed_methods_decides_between_method_not_allowed_and_not_found(
    monkeypatch: pytest.MonkeyPatch, path: str, methods: list[str]
) -> None:
    monkeypatch.setattr(endpoints_module, "ROUTES", [])
    for method, template in (
        ("GET", "things"),
        ("POST", "things"),
        ("GET", "things/{id}"),
        ("DELETE", "things/{id}"),
        ("GET", "a.b"),
    ):
        Endpoints().route(method, template, ANONYMOUS)(empty_handler)
    assert allowed_methods(path) == methods
    if methods:
        with pytest.raises(MethodNotAllowed) as caught:
            raise_not_found(f"/{path}/")
        assert list(caught.value.allowed) == methods
    elif not path.endswith("/"):
        with pytest.raises(NotFound):
            raise_not_found(path)


# --- the query


PARAMETERS = {
    "text": Parameter("text", "Text", "Any."),
    "number": Parameter("number", "Number", "From 1 to 200.", int, 50, (1, 200)),
    "flag": Parameter("flag", "Flag", "true or false.", bool, default=False),
    "day": Parameter("day", "Day", "As 2026-11-24.", date),
    "instant": Parameter("instant", "Instant", "As 2026-11-24T00:00:00Z.", datetime),
}


async def read(call: Call, **query: str) -> Any:
    """The value of this one query parameter, or the field at fault."""
    ((name, _),) = query.items()
    seen = []

    async def look(request: Request) -> Response:
        seen.append(request.parameter(PARAMETERS[name]))
        return Response(b"", "text/plain")

    response = await call(look, params=query)
    return seen[0] if seen else problem(response)["errors"][0]["field"]


@pytest.mark.parametrize(
    ("name", "given", "expected"),
    [
        ("text", " Fabrikam ", "Fabrikam"),
        ("text", "", None),
        ("number", "200", 200),
        ("number", "", 50),
        ("flag", "True", True),
        ("day", "2024-02-29", date(2024, 2, 29)),
        ("instant", "2026-11-24T02:00:00.5+02:00", datetime(2026, 11, 24, 0, 0, 0, 500_000, UTC)),
        ("instant", "2026-11-24T02:00:00 02:00", datetime(2026, 11, 24, 0, 0, 0, 0, UTC)),
        ("instant", "2026-11-24t00:00:00z", datetime(2026, 11, 24, 0, 0, 0, 0, UTC)),
    ],
)
async def test_request_parameter_parses_valid_value(call: Call, name: str, given: str, expected: Any) -> None:
    assert await read(call, **{name: given}) == expected


@pytest.mark.parametrize(
    ("name", "given"),
    [
        *(("number", given) for given in ("0", "201", "5.0", " 5", "5\x85", "\x85", "\u0665", "1_0", "9" * 5000)),
        *(("flag", given) for given in ("1", "yes", " true")),
        *(("day", given) for given in ("20261124", "2026-W48-2", "2026-02-29", "2026-11-24T00:00:00Z")),
        *(
            ("instant", given)
            for given in ("2026-11-24", "2026-11-24T00:00:00", "2026-11-24T00:00Z", "20261124T000000Z")
        ),
    ],
)
async def test_request_parameter_rejects_ambiguous_value(call: Call, name: str, given: str) -> None:
    assert await read(call, **{name: given}) == name
