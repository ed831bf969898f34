"""What the voice's tests are made of: a stand-in for vLLM, and everything else for real."""

import asyncio
import hashlib
import json
import math
import re
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

import httpx
from aiohttp import web
from aiohttp.test_utils import TestServer
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
from services.persona.manifest import Manifest
from services.persona.persona import load_persona
from services.persona.template import render, template_for, template_sha256
from services.worker.indexer import Indexer

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
CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
HELLO = {"model": "ada", "messages": [{"role": "user", "content": "Hello, whose dog was it?"}]}
ENTRIES = "/v1/diary/entries"
JSON = {"Content-Type": "application/json"}
USAGE = {"prompt_tokens": 20, "completion_tokens": 3, "total_tokens": 23}


class StandInModel:
    """A server that speaks as much of vLLM's HTTP as the orchestrator uses, and remembers what it was asked.

    A token is a byte. `answer` may be made from the request.
    """

    def __init__(self) -> None:
        self.asked: list[dict] = []
        self.headers: list[Mapping[str, str]] = []
        self.tokenized: list[str] = []
        self.template = TEMPLATE
        self.chunks = ["It ", "was ", "Postscript."]
        self.answer: Callable[[dict], str] = lambda body: "".join(self.chunks)
        self.max_model_len = 4096
        self.insists = (
            False  # refuses an answer that does not fit whole, as vLLM did before 0.2x; else it is cut
        )
        self.miscounts = 0  # tokens that /tokenize does not see
        self.refusal: str | None = None  # what it says to every question
        self.cut_after: int | None = None
        self.more: dict = {}  # fields of its own in every answer
        self.finish_reason = "stop"
        self.told: object = None  # instead of its models and of a text's tokens
        self.refused = ""  # what is asked with this in it
        self.down = False  # every connection is cut
        self.down_for = 0  # so many requests are cut
        self.hangs = False  # no request is answered
        self.thinks_s = 0.0  # before its first word
        self.pauses_s = 0.0  # between two
        self.running = 0

    @asynccontextmanager
    async def served(self) -> AsyncIterator[str]:
        """Its URL, as long as it is up."""
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._answer)
        async with TestServer(app) as server:
            yield str(server.make_url("")).rstrip("/")

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        if self.down or self.down_for:
            self.down_for = max(0, self.down_for - 1)
            request.transport.abort()
            return web.Response()
        if self.hangs:
            await asyncio.sleep(60)
        self.headers.append(request.headers)
        if self.told is not None and request.path in ("/v1/models", "/tokenize"):
            return web.json_response(self.told)
        if request.path == "/v1/models":
            length = {"max_model_len": self.max_model_len}
            served = [{"id": "base", **length}, {"id": "ada", "root": "/runs/run-1", **length}]
            return web.json_response({"data": served})
        body = await request.json()
        if request.path == "/tokenize":
            tokens = self._tokens(body)[self.miscounts :]
            self.tokenized.append(body.get("prompt") or str(body["messages"]))
            return web.json_response(
                {"tokens": tokens, "count": len(tokens), "max_model_len": self.max_model_len}
            )
        self.asked.append(body)
        if complaint := self.refusal or self._too_long(body):
            error = {"message": complaint, "type": "BadRequestError", "param": "input_tokens", "code": 400}
            return web.json_response({"error": error}, status=400)
        if body.get("max_tokens") == 0 or (self.refused and self.refused in str(body)):
            error = {"message": "max_tokens must be at least 1", "type": "BadRequestError", "code": 400}
            return web.json_response({"error": error}, status=400)
        self.running += 1
        try:
            await asyncio.sleep(self.thinks_s)
            return await self._spoken(request, body)
        finally:
            self.running -= 1

    def _tokens(self, body: dict) -> list[int]:
        prompt, messages = body.get("prompt"), body.get("messages") or body.get("input")
        if isinstance(prompt, list):
            return prompt if isinstance(prompt[0], int) else max(prompt, key=len)
        if prompt is not None:
            return list(prompt.encode())
        thinking = bool((body.get("chat_template_kwargs") or {}).get("enable_thinking"))
        text = render(self.template, messages, add_generation_prompt=True, enable_thinking=thinking)
        return list(text.encode())

    def _too_long(self, body: dict) -> str:
        """What vLLM says of a prompt, or an answer, that is longer than the model reads at once."""
        tokens, most = len(self._tokens(body)), self.max_model_len
        answer = body.get("max_completion_tokens") or body.get("max_tokens") or body.get("max_output_tokens")
        if tokens >= most:
            return f"This model's maximum context length is {most} tokens. Your prompt has {tokens}."
        if (answer or 0) > most:
            return f"max_tokens={answer} cannot be greater than max_model_len={most}."
        if self.insists and tokens + (answer or 1) > most:
            return f"This model's maximum context length is {most} tokens. However, you requested more."
        return ""

    async def _responded(self, request: web.Request, body: dict) -> web.StreamResponse:
        part = {"type": "output_text", "text": "".join(self.chunks)}
        whole = {"id": "r1", "object": "response", "output": [{"type": "message", "content": [part]}]}
        if not body.get("stream"):
            return web.json_response(whole, dumps=compact)
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for place, text in enumerate(self.chunks):
            if place == self.cut_after:
                request.transport.abort()
                return response
            await response.write(b"event: response.output_text.delta\n" + event({"delta": text}))
        await response.write(b"event: response.completed\n" + event({"response": whole}))
        return response

    async def _spoken(self, request: web.Request, body: dict) -> web.StreamResponse:
        if request.path == "/v1/responses":
            return await self._responded(request, body)
        if body.get("stream"):
            return await self._streamed(request, body)
        texts = [self.answer(body)] * (body.get("n") or 1)
        said = [
            {"text": text}
            if request.path == COMPLETIONS
            else {"message": {"role": "assistant", "content": text}}
            for text in texts
        ]
        choices = [
            {"index": index, **part, "finish_reason": self.finish_reason} for index, part in enumerate(said)
        ]
        answer = {"id": "c1", "model": body["model"], "choices": choices, "usage": USAGE, **self.more}
        return web.json_response(answer, dumps=compact)

    async def _streamed(self, request: web.Request, body: dict) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        last = len(self.chunks) - 1
        for place, text in enumerate(self.chunks):
            if place == self.cut_after:
                request.transport.abort()
                return response
            finish = self.finish_reason if place == last else None
            for index in range(body.get("n") or 1):
                said = {"text": text} if request.path == COMPLETIONS else {"delta": {"content": text}}
                choice = {"index": index, **said, "finish_reason": finish}
                await response.write(event({"id": "c1", "choices": [choice], **self.more}))
            await asyncio.sleep(self.pauses_s)
        if body.get("stream_options", {}).get("include_usage"):
            await response.write(event({"id": "c1", "choices": [], "usage": USAGE}))
        await response.write(b"data: [DONE]\n\n")
        return response


