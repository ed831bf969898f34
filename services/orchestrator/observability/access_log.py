"""One log line for each request when it has ended, and its metrics.

Neither holds a path as it was sent, a query, a prompt or a diary's text: only the route's template and
numbers.
"""

import logging
import time
from dataclasses import dataclass
from typing import cast

from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.orchestrator.http.auth import caller_of
from services.orchestrator.http.errors import CLIENT_GONE
from services.orchestrator.observability.metrics import Metrics
from services.tracing import continued, request_id

log = logging.getLogger("ada.access")
NO_ROUTE = "none"  # no route has this path, or the request was refused before routing
# How a response ended. CUT: it stopped before its last byte while the client was connected.
WHOLE, GONE, CUT, FAILED = "whole", "client gone", "cut", "failed"
# Polled every few seconds by machines: logged at DEBUG only, unless something is wrong.
_PROBES = frozenset({"/health", "/healthz", "/readyz", "/metrics"})
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"})
_TRACE_HEADERS = frozenset({b"traceparent", b"tracestate"})


@dataclass(slots=True)
class _Response:
    """A response as it was sent so far."""

    began: float
    status: int = 0
    size: int = 0
    is_stream: bool = False
    end: str = CUT

    def observe(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.is_stream = _is_event_stream(message)
        elif message["type"] == "http.response.body":
            self.size += len(message.get("body", b""))
            if not message.get("more_body") and self.end == CUT:
                self.end = WHOLE


class AccessLogMiddleware:
    """Observes every response on its way out. For HTTP only; RequestIdMiddleware must be outside of it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        response, metrics = _Response(time.perf_counter()), cast(Metrics, scope["app"].state.ada.metrics)

        async def receive_observed() -> Message:
            message = await receive()
            if message["type"] == "http.disconnect" and response.end == CUT:
                response.end = GONE
            return message

        async def send_observed(message: Message) -> None:
            was_stream = response.is_stream
            response.observe(message)
            if response.is_stream and not was_stream:
                metrics.streams.inc()
            await send(message)

        try:
            await self._traced(scope, receive_observed, send_observed, response)
        except Exception:
            response.status, response.end = response.status or 500, FAILED
            raise
        finally:
            if response.is_stream:
                metrics.streams.dec()
            _record(scope, response, metrics)

    async def _traced(self, scope: Scope, receive: Receive, send: Send, response: _Response) -> None:
        with continued("request", _trace_headers(scope), served=True) as span:
            try:
                await self._app(scope, receive, send)
            finally:
                if span:
                    span.update_name(f"{_method(scope)} {_route(scope)}")
                    span.set_attributes(_attributes(scope, response))


def _trace_headers(scope: Scope) -> dict[str, str]:
    """W3C's headers of the client's own trace."""
    return {
        name.decode(): value.decode("latin-1") for name, value in scope["headers"] if name in _TRACE_HEADERS
    }


def _attributes(scope: Scope, response: _Response) -> dict[str, str | int]:
    """By OpenTelemetry's semantic conventions."""
    return {
        "http.request.method": _method(scope),
        "http.route": _route(scope),
        "http.response.status_code": response.status or CLIENT_GONE,
        "ada.request_id": request_id.get(),
    }


def _record(scope: Scope, response: _Response, metrics: Metrics) -> None:
    seconds, status = time.perf_counter() - response.began, response.status or CLIENT_GONE
    route, method = _route(scope), _method(scope)
    metrics.count_request(method, route, status, seconds)
    if response.end == GONE:
        metrics.clients_gone.inc()
    fields = {
        "method": method,
        "route": route,
        "status": status,
        "duration_ms": round(seconds * 1000, 2),
        "bytes": response.size,
        "key": _key_id(scope),
        "end": response.end,
    }
    level = logging.DEBUG if route in _PROBES and status < 400 else logging.INFO
    log.log(
        level, "%s %s %d in %.1f ms (%s)", method, route, status, seconds * 1000, response.end, extra=fields
    )


def _is_event_stream(message: Message) -> bool:
    return any(
        value.startswith(b"text/event-stream") and name.lower() == b"content-type"
        for name, value in message.get("headers", ())
    )


def _method(scope: Scope) -> str:
    return scope["method"] if scope["method"] in _METHODS else "OTHER"


def _route(scope: Scope) -> str:
    return getattr(scope.get("route"), "path", NO_ROUTE)


def _key_id(scope: Scope) -> str:
    try:
        return caller_of(Request(scope)).key_id
    except KeyError:  # a public path, or refused before its key was read
        return ""
