"""attack/chat_dates_156k.json: a search of the diary ends when its client goes away or its deadline is over.

.venv/bin/python -m pytest tests/orchestrator/http/test_disconnect.py
"""

import asyncio
import json
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace

import httpx
import pytest
from api import ADAPTER, CHAT, FakeVllm, open_client, open_state, until

from services.diary.index.engine import IndexEngine
from services.diary.ledger.ledger import Ledger
from services.diary.recall.cancellation import Cancellation
from services.diary.recall.query import RecallQuery
from services.diary.recall.recall import RecalledEntry
from services.orchestrator.dependencies import AppState
from services.orchestrator.settings import OrchestratorSettings

SEARCH = "/v1/diary/search"
HELLO = {"messages": [{"role": "user", "content": "Hello."}]}


class EndlessRecall:
    """Searches until it is cancelled."""

    def __init__(self) -> None:
        self.began, self.ended, self.given_up = (threading.Event() for _ in range(3))

    def search(self, _owner: str, _query: RecallQuery, cancellation: Cancellation) -> list[RecalledEntry]:
        self.began.set()
        try:
            while not self.given_up.is_set():
                cancellation.check()
                time.sleep(0.002)
        finally:
            self.ended.set()
        return []


@pytest.fixture
def recall() -> Iterator[EndlessRecall]:
    recall = EndlessRecall()
    yield recall
    recall.given_up.set()


@pytest.fixture
async def client(
    model: FakeVllm, ledger: Ledger, index: IndexEngine, redis, recall: EndlessRecall
) -> AsyncIterator[httpx.AsyncClient]:
    @asynccontextmanager
    async def opener() -> AsyncIterator[AppState]:
        async with open_state(model, OrchestratorSettings(), ledger, redis, index) as made:
            yield replace(made, adapter=lambda: ADAPTER, recall=lambda: recall, diary_deadline_s=60)

    async with open_client(opener) as client:
        yield client


@pytest.mark.parametrize(("path", "body"), [(SEARCH, {"query": "x"}), (CHAT, HELLO)])
async def test_it_ends_when_the_client_goes_away(client, recall: EndlessRecall, path: str, body: dict):
    messages = iter([{"type": "http.request", "body": json.dumps(body).encode()}])

    async def receive() -> dict:
        if message := next(messages, None):
            return message
        await until(recall.began.is_set)
        return {"type": "http.disconnect"}

    async def send(_message: dict) -> None:
        """Nobody reads it."""

    head = {"headers": [(b"content-type", b"application/json"), (b"host", b"localhost")]}
    scope = {"type": "http", "method": "POST", "path": path, "query_string": b"", **head}
    async with asyncio.timeout(10):
        await client._transport.app(scope, receive, send)
        await until(recall.ended.is_set)


async def test_it_ends_when_the_deadline_is_over(
    model: FakeVllm, ledger: Ledger, index: IndexEngine, redis, recall: EndlessRecall
):
    @asynccontextmanager
    async def opener() -> AsyncIterator[AppState]:
        async with open_state(model, OrchestratorSettings(), ledger, redis, index) as made:
            yield replace(made, adapter=lambda: ADAPTER, recall=lambda: recall, diary_deadline_s=0.05)

    async with open_client(opener) as client:
        answer = (await client.post(CHAT, json=HELLO)).json()
        assert answer["ada"]["diary"]["status"] == "unavailable"
        await until(recall.ended.is_set)
