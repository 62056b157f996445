"""Requests and their dependencies as spans: sampled, filtered, and exported by Microsoft's exporter.

Imported only where telemetry is on, on a thread of its own: it takes from 0.3 s to 2 s.
"""

import atexit
import json
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from http import HTTPStatus
from typing import Any

from azure.core.pipeline import PipelineRequest, PipelineResponse
from azure.core.pipeline.policies import HTTPPolicy, SansIOHTTPPolicy
from azure.core.pipeline.transport import RequestsTransport
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SimpleSpanProcessor
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, Tracer
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from licensing.telemetry.destinations import Destination
from licensing.telemetry.model import OPERATIONS, ROLE, AllowlistFilter

_EXPORT_SECONDS = 5
_SAMPLE_RATE = "_MS.sampleRate"
"""The attribute from which Microsoft's exporter takes it."""
_percent_of_request: ContextVar[float | None] = ContextVar("percent_of_request", default=None)
"""Of how many the request under way stands for one, as a percentage: 0 where it is not traced, None outside of any."""
ENVIRONMENT = {
    # What the exporter tells Microsoft of itself, what it asks of Microsoft, and a metric of what it runs on.
    "APPLICATIONINSIGHTS_STATSBEAT_DISABLED_ALL": "true",
    "APPLICATIONINSIGHTS_SDKSTATS_DISABLED": "true",
    "APPLICATIONINSIGHTS_CONTROLPLANE_DISABLED": "true",
    "APPLICATIONINSIGHTS_OPENTELEMETRY_RESOURCE_METRIC_DISABLED": "true",
    # Only traces: events go with the event exporter, logs and metrics nowhere.
    # What is to be traced is decided before there is a span, which costs much less.
    "OTEL_TRACES_SAMPLER": "always_on",
    "OTEL_LOGS_EXPORTER": "none",
    "OTEL_METRICS_EXPORTER": "none",
    "OTEL_EXPERIMENTAL_RESOURCE_DETECTORS": "",
}


class AllowlistPolicy(SansIOHTTPPolicy):  # type: ignore[type-arg]
    """The last thing that a request of Microsoft's exporters passes: only what the allowlist lets through stays in it.

    It goes to the destination, wherever it was to go, and with the headers that are named here.
    """

    def __init__(self, allowlist: AllowlistFilter, destination: Destination) -> None:
        super().__init__()
        self._allowlist = allowlist
        self._url = f"{destination.endpoint}/v2.1/track"

    def on_request(self, request: PipelineRequest) -> None:  # type: ignore[type-arg]
        made = request.http_request
        made.url = self._url
        authorization = made.headers.get("Authorization")
        made.headers.clear()
        made.headers.update({"User-Agent": ROLE} | ({"Authorization": authorization} if authorization else {}))
        envelopes = map(self._allowlist.sanitize, json.loads(made.content))
        made.set_json_body([each for each in envelopes if each is not None])


class DropCountPolicy(HTTPPolicy):  # type: ignore[type-arg]
    """In the place of one that tries again, which would hold up all that comes after: counts what is lost."""

    def __init__(self, allowlist: AllowlistFilter) -> None:
        super().__init__()
        self._allowlist = allowlist

    def send(self, request: PipelineRequest) -> PipelineResponse:  # type: ignore[type-arg]
        taken = 0
        try:
            response = self.next.send(request)
            if response.http_response.status_code in (HTTPStatus.OK, HTTPStatus.PARTIAL_CONTENT):
                taken = response.http_response.json()["itemsAccepted"]
            return response
        finally:
            self._allowlist.dropped["refused"] += len(json.loads(request.http_request.content)) - taken


class TraceSampler:
    """Whose turn it is to be traced: of those who come, about so many a second."""

    def __init__(self, per_second: float) -> None:
        self._per_second = per_second
        self._burst = self._tokens = max(per_second, 1.0)
        self._refilled_at = time.monotonic()
        self._skipped = 0

    def take(self) -> float | None:
        """The percentage of all that this one stands for, with those before it whose turn it was not; or None."""
        now = time.monotonic()
        self._tokens = min(self._tokens + (now - self._refilled_at) * self._per_second, self._burst)
        self._refilled_at = now
        if self._tokens < 1:
            self._skipped += 1
            return None
        self._tokens -= 1
        percent, self._skipped = 100 / (1 + self._skipped), 0
        return percent


