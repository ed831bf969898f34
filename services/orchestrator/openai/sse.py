"""Turns vLLM's events into the client's, and sends them as an ASGI response.

Events are passed on as the bytes they came in. Only an event that may be the last is held back for a moment,
because the last one has the field `ada`; and chunks are rewritten until reasoning and content can be told
apart.

Own code, and not sse-starlette: that one sends the response's head before the first event has come, so that
an error before the first event could not keep its HTTP status.
"""

import asyncio
import re
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import aclosing, suppress
from typing import Protocol

from starlette.types import Receive, Scope, Send

from services.errors import AdaError, ModelFaulty, ModelUnavailable
from services.orchestrator.http.errors import error_response, internal_error
from services.orchestrator.http.json_body import Json
from services.orchestrator.openai.reasoning import ReasoningParser
from services.orchestrator.vllm.client import DONE, Event
from services.orchestrator.vllm.event_reader import DATA, END
from services.orchestrator.vllm.validation import encode

COMMENT = b": still here" + END  # for proxies, which close silent connections
_RESPONSE_ENDS = ("response.completed", "response.incomplete")
_EVENT_NAME = re.compile(r"[a-z_]+(?:\.[a-z_]+)*")
_CHUNK_FIELDS = ("id", "object", "created", "model")
_END_OF_BODY = {"type": "http.response.body", "body": b"", "more_body": False}
_HEADERS = (
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),  # makes nginx pass on each event at once
)


class SseTransformer(Protocol):
    """Turns vLLM's events into the client's, one after the other."""

    finished: bool  # no event follows
    usage: Json  # tokens of the answer, once it is finished
    texts: list[str]  # the answer's text in pieces, if it is collected

    def transform(self, event: Event) -> bytes:
        """The bytes to send after this event; empty when there are none yet."""

    def failure(self, error: Json) -> bytes:
        """The end of a stream that failed: OpenAI's error as an event of this route."""


async def transformed(events: AsyncIterator[Event], transformer: SseTransformer) -> AsyncGenerator[bytes]:
    """The bytes for the client. Raises ModelUnavailable when the events end too early."""
    async for event in events:
        if data := transformer.transform(event):
            yield data
        if transformer.finished:
            return
    raise ModelUnavailable("the model server ended its answer too early: try again")


class CompletionTransformer:
    """Transforms the stream of a chat completion or a completion."""

    def __init__(
        self, ada: Json, reasoning: ReasoningParser | None, *, include_usage: bool, collect_text: bool
    ) -> None:
        self._ada = ada
        self._reasoning = reasoning
        self._include_usage = include_usage
        self._collect_text = collect_text
        self._pending: Json = {}  # a chunk that may be the last
        self._latest: Json = {}
        self.finished = False
        self.usage: Json = {}
        self.texts: list[str] = []  # of the first choice

    def transform(self, event: Event) -> bytes:
        """Pass the event on; the last chunk waits for [DONE], and then gets the field `ada`."""
        if event.value is None:
            self.finished = True
            return self._last_chunk() + DATA + DONE + END
        chunk, data = event.value, event.data
        self._latest = chunk
        if self._reasoning and not self._reasoning.settled:
            data = self._reasoning.rewrite(data, chunk)
        self.usage = chunk.get("usage") or self.usage
        if self._collect_text:
            self.texts.append(assistant_text(chunk, "delta"))
        if not chunk["choices"] and not self._include_usage:
            return b""
        previous, self._pending = self._pending, {}
        ready = _encoded_event(previous) if previous else b""
        if _may_be_last(chunk):
            self._pending = chunk
            return ready
        return ready + DATA + data + END

    def failure(self, error: Json) -> bytes:
        """An event with the error, then [DONE], for which some clients wait."""
        return _encoded_event(error) + DATA + DONE + END

    def _last_chunk(self) -> bytes:
        chunk = self._pending or {
            **{name: self._latest[name] for name in _CHUNK_FIELDS if name in self._latest},
            "choices": [],
        }
        return _encoded_event({**chunk, "ada": self._ada})


