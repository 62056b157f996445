"""Exports events: encoded when they happen, posted a moment later on a thread of its own.

Microsoft's exporter takes about 140 us for an event, and a thread for each publisher with its own destination: ten
products in a validation would cost more than the validation. So events, of which there are many, are exported here.
Requests and dependencies, which are sampled, go through Microsoft's exporter (tracing.py). Both pass the same filter.
Recording an event never waits for its export (ADR 0007).
"""

import asyncio
import contextlib
import gzip
import json
import logging
import random
import threading
import time
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, NamedTuple

from pydantic_core import to_json

from licensing.telemetry.destinations import Destination
from licensing.telemetry.model import ROLE, AllowlistFilter

if TYPE_CHECKING:
    import aiohttp

_log = logging.getLogger(__name__)
_MAX_QUEUED = 5_000
"""Occasions that wait for the thread, which looks for them a few times a second."""
_POLL_INTERVAL_SECONDS = 0.25
_BATCH_BYTES = 512 * 1024
_POST_SECONDS = 5.0
_BACKOFF_SECONDS = (1.0, 60.0)
"""After a failure, and at most, doubled each time."""
_REPORT_SECONDS = 60.0
_MAX_RESPONSE_BYTES = 1024 * 1024
_RETRYABLE_STATUSES = frozenset((401, 403, 408, 429, 439, 500, 502, 503, 504))
"""What App Insights answers where the same envelope may be taken later: a role may be granted, a token renewed."""
_HEAD = (
    b'{"ver":1,"name":"Microsoft.ApplicationInsights.%s","time":%s,"tags":%s,"data":{"baseType":"%sData","baseData":'
)

type Fields = Mapping[str, Any]
type Token = Callable[[], Awaitable[str]]


class _QueuedEvents(NamedTuple):
    """What was told at one time: the same beginning for all, what each envelope is about, and for whom.

    For None it is printed.
    """

    head: bytes
    bases: Sequence[bytes]
    to: Sequence["ExportQueue | None"]


class _Envelopes(NamedTuple):
    """Envelopes as JSON, with commas between."""

    number: int
    envelopes: bytes


class ExportQueue:
    """What waits for one destination, and when it is next tried. Belongs to the exporter's thread."""

    def __init__(
        self, destination: Destination, token: Token | None = None, *, max_bytes: int = 16 * 1024 * 1024
    ) -> None:
        """`max_bytes`: of envelopes that wait; the oldest go first."""
        self.destination = destination
        self.token = token
        self._max_bytes = max_bytes
        self.is_healthy = True
        self.backoff_seconds = 0.0
        self.not_before = 0.0
        self.sending: asyncio.Task[None] | None = None
        self._waiting: deque[_Envelopes] = deque()
        self._bytes = 0

    @property
    def is_empty(self) -> bool:
        return not self._waiting

    def put(self, entry: _Envelopes, *, back: bool = False) -> int:
        """Let it wait, or wait again as the first; how many envelopes had to go for it, the oldest."""
        (self._waiting.appendleft if back else self._waiting.append)(entry)
        self._bytes += len(entry.envelopes)
        dropped_count = 0
        while self._bytes > self._max_bytes:
            oldest = self._waiting.popleft()
            self._bytes -= len(oldest.envelopes)
            dropped_count += oldest.number
        return dropped_count

    def take(self) -> _Envelopes | None:
        """One batch, of what has waited longest."""
        batch: list[_Envelopes] = []
        size = 0
        while self._waiting and size < _BATCH_BYTES:
            batch.append(self._waiting.popleft())
            size += len(batch[-1].envelopes)
        self._bytes -= size
        if not batch:
            return None
        return _Envelopes(sum(each.number for each in batch), b",".join(each.envelopes for each in batch))


