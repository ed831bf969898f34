"""A fake vLLM server over real sockets that behaves well; vllm/faulty_server.py does not."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager

from aiohttp import web
from aiohttp.test_utils import TestServer

from services.persona.persona import load_persona
from services.persona.template import render, template_for

CHAT, COMPLETIONS, RESPONSES = "/v1/chat/completions", "/v1/completions", "/v1/responses"
USAGE = {"prompt_tokens": 20, "completion_tokens": 3, "total_tokens": 23}
TEMPLATE = template_for(load_persona())


class FakeVllm:
    """Speaks as much of vLLM's HTTP as the orchestrator uses, and records the requests. A token is a byte."""

    def __init__(self) -> None:
        self.requests: list[dict] = []  # for an answer
        self.headers: list[Mapping[str, str]] = []
        self.tokenized: list[str] = []
        self.running = 0
        # What it answers.
        self.template = TEMPLATE
        self.chunks = ["It ", "was ", "Postscript."]
        self.answer: Callable[[dict], str] = lambda body: "".join(self.chunks)
        self.extra_fields: dict = {}  # in every answer
        self.finish_reason = "stop"
        self.query_answer: object = None  # to /v1/models and /tokenize, in place of the valid one
        self.max_model_len = 4096
        self.uncounted_tokens = 0  # that /tokenize does not see
        # What it rejects.
        self.error_message: str | None = None  # of the error that answers every request
        self.rejected_text = ""  # a request that contains it is rejected
        self.rejects_long_answers = False  # as vLLM did before 0.2x; newer versions shorten the answer
        # When it answers.
        self.is_down = False  # aborts every connection
        self.aborts = 0  # so many of the next connections are aborted
        self.hangs = False  # answers no request
        self.disconnect_after: int | None = None  # chunks of a stream
        self.delay_s = 0.0  # before an answer
        self.chunk_delay_s = 0.0  # after each chunk
        self.released = asyncio.Event()  # a test clears it to stop the fake before an answer and each chunk
        self.released.set()

    @asynccontextmanager
    async def served(self) -> AsyncIterator[str]:
        """Serve, and yield the URL."""
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._answer)
        async with TestServer(app) as server:
            yield str(server.make_url("")).rstrip("/")

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        if self.is_down or self.aborts:
            self.aborts = max(0, self.aborts - 1)
            request.transport.abort()
            return web.Response()
        if self.hangs:
            await asyncio.sleep(60)
        self.headers.append(request.headers)
        if self.query_answer is not None and request.path in ("/v1/models", "/tokenize"):
            return web.json_response(self.query_answer)
        if request.path == "/v1/models":
            length = {"max_model_len": self.max_model_len}
            models = [{"id": "base", **length}, {"id": "ada", "root": "/runs/run-1", **length}]
            return web.json_response({"data": models})
        body = await request.json()
        if request.path == "/tokenize":
            return self._tokenize(body)
        self.requests.append(body)
        if complaint := self._complaint(body):
            param = "input_tokens" if self._complaint_about_length(body) else None
            error = {"message": complaint, "type": "BadRequestError", "param": param, "code": 400}
            return web.json_response({"error": error}, status=400)
        self.running += 1
        try:
            await asyncio.sleep(self.delay_s)
            await self.released.wait()
            return await self._complete(request, body)
        finally:
            self.running -= 1

    def _tokenize(self, body: dict) -> web.Response:
        tokens = self.tokens(body)[self.uncounted_tokens :]
        self.tokenized.append(body.get("prompt") or str(body["messages"]))
        return web.json_response(
            {"tokens": tokens, "count": len(tokens), "max_model_len": self.max_model_len}
        )

    def tokens(self, body: dict) -> list[int]:
        """The tokens of a request's prompt."""
        prompt, messages = body.get("prompt"), body.get("messages") or body.get("input")
        if isinstance(prompt, list):
            return prompt if isinstance(prompt[0], int) else max(prompt, key=len)
        if prompt is not None:
            return list(prompt.encode())
        thinking = bool((body.get("chat_template_kwargs") or {}).get("enable_thinking"))
        text = render(self.template, messages, add_generation_prompt=True, enable_thinking=thinking)
        return list(text.encode())

    def _complaint(self, body: dict) -> str:
        """What vLLM says about a request that it rejects."""
        if self.error_message:
            return self.error_message
        if complaint := self._complaint_about_length(body):
            return complaint
        is_rejected = body.get("max_tokens") == 0 or (self.rejected_text and self.rejected_text in str(body))
        return "max_tokens must be at least 1" if is_rejected else ""

    def _complaint_about_length(self, body: dict) -> str:
        tokens, limit = len(self.tokens(body)), self.max_model_len
        answer = body.get("max_completion_tokens") or body.get("max_tokens") or body.get("max_output_tokens")
        if tokens >= limit:
            return f"This model's maximum context length is {limit} tokens. Your prompt has {tokens}."
        if (answer or 0) > limit:
            return f"max_tokens={answer} cannot be greater than max_model_len={limit}."
        if self.rejects_long_answers and tokens + (answer or 1) > limit:
            return f"This model's maximum context length is {limit} tokens. However, you requested more."
        return ""

    async def _complete(self, request: web.Request, body: dict) -> web.StreamResponse:
        if request.path == RESPONSES:
            return await self._respond(request, body)
        if body.get("stream"):
            return await self._stream(request, body)
        text = self.answer(body)
        part = (
            {"text": text}
            if request.path == COMPLETIONS
            else {"message": {"role": "assistant", "content": text}}
        )
        choices = [
            {"index": index, **part, "finish_reason": self.finish_reason}
            for index in range(body.get("n") or 1)
        ]
        answer = {"id": "c1", "model": body["model"], "choices": choices, "usage": USAGE, **self.extra_fields}
        return web.json_response(answer, dumps=compact)

    async def _respond(self, request: web.Request, body: dict) -> web.StreamResponse:
        part = {"type": "output_text", "text": "".join(self.chunks)}
        answer = {"id": "r1", "object": "response", "output": [{"type": "message", "content": [part]}]}
        if not body.get("stream"):
            return web.json_response(answer, dumps=compact)
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for ordinal, text in enumerate(self.chunks):
            if ordinal == self.disconnect_after:
                request.transport.abort()
                return response
            await response.write(b"event: response.output_text.delta\n" + event({"delta": text}))
        await response.write(b"event: response.completed\n" + event({"response": answer}))
        return response

    async def _stream(self, request: web.Request, body: dict) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        last = len(self.chunks) - 1
        for ordinal, text in enumerate(self.chunks):
            await self.released.wait()
            if ordinal == self.disconnect_after:
                request.transport.abort()
                return response
            finish_reason = self.finish_reason if ordinal == last else None
            for index in range(body.get("n") or 1):
                part = {"text": text} if request.path == COMPLETIONS else {"delta": {"content": text}}
                choice = {"index": index, **part, "finish_reason": finish_reason}
                await response.write(event({"id": "c1", "choices": [choice], **self.extra_fields}))
            await asyncio.sleep(self.chunk_delay_s)
        if body.get("stream_options", {}).get("include_usage"):
            await response.write(event({"id": "c1", "choices": [], "usage": USAGE}))
        await response.write(b"data: [DONE]\n\n")
        return response


def event(data: dict) -> bytes:
    return f"data: {compact(data)}\n\n".encode()


def compact(data: dict) -> str:
    return json.dumps(data, separators=(",", ":"))
