"""A streamed answer's events on their way from vLLM to a client.

They are passed on as the bytes they came in. Only one that may be the last is held back for a moment, because
the last one carries `ada` too; and chunks are rewritten as long as thoughts have to be told from words.
"""

import asyncio
import re
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import aclosing, suppress
from typing import Any, Protocol

from starlette.types import Receive, Scope, Send

from services.errors import AdaError, ModelFaulty, ModelUnavailable
from services.orchestrator.http.errors import describe, unforeseen
from services.orchestrator.http.later import Later
from services.orchestrator.openai.reasoning import ReasoningParser
from services.orchestrator.vllm.client import DONE, Event
from services.orchestrator.vllm.event_reader import DATA, END
from services.orchestrator.vllm.validation import encode

_RESPONSE_ENDS = ("response.completed", "response.incomplete")
_NAME = re.compile(r"[a-z_]+(?:\.[a-z_]+)*")
_CHUNK_HEAD = ("id", "object", "created", "model")
Json = dict[str, Any]


class SseTransformer(Protocol):
    """Takes one event after the other and gives what of it can be sent on."""

    over: bool  # nothing more is to come
    usage: Json  # what the answer has cost, when it is over
    said: list[str]

    def take(self, event: Event) -> bytes:
        """The bytes that can be sent when this event has come."""

    def failure(self, error: Json) -> bytes:
        """The end of a stream that went wrong: OpenAI's error in the shape of this route's events."""


async def relayed(events: AsyncIterator[Event], relay: SseTransformer) -> AsyncGenerator[bytes]:
    """The events for the client. Raises ModelUnavailable when they end before they are over."""
    async for event in events:
        if ready := relay.take(event):
            yield ready
        if relay.over:
            return
    raise ModelUnavailable("the model server ended in the middle of its answer: ask again")


class CompletionRelay:
    """Of the stream of a chat completion or a completion."""

    def __init__(self, ada: Json, splitter: ReasoningParser | None, *, usage: bool, listen: bool) -> None:
        self._ada = ada
        self._splitter = splitter
        self._wants_usage = usage
        self._listen = listen  # whether somebody wants to know what was said
        self._held: Json = {}
        self._newest: Json = {}
        self.over = False
        self.usage: Json = {}
        self.said: list[str] = []  # of the first choice

    def take(self, event: Event) -> bytes:
        """The last event waits for [DONE], and then carries `ada`."""
        if event.value is None:
            self.over = True
            return self._last() + DATA + DONE + END
        chunk, data = event.value, event.data
        self._newest = chunk
        if self._splitter and not self._splitter.settled:
            data = self._splitter.rewrite(data, chunk)
        self.usage = chunk.get("usage") or self.usage
        if self._listen:
            self.said.append(said_in(chunk, "delta"))
        if not chunk["choices"] and not self._wants_usage:
            return b""
        before, self._held = self._held, {}
        ready = _written(before) if before else b""
        if _may_be_last(chunk):
            self._held = chunk
            return ready
        return ready + DATA + data + END

    def failure(self, error: Json) -> bytes:
        """An event with the error, then [DONE]: clients that wait for it are let go, too."""
        return _written(error) + DATA + DONE + END

    def _last(self) -> bytes:
        last = self._held or {**{name: self._newest[name] for name in _CHUNK_HEAD if name in self._newest},
                              "choices": []}  # fmt: skip
        return _written({**last, "ada": self._ada})


class ResponseRelay:
    """Of the stream of a response, which ends with an event that holds the whole of it."""

    def __init__(self, finish: Json) -> None:
        self._finish = finish  # fields of the whole response that are Ada's to tell
        self._next_number = 0
        self.over = False
        self.usage: Json = {}
        self.said: list[str] = []

    def take(self, event: Event) -> bytes:
        """All but the last event go on as they come."""
        if event.value is None:  # no part of a response's stream
            return b""
        name = event.name.decode(errors="replace") or event.value.get("type", "")
        self._next_number = event.value.get("sequence_number", self._next_number) + 1
        data = event.data
        if name in _RESPONSE_ENDS:
            data = self._ended(event.value)
        return _named(name, data)

    def failure(self, error: Json) -> bytes:
        """OpenAI's `error` event; `error` in it is what its own libraries raise."""
        told = error["error"]
        event = {
            "type": "error",
            "sequence_number": self._next_number,
            **{name: told.get(name) for name in ("code", "message", "param")},
            **error,
        }
        return _named("error", encode(event))

    def _ended(self, value: Json) -> bytes:
        if "response" not in value:
            raise ModelFaulty("the model server's last event holds no response: ask again")
        self.over = True
        response = value["response"] = {**value["response"], **self._finish}
        self.usage = response.get("usage") or {}
        self.said = [said_in_response(response)]
        return encode(value)


