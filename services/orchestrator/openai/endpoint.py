"""What OpenAI's routes have in common: from the bytes of a request to an answer, whole or streamed.

Plain ASGI and no route of the framework's, whose machinery would cost as much as all the rest of a request
(docs/measurements/voice.md).
"""

import asyncio
import logging
import re
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass
from itertools import takewhile
from typing import Any, Generic, Protocol, TypeVar, cast

from pydantic import ValidationError
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from services.errors import InvalidRequest, UpstreamError
from services.orchestrator.dependencies import AppState
from services.orchestrator.http.api_keys import Caller
from services.orchestrator.http.auth import caller_of
from services.orchestrator.http.disconnect import ClientGone, cancel_on_disconnect
from services.orchestrator.http.json_body import Json, json_body
from services.orchestrator.openai.schemas import AdaOptions, AdaRequestOptions
from services.orchestrator.openai.sse import SseResponse, SseTransformer, ended, relayed
from services.orchestrator.vllm.client import Event
from services.orchestrator.vllm.upstream import encode

log = logging.getLogger("ada.orchestrator")
REFLECT_HEADER = "X-Ada-Reflect"
_KIND = re.compile(r"str|list\[.*")  # what of several kinds a field can be; no part of its place
Asked = TypeVar("Asked", bound=AdaRequestOptions)


class Question(Protocol):
    """What vLLM is asked for one request, and how its answer becomes Ada's."""

    path: str
    body: Json

    def relay(self) -> SseTransformer:
        """For an answer that is streamed."""

    def finish(self, answer: Json) -> str:
        """Make a whole answer Ada's; returns what she said."""

    async def keep(self, said: str) -> None:
        """Do what is to be done with her answer when the client has it."""

    async def revise(self, error: UpstreamError) -> None:
        """Change what vLLM refused so that it is asked once more. Raises AdaError when nothing can be."""


Understand = Callable[[Asked, AppState, Caller], Awaitable[Question]]


class Endpoint(Generic[Asked]):
    """An ASGI application for one of OpenAI's routes."""

    def __init__(self, schema: type[Asked], understand: Understand[Asked]) -> None:
        self.schema = schema
        self._understand = understand

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, as long as its client is there. Raises AdaError."""
        request = Request(scope, receive)
        state = cast(AppState, request.app.state.ada)
        caller = caller_of(request)
        asked = read(self.schema, await json_body(request))
        reflects = reflects_on(request.headers, asked.ada)
        answer = _Answer(state, caller, state.limits.admit(caller))
        try:
            async with cancel_on_disconnect(receive):
                question = await self._understand(asked, state, caller)
                response = answer.streamed(question) if asked.stream else await answer.whole(question)
                await response(scope, receive, send)
        except ClientGone:
            log.info("the client went away before its answer was whole")
            return
        except asyncio.CancelledError:  # at Ada's own end, when her patience is over
            if answer.stream and answer.stream.begun:
                return
            raise ended() from None
        if reflects and not (answer.stream and answer.stream.cut):
            await question.keep(answer.said)


def read(schema: type[Asked], body: Json) -> Asked:
    """A request. Raises RequestRefused, naming the field at fault."""
    try:
        return schema.model_validate(body)
    except ValidationError as error:
        first = error.errors()[0]
        where = place(first["loc"])
        reason = first["msg"].removeprefix("Value error, ")
        code = "array_above_max_length" if first["type"] == "too_long" else None
        raise InvalidRequest(f"{where}: {reason}", where, code) from None


def reflects_on(headers: Mapping[str, str], options: AdaOptions) -> bool:
    """Whether Ada may write about this chat: unless the field or the header says no.

    The header is for front ends that can set no field. Raises RequestRefused for a value that says neither.
    """
    value = headers.get(REFLECT_HEADER, "on").strip().lower()
    if value not in ("on", "off"):
        raise InvalidRequest(f"{REFLECT_HEADER} is {value[:40]!r}: use 'on' or 'off'", REFLECT_HEADER)
    return options.reflect and value == "on"


def place(loc: tuple[int | str, ...]) -> str:
    """A field's place as OpenAI writes it: messages[0].role."""
    fields = takewhile(lambda part: isinstance(part, int) or not _KIND.fullmatch(part), loc)
    path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in fields)
    return path.removeprefix(".")


@dataclass
class _Answer:
    """One answer on its way, and its account."""

    state: AppState
    caller: Caller
    limits: Mapping[str, str]  # headers that tell how much is left
    stream: SseResponse | None = None
    said: str = ""

    async def whole(self, question: Question) -> Response:
        answer = cast(Json, await self._asked(question))
        self.said = question.finish(answer)
        self._account(answer.get("usage") or {})
        return Response(encode(answer), media_type="application/json", headers=dict(self.limits))

    async def _asked(self, question: Question) -> Mapping[str, object]:
        while True:
            try:
                return await self.state.engine.whole(question.path, question.body)
            except UpstreamError as error:
                await question.revise(error)

    def streamed(self, question: Question) -> ASGIApp:
        relay = question.relay()
        events = self._events(question, relay)
        self.stream = SseResponse(events, relay.failure, self.state.keep_alive_s, self.limits)
        return self.stream

    async def _events(self, question: Question, relay: SseTransformer) -> AsyncGenerator[bytes]:
        events, metrics = 0, self.state.metrics
        before = time.monotonic()
        try:
            async with (
                self._stream(question) as pieces,
                aclosing(relayed(pieces, relay)) as ready,
            ):
                async for event in ready:
                    now = time.monotonic()
                    (metrics.token_gap if events else metrics.first_token).observe(now - before)
                    before, events = now, events + 1
                    yield event
        finally:
            self.said = "".join(relay.said)
            # Whoever goes away early is charged for what has come: an event is a token.
            self._account(relay.usage or {"completion_tokens": events, "total_tokens": events})

    @asynccontextmanager
    async def _stream(self, question: Question) -> AsyncIterator[AsyncIterator[Event]]:
        async with AsyncExitStack() as stack:
            pieces = None
            while pieces is None:
                stream = self.state.engine.stream(question.path, question.body)
                try:
                    pieces = await stack.enter_async_context(stream)
                except UpstreamError as error:
                    await question.revise(error)
            yield pieces

    def _account(self, usage: Json) -> None:
        self.state.limits.spend(self.caller, tokens_of(usage))
        for kind, names in _KINDS.items():
            self.state.metrics.tokens.labels(kind).inc(sum(usage.get(name) or 0 for name in names))


# A completion's names of it, and a response's.
_KINDS = {"prompt": ("prompt_tokens", "input_tokens"), "completion": ("completion_tokens", "output_tokens")}


def tokens_of(usage: Mapping[str, Any]) -> int:
    """How many tokens an answer has cost, with its prompt."""
    return int(usage.get("total_tokens") or 0)
