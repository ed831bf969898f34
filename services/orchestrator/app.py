"""The application: middleware, routes and the server's configuration."""

import asyncio
import gc
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from functools import partial
from typing import Any, cast

import uvicorn
from fastapi import FastAPI
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from services.errors import AdaError
from services.orchestrator import health
from services.orchestrator.dependencies import AppState
from services.orchestrator.diary import conflicts, entries, index, jobs, reflections, search, transfer
from services.orchestrator.http.admission import AdmissionQueue
from services.orchestrator.http.auth import KeyMiddleware
from services.orchestrator.http.body import DEFAULT_LIMITS, BodyLimits, BodyMiddleware
from services.orchestrator.http.cors import CorsMiddleware, Origins
from services.orchestrator.http.disclosure import DISCLOSURE, DisclosureMiddleware, served_disclosure
from services.orchestrator.http.docs import serve_docs
from services.orchestrator.http.errors import install_handlers
from services.orchestrator.http.openapi import complete_document
from services.orchestrator.http.protocol import ConnectionLimits, HeaderTimeoutProtocol
from services.orchestrator.observability.access_log import AccessLogMiddleware
from services.orchestrator.observability.request_id import RequestIdMiddleware
from services.orchestrator.openai import chat_completions, completions, models, responses
from services.orchestrator.openai.endpoint import Endpoint
from services.orchestrator.openai.schemas import Answer
from services.orchestrator.reflection.idle_reflection import watch
from services.orchestrator.settings import OrchestratorSettings
from services.orchestrator.vllm.client import CHAT, COMPLETIONS, RESPONSES

_ROUTES = (models, entries, transfer, search, reflections, conflicts, index, jobs, health)
_ENDPOINTS: dict[str, Endpoint[Any]] = {
    CHAT: chat_completions.endpoint, COMPLETIONS: completions.endpoint, RESPONSES: responses.endpoint,
}  # fmt: skip


class _Ada(FastAPI):
    """FastAPI with three middlewares outside of its own error handling, and a completed OpenAPI document."""

    origins = Origins()

    def build_middleware_stack(self) -> ASGIApp:
        inner = super().build_middleware_stack()
        with_cors = CorsMiddleware(inner, self.origins) if self.origins else inner
        outer = RequestIdMiddleware(AccessLogMiddleware(DisclosureMiddleware(with_cors)))

        async def dispatch(scope: Scope, receive: Receive, send: Send) -> None:
            await (outer if scope["type"] == "http" else inner)(scope, receive, send)

        return dispatch

    def openapi(self) -> dict[str, Any]:
        requests = {path: endpoint.schema for path, endpoint in _ENDPOINTS.items()}
        return complete_document(super().openapi(), served_disclosure(self), requests, Answer)


# Opens the state when the server starts and closes it when the server stops.
Opener = Callable[[], AbstractAsyncContextManager[AppState]]


def create_app(
    opened: Opener, body_limits: BodyLimits = DEFAULT_LIMITS, cors_origins: Iterable[str] = ()
) -> FastAPI:
    """The application over the state that `opened` yields."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with opened() as state:
            app.state.ada = state
            await _log_foreign_diary(state)
            _freeze_garbage_collector()
            async with watch(state):
                yield

    app = _Ada(
        title="Ada",
        version="0.2.0",
        description=DISCLOSURE,  # http/openapi.py writes the served persona's
        lifespan=lifespan,
        docs_url=None,  # the framework's own pages load their scripts from the internet
        redoc_url=None,
        redirect_slashes=False,  # a redirect would repeat whatever host the request named
    )
    app.origins = Origins(cors_origins)
    install_handlers(app)
    app.add_middleware(BodyMiddleware, limits=body_limits)
    app.add_middleware(KeyMiddleware, origins=app.origins)
    for path, endpoint in _ENDPOINTS.items():
        app.router.routes.append(Route(path, endpoint, methods=["POST"]))
    for module in _ROUTES:
        app.include_router(module.router)
    serve_docs(app)
    return app


async def _log_foreign_diary(state: AppState) -> None:
    """Log at once that the diary belongs to another persona; errors are reported when they matter."""
    with suppress(AdaError):
        await state.persona_guard.complaint(state.adapter().persona)


def _freeze_garbage_collector() -> None:
    """Exempt everything that is loaded by now from collection: scanning it again cost a stream up to 0.1 s.

    Most of what requests allocate is freed by reference counting, so the rest is scanned less often, too.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


def serve(settings: OrchestratorSettings, opened: Opener) -> None:
    """Serve until SIGTERM; then refuse new requests, and give those in progress `drain_s` seconds."""
    app = create_app(opened, BodyLimits(settings.max_body_bytes), settings.cors_origins)
    uvicorn.Server(server_config(app, settings)).run()


def server_config(
    app: FastAPI, settings: OrchestratorSettings, limits: ConnectionLimits | None = None
) -> uvicorn.Config:
    """uvicorn's configuration for the app."""
    protocol = partial(
        HeaderTimeoutProtocol,
        admission=AdmissionQueue(),
        origins=Origins(settings.cors_origins),
        limits=limits or ConnectionLimits(send_timeout_s=settings.send_timeout_s),
    )
    return uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        log_config=None,  # services/logs.py formats uvicorn's lines, too
        log_level="warning",
        access_log=False,  # observability/access_log.py logs each request, without its text
        timeout_graceful_shutdown=int(settings.drain_s),
        loop="uvloop",
        http=cast(type[asyncio.Protocol], protocol),
        ws="none",  # KeyMiddleware refuses WebSockets with an error that says so
        backlog=2048,
        proxy_headers=False,  # the client's address is not used
    )