class Tracing:
    """Makes spans, from now on."""

    def __init__(  # noqa: PLR0913 - what there is to decide
        self,
        *,
        allowlist: AllowlistFilter,
        instance: str,
        destination: Destination | None,
        credential: Any,
        traces_per_second: float,
        console: bool,
    ) -> None:
        provider = _exporting(allowlist, instance, destination, credential) if destination else TracerProvider()
        if console:
            provider.add_span_processor(SimpleSpanProcessor(ConsoleSpanExporter(formatter=_line)))
        self._provider = provider
        self._tracer: Tracer = provider.get_tracer(ROLE)
        self._propagator = TraceContextTextMapPropagator()
        self._sampler, self._background_sampler = TraceSampler(traces_per_second), TraceSampler(traces_per_second)

    @contextmanager
    def request(self, name: str, method: str, headers: Mapping[str, str]) -> Iterator[Callable[[int], None]]:
        """A span of a request, in the trace of whoever asks, where they name one (W3C Trace Context).

        Whether there is one is for us to say, not for them.
        """
        percent = self._sampler.take()
        outside = _percent_of_request.set(percent or 0.0)
        try:
            if percent is None:
                yield lambda _status: None
                return
            # Of the caller's context the ids alone: its state may be any text.
            given = {"traceparent": headers.get("traceparent", "")}
            context = self._propagator.extract(given, context=Context())
            attributes: dict[str, Any] = {"http.request.method": method, _SAMPLE_RATE: percent}
            with self._tracer.start_as_current_span(
                name, context, SpanKind.SERVER, attributes, record_exception=False, set_status_on_exception=False
            ) as span:
                yield partial(_finish, span)
        finally:
            _percent_of_request.reset(outside)

    @contextmanager
    def dependency(self, name: str) -> Iterator[None]:
        """A span below that of the request, if that has one; for what no request waits for alone, one of its own."""
        percent = _percent_of_request.get()
        if percent is None:
            percent = self._background_sampler.take()
        if not percent:
            yield
            return
        # Nothing is below it, so it need not be the current one.
        span = self._tracer.start_span(name, kind=SpanKind.CLIENT, attributes={_SAMPLE_RATE: percent})
        try:
            yield
        except BaseException:
            span.set_status(Status(StatusCode.ERROR))
            raise
        finally:
            span.end()

    def close(self, seconds: float) -> None:
        """Bring out what waits, for so long at most: the exporter itself would wait for an endpoint that hangs."""
        flushing = threading.Thread(target=self._provider.force_flush, name="telemetry-end", daemon=True)
        flushing.start()
        flushing.join(seconds)


def _finish(span: Span, status: int) -> None:
    """Say how a request was answered."""
    span.set_attribute("http.response.status_code", status)
    if status >= 500:  # noqa: PLR2004 - our fault
        span.set_status(Status(StatusCode.ERROR))


def exporter_options(allowlist: AllowlistFilter, destination: Destination, credential: Any) -> dict[str, Any]:
    """Options of a Microsoft exporter that sends only what the allowlist permits, once, to the destination alone."""
    return {
        "connection_string": destination.connection_string,
        # Named, also where there is none: an exporter that is not told takes the app's identity.
        "credential": credential,
        "custom_hook_policy": AllowlistPolicy(allowlist, destination),
        "retry_policy": DropCountPolicy(allowlist),
        "redirect_max": 0,
        # Without what the machine says of proxies and passwords (.netrc).
        "transport": RequestsTransport(
            use_env_settings=False, connection_timeout=_EXPORT_SECONDS, read_timeout=_EXPORT_SECONDS
        ),
        "disable_offline_storage": True,
    }


def _exporting(allowlist: AllowlistFilter, instance: str, destination: Destination, credential: Any) -> TracerProvider:
    """A provider that exports to the destination."""
    os.environ.update(ENVIRONMENT)
    # At INFO these tell of every request that they make, which would be the next thing to be exported. The exporter
    # says at ERROR what was not taken, as it was before the filter.
    for name in ("azure", "opentelemetry"):
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.getLogger("azure.monitor.opentelemetry.exporter").setLevel(logging.CRITICAL + 1)
    from azure.monitor.opentelemetry import configure_azure_monitor  # noqa: PLC0415
    from azure.monitor.opentelemetry._constants import _ALL_SUPPORTED_INSTRUMENTED_LIBRARIES  # noqa: PLC0415
    from opentelemetry.sdk.resources import Resource  # noqa: PLC0415

    configure_azure_monitor(
        **exporter_options(allowlist, destination, credential),
        resource=Resource({"service.name": ROLE, "service.instance.id": instance}),
        instrumentation_options={name: {"enabled": False} for name in _ALL_SUPPORTED_INSTRUMENTED_LIBRARIES},
        enable_live_metrics=False,
        enable_performance_counters=False,
    )
    provider = trace.get_tracer_provider()
    if not isinstance(provider, TracerProvider):
        raise TypeError("somebody else has set OpenTelemetry up in this process")
    # Its end is ours to say (`close`), once, and within a time.
    atexit.unregister(provider.shutdown)
    return provider


def _line(span: ReadableSpan) -> str:
    if span.name not in OPERATIONS or span.end_time is None or span.start_time is None:
        return ""
    return f"telemetry {span.name} {(span.end_time - span.start_time) / 1e6:.1f} ms {span.status.status_code.name}\n"
