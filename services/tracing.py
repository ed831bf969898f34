"""What makes one story of a request in several processes: its id always, its trace where that is switched on.

OpenTelemetry is imported only by `switch_on`. Off, a span costs 0.1 µs.
"""

import importlib.util
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from services.errors import ConfigError

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SpanExporter
    from opentelemetry.trace import Span, SpanKind

request_id: ContextVar[str] = ContextVar("request_id", default="")

ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
EXPORT_TIMEOUT_S = 3.0  # so long the end of a process may wait for a collector that is away
_REQUEST_ID = "request_id"
_OFF: AbstractContextManager[None] = nullcontext()
_provider: "TracerProvider | None" = None  # the process' own, as logging is


def switch_on(endpoint: str, service: str) -> None:
    """Send traces to the OTLP endpoint (HTTP) from now on; nothing happens when it is empty.

    Raises ConfigError when OpenTelemetry is not installed.
    """
    if not endpoint:
        return
    if not importlib.util.find_spec("opentelemetry.exporter"):
        raise ConfigError(f"{ENDPOINT} is set, and OpenTelemetry is not installed: add the extra `tracing`")
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    url = f"{endpoint.rstrip('/')}/v1/traces"
    export_to(OTLPSpanExporter(url, timeout=EXPORT_TIMEOUT_S), service)


def export_to(exporter: "SpanExporter", service: str) -> None:
    """Trace from now on, to this exporter."""
    global _provider
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    switch_off()
    _provider = TracerProvider(resource=Resource.create({"service.name": service}))
    _provider.add_span_processor(BatchSpanProcessor(exporter))


def switch_off() -> None:
    """Hand over what is not sent yet, and trace no more. A signal ends a server before its atexit hooks."""
    global _provider
    if _provider:
        _provider.shutdown()
    _provider = None


def span(name: str) -> "AbstractContextManager[Span | None]":
    """A part of the work, as traces show it; None when they are off."""
    return _OFF if _provider is None else _span(name)


def continued(name: str, sent: Mapping[str, Any], *, served: bool) -> "AbstractContextManager[Span | None]":
    """A span that goes on with the trace in what was sent along, of a request (`served`) or of a job."""
    if _provider is None:
        return _OFF
    from opentelemetry.trace import SpanKind

    return _span(name, sent, SpanKind.SERVER if served else SpanKind.CONSUMER)


def outgoing_headers() -> dict[str, str]:
    """What a request to another server carries so that the trace goes on there: W3C's headers, or none."""
    if _provider is None:
        return {}
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    headers: dict[str, str] = {}
    TraceContextTextMapPropagator().inject(headers)
    return headers


def carried() -> dict[str, str]:
    """What a job takes along: the id of the request that queued it, and its trace."""
    mine = request_id.get()
    return {**({_REQUEST_ID: mine} if mine else {}), **outgoing_headers()}


@contextmanager
def carrying(name: str, meta: Mapping[str, Any]) -> Iterator[None]:
    """Do a job as a part of the request that queued it: what is logged meanwhile names that request."""
    token = request_id.set(carried_id(meta))
    try:
        with continued(name, meta, served=False):
            yield
    finally:
        request_id.reset(token)


def carried_id(meta: Mapping[str, Any]) -> str:
    """The request id among what a job took along; empty when nobody's request queued it."""
    return str(meta.get(_REQUEST_ID) or "")


@contextmanager
def _span(
    name: str, sent: Mapping[str, Any] | None = None, kind: "SpanKind | None" = None
) -> "Iterator[Span]":
    from opentelemetry.trace import SpanKind, StatusCode
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    assert _provider
    context = TraceContextTextMapPropagator().extract(sent) if sent is not None else None
    # What an exception says may be a diary's text: only its kind is told.
    with _provider.get_tracer("ada").start_as_current_span(
        name,
        context,
        kind or SpanKind.INTERNAL,
        record_exception=False,
        set_status_on_exception=False,
    ) as begun:
        try:
            yield begun
        except Exception as error:
            begun.set_status(StatusCode.ERROR, type(error).__name__)
            raise
