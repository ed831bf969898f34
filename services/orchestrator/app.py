"""The app: parts in, routes out."""

import asyncio
import gc
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from functools import partial
from typing import Any, cast

import uvicorn
from fastapi import FastAPI
from starlette.routing import Route
from starlette.types import ASGIApp

from services.errors import AdaError
from services.orchestrator import health
from services.orchestrator.dependencies import AppState
from services.orchestrator.diary import (
    conflicts,
    deletion,
    entries,
    exports,
    imports,
    index,
    jobs,
    reflections,
    search,
)
from services.orchestrator.http import errors
from services.orchestrator.http.admission import AdmissionQueue
from services.orchestrator.http.auth import KeyMiddleware, describe_keys
from services.orchestrator.http.body import BodyMiddleware
from services.orchestrator.http.cors import CorsMiddleware, Origins
from services.orchestrator.http.disclosure import DISCLOSURE, DisclosureMiddleware
from services.orchestrator.http.docs import serve_docs
from services.orchestrator.http.openapi import describe_responses
from services.orchestrator.http.unread_answer import UnreadAnswerProtocol
from services.orchestrator.observability.access_log import AccessMiddleware
from services.orchestrator.observability.request_id import RequestIdMiddleware
from services.orchestrator.openai import chat_completions, completions, models, responses
from services.orchestrator.openai.endpoint import Endpoint
from services.orchestrator.openai.openapi import describe_endpoints
from services.orchestrator.reflection.idle_reflection import watch
from services.orchestrator.settings import MAX_BODY_BYTES, OrchestratorSettings
from services.orchestrator.vllm.client import CHAT, COMPLETIONS, RESPONSES

_ROUTES = (
    models,
    entries, deletion, imports, exports, search, reflections, conflicts, index, jobs,
    health,
)  # fmt: skip
_ENDPOINTS: dict[str, Endpoint[Any]] = {
    CHAT: chat_completions.endpoint, COMPLETIONS: completions.endpoint, RESPONSES: responses.endpoint,
}  # fmt: skip


class _Ada(FastAPI):
    """Sees every answer, and the answer to what is unforeseen is made outside of all other middleware."""

    origins = Origins()

    def build_middleware_stack(self) -> ASGIApp:
        inner = super().build_middleware_stack()
        open_to_pages = CorsMiddleware(inner, self.origins) if self.origins else inner
        return RequestIdMiddleware(AccessMiddleware(DisclosureMiddleware(open_to_pages)))


# Opens the parts when the server starts and closes them when it ends.
Opener = Callable[[], AbstractAsyncContextManager[AppState]]


def create_app(
    opened: Opener, max_body_bytes: int = MAX_BODY_BYTES, cors_origins: Iterable[str] = ()
) -> FastAPI:
    """The OpenAI-compatible application over whatever parts `opened` yields."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with opened() as state:
            app.state.ada = state
            await _compare_persona(state)
            _spare_the_collector()
            async with watch(state):
                yield

    app = _Ada(
        title="Ada",
        version="0.2.0",
        description=DISCLOSURE,  # edge/described.py writes the served persona's
        lifespan=lifespan,
        docs_url=None,  # the framework's own pages load their scripts from afar
        redoc_url=None,
        redirect_slashes=False,  # a redirect names the host that the request named, whoever that is
    )
    app.origins = Origins(cors_origins)
    errors.install(app)
    app.add_middleware(BodyMiddleware, most=max_body_bytes)
    app.add_middleware(KeyMiddleware, origins=app.origins)
    for path, endpoint in _ENDPOINTS.items():
        app.router.routes.append(Route(path, endpoint, methods=["POST"]))
    for room in _ROUTES:
        app.include_router(room.router)
    serve_docs(app)
    describe_endpoints(app, _ENDPOINTS)
    describe_keys(app)
    describe_responses(app)
    return app


async def _compare_persona(state: AppState) -> None:
    """Say at once in the log when the diary is another persona's; what is not there yet is told later."""
    with suppress(AdaError):
        await state.persona_guard.complaint(state.adapter().persona)


def _spare_the_collector() -> None:
    """All that is loaded by now stays: looking through it again and again cost a stream up to 0.1 s.

    What requests leave is mostly freed at once, so the rest is looked through less often, too.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


def serve(settings: OrchestratorSettings, opened: Opener) -> None:
    """Serve until SIGTERM; then nothing new is taken, and answers under way get `drain_s` seconds to end."""
    app = create_app(opened, settings.max_body_bytes, settings.cors_origins)
    uvicorn.Server(server_config(app, settings)).run()


def server_config(app: FastAPI, settings: OrchestratorSettings) -> uvicorn.Config:
    """How uvicorn serves the app."""
    connection = partial(
        UnreadAnswerProtocol,
        turnstile=AdmissionQueue(),
        origins=Origins(settings.cors_origins),
        send_timeout_s=settings.send_timeout_s,
    )
    return uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        log_config=None,  # services/logs.py is for uvicorn's lines, too
        log_level="warning",
        access_log=False,  # observability/access_log.py logs each request, without its text
        timeout_graceful_shutdown=int(settings.drain_s),
        loop="uvloop",
        http=cast(type[asyncio.Protocol], connection),
        ws="none",  # KeyMiddleware refuses them in words
        backlog=2048,
        proxy_headers=False,  # nobody asks where a client comes from
    )
