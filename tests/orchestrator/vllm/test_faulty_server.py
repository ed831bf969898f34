"""Whatever the model server answers, a client gets OpenAI's shape, an end, and no internals.

A matrix: every mode of faulty_server.py on each of OpenAI's routes, streamed and complete, of both models,
through real sockets.
"""

import asyncio
import json
import logging
import threading
from collections.abc import Iterator
from contextlib import ExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, replace
from itertools import product

import httpx
import pytest
import uvicorn
from api import ADAPTER, WordsEmbedder
from faulty_server import ADDRESS, CHAT, COMPLETIONS, MODES, RESPONSES, FaultyServer
from openai.types import Completion
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from redis import Redis

from services.diary.index.embedded.index import EdgeIndex
from services.diary.ledger.ledger import Ledger
from services.orchestrator.app import create_app, server_config
from services.orchestrator.dependencies import build_concurrency_limiter, build_state
from services.orchestrator.observability.metrics import Metrics
from services.orchestrator.settings import OrchestratorSettings
from services.orchestrator.vllm.circuit_breaker import CircuitBreaker
from services.orchestrator.vllm.client import VllmClient, open_vllm_client
from services.orchestrator.vllm.validation import SizeLimits

BODIES = {
    CHAT: {"messages": [{"role": "user", "content": "Hello"}]},
    COMPLETIONS: {"prompt": "Hello"},
    RESPONSES: {"input": "Hello"},
}
CASES = list(product(BODIES, (True, False), ("ada", "base")))
HARMLESS = ("fine", "harmless", "crlf")
REASONS = {None, "stop", "length", "content_filter", "tool_calls", "function_call"}
INTERNALS = (ADDRESS, "10.1.2.3", "vllm:8000", "127.0.0.1", "localhost", "Traceback", "ConnectorError",
         "InternalServerError", "aiohttp", "pydantic")  # fmt: skip


@dataclass
class Served:
    """Ada on a port, in front of a faulty model server."""

    url: str
    model: FaultyServer
    engine: VllmClient | None = None


@pytest.fixture(scope="module")
def ada(valkey_socket, tmp_path_factory) -> Iterator[Served]:
    """One faulty server and one Ada for all tests, in an event loop of their own."""
    home, started, served = tmp_path_factory.mktemp("ada"), threading.Event(), []
    stop: list[uvicorn.Server] = []

    async def serve() -> None:
        model = FaultyServer()
        stub = await asyncio.start_server(model.serve, "127.0.0.1", 0)
        url = f"http://127.0.0.1:{stub.sockets[0].getsockname()[1]}"
        settings = OrchestratorSettings(
            MODEL_FIRST_TOKEN_TIMEOUT_S=0.4, MODEL_SILENCE_TIMEOUT_S=0.3, MODEL_WHOLE_TIMEOUT_S=0.8
        )
        metrics = Metrics()

        @asynccontextmanager
        async def opener():
            sizes = SizeLimits(whole=1 << 20, stream=4 << 20)
            with ExitStack() as stack:
                ledger = stack.enter_context(Ledger(f"sqlite:///{home}/ledger.sqlite3"))
                redis = Redis(unix_socket_path=str(valkey_socket))
                index = EdgeIndex(home / "index", WordsEmbedder.name, WordsEmbedder.dimension)
                stack.callback(redis.close)
                stack.callback(index.close)
                limiter = build_concurrency_limiter(settings)
                breaker = CircuitBreaker(max_failures=1 << 30)  # every mode must reach the server every time
                async with open_vllm_client(
                    url, settings.deadlines, limiter, metrics, sizes=sizes, breaker=breaker
                ) as engine:
                    served[0].engine = engine
                    state = build_state(settings, engine, ledger, redis, WordsEmbedder(), index, metrics)
                    yield replace(state, adapter=lambda: ADAPTER)

        served.append(Served("", model))
        config = server_config(create_app(opener), settings)
        config.port = 0
        server = uvicorn.Server(config)
        server.capture_signals = suppress
        stop.append(server)
        task = asyncio.create_task(server.serve())
        while not server.started:
            await asyncio.sleep(0.01)
        served[0].url = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
        started.set()
        await task
        stub.close()

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    assert started.wait(30)
    yield served[0]
    stop[0].should_exit = True
    thread.join(30)


