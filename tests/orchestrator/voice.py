"""What the voice's tests are made of: a stand-in for vLLM, and everything else for real."""

import hashlib
import json
import math
import re
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import httpx

from services.diary.embedder import Vector
from services.diary.index import IndexEngine
from services.diary.ledger import Ledger
from services.orchestrator.adapter import Adapter
from services.orchestrator.app import Opener, create_app
from services.orchestrator.state import State
from services.persona.manifest import Manifest
from services.persona.persona import load_persona
from services.persona.template import render, template_for, template_sha256
from services.worker.scribe import Scribe

PERSONA = load_persona()
TEMPLATE = template_for(PERSONA)
MANIFEST = Manifest(
    run_id="run-1",
    created_at="2026-11-22T00:00:00+00:00",
    base_model="some/base",
    lora_rank=64,
    lora_alpha=128,
    user_name="Drew",
    assistant_name="Ada",
    template_sha256=template_sha256(TEMPLATE),
    weights_sha256="",
    seed=1,
    dataset={},
    versions={},
    timings_s={},
    peak_memory_gib=1.0,
    steps=1,
    loss_before=2.0,
    loss_after=1.0,
)
ADAPTER = Adapter(PERSONA, MANIFEST, TEMPLATE)
CHAT = "/v1/chat/completions"
HELLO = {"model": "ada", "messages": [{"role": "user", "content": "Hello, whose dog was it?"}]}
ENTRIES = "/v1/diary/entries"


class StandInModel:
    """Speaks as much of vLLM's HTTP as the orchestrator uses, and remembers what it was asked.

    A token is a byte. `answer` may be made from the request.
    """

    def __init__(self) -> None:
        self.asked: list[dict] = []
        self.tokenized: list[str] = []
        self.template = TEMPLATE
        self.chunks = ["It ", "was ", "Postscript."]
        self.answer: Callable[[dict], str] = lambda body: "".join(self.chunks)
        self.max_model_len = 4096
        self.cut_after: int | None = None
        self.down = False

    def __call__(self, request: httpx.Request) -> httpx.Response:
        if self.down:
            raise httpx.ConnectError("refused", request=request)
        if request.url.path == "/v1/models":
            length = {"max_model_len": self.max_model_len}
            served = [{"id": "base", **length}, {"id": "ada", "root": "/runs/run-1", **length}]
            return httpx.Response(200, json={"data": served})
        body = json.loads(request.content)
        if request.url.path == "/tokenize":
            text = body.get("prompt") or render(self.template, body["messages"], add_generation_prompt=True)
            self.tokenized.append(text)
            return httpx.Response(200, json={"tokens": list(text.encode())})
        self.asked.append(body)
        if body.get("max_tokens") == 0:
            error = {"message": "max_tokens must be at least 1", "type": "BadRequestError", "code": 400}
            return httpx.Response(400, json={"error": error})
        if body.get("stream"):
            return httpx.Response(200, stream=_Stream(self))
        message = {"role": "assistant", "content": self.answer(body)}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        return httpx.Response(200, json={"id": "c1", "model": body["model"], "choices": [choice]})


class _Stream(httpx.AsyncByteStream):
    def __init__(self, model: StandInModel) -> None:
        self._model = model

    async def __aiter__(self) -> AsyncIterator[bytes]:
        last = len(self._model.chunks) - 1
        for place, text in enumerate(self._model.chunks):
            if place == self._model.cut_after:
                raise httpx.ReadError("connection lost")
            finish = "stop" if place == last else None
            choice = {"index": 0, "delta": {"content": text}, "finish_reason": finish}
            event = json.dumps({"id": "c1", "choices": [choice]}, separators=(",", ":"))
            yield f"data: {event}\n\n".encode()
        yield b"data: [DONE]\n\n"


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


@dataclass
class Voice:
    """The app, asked over HTTP, and what stands behind it."""

    client: httpx.AsyncClient
    model: StandInModel
    ledger: Ledger
    index: IndexEngine
    state: State
    scribe: Scribe = field(init=False)

    def __post_init__(self) -> None:
        self.scribe = Scribe(self.ledger, self.state.embedder, self.index)

    def work(self) -> None:
        """Do all indexing that is due, as the worker does it."""
        while due := self.ledger.due(64):
            self.scribe.write(due)

    async def write(self, text: str, **fields: object) -> str:
        """Write an entry and index it; its id."""
        answer = await self.client.post(ENTRIES, json={"text": text, **fields})
        assert answer.status_code == 202, answer.text
        self.work()
        return answer.json()["id"]

    async def ids(self, **query: object) -> list[str]:
        """The ids that a list with this filter has."""
        answer = await self.client.get(ENTRIES, params=query)
        assert answer.status_code == 200, answer.text
        return [entry["id"] for entry in answer.json()["data"]]


@asynccontextmanager
async def asking(opened: Opener) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the app over these parts, without a socket between them."""
    app = create_app(opened)
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://ada") as client,
    ):
        yield client


def error_of(answer: httpx.Response, status: int) -> dict:
    """The error of an answer that must have this status and OpenAI's shape."""
    assert answer.status_code == status, answer.text
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["message"]
    return error