def _may_be_last(chunk: Json) -> bool:
    """Behind a choice's end only the ends of others come, and the usage."""
    choices = chunk["choices"]
    return not choices or any(choice.get("finish_reason") is not None for choice in choices)


def _written(chunk: Json) -> bytes:
    return DATA + encode(chunk) + END


def _named(name: str, data: bytes) -> bytes:
    head = f"event: {name}\n".encode() if _NAME.fullmatch(name) else b""
    return head + DATA + data + END


def said_in(answer: Json, part: str) -> str:
    """What the first choice of a completion, or of a piece of one, says."""
    match answer.get("choices"):
        case [{"index": 0, **choice}, *_]:
            match choice.get(part):
                case {"content": str(content)}:
                    return content
    return ""


def said_in_response(response: Json) -> str:
    """What a response says."""
    parts = [part for item in response.get("output", []) for part in item.get("content") or []]
    return "".join(part.get("text", "") for part in parts if part.get("type") == "output_text")


_NO_MORE = {"type": "http.response.body", "body": b"", "more_body": False}
_HEADERS = (
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),  # nginx passes pieces on as they come
)
COMMENT = b": still here" + END  # for proxies, which cut what is silent


class SseResponse:
    """Sends events as they come, and a comment when there was none for `keep_alive_s`."""

    def __init__(
        self,
        events: AsyncGenerator[bytes],
        failure: Callable[[dict[str, Any]], bytes],  # the end of a stream that went wrong
        keep_alive_s: float,
        headers: Mapping[str, str],
    ) -> None:
        self._events = events
        self._failure = failure
        self._keep_alive_s = keep_alive_s
        self._headers = headers
        self._sent_at = time.monotonic()
        self.begun = False
        self.cut = False  # by an error, when it had begun
        self._sending = asyncio.Lock()

    async def __call__(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        """Send everything; AdaError is raised only when nothing has been sent."""
        pulse = Later(self._keep_alive_s, lambda: self._pulse(send))
        try:
            async with aclosing(self._events):
                async for event in self._events:
                    await self._write(send, event)
        except AdaError as error:
            if not self.begun:
                raise
            self.cut = True
            await self._write(send, self._failure(describe(error)[1]))
        except Exception as error:  # a mistake of ours must not leave the client waiting either
            if not self.begun:
                raise
            self.cut = True
            await self._write(send, self._failure(unforeseen(error)))
        except asyncio.CancelledError:  # the client is gone, or Ada is ended and has waited long enough
            if self.begun:
                with suppress(Exception):
                    await self._write(send, self._failure(describe(ended())[1]))
                    await send(_NO_MORE)
            raise
        finally:
            pulse.cancel()
        await send(_NO_MORE)

    async def _pulse(self, send: Send) -> None:
        while True:
            silent_s = time.monotonic() - self._sent_at
            if silent_s >= self._keep_alive_s:
                await self._write(send, COMMENT)
            await asyncio.sleep(max(0.01, self._keep_alive_s - silent_s))

    async def _write(self, send: Send, data: bytes) -> None:
        async with self._sending:
            if not self.begun:
                self.begun = True
                more = [(name.encode(), value.encode()) for name, value in self._headers.items()]
                await send({"type": "http.response.start", "status": 200, "headers": [*_HEADERS, *more]})
            self._sent_at = time.monotonic()
            await send({"type": "http.response.body", "body": data, "more_body": True})


def ended() -> ModelUnavailable:
    """What is told of an answer that was cut because Ada herself is shut down."""
    return ModelUnavailable("Ada was ended in the middle of this answer: ask again")
