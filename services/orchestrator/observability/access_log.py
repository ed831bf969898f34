"""One line in the log for each request, when it has ended, and its place in the metrics.

Never a path as it was sent, a query, a prompt or a diary's text: the route's template and numbers.
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
from services.orchestrator.observability.request_id import request_id
from services.tracing import continued

log = logging.getLogger("ada.access")
NO_ROUTE = "none"  # asked for what is not there, or sent away before it was looked for
# How an answer ended; cut is one that stopped before its last byte while its client was there.
WHOLE, GONE, CUT, FAILED = "whole", "client gone", "cut", "failed"
# Asked every few seconds by machines: heard only at DEBUG, unless something is wrong.
_PROBES = frozenset({"/health", "/healthz", "/readyz", "/metrics"})
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"})
_CARRIERS = frozenset({b"traceparent", b"tracestate"})


@dataclass(slots=True)
class _Seen:
    """What an answer was, as it went out."""

    began: float
    status: int = 0
    sent_bytes: int = 0
    streams: bool = False
    end: str = CUT

    def note(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.streams = (b"content-type", b"text/event-stream") in _kinds(message)
        elif message["type"] == "http.response.body":
            self.sent_bytes += len(message.get("body", b""))
            if not message.get("more_body") and self.end == CUT:
                self.end = WHOLE


class AccessMiddleware:
    """Sees every answer on its way out; stands just inside of RequestIdMiddleware."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        seen, metrics = _Seen(time.perf_counter()), cast(Metrics, scope["app"].state.ada.metrics)

        async def hearing() -> Message:
            message = await receive()
            if message["type"] == "http.disconnect" and seen.end == CUT:
                seen.end = GONE
            return message

        async def seeing(message: Message) -> None:
            was = seen.streams
            seen.note(message)
            if seen.streams and not was:
                metrics.streams.inc()
            await send(message)

        try:
            await self._within(scope, hearing, seeing, seen)
        except Exception:
            seen.status, seen.end = seen.status or 500, FAILED
            raise
        finally:
            if seen.streams:
                metrics.streams.dec()
            _tell(scope, seen, metrics)

    async def _within(self, scope: Scope, receive: Receive, send: Send, seen: _Seen) -> None:
        with continued("request", _carried(scope), served=True) as span:
            try:
                await self._app(scope, receive, send)
            finally:
                if span:
                    span.update_name(f"{_method(scope)} {_route(scope)}")
                    span.set_attributes(_attributes(scope, seen))


def _carried(scope: Scope) -> dict[str, str]:
    """W3C's headers of the client's own trace."""
    return {name.decode(): value.decode("latin-1") for name, value in scope["headers"] if name in _CARRIERS}


def _attributes(scope: Scope, seen: _Seen) -> dict[str, str | int]:
    """In OpenTelemetry's words."""
    return {
        "http.request.method": _method(scope),
        "http.route": _route(scope),
        "http.response.status_code": seen.status or CLIENT_GONE,
        "ada.request_id": request_id.get(),
    }


def _tell(scope: Scope, seen: _Seen, metrics: Metrics) -> None:
    seconds, status = time.perf_counter() - seen.began, seen.status or CLIENT_GONE
    route, method = _route(scope), _method(scope)
    metrics.requests.labels(method, route, status).inc()
    metrics.request_seconds.labels(route).observe(seconds)
    if seen.end == GONE:
        metrics.clients_gone.inc()
    told = {
        "method": method,
        "route": route,
        "status": status,
        "duration_ms": round(seconds * 1000, 2),
        "bytes": seen.sent_bytes,
        "key": _key_id(scope),
        "end": seen.end,
    }
    level = logging.DEBUG if route in _PROBES and status < 400 else logging.INFO
    log.log(level, "%s %s %d in %.1f ms (%s)", method, route, status, seconds * 1000, seen.end, extra=told)


def _kinds(message: Message) -> list[tuple[bytes, bytes]]:
    return [(name.lower(), value.partition(b";")[0]) for name, value in message.get("headers", ())]


def _method(scope: Scope) -> str:
    return scope["method"] if scope["method"] in _METHODS else "OTHER"


def _route(scope: Scope) -> str:
    return getattr(scope.get("route"), "path", NO_ROUTE)


def _key_id(scope: Scope) -> str:
    try:
        return caller_of(Request(scope)).key_id
    except KeyError:  # an open route, or sent away at the door
        return ""
