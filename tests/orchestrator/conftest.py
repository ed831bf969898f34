"""The voice over a real ledger, a real index and a real Valkey; the model is a stand-in."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
import uvicorn
from redis import Redis
from voice import ADAPTER, StandInModel, Voice, WordsEmbedder, asking, parts, until

from services.diary.index.embedded.index import EdgeIndex
from services.diary.index.engine import IndexEngine
from services.diary.ledger.ledger import Ledger
from services.local_time import Clock, utc_now
from services.orchestrator.app import create_app, server_config
from services.orchestrator.dependencies import AppState, recall_factory
from services.orchestrator.settings import OrchestratorSettings


@pytest.fixture
def model() -> StandInModel:
    return StandInModel()


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
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
def clock() -> Clock:
    """What tells the time of day; a test may override this."""
    return utc_now


@pytest.fixture
async def voice(
    model: StandInModel,
    ledger: Ledger,
    index: IndexEngine,
    redis: Redis,
    settings: dict[str, object],
    clock: Clock,
) -> AsyncIterator[Voice]:
    states: list[AppState] = []

    @asynccontextmanager
    async def opened() -> AsyncIterator[AppState]:
        async with parts(model, OrchestratorSettings(**settings), ledger, redis, index) as made:
            recall = recall_factory(lambda: ADAPTER, ledger, made.embedder, index)
            local = replace(made.local, clock=clock)
            states.append(replace(made, adapter=lambda: ADAPTER, recall=recall, local=local))
            yield states[0]

    async with asking(opened, OrchestratorSettings(**settings).cors_origins) as client:
        yield Voice(client, model, ledger, index, states[0])


@pytest.fixture
def client(voice: Voice) -> httpx.AsyncClient:
    return voice.client


@pytest.fixture
async def server(model, ledger, redis, index, port, settings, monkeypatch) -> AsyncIterator[uvicorn.Server]:
    """The voice on a port of its own, as `serve` starts it."""
    read = OrchestratorSettings(**{"ADA_PORT": port, **settings})

    @asynccontextmanager
    async def opened() -> AsyncIterator[AppState]:
        async with parts(model, read, ledger, redis, index) as state:
            object.__setattr__(state, "adapter", lambda: ADAPTER)
            yield state

    server = uvicorn.Server(server_config(create_app(opened, read.max_body_bytes, read.cors_origins), read))
    monkeypatch.setattr(server, "capture_signals", suppress)
    task = asyncio.create_task(server.serve())
    await until(lambda: server.started)
    yield server
    server.should_exit = True
    await task
