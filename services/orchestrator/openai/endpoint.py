"""What OpenAI's routes share: from the bytes of a request to its answer, complete or streamed.

Plain ASGI, and no route of the framework, whose machinery would cost as much as all the rest of a request
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
from services.orchestrator.http.auth import Caller, caller_of
from services.orchestrator.http.disconnect import ClientGone, cancel_on_disconnect
from services.orchestrator.http.json_body import Json, json_body
from services.orchestrator.openai.schemas import AdaOptions, BaseRequest
from services.orchestrator.openai.sse import SseResponse, SseTransformer, shutdown_error, transformed
from services.orchestrator.vllm.client import Event
from services.orchestrator.vllm.validation import encode

log = logging.getLogger("ada.orchestrator")
REFLECT_HEADER = "X-Ada-Reflect"
# Pydantic's path of an error names the member of a union that it tried, which is no part of the field's path.
_UNION_MEMBER = re.compile(r"str|list\[.*")
# The names of the counts in a completion's usage, and in a response's.
_USAGE_FIELDS = {
    "prompt": ("prompt_tokens", "input_tokens"),
    "completion": ("completion_tokens", "output_tokens"),
}
RequestT = TypeVar("RequestT", bound=BaseRequest)


class UpstreamRequest(Protocol):
    """The request to vLLM for one request of a client, and how its answer becomes Ada's."""

    path: str
    body: Json

    def transformer(self) -> SseTransformer:
        """Transforms the events of a streamed answer."""

    def finish(self, answer: Json) -> str:
        """Add the `ada` field to a non-streamed answer; return the assistant's text."""

    async def record(self, text: str) -> None:
        """Record the exchange for reflection, once the client has the answer."""

    async def revise(self, error: UpstreamError) -> None:
        """Change the request after vLLM rejected it, so that it can be sent again.

        Raises AdaError when there is nothing to change.
        """


UpstreamRequestBuilder = Callable[[RequestT, AppState, Caller], Awaitable[UpstreamRequest]]


class Endpoint(Generic[RequestT]):
    """An ASGI application for one of OpenAI's routes."""

    def __init__(self, schema: type[RequestT], build: UpstreamRequestBuilder[RequestT]) -> None:
        self.schema = schema
        self._build_upstream_request = build

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request as long as its client is connected. Raises AdaError."""
        http_request = Request(scope, receive)
        state = cast(AppState, http_request.app.state.ada)
        caller = caller_of(http_request)
        request = parse_request(self.schema, await json_body(http_request))
        may_reflect = allows_reflection(http_request.headers, request.ada)
        answer = _Answer(state, caller, state.rate_limits.admit(caller))
        try:
            async with cancel_on_disconnect(receive):
                upstream = await self._build_upstream_request(request, state, caller)
                response = answer.stream(upstream) if request.stream else await answer.complete(upstream)
                await response(scope, receive, send)
        except ClientGone:
            log.info("the client disconnected before its answer was complete")
            return
        except asyncio.CancelledError:  # at Ada's own shutdown, when DRAIN_S is over
            if answer.response and answer.response.started:
                return
            raise shutdown_error() from None
        if may_reflect and not (answer.response and answer.response.failed):
            await upstream.record(answer.text)


def parse_request(schema: type[RequestT], body: Json) -> RequestT:
    """Validate a request. Raises InvalidRequest, naming the field at fault."""
    try:
        return schema.model_validate(body)
    except ValidationError as error:
        first = error.errors()[0]
        path = field_path(first["loc"])
        reason = first["msg"].removeprefix("Value error, ")
        code = "array_above_max_length" if first["type"] == "too_long" else None
        raise InvalidRequest(f"{path}: {reason}", path, code) from None


def allows_reflection(headers: Mapping[str, str], options: AdaOptions) -> bool:
    """Whether Ada may reflect on this chat: unless the field or the header forbids it.

    The header is for front ends that can't set a field. Raises InvalidRequest for other values than on and
    off.
    """
    value = headers.get(REFLECT_HEADER, "on").strip().lower()
    if value not in ("on", "off"):
        raise InvalidRequest(f"{REFLECT_HEADER} is {value[:40]!r}: use 'on' or 'off'", REFLECT_HEADER)
    return options.reflect and value == "on"


def field_path(loc: tuple[int | str, ...]) -> str:
    """A field's path as OpenAI writes it: messages[0].role."""
    parts = takewhile(lambda part: isinstance(part, int) or not _UNION_MEMBER.fullmatch(part), loc)
    path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in parts)
    return path.removeprefix(".")


@dataclass
class _Answer:
    """One answer: requested from vLLM, sent to the client, and charged to the caller's limits."""

    state: AppState
    caller: Caller
    limit_headers: Mapping[str, str]
    response: SseResponse | None = None  # of a streamed answer
    text: str = ""

    async def complete(self, upstream: UpstreamRequest) -> Response:
        answer = await self._complete(upstream)
        self.text = upstream.finish(answer)
        self._charge(answer.get("usage") or {})
        return Response(encode(answer), media_type="application/json", headers=dict(self.limit_headers))

    async def _complete(self, upstream: UpstreamRequest) -> Json:
        while True:
            try:
                return await self.state.vllm.complete(upstream.path, upstream.body)
            except UpstreamError as error:
                await upstream.revise(error)

    def stream(self, upstream: UpstreamRequest) -> ASGIApp:
        transformer = upstream.transformer()
        self.response = SseResponse(
            self._events(upstream, transformer),
            transformer.failure,
            self.state.keep_alive_s,
            self.limit_headers,
        )
        return self.response

    async def _events(self, upstream: UpstreamRequest, transformer: SseTransformer) -> AsyncGenerator[bytes]:
        count, metrics = 0, self.state.metrics
        previous = time.monotonic()
        try:
            async with (
                self._upstream_events(upstream) as events,
                aclosing(transformed(events, transformer)) as ready,
            ):
                async for data in ready:
                    now = time.monotonic()
                    (metrics.token_gap if count else metrics.first_token).observe(now - previous)
                    previous, count = now, count + 1
                    yield data
        finally:
            self.text = "".join(transformer.texts)
            # A client that disconnects early is charged for what it got: an event is a token.
            self._charge(transformer.usage or {"completion_tokens": count, "total_tokens": count})

    @asynccontextmanager
    async def _upstream_events(self, upstream: UpstreamRequest) -> AsyncIterator[AsyncIterator[Event]]:
        async with AsyncExitStack() as stack:
            events = None
            while events is None:
                stream = self.state.vllm.stream(upstream.path, upstream.body)
                try:
                    events = await stack.enter_async_context(stream)
                except UpstreamError as error:
                    await upstream.revise(error)
            yield events

    def _charge(self, usage: Json) -> None:
        self.state.rate_limits.spend(self.caller, total_tokens(usage))
        for kind, names in _USAGE_FIELDS.items():
            self.state.metrics.tokens.labels(kind).inc(sum(usage.get(name) or 0 for name in names))


def total_tokens(usage: Mapping[str, Any]) -> int:
    """Tokens of an answer and its prompt."""
    return int(usage.get("total_tokens") or 0)