class ResponseTransformer:
    """Transforms the stream of a response, whose last event contains the complete response."""

    def __init__(self, own_fields: Json) -> None:
        self._own_fields = own_fields  # of the complete response
        self._next_number = 0
        self.finished = False
        self.usage: Json = {}
        self.texts: list[str] = []

    def transform(self, event: Event) -> bytes:
        """Pass the event on; the last one gets Ada's own fields."""
        if event.value is None:  # [DONE] is no part of a response's stream
            return b""
        name = event.name.decode(errors="replace") or event.value.get("type", "")
        self._next_number = event.value.get("sequence_number", self._next_number) + 1
        data = self._last_event(event.value) if name in _RESPONSE_ENDS else event.data
        return _named_event(name, data)

    def failure(self, error: Json) -> bytes:
        """OpenAI's `error` event. OpenAI's libraries raise what is in its field `error`."""
        fields = error["error"]
        event = {
            "type": "error",
            "sequence_number": self._next_number,
            **{name: fields.get(name) for name in ("code", "message", "param")},
            **error,
        }
        return _named_event("error", encode(event))

    def _last_event(self, value: Json) -> bytes:
        if "response" not in value:
            raise ModelFaulty("the model server's last event has no field `response`: try again")
        self.finished = True
        response = value["response"] = {**value["response"], **self._own_fields}
        self.usage = response.get("usage") or {}
        self.texts = [response_text(response)]
        return encode(value)


def _may_be_last(chunk: Json) -> bool:
    """Whether only the ends of other choices, and the usage, can follow."""
    choices = chunk["choices"]
    return not choices or any(choice.get("finish_reason") is not None for choice in choices)


def _encoded_event(chunk: Json) -> bytes:
    return DATA + encode(chunk) + END


def _named_event(name: str, data: bytes) -> bytes:
    line = f"event: {name}\n".encode() if _EVENT_NAME.fullmatch(name) else b""
    return line + DATA + data + END


def assistant_text(answer: Json, part: str) -> str:
    """The text of the first choice of a completion (`part` is "message") or of a chunk ("delta")."""
    match answer.get("choices"):
        case [{"index": 0, **choice}, *_]:
            match choice.get(part):
                case {"content": str(content)}:
                    return content
    return ""


def response_text(response: Json) -> str:
    """The text of a response."""
    parts = [part for item in response.get("output", []) for part in item.get("content") or []]
    return "".join(part.get("text", "") for part in parts if part.get("type") == "output_text")


class SseResponse:
    """An ASGI response of events, with a comment whenever there was no event for `keep_alive_s` seconds.

    An error before the first byte keeps its HTTP status; a later error becomes an event.
    """

    def __init__(
        self,
        events: AsyncGenerator[bytes],
        failure: Callable[[Json], bytes],  # see SseTransformer
        keep_alive_s: float,
        headers: Mapping[str, str],
    ) -> None:
        self._events = events
        self._failure = failure
        self._keep_alive_s = keep_alive_s
        self._headers = headers
        self._sent_at = time.monotonic()
        self._lock = asyncio.Lock()
        self.started = False
        self.failed = False  # after it had started

    async def __call__(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        """Send all events. Raises AdaError only before the first byte."""
        keep_alive = asyncio.create_task(self._keep_alive(send))
        try:
            async with aclosing(self._events):
                async for event in self._events:
                    await self._write(send, event)
        except AdaError as error:
            if not self.started:
                raise
            self.failed = True
            await self._write(send, self._failure(error_response(error)[1]))
        except Exception as error:  # a mistake of ours must not leave the client waiting either
            if not self.started:
                raise
            self.failed = True
            await self._write(send, self._failure(internal_error(error)))
        except asyncio.CancelledError:  # the client has disconnected, or Ada shuts down
            if self.started:
                with suppress(Exception):
                    await self._write(send, self._failure(error_response(shutdown_error())[1]))
                    await send(_END_OF_BODY)
            raise
        finally:
            keep_alive.cancel()
        await send(_END_OF_BODY)

    async def _keep_alive(self, send: Send) -> None:
        while True:
            silent_s = time.monotonic() - self._sent_at
            if silent_s >= self._keep_alive_s:
                await self._write(send, COMMENT)
            await asyncio.sleep(max(0.01, self._keep_alive_s - silent_s))

    async def _write(self, send: Send, data: bytes) -> None:
        async with self._lock:
            if not self.started:
                self.started = True
                headers = [(name.encode(), value.encode()) for name, value in self._headers.items()]
                await send({"type": "http.response.start", "status": 200, "headers": [*_HEADERS, *headers]})
            self._sent_at = time.monotonic()
            await send({"type": "http.response.body", "body": data, "more_body": True})


def shutdown_error() -> ModelUnavailable:
    """The error for an answer that Ada's own shutdown interrupts."""
    return ModelUnavailable("Ada was shut down during this answer: try again")
