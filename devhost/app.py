"""The ASGI app: from a request to a function and back, as the Functions host does it.

What the worker is told of a request is what Azure's host tells it: header names in lower case; several values
of one header or one query parameter joined by a comma; empty query parameters left out.
"""

import hmac
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any
from urllib.parse import parse_qsl, unquote

from devhost.config import HostConfig
from devhost.errors import StartError
from devhost.routes import RouteTable
from devhost.timers import Timer
from devhost.worker import Function, Request, Response, Worker

type Scope = dict[str, Any]
type Receive = Callable[[], Awaitable[dict[str, Any]]]
type Send = Callable[[dict[str, Any]], Awaitable[None]]

BODY_LIMIT_BYTES = 100 * 1024 * 1024
_LOOPBACK = re.compile(rb"(127\.0\.0\.1|localhost|\[::1\])(:\d+)?")
_ENCODED_SLASH = re.compile(b"%(?=2f)", re.IGNORECASE)
_TIMER = re.compile("/admin/functions/([^/]+)/?")
_WITHOUT_BODY = (204, 304)
# What says where a body ends is the server's business.
_OF_THE_SERVER = (b"content-length", b"transfer-encoding", b"connection")


class App:
    """Answers every request: a function's, one to fire a timer by hand, or 404."""

    def __init__(self, worker: Worker, timers: Mapping[str, Timer], config: HostConfig, keys: "Keys") -> None:
        self._worker = worker
        self._timers = timers
        self._keys = keys
        self._routes = lay_out(worker.functions, config.route_prefix)
        self._headers = [(name.lower().encode(), value.encode()) for name, value in config.custom_headers.items()]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        response = await self._respond(scope, receive)
        headers = self._all_headers(scope, response)
        await send({"type": "http.response.start", "status": response.status, "headers": headers})
        body = b"" if response.status in _WITHOUT_BODY else response.body
        await send({"type": "http.response.body", "body": body})

    async def _respond(self, scope: Scope, receive: Receive) -> Response:
        path, method, headers = _path(scope), scope["method"], _headers(scope)
        if path.lower().startswith("/admin/"):
            return self._fire(path, method, headers, scope)
        match = self._routes.find(path, method)
        if match is None:
            return Response(404)
        query = _query(scope["query_string"])
        if not self._keys.open(match.target, headers, query):
            return Response(401)
        body = await _receive_body(headers, receive)
        if body is None:
            return Response(413)
        url = f"{scope['scheme']}://{headers.get('host', '')}{_target(scope)}"
        request = Request(method, url, headers, query, match.parameters, body)
        return await self._worker.answer(match.target, request)

    def _fire(self, path: str, method: str, headers: Mapping[str, str], scope: Scope) -> Response:
        """Start a timer's function by hand: 202, and it runs. For programs here, not for web pages."""
        of_this_machine = (scope["client"] or ("",))[0] in ("127.0.0.1", "::1") and _LOOPBACK.fullmatch(
            headers.get("host", "").encode()
        )
        if not of_this_machine or "origin" in headers:
            return Response(403)
        match = _TIMER.fullmatch(path)
        timer = self._timers.get(match[1].lower()) if match and method == "POST" else None
        if timer is None:
            return Response(404)
        timer.fire_soon()
        return Response(202)

    def _all_headers(self, scope: Scope, response: Response) -> list[tuple[bytes, bytes]]:
        headers = [header for header in response.headers if header[0] not in _OF_THE_SERVER] + self._headers
        if response.status not in _WITHOUT_BODY:
            length = str(len(response.body)).encode()
            if scope["method"] == "HEAD":  # a function may know the length of what it does not send
                length = dict(response.headers).get(b"content-length", length)
            headers.append((b"content-length", length))
        return headers


class Keys:
    """The keys for functions that ask for one."""

    def __init__(self, function_key: str, master_key: str) -> None:
        self._of_level = {
            "FUNCTION": (function_key.encode(), master_key.encode()),
            "ADMIN": (master_key.encode(),),
        }

    def needed(self, functions: Sequence[Function]) -> bool:
        """Whether any of these functions asks for a key."""
        return any(_level(function) in self._of_level for function in functions)

    def open(self, function: Function, headers: Mapping[str, str], query: Mapping[str, str]) -> bool:
        """Whether a request may reach the function, by x-functions-key, or ?code= where that is missing."""
        keys = self._of_level.get(_level(function))
        if keys is None:
            return True
        given = (headers.get("x-functions-key") or query.get("code", "")).encode()
        return any(hmac.compare_digest(given, key) for key in keys)


def lay_out(functions: Sequence[Function], route_prefix: str) -> RouteTable[Function]:
    """Return the routes of all HTTP functions. Raises StartError for what Azure refuses: two on one."""
    routes: RouteTable[Function] = RouteTable()
    for function in functions:
        if function.trigger["type"] == "httpTrigger":
            route = (function.trigger.get("route") or function.name).strip("/")
            if route.lower().startswith("admin"):
                raise StartError(f"{function}: Azure keeps routes that start with 'admin' to itself: {route!r}.")
            methods = function.trigger.get("methods") or ()
            routes.add(f"{route_prefix}/{route}", methods, function)
    return routes


def _level(function: Function) -> str:
    return str(function.trigger.get("authLevel", "FUNCTION")).upper()


def _path(scope: Scope) -> str:
    """Return the path, decoded as Azure's web server does: all but %2F, which is no end of a segment."""
    raw: bytes = scope["raw_path"]
    if b"%" not in raw:
        return str(scope["path"])
    return unquote(_ENCODED_SLASH.sub(b"%25", raw).decode("latin-1"))


def _target(scope: Scope) -> str:
    path, query = scope["raw_path"].decode("latin-1"), scope["query_string"].decode("latin-1")
    return f"{path}?{query}" if query else path


def _headers(scope: Scope) -> dict[str, str]:
    headers: dict[str, str] = {}
    for raw_name, raw_value in scope["headers"]:
        name, value = raw_name.decode("latin-1"), raw_value.decode("latin-1")
        headers[name] = f"{headers[name]},{value}" if name in headers else value
    return headers


def _query(raw: bytes) -> dict[str, str]:
    query: dict[str, str] = {}
    if raw:
        for name, value in parse_qsl(raw.decode("latin-1")):
            query[name] = f"{query[name]},{value}" if name in query else value
    return query


async def _receive_body(headers: Mapping[str, str], receive: Receive) -> bytes | None:
    """Return the whole body, or None where it is too long or its sender has gone before its end.

    The server reads past what is left of a body that is too long.
    """
    if "content-length" not in headers and "transfer-encoding" not in headers:
        return b""
    if int(headers.get("content-length", 0)) > BODY_LIMIT_BYTES:
        return None
    body = bytearray()
    while len(body) <= BODY_LIMIT_BYTES:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        body += message["body"]
        if not message["more_body"]:
            return bytes(body) if len(body) <= BODY_LIMIT_BYTES else None
    return None
