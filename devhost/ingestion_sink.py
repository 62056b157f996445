"""A local ingestion endpoint, so that telemetry is real and stays here: it takes what Application Insights takes."""

import json
import zlib
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, NamedTuple, Self

from markupsafe import Markup

from devhost import server
from devhost.app import Receive, Scope, Send
from devhost.pages import HTML, JSON, Found, is_local, joined, page, quiet_server, serving, show

MOST_KEPT = 1000
MAX_SHOWN = 200
MOST_BYTES = 8 * 1024 * 1024
"""Of one request, packed or unpacked."""
_MOST_BYTES_EACH = 64 * 1024
"""Of one envelope, as in Azure; so what is kept is bounded too."""
_KEY = "10ca1000-0000-4000-8000-000000000001"
_NOTICE = "A LOCAL endpoint: nothing leaves this machine."

type Envelope = Mapping[str, Any]
type Answering = Callable[[Sequence[Envelope]], Awaitable["Answer"]]
"""What becomes of a request's envelopes."""


class Answer(NamedTuple):
    """What a sender is told: the status, the document, and headers beside."""

    status: int
    document: Mapping[str, Any]
    headers: Mapping[str, str] = {}


@dataclass(frozen=True)
class Ingestion:
    """Where telemetry goes, and where it can be read."""

    url: str

    @property
    def connection_string(self) -> str:
        return f"InstrumentationKey={_KEY};IngestionEndpoint={self.url}/;LiveEndpoint={self.url}/"


async def accept(envelopes: Sequence[Envelope]) -> Answer:
    """What Application Insights answers where all is well."""
    return Answer(200, {"itemsReceived": len(envelopes), "itemsAccepted": len(envelopes), "errors": []})


@contextmanager
def collecting(port: int = 0, answer: Answering = accept) -> Iterator[Ingestion]:
    """An endpoint that takes telemetry until the block ends, at a free port where none is named.

    `answer` may refuse a request's envelopes, or some of them, or let their sender wait.
    """
    with server.listen(server.LOOPBACK, port) as listener:
        sink = quiet_server(_Endpoint(answer))
        with serving(sink, lambda: sink.run(sockets=[listener])):
            yield Ingestion(f"http://{server.LOOPBACK}:{listener.getsockname()[1]}")


class _Endpoint:
    """Takes envelopes at /v2.1/track and /v2/track; shows those that were accepted: a page at /, JSON at /envelopes."""

    def __init__(self, answer: Answering) -> None:
        self._answer = answer
        self._kept: deque[Envelope] = deque(maxlen=MOST_KEPT)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        # Microsoft's exporter puts its path behind an endpoint that ends in a slash.
        match scope["method"], scope["path"].replace("//", "/"):
            case _ if not is_local(scope):
                await show(send, None, _NOTICE)
            case "POST", "/v2.1/track" | "/v2/track":
                await _send(send, await self._take(scope, receive))
            case _, "/":
                await show(send, Found(HTML, _page([*reversed(self._kept)])), _NOTICE)
            case _, "/envelopes":
                await show(send, Found(JSON, json.dumps([*reversed(self._kept)])), _NOTICE)
            case _:
                await show(send, None, _NOTICE)

    async def _take(self, scope: Scope, receive: Receive) -> Answer:
        headers = dict(scope["headers"])
        if b"origin" in headers:
            return _no(403, "This is for programs, not for web pages.")
        body = await _body(receive)
        if body is not None and headers.get(b"content-encoding") == b"gzip":
            body = _unpacked(body)
        if body is None:
            return _no(413, f"A request has {MOST_BYTES:,} bytes at most, packed and unpacked.")
        try:
            envelopes = _envelopes(body)
        except ValueError as error:
            return _no(400, str(error))
        answer = await self._answer(envelopes)
        if answer.status in (HTTPStatus.OK, HTTPStatus.PARTIAL_CONTENT):
            refused = {each["index"] for each in answer.document.get("errors", ())}
            self._kept.extend(each for number, each in enumerate(envelopes) if number not in refused)
        return answer