def event(data: dict) -> bytes:
    return f"data: {compact(data)}\n\n".encode()


def compact(data: dict) -> str:
    return json.dumps(data, separators=(",", ":"))


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
    model: StandInModel,
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
class Voice:
    """The app, asked over HTTP, and what stands behind it."""

    client: httpx.AsyncClient
    model: StandInModel
    ledger: Ledger
    index: IndexEngine
    state: AppState
    scribe: Indexer = field(init=False)

    def __post_init__(self) -> None:
        self.scribe = Indexer(self.ledger, self.state.embedder, self.index)

    def override(self, **fields: object) -> None:
        """Replace fields of the application's state while it runs."""
        self.state = replace(self.state, **fields)
        self.client._transport.app.state.ada = self.state

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


class FailingLimits(RateLimits):
    """Rate limits with a bug, so that every request of a chat is an internal error."""

    def __init__(self, message: str = "a bug") -> None:
        super().__init__(0, 0)
        self._message = message

    def admit(self, caller: Caller) -> dict[str, str]:
        raise ValueError(self._message)


@asynccontextmanager
async def asking(opened: Opener, cors_origins: Iterable[str] = ()) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the app over these parts, without a socket between them."""
    app = create_app(opened, cors_origins=cors_origins)
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


async def spoken(port: int, sent: bytes) -> bytes:
    """What the server says to these bytes until it hangs up."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(sent)
    try:
        async with asyncio.timeout(10):
            return await reader.read()
    finally:
        writer.close()