@pytest.mark.parametrize("mode", MODES)
def test_every_answer_has_openais_shape_and_an_end(ada: Served, mode: str, caplog: pytest.LogCaptureFixture):
    ada.model.mode = mode
    with caplog.at_level(logging.WARNING):
        answers = asyncio.run(send_all(ada.url))
    for (path, stream, _), answer in zip(CASES, answers, strict=True):
        assert "AI-Disclosure" in answer.headers
        if answer.status_code == 200:
            check = check_stream if stream else check_whole
            failed = check(path, answer.text)
            assert not (failed and mode.split(":")[0] in HARMLESS), answer.text
        else:
            assert answer.status_code in (400, 404, 418, 429, 499, 502, 503, 504), answer.text
            assert mode.split(":")[0] not in HARMLESS
            check_error(answer.json()["error"])
    assert not [record for record in caplog.records if record.exc_info], caplog.text
    assert "Traceback" not in caplog.text
    asyncio.run(wait_until_idle(ada))


async def send_all(url: str) -> list[httpx.Response]:
    async with asyncio.timeout(20), httpx.AsyncClient(base_url=url, timeout=10, verify=False) as client:
        bodies = [(path, {**BODIES[path], "model": model, "stream": stream, "ada": {"diary": False}})
                  for path, stream, model in CASES]  # fmt: skip
        return await asyncio.gather(*(client.post(path, json=body) for path, body in bodies))


async def wait_until_idle(ada: Served) -> None:
    """Wait until no slot at the model is taken."""
    async with asyncio.timeout(10):
        while ada.engine.limiter.running:
            await asyncio.sleep(0.01)


def check_error(error: dict) -> None:
    assert {"message", "type", "param", "code"} <= set(error)
    assert isinstance(error["message"], str)
    assert error["message"]
    assert error["type"] in ("invalid_request_error", "server_error", "rate_limit_error")
    assert isinstance(error["param"], str | None)
    assert isinstance(error["code"], str | None)
    assert not [word for word in INTERNALS if word in json.dumps(error)]


def check_whole(path: str, text: str) -> bool:
    answer = loads(text)
    assert "AI persona" in answer["ada"]["disclosure"]
    if path == RESPONSES:
        assert isinstance(answer["output"], list)
    else:
        assert answer["choices"]
        if "id" in answer:
            (ChatCompletion if path == CHAT else Completion).model_validate(answer)
    return False


def check_stream(path: str, text: str) -> bool:
    """Check the stream and its end; returns whether it ended with an error."""
    *blocks, rest = text.split("\n\n")
    assert not rest
    blocks = [block for block in blocks if not block.startswith(":")]
    if path != RESPONSES:
        assert blocks.pop() == "data: [DONE]"
    events = [loads(block.split("data: ", 1)[1]) for block in blocks]
    *before, last = events
    assert not [event for event in before if "error" in event or "ada" in event]
    if "error" in last:
        check_error(last["error"])
        assert path != RESPONSES or (last["type"], last["message"]) == ("error", last["error"]["message"])
        return True
    assert "AI persona" in (last["response"] if path == RESPONSES else last)["ada"]["disclosure"]
    if path != RESPONSES:
        for event in events:
            check_chunk(path, event)
    return False


def check_chunk(path: str, chunk: dict) -> None:
    for choice in chunk["choices"]:
        assert choice["index"] == 0
        assert choice["finish_reason"] in REASONS
    if path == CHAT:
        ChatCompletionChunk.model_validate(chunk)
    else:  # its type requires a finish_reason in every chunk
        choices = [
            {**choice, "finish_reason": choice["finish_reason"] or "stop"} for choice in chunk["choices"]
        ]
        Completion.model_validate({**chunk, "choices": choices})


def loads(text: str) -> dict:
    """Decode JSON strictly: without NaN and lone surrogates."""
    value = json.loads(text, parse_constant=lambda word: pytest.fail(f"{word} is not JSON"))
    json.dumps(value, ensure_ascii=False).encode()
    return value