def _no(status: int, why: str) -> Answer:
    errors = [{"index": 0, "statusCode": status, "message": why}]
    return Answer(status, {"itemsReceived": 0, "itemsAccepted": 0, "errors": errors})


async def _send(send: Send, answer: Answer) -> None:
    headers = {"content-type": JSON, **answer.headers}
    raw = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": answer.status, "headers": raw})
    await send({"type": "http.response.body", "body": json.dumps(answer.document).encode()})


async def _body(receive: Receive) -> bytes | None:
    """The whole body; None where it is too long. What its sender did not finish is no JSON."""
    body = bytearray()
    while len(body) <= MOST_BYTES:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            return bytes(body) if len(body) <= MOST_BYTES else None
    return None


def _unpacked(body: bytes) -> bytes | None:
    """What was in the gzip; None where that is too long. What cannot be unpacked is no JSON either."""
    reader = zlib.decompressobj(wbits=31)
    try:
        found = reader.decompress(body, MOST_BYTES)
    except zlib.error:
        return body
    return None if reader.unconsumed_tail else found


def _envelopes(body: bytes) -> list[Envelope]:
    """The envelopes of a JSON array, or of one JSON object a line. Raises ValueError where they are none."""
    if body.lstrip().startswith(b"["):
        envelopes = json.loads(body)
    else:
        envelopes = [json.loads(line) for line in body.splitlines() if line.strip()]
    for envelope in envelopes:
        match envelope:
            case {"name": str(), "time": str(), "data": {"baseType": str(), "baseData": dict()}}:
                if len(json.dumps(envelope)) > _MOST_BYTES_EACH:
                    raise ValueError(f"An envelope has {_MOST_BYTES_EACH:,} bytes at most.")
            case _:
                raise ValueError("An envelope has name, time, and data with baseType and baseData.")
    return list(envelopes)


class _Row(NamedTuple):
    """What an envelope tells, for people."""

    time: str
    kind: str
    name: str
    facts: list[tuple[str, Any]]

    @classmethod
    def of(cls, envelope: Envelope) -> Self:
        base = dict(envelope["data"]["baseData"])
        match base.pop("exceptions", None):
            case [{"typeName": name, "message": place}, *_]:
                base |= {"name": name, "place": place}
        name = base.pop("name", None) or base.pop("message", None) or envelope["name"]
        base.pop("ver", None)
        groups = (base.pop("properties", None), base.pop("measurements", None))
        facts = [fact for group in (base, *groups) if isinstance(group, dict) for fact in group.items()]
        return cls(
            envelope["time"], envelope["data"]["baseType"].removeprefix("Remote").removesuffix("Data"), str(name), facts
        )


def _page(newest: list[Envelope]) -> Markup:
    told = [_Row.of(envelope) for envelope in newest]
    counts = Counter((each.kind, each.name) for each in told)
    row = Markup('<tr><td class="count">{:,}</td><td>{}</td><td><bdi>{}</bdi></td></tr>')
    summary = joined([row.format(count, kind, name) for (kind, name), count in sorted(counts.items())])
    main = Markup(
        "<p>{} The newest first, times in UTC; the newest {:,} are kept, until it ends. "
        '<a href="/envelopes">As JSON</a></p><table>{}</table>{}'
    )
    return page(
        "Telemetry", main.format(_NOTICE, MOST_KEPT, summary, joined([_one(each) for each in told[:MAX_SHOWN]]))
    )


def _one(told: _Row) -> Markup:
    fact = Markup("<tr><td>{}</td><td><bdi>{}</bdi></td></tr>")
    facts = joined([fact.format(name, value) for name, value in told.facts])
    article = Markup("<article><h2><bdi>{}</bdi></h2><p>{} {}</p><table>{}</table></article>")
    return article.format(told.name, told.kind, told.time, facts)
