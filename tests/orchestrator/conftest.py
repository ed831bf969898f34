"""The voice over a real ledger, a real index and a real Valkey; the model is a stand-in."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
from redis import Redis
from voice import ADAPTER, StandInModel, Voice, WordsEmbedder, asking, parts

from services.diary.edge_index import EdgeIndex
from services.diary.index import IndexEngine
from services.diary.ledger import Ledger
from services.orchestrator.parts import recall_of
from services.orchestrator.settings import OrchestratorSettings
from services.orchestrator.state import State


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
async def voice(
    model: StandInModel, ledger: Ledger, index: IndexEngine, redis: Redis, settings: dict[str, object]
) -> AsyncIterator[Voice]:
    states: list[State] = []

    @asynccontextmanager
    async def opened() -> AsyncIterator[State]:
        async with parts(model, OrchestratorSettings(**settings), ledger, redis, index) as made:
            recall = recall_of(lambda: ADAPTER, ledger, made.embedder, index)
            states.append(replace(made, adapter=lambda: ADAPTER, recall=recall))
            yield states[0]

    async with asking(opened) as client:
        yield Voice(client, model, ledger, index, states[0])


@pytest.fixture
def client(voice: Voice) -> httpx.AsyncClient:
    return voice.client
