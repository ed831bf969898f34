"""A server that speaks OpenAI's API on a free port, whose model writes what the test says."""

import asyncio
import json
import random
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import uvicorn
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

Answer = Callable[[dict], str | Response]


class ModelServer:
    """`answer` gets a request's body and returns a text, or a whole response; `requests` remembers."""

    def __init__(self) -> None:
        self.answer: Answer = self.write
        self.listed: list[str] = ["novelist", "other"]
        self.delay = 0.0
        self.requests: list[dict] = []
        self.keys: set[str | None] = set()
        self.url = ""
        self._random = random.Random(1)

    def write(self, body: dict) -> str:
        """Words of no meaning, as many as the prompt asks for, and never the same twice."""
        if role(body) == "judge":
            return "No."
        length = re.search(r"(\d+) to (\d+) (?:words|of them)", body["messages"][0]["content"])
        low, high = map(int, length.groups())
        words = (f"word{self._random.randrange(10_000)}" for _ in range((low + high) // 2))
        return f"Well, {' '.join(words)}."

    def app(self) -> Starlette:
        routes = [
            Route("/v1/models", self._models),
            Route("/v1/chat/completions", self._complete, methods=["POST"]),
        ]
        return Starlette(routes=routes)

    async def _models(self, request: Request) -> Response:
        return JSONResponse({"object": "list", "data": [{"id": name} for name in self.listed]})

    async def _complete(self, request: Request) -> Response:
        try:
            body = json.loads(await request.body())
        except ClientDisconnect:  # whoever asked was killed
            return Response()
        self.requests.append(body)
        self.keys.add(request.headers.get("authorization"))
        await asyncio.sleep(self.delay)
        answer = self.answer(body)
        return completion(answer) if isinstance(answer, str) else answer


def role(body: dict) -> str:
    """Whose line a request asks for: drew, ada or judge."""
    prompt = body["messages"][0]["content"]
    if "Answer yes or no" in prompt:
        return "judge"
    return "drew" if prompt.startswith("This is a scene of a novel in dialogue. You are Drew") else "ada"


def completion(text: str | None, finish_reason: str = "stop") -> Response:
    choice = {"index": 0, "finish_reason": finish_reason, "message": {"role": "assistant", "content": text}}
    usage = {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110}
    answer = {"id": "1", "object": "chat.completion", "created": 0, "model": "m", "choices": [choice]}
    return JSONResponse({**answer, "usage": usage})


@contextmanager
def running() -> Iterator[ModelServer]:
    """One that answers at its `url`, in a thread."""
    model = ModelServer()
    config = uvicorn.Config(model.app(), port=0, ws="none", lifespan="off", log_level="error")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    model.url = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}/v1"
    try:
        yield model
    finally:
        server.should_exit = True
        thread.join()
