"""The API under test: the real application over a real ledger, index and queue, and a stand-in for vLLM."""

import asyncio
import hashlib
import json
import math
import re
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

import httpx
from fake_vllm import CHAT as CHAT
from fake_vllm import TEMPLATE, FakeVllm
from fake_vllm import USAGE as USAGE
from manifests import make_manifest
from redis import Redis

from services.diary.embedding.embedder import Vector
from services.diary.index.engine import IndexEngine
from services.diary.ledger.ledger import Ledger
from services.orchestrator.adapter import Adapter
from services.orchestrator.app import Opener, create_app
from services.orchestrator.dependencies import AppState, build_concurrency_limiter, build_state
from services.orchestrator.http.auth import Caller
from services.orchestrator.http.limits import RateLimits
from services.orchestrator.observability.metrics import Metrics
from services.orchestrator.settings import OrchestratorSettings
from services.orchestrator.vllm.client import open_vllm_client
from services.persona.persona import load_persona
from services.persona.template import template_sha256
from services.worker.indexer import Indexer

PERSONA = load_persona()
MANIFEST = make_manifest(run_id="run-1", base_model="some/base", template_sha256=template_sha256(TEMPLATE))
ADAPTER = Adapter(PERSONA, MANIFEST, TEMPLATE)
HELLO = {"model": "ada", "messages": [{"role": "user", "content": "Hello, whose dog was it?"}]}
ENTRIES = "/v1/diary/entries"
JSON = {"Content-Type": "application/json"}


class WordsEmbedder:
    """Texts are alike when they share words: enough meaning for tests, and the same in every process."""

    name, dimension = "words", 64

    def embed_documents(self, texts: Sequence[str]) -> list[Vector]:
        return [self.embed_query(text) for text in texts]

    def embed_query(self, text: str) -> Vector:
        vector = [0.001] * self.dimension
        for word in re.findall(r"\w+", text.casefold()):
            vector[hashlib.sha256(word.encode()).digest()[0] % self.dimension] += 1.0
        length = math.hypot(*vector)
        return [number / length for number in vector]


@asynccontextmanager
async def open_state(
    model: FakeVllm,
    settings: OrchestratorSettings,
    ledger: Ledger,
    redis: Redis,
    index: IndexEngine,
    **overrides: object,
) -> AsyncIterator[AppState]:
    """The application's state over a stand-in for vLLM; the rest is real, but for fields in `overrides`."""
    metrics = Metrics()
    async with (
        model.served() as url,
        open_vllm_client(url, settings.deadlines, build_concurrency_limiter(settings), metrics) as engine,
    ):
        state = build_state(settings, engine, ledger, redis, WordsEmbedder(), index, metrics)
        yield replace(state, **overrides)


@dataclass
class Api:
    """The running application, an HTTP client of it, and the parts behind it."""

    client: httpx.AsyncClient
    model: FakeVllm
    ledger: Ledger
    index: IndexEngine
    state: AppState
    indexer: Indexer = field(init=False)

    def __post_init__(self) -> None:
        self.indexer = Indexer(self.ledger, self.state.embedder, self.index)

    def override(self, **fields: object) -> None:
        """Replace fields of the application's state while it runs."""
        self.state = replace(self.state, **fields)
        self.client._transport.app.state.ada = self.state

    def work(self) -> None:
        """Index all entries that are due, like the worker."""
        while due := self.ledger.due(64):
            self.indexer.write(due)

    async def write(self, text: str, **fields: object) -> str:
        """Write an entry and index it; return its id."""
        answer = await self.client.post(ENTRIES, json={"text": text, **fields})
        assert answer.status_code == 202, answer.text
        self.work()
        return answer.json()["id"]

    async def ids(self, **query: object) -> list[str]:
        """Return the ids of the entries that match a filter."""
        answer = await self.client.get(ENTRIES, params=query)
        assert answer.status_code == 200, answer.text
        return [entry["id"] for entry in answer.json()["data"]]


class FailingLimits(RateLimits):
    """Rate limits with a bug, so that every request of a chat is an internal error."""

    def __init__(self, message: str = "a bug") -> None:
        super().__init__(0, 0)
        self._message = message

    def admit(self, caller: Caller) -> dict[str, str]:
        raise ValueError(self._message)


@asynccontextmanager
async def open_client(opener: Opener, cors_origins: Iterable[str] = ()) -> AsyncIterator[httpx.AsyncClient]:
    """Run an application with this state, and yield an HTTP client that calls it without a socket."""
    app = create_app(opener, cors_origins=cors_origins)
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://localhost") as client,
    ):
        yield client


def data_of(text: str) -> list[dict]:
    """The objects of a stream's events."""
    return [json.loads(line[6:]) for line in text.split("\n\n") if line.startswith("data: {")]


def error_of(answer: httpx.Response, status: int) -> dict:
    """The error of an answer that must have this status and OpenAI's shape."""
    assert answer.status_code == status, answer.text
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["message"]
    return error


async def until(holds: Callable[[], object]) -> None:
    async with asyncio.timeout(10):  # a guard against hanging
        while not holds():
            await asyncio.sleep(0.01)


async def send_raw(port: int, data: bytes) -> bytes:
    """Send bytes to the server, and return its answer up to the end of the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(data)
    try:
        async with asyncio.timeout(10):
            return await reader.read()
    finally:
        writer.close()
