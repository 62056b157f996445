"""A server that deals with every connection just as a test says: what no well-behaved server does, too."""

import json
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from email.parser import BytesParser
from typing import Any

from tests.vectors.client.parts import CLIENT, KEY_SET, claims_at, keys, product, signed

type Behaviour = Callable[[socket.socket, Request], None]


@dataclass(frozen=True)
class Request:
    line: str
    headers: dict[str, str]
    body: bytes
    at: float

    def json(self) -> dict[str, Any]:
        parsed: dict[str, Any] = json.loads(self.body)
        return parsed


@dataclass
class ScriptedServer:
    """Where it listens, what was asked, and what it does next: the last behaviour stays."""

    port: int
    behaviours: list[Behaviour]
    requests: list[Request] = field(default_factory=list)
    tls_versions: list[str | None] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def asked(self, path: str) -> list[Request]:
        return [request for request in self.requests if request.line.split()[1] == path]


@contextmanager
def scripted_server(*behaviours: Behaviour, tls: ssl.SSLContext | None = None) -> Iterator[ScriptedServer]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = ScriptedServer(listener.getsockname()[1], list(behaviours))

        def serve() -> None:
            with suppress(OSError):
                while True:
                    connection, _ = listener.accept()
                    threading.Thread(target=deal, args=(connection,), daemon=True).start()

        def deal(connection: socket.socket) -> None:
            # Whoever hangs up, or shows a certificate that nobody trusts, gets nothing.
            with (
                suppress(OSError),
                connection,
                tls.wrap_socket(connection, server_side=True) if tls else nullcontext(connection) as speaking,
            ):
                server.tls_versions.append(speaking.version() if isinstance(speaking, ssl.SSLSocket) else None)
                request = _read(speaking)
                server.requests.append(request)
                behaviour = server.behaviours[0] if len(server.behaviours) == 1 else server.behaviours.pop(0)
                behaviour(speaking, request)

        threading.Thread(target=serve, daemon=True).start()
        try:
            yield server
        finally:
            listener.shutdown(socket.SHUT_RDWR)


def _read(connection: socket.socket) -> Request:
    data = b""
    while b"\r\n\r\n" not in data:
        data += _some(connection)
    head, _, body = data.partition(b"\r\n\r\n")
    line, _, fields = head.partition(b"\r\n")
    headers = {name.lower(): value for name, value in BytesParser().parsebytes(fields).items()}
    while len(body) < int(headers.get("content-length", 0)):
        body += _some(connection)
    return Request(line.decode(), headers, body, time.monotonic())


def _some(connection: socket.socket) -> bytes:
    data = connection.recv(65536)
    if not data:
        raise ConnectionError("the client has hung up")
    return data


def says(status: str, body: bytes = b"", **headers: str) -> Behaviour:
    fields = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    head = f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n{fields}\r\n".encode()
    return lambda connection, _: connection.sendall(head + body)


def replying(key: str = "current", key_set_age_seconds: int = 0, expired: tuple[str, ...] = ()) -> Behaviour:
    """What the service does: it says that every other product is licensed, signed by this key; or gives its key set.

    In the set, which the current key has signed, is the key "later".
    """

    def behave(connection: socket.socket, request: Request) -> None:
        now = int(time.time())
        if "/keys/signed" in request.line:
            claims = {"iss": CLIENT["issuer"], "iat": now - key_set_age_seconds, "keys": [keys()["later"].public_jwk]}
            body = signed(claims, typ=KEY_SET)
        else:
            asked = request.json()
            names = [each["productName"] for each in asked["products"]]
            products = [product(name, "expired", "prompt") if name in expired else product(name) for name in names]
            body = signed(claims_at(now, *products, nonce=asked["nonce"], sub=asked["serialNumber"]), key)
        says("200 OK", body.encode())(connection, request)

    return behave


replies = replying()


def hangs(connection: socket.socket, _: Request) -> None:
    connection.recv(1)


def drips(connection: socket.socket, _: Request) -> None:
    """A body that comes letter by letter, and never ends."""
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
    while True:
        connection.sendall(b"A")
        time.sleep(0.05)


def floods(connection: socket.socket, _: Request) -> None:
    """A body without end, as fast as it goes."""
    connection.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
    while True:
        connection.sendall(b"A" * 65536)


def breaks_off(connection: socket.socket, _: Request) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
