"""The API over a real ledger, a real index and a real Valkey; vLLM is a stand-in."""

import asyncio
import shutil
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
import uvicorn
from api import ADAPTER, Api, FakeVllm, WordsEmbedder, open_client, open_state, until
from redis import Redis

from services.diary.index.embedded.index import EdgeIndex
from services.diary.index.engine import IndexEngine
from services.diary.ledger.ledger import Ledger
from services.local_time import Clock, utc_now
from services.orchestrator.app import create_app, server_config
from services.orchestrator.dependencies import AppState, recall_factory
from services.orchestrator.http.body import BodyLimits
from services.orchestrator.http.protocol import ConnectionLimits
from services.orchestrator.settings import OrchestratorSettings

# A busy machine must not make an answer go without the diary.
DEFAULTS = {"DIARY_DEADLINE_S": 10}


@pytest.fixture
def model() -> FakeVllm:
    return FakeVllm()


@pytest.fixture
def ledger(tmp_path: Path, migrated_ledger: Path) -> Iterator[Ledger]:
    shutil.copy(migrated_ledger, tmp_path / "ledger.sqlite3")
    with Ledger(f"sqlite:///{tmp_path}/ledger.sqlite3") as ledger:
        yield ledger


@pytest.fixture
def index(tmp_path: Path) -> Iterator[IndexEngine]:
    engine = EdgeIndex(tmp_path / "index", WordsEmbedder.name, WordsEmbedder.dimension)
    yield engine
    engine.close()


@pytest.fixture
def settings() -> dict[str, object]:
    """Settings that differ from the defaults; a test may override this."""
    return {}


@pytest.fixture
def overrides() -> dict[str, object]:
    """Fields of the application's state other than what the settings build; a test may override this."""
    return {}


@pytest.fixture
def body_limits(settings: dict[str, object]) -> BodyLimits:
    """The limits of a request's body; a test may override this."""
    return BodyLimits(OrchestratorSettings(**settings).max_body_bytes)


@pytest.fixture
def connection_limits() -> ConnectionLimits:
    """The seconds that a connection waits for its client; a test may override this."""
    return ConnectionLimits()


@pytest.fixture
def clock() -> Clock:
    """What tells the time of day; a test may override this."""
    return utc_now


@pytest.fixture
async def api(
    model: FakeVllm,
    ledger: Ledger,
    index: IndexEngine,
    redis: Redis,
    settings: dict[str, object],
    clock: Clock,
    overrides: dict[str, object],
) -> AsyncIterator[Api]:
    values = OrchestratorSettings(**{**DEFAULTS, **settings})
    fields = {
        "adapter": lambda: ADAPTER,
        "recall": recall_factory(lambda: ADAPTER, ledger, WordsEmbedder(), index),
        "default_local_time": replace(values.local_time, clock=clock),
        **overrides,
    }
    states: list[AppState] = []

    @asynccontextmanager
    async def opener() -> AsyncIterator[AppState]:
        async with open_state(model, values, ledger, redis, index, **fields) as state:
            states.append(state)
            yield state

    async with open_client(opener, values.cors_origins) as client:
        yield Api(client, model, ledger, index, states[0])


@pytest.fixture
def client(api: Api) -> httpx.AsyncClient:
    return api.client


@pytest.fixture
async def server(
    model, ledger, redis, index, port, settings, body_limits, connection_limits, monkeypatch
) -> AsyncIterator[uvicorn.Server]:
    """The API on a port of its own, as `serve` starts it."""
    values = OrchestratorSettings(**{**DEFAULTS, "ADA_PORT": port, **settings})

    @asynccontextmanager
    async def opener() -> AsyncIterator[AppState]:
        async with open_state(model, values, ledger, redis, index, adapter=lambda: ADAPTER) as state:
            yield state

    app = create_app(opener, body_limits, values.cors_origins)
    limits = replace(connection_limits, send_timeout_s=values.send_timeout_s)
    server = uvicorn.Server(server_config(app, values, limits))
    monkeypatch.setattr(server, "capture_signals", suppress)
    task = asyncio.create_task(server.serve())
    await until(lambda: server.started)
    yield server
    server.should_exit = True
    await task
