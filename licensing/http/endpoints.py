"""The declaration of a feature's functions: endpoints with their access and operation, and timers."""

import inspect
import re
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from licensing.errors import MethodNotAllowed, NotFound
from licensing.http.permissions import ANONYMOUS, Access
from licensing.http.request import Parameter, Request, Services
from licensing.http.response import Response
from licensing.settings import Settings
from licensing.telemetry.model import OPERATIONS

MAX_BODY_BYTES = 64 * 1024
"""Limit of an endpoint that sets no other. A record is far smaller."""

type Handler = Callable[[Request], Awaitable[Response]]
type TimerHandler = Callable[[Services], Awaitable[None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class OperationSpec:
    """An operation of the connector. From these and from the records, `make connector` writes its definition.

    `request_model` and `response_model` are dataclasses, described by their fields (`licensing.fields`). `is_list`: the
    response is a page of them. `partial`: the request is a merge patch. `error_statuses`: further possible statuses.
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
    """The address of a function."""

    methods: tuple[str, ...]
    template: str
    access: Access
    name: str
    operation: OperationSpec | None
    doc: str
    """The docstring of the handler."""


ROUTES: list[Route] = []
"""The routes of all endpoints, in the order in which the features were imported."""


class Endpoint(NamedTuple):
    route: Route
    handler: Handler
    max_body_bytes: int


class Timer(NamedTuple):
    name: str
    schedule: Callable[[Settings], str]
    """The NCRONTAB expression."""
    handler: TimerHandler


@dataclass
class Endpoints:
    """The functions of one feature. `licensing.http.app.App.register` registers them as Azure functions."""

    endpoints: list[Endpoint] = field(default_factory=list)
    timers: list[Timer] = field(default_factory=list)

    def route(  # noqa: PLR0913 - all that an endpoint declares
        self,
        method: str,
        template: str,
        access: Access,
        operation: OperationSpec | None = None,
        *,
        name: str = "",
        max_body_bytes: int = MAX_BODY_BYTES,
    ) -> Callable[[Handler], Handler]:
        """Register the decorated handler. The function has the handler's name, or `name`. GET serves HEAD as well."""
        methods = ("GET", "HEAD") if method == "GET" else (method,)

        def register(handler: Handler) -> Handler:
            doc = inspect.getdoc(handler) or ""
            route = Route(methods, template, access, name or handler.__name__, operation, doc)
            ROUTES.append(route)
            OPERATIONS.add(route.name)
            self.endpoints.append(Endpoint(route, handler, max_body_bytes))
            return handler

        return register

    def catch_all(self, handler: Handler) -> Handler:
        """Register the decorated handler for every path that no route matches."""
        methods = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
        route = Route(methods, "{*path}", ANONYMOUS, handler.__name__, None, "")
        OPERATIONS.add(route.name)
        self.endpoints.append(Endpoint(route, handler, MAX_BODY_BYTES))
        return handler

    def timer(self, schedule: Callable[[Settings], str]) -> Callable[[TimerHandler], TimerHandler]:
        """Register the decorated handler as a timer. `schedule` takes its NCRONTAB expression from the settings."""

        def register(handler: TimerHandler) -> TimerHandler:
            self.timers.append(Timer(handler.__name__, schedule, handler))
            return handler

        return register


def allowed_methods(path: str) -> list[str]:
    """The methods that some route offers at this path; none where the path is nothing at all."""
    return [method for known in ROUTES if _matches(known.template, path) for method in known.methods]


def _matches(template: str, path: str) -> bool:
    pattern = "".join("[^/]+" if part.startswith("{") else re.escape(part) for part in _parts(template))
    return re.fullmatch(pattern, path, re.IGNORECASE) is not None


def _parts(template: str) -> Iterator[str]:
    return filter(None, re.split(r"(\{[^}]*\})", template))


def raise_not_found(path: str) -> Response:
    """Raise NotFound or MethodNotAllowed for a path that no function serves."""
    if allowed := allowed_methods(path.strip("/")):
        raise MethodNotAllowed(f"Use {' or '.join(allowed)} here.", allowed=allowed)
    raise NotFound("No such path. docs/protocol.md lists those that there are.")