class EventExporter:
    """Queues events and exports them to their destinations."""

    def __init__(self, *, instance: str, ours: ExportQueue | None) -> None:
        self.dropped: Counter[str] = Counter()
        self.allowlist = AllowlistFilter()
        self._tags = to_json({"ai.cloud.role": ROLE, "ai.cloud.roleInstance": instance})
        self._ours = ours
        self._queued: deque[_QueuedEvents] = deque()
        self._queues: set[ExportQueue] = {ours} if ours else set()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._reported_at = time.monotonic()

    def start(self, first: Callable[[], None] = lambda: None) -> None:
        """Begin on a thread, which does `first` before all else."""

        def run() -> None:
            first()
            asyncio.run(self._run())

        self._thread = threading.Thread(target=run, name="telemetry", daemon=True)
        self._thread.start()

    def is_alive(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def events(
        self, name: str, common_fields: Fields, item_fields: Iterable[Fields], to: Sequence[ExportQueue | None]
    ) -> None:
        """Take events of one name, each with what is of all of them. For None they are printed. Never waits."""
        self._enqueue(b"Event", list(self.allowlist.events(name, common_fields, item_fields)), to)

    def exception(self, type_name: str, place: str, to: Sequence[ExportQueue | None]) -> None:
        """Take an exception: its type, and where in our code. Never waits."""
        base = self.allowlist.exception({"exceptions": [{"typeName": type_name, "message": place}]})
        self._enqueue(b"Exception", [to_json(base)], to)

    def _enqueue(self, kind: bytes, bases: Sequence[bytes], to: Sequence[ExportQueue | None]) -> None:
        if not bases:
            return
        if len(self._queued) >= _MAX_QUEUED:
            self.dropped["queueFull"] += len(bases)
        elif to:
            self._queued.append(_QueuedEvents(_HEAD % (kind, to_json(datetime.now(UTC)), self._tags, kind), bases, to))
        else:
            self.dropped["noDestination"] += len(bases)

    def stop(self, seconds: float) -> None:
        """Bring out what waits, for so long at most. What is handed over from now on stays."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(seconds)

    async def _run(self) -> None:
        # Imported here, on this thread: no validation waits for it.
        import aiohttp  # noqa: PLC0415

        timeout = aiohttp.ClientTimeout(total=_POST_SECONDS)
        # Without cookies, proxies and redirects: what is posted goes where the destination says, and nowhere else.
        # With as many connections as there are destinations: those that hang leave one to the others. So do those whose
        # names hang, since aiohttp looks names up with aiodns, without threads that there could be too few of.
        async with aiohttp.ClientSession(
            timeout=timeout, cookie_jar=aiohttp.DummyCookieJar(), connector=aiohttp.TCPConnector(limit=0)
        ) as http:
            while not self._stopping.is_set():
                await asyncio.sleep(_POLL_INTERVAL_SECONDS)
                self._step(http)
            self._step(http, last=True)
            await self._sent()
            # What was dropped on the way; to whoever takes it, and nobody else is asked again.
            self._report()
            self._step(http)
            await self._sent()

    async def _sent(self) -> None:
        await asyncio.gather(*(each.sending for each in self._queues if each.sending), return_exceptions=True)

    def _step(self, http: "aiohttp.ClientSession", *, last: bool = False) -> None:
        self._distribute()
        if last or time.monotonic() - self._reported_at > _REPORT_SECONDS:
            self._report()
            self._distribute()
        now = time.monotonic()
        for queue in self._queues:
            if not queue.is_empty and queue.sending is None and (last or now >= queue.not_before):
                queue.sending = asyncio.create_task(self._send(http, queue))

    def _distribute(self) -> None:
        """Give what was told to those whom it is for."""
        while self._queued:
            queued = self._queued.popleft()
            for queue in queued.to:
                if queue is None:
                    with contextlib.suppress(OSError, ValueError):  # nobody reads it, or not that character
                        print(*(f"telemetry {each.decode()}" for each in queued.bases), sep="\n", flush=True)  # noqa: T201
                    continue
                self._queues.add(queue)
                # Who it goes to comes last.
                tail = b'},"iKey":"%s"}' % queue.destination.key.encode()
                envelopes = queued.head + (tail + b"," + queued.head).join(queued.bases) + tail
                self.dropped["queueFull"] += queue.put(_Envelopes(len(queued.bases), envelopes))

    def _report(self) -> None:
        """Say how many were dropped, and why."""
        self._reported_at = time.monotonic()
        # Copied at one stroke: other threads count meanwhile.
        counted = self.dropped.copy() + self.allowlist.dropped.copy()
        self.dropped.clear()
        self.allowlist.dropped.clear()
        if counted and self._ours is not None:
            dropped = [{"reason": reason, "count": count} for reason, count in counted.items()]
            self.events("TelemetryDropped", {}, dropped, [self._ours])
        elif counted:
            _log.warning("telemetry was dropped: %s", dict(counted))

    async def _send(self, http: "aiohttp.ClientSession", queue: ExportQueue) -> None:
        try:
            while (batch := queue.take()) and await self._post(http, queue, batch):
                pass
        finally:
            queue.sending = None

    async def _post(self, http: "aiohttp.ClientSession", queue: ExportQueue, batch: _Envelopes) -> bool:
        """Whether the batch has come to its end: taken, or refused for good."""
        headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
        body = gzip.compress(b"[%s]" % batch.envelopes, 1)
        try:
            if queue.token is not None:
                headers["Authorization"] = f"Bearer {await queue.token()}"
            async with http.post(
                f"{queue.destination.endpoint}/v2.1/track", data=body, headers=headers, allow_redirects=False
            ) as answer:
                status, wait = answer.status, answer.headers.get("Retry-After", "")
                refused = await _rejected(answer, batch.number)
        except Exception as error:  # noqa: BLE001 - whatever it is, it may be gone in a moment
            return self._reschedule(queue, batch, "", type(error).__name__)
        later = [index for index, code in refused.items() if code in _RETRYABLE_STATUSES]
        self.dropped["refused"] += len(refused) - len(later)
        if later:
            if len(later) < batch.number:
                envelopes = json.loads(b"[%s]" % batch.envelopes)
                batch = _Envelopes(len(later), to_json([envelopes[index] for index in later])[1:-1])
            return self._reschedule(queue, batch, wait, str(status))
        queue.backoff_seconds = 0.0
        if len(refused) < batch.number:
            queue.is_healthy = True
        else:
            _warn(queue, str(status))
        return True

    def _reschedule(self, queue: ExportQueue, batch: _Envelopes, wait: str, reason: str) -> bool:
        least, most = _BACKOFF_SECONDS
        queue.backoff_seconds = min(max(2 * queue.backoff_seconds, least), most)
        asked = min(float(wait), most) if wait.isdecimal() else 0.0
        # Spread, so that many instances do not all come back at once.
        queue.not_before = time.monotonic() + max(asked, queue.backoff_seconds * random.uniform(0.5, 1))  # noqa: S311
        self.dropped["queueFull"] += queue.put(batch, back=True)
        _warn(queue, reason)
        return False


def _warn(queue: ExportQueue, reason: str) -> None:
    """Say that nothing is taken, the first time."""
    if queue.is_healthy:
        queue.is_healthy = False
        _log.warning("telemetry is not taken: %s", reason)


async def _rejected(answer: "aiohttp.ClientResponse", number: int) -> dict[int, int]:
    """Which of so many envelopes were not taken, by their place, each with its status: all, where it is not said."""
    if answer.status == HTTPStatus.OK:
        return {}
    if answer.status == HTTPStatus.PARTIAL_CONTENT:
        body = b""
        while len(body) < _MAX_RESPONSE_BYTES and (more := await answer.content.read(_MAX_RESPONSE_BYTES)):
            body += more
        with contextlib.suppress(ArithmeticError, LookupError, TypeError, ValueError):
            queued = [(int(each["index"]), int(each["statusCode"])) for each in json.loads(body)["errors"]]
            return {index: status for index, status in queued if 0 <= index < number}
    return dict.fromkeys(range(number), int(answer.status))
