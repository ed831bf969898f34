"""The app: parts in, routes out."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import uvicorn
from fastapi import FastAPI

from services.orchestrator import health
from services.orchestrator.chat import chat_completions, models
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
from services.orchestrator.diary.quiet import listening
from services.orchestrator.edge import errors
from services.orchestrator.edge.disclosure import DISCLOSURE, DisclosureMiddleware
from services.orchestrator.settings import OrchestratorSettings
from services.orchestrator.state import State

_ROUTES = (
    models, chat_completions,
    entries, deletion, imports, exports, search, reflections, conflicts, index, jobs,
    health,
)  # fmt: skip

# Opens the parts when the server starts and closes them when it ends.
Opener = Callable[[], AbstractAsyncContextManager[State]]


def create_app(opened: Opener) -> FastAPI:
    """The OpenAI-compatible application over whatever parts `opened` yields."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with opened() as state:
            app.state.ada = state
            async with listening(state):
                yield

    app = FastAPI(title="Ada", version="0.1.0", description=DISCLOSURE, lifespan=lifespan)
    errors.install(app)
    app.add_middleware(DisclosureMiddleware)
    for room in _ROUTES:
        app.include_router(room.router)
    return app


def serve(settings: OrchestratorSettings, opened: Opener) -> None:
    """Serve until SIGTERM; answers that are under way get ten seconds to end."""
    uvicorn.run(
        create_app(opened),
        host=settings.host,
        port=settings.port,
        log_level="warning",
        timeout_graceful_shutdown=10,
    )
