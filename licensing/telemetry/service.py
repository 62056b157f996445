"""What the rest of the service tells of itself. Where telemetry is off, all of this does nothing and costs nothing."""

import contextlib
import logging
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from licensing.telemetry.destinations import HOST_COLLECTS, Destination, parse_destination
from licensing.telemetry.exporter import EventExporter, ExportQueue, Fields, Token

if TYPE_CHECKING:
    from licensing.telemetry.tracing import Tracing

_log = logging.getLogger(__name__)
_FLUSH_SECONDS = 5.0
_PUBLISHER_BYTES = 1024 * 1024
"""There may be many that do not answer."""
_SLOW_SECONDS = 1.0


class Telemetry:
    """Of one process. `lookup` gives app settings by name: where publishers' own connection strings are."""

    def __init__(
        self,
        *,
        connection_string: str = "",
        as_identity: bool = False,
        traces_per_second: float = 0.0,
        console: bool = False,
        lookup: Callable[[str], str] = lambda _: "",
    ) -> None:
        self._as_identity = as_identity
        self._traces_per_second = traces_per_second
        self._console = console
        self._lookup = lookup
        self._destination: Destination | None = None
        self._fault = ""
        self._ours: ExportQueue | None = None
        try:
            if connection_string:
                destination = self._destination = parse_destination(connection_string, local=True)
                self._ours = ExportQueue(destination, _token(destination.audience) if as_identity else None)
        except ValueError as error:
            # Whatever is wrong with it, licenses are validated.
            self._fault = str(error)
        self._own_queues: tuple[ExportQueue | None, ...] = ((self._ours,) if self._ours else ()) + (
            (None,) if console else ()
        )
        self._is_local = self._destination is not None and self._destination.endpoint.startswith("http:")
        self._publishers: dict[str, ExportQueue | None] = {}
        self._tracing: Tracing | None = None
        self._exporter: EventExporter | None = None
        self._instance = str(uuid4())
        self._is_on = False

    def start(self, after: Callable[[], None]) -> None:
        """Begin, after that has returned, where there is somewhere to send to. On threads of its own: nothing waits."""
        self._is_on = True
        for name in filter(self._lookup, HOST_COLLECTS):
            _log.error(
                "%s is set, so the Functions host collects what nobody was told of: take it out of the app's settings.",
                name,
            )
        if self._fault:
            _log.error("LICENSING_TELEMETRY cannot be used, so telemetry is off: %s", self._fault)
        if self._own_queues:
            exporter = self._exporter = self._new_exporter()
            loaded = threading.Event()

            def first() -> None:
                # Whoever needs what could not be loaded says so.
                with contextlib.suppress(Exception):
                    after()
                loaded.set()

            def trace() -> None:
                loaded.wait()
                self._start_tracing(exporter)

            exporter.start(first)
            threading.Thread(target=trace, name="telemetry-start", daemon=True).start()

    def record(self, name: str, **fields: Any) -> None:
        """Tell that something happened: one of `model.EVENTS`, with what the table lets it carry."""
        if self._exporter is not None and self._own_queues:
            given = {key: round(value, 1) if isinstance(value, float) else value for key, value in fields.items()}
            self._exporter.events(
                name, {key: value for key, value in given.items() if value != ""}, ({},), self._own_queues
            )

    def record_validation(
        self, common_fields: Fields, item_fields: Iterable[Fields], *, setting: str, shared: bool
    ) -> None:
        """Tell what an environment was answered: an event LicenseValidation of each.

        `setting`: the app setting that names the publisher's own Application Insights; `shared`: they go to ours too.
        """
        to: Sequence[ExportQueue | None] = self._own_queues if shared or not setting else ()
        if setting and (own := self._queue(setting)):
            to = (*to, own)
        self._running_exporter().events("LicenseValidation", common_fields, item_fields, to)

    def exception(self, error: BaseException, place: str) -> None:
        """Tell of an error that nobody expected: its type, and where in our code. Never what it says."""
        if self._exporter is not None and self._own_queues:
            self._exporter.exception(type(error).__name__, place, self._own_queues)

    def is_enabled_for(self, setting: str) -> bool:
        """Whether anybody is told of the validations of a publisher with that setting of its own, or none."""
        return self._is_on and bool(self._own_queues or setting)

    def request(
        self, name: str, method: str, headers: Mapping[str, str]
    ) -> AbstractContextManager[Callable[[int], None]]:
        """A span around a request, where they are made. Takes the status of its answer."""
        return _NO_SPAN if self._tracing is None else self._tracing.request(name, method, headers)

    def storage(self, operation: str) -> AbstractContextManager[None]:
        """Around one call of storage: a span, and an event where it was slow."""
        return _NOTHING if self._exporter is None else self._around_storage(operation)

    @contextmanager
    def _around_storage(self, operation: str) -> Iterator[None]:
        started = time.perf_counter()
        try:
            with self._tracing.dependency(f"storage.{operation}") if self._tracing else _NOTHING:
                yield
        finally:
            duration = time.perf_counter() - started
            if duration > _SLOW_SECONDS:
                self.record("StorageSlow", operation=operation, durationMs=duration * 1e3)

    def is_healthy(self) -> bool:
        """Whether what is told also arrives."""
        if self._fault or (self._exporter is not None and not self._exporter.is_alive()):
            return False
        return self._ours is None or self._ours.is_healthy

    def close(self) -> None:
        """Bring out what waits, for 5 s at most."""
        until = time.monotonic() + _FLUSH_SECONDS
        if self._exporter is not None:
            self._exporter.stop(0)  # it begins; who hangs takes no time from the other
        if self._tracing is not None:
            self._tracing.close(_FLUSH_SECONDS)
        if self._exporter is not None:
            self._exporter.stop(max(until - time.monotonic(), 0.0))

    def _queue(self, setting: str) -> ExportQueue | None:
        """The publisher's own; None where the setting holds no connection string that counts."""
        if setting not in self._publishers:
            try:
                # Never with a credential of ours: it is somebody else's.
                own = parse_destination(self._lookup(setting), local=self._is_local)
                self._publishers[setting] = ExportQueue(own, max_bytes=_PUBLISHER_BYTES)
            except ValueError as error:
                self._publishers[setting] = None
                # To read it again would be of no use: what a running process is set to does not change.
                _log.error("%s cannot be used before it is fixed and the app restarted: %s", setting, error)
        return self._publishers[setting]

    def _running_exporter(self) -> EventExporter:
        if self._exporter is None:
            self._exporter = self._new_exporter()
            self._exporter.start()
        return self._exporter

    def _new_exporter(self) -> EventExporter:
        self._close_at_end()
        return EventExporter(instance=self._instance, ours=self._ours)

    def _start_tracing(self, exporter: EventExporter) -> None:
        if self._traces_per_second == 0:
            return
        try:
            from licensing.telemetry.tracing import Tracing  # noqa: PLC0415

            credential = None
            if self._as_identity:
                from azure.identity import DefaultAzureCredential  # noqa: PLC0415

                credential = DefaultAzureCredential()
            self._tracing = Tracing(
                allowlist=exporter.allowlist,
                instance=self._instance,
                destination=self._destination,
                credential=credential,
                traces_per_second=self._traces_per_second,
                console=self._console,
            )
        except Exception as error:  # noqa: BLE001 - licenses are validated without spans too
            _log.error("requests are not traced: %s", type(error).__name__)

    def _close_at_end(self) -> None:
        """Bring out what waits when the process ends, also by SIGTERM, which is how hosts end a worker."""
        # Not `atexit`: that waits for threads that others have left.
        threading._register_atexit(self.close)  # type: ignore[attr-defined]  # noqa: SLF001 - there is no other

        def end(number: int, _frame: Any) -> None:
            self.close()
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)

        # Where somebody else sees to SIGTERM, requests are still answered after it, and told of.
        on_main = threading.current_thread() is threading.main_thread()
        if on_main and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
            signal.signal(signal.SIGTERM, end)


def _token(audience: str) -> Token:
    """How to get an access token of the app's identity for our own Application Insights."""
    credential: Any = None

    async def token() -> str:
        nonlocal credential
        if credential is None:
            from azure.identity.aio import DefaultAzureCredential  # noqa: PLC0415

            credential = DefaultAzureCredential()
        return str((await credential.get_token(f"{audience}/.default")).token)

    return token


_NOTHING = nullcontext()
_NO_SPAN: AbstractContextManager[Callable[[int], None]] = nullcontext(lambda _status: None)
NULL_TELEMETRY = Telemetry()
"""Tells nobody anything."""
