"""Server-sent events on their way from vLLM to a client.

They are passed on as the bytes they came in. Only one that may be the last is held back for a moment, because
the last one carries `ada` too; and chunks are rewritten as long as thoughts have to be told from words.
"""

import json
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any, Protocol

from services.errors import ModelUnavailable
from services.orchestrator.chat.thinking import StreamSplitter

DATA, END = b"data: ", b"\n\n"
DONE = DATA + b"[DONE]"
_UNFINISHED = b'"finish_reason":null'  # as vLLM writes it; an event without it is looked at
_RESPONSE_ENDS = (b"event: response.completed", b"event: response.incomplete", b"event: response.failed")
Json = dict[str, Any]


class Relay(Protocol):
    """Takes one event after the other and gives what of it can be sent on."""

    over: bool  # nothing more is to come
    usage: Json  # what the answer has cost, when it is over
    said: list[str]

    def take(self, event: bytes) -> bytes:
        """The bytes that can be sent when this event, without its end, has come."""


async def relayed(pieces: AsyncIterator[bytes], relay: Relay) -> AsyncGenerator[bytes]:
    """The events for the client. Raises ModelUnavailable when they end before they are over."""
    async for event in whole_events(pieces):
        if ready := relay.take(event):
            yield ready
        if relay.over:
            return
    raise ModelUnavailable("the model server ended in the middle of its answer: ask again")


async def whole_events(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Each event without its end."""
    rest = b""
    async for piece in pieces:
        *events, rest = (rest + piece).split(END)
        for event in events:
            yield event


class CompletionRelay:
    """Of the stream of a chat completion or a completion."""

    def __init__(self, ada: Json, splitter: StreamSplitter | None, *, usage: bool, listen: bool) -> None:
        self._ada = ada
        self._splitter = splitter
        self._wants_usage = usage
        self._listen = listen  # whether somebody wants to know what was said
        self._held = b""
        self.over = False
        self.usage: Json = {}
        self.said: list[str] = []  # of the first choice

    def take(self, event: bytes) -> bytes:
        """The last event waits for [DONE], and then carries `ada`."""
        if not event.startswith(DATA):  # a comment
            return event + END
        if event == DONE:
            self.over = True
            return self._last() + DONE + END
        event = self._told_apart(event)
        if _UNFINISHED in event:
            if self._listen:
                self._hear(json.loads(event[len(DATA) :]))
            return self._after_held(event)
        return self._looked_at(event)

    def _last(self) -> bytes:
        last = json.loads(self._held[len(DATA) :]) if self._held else {"choices": []}
        return encoded({**last, "ada": self._ada})

    def _told_apart(self, event: bytes) -> bytes:
        if self._splitter is None or self._splitter.settled:
            return event
        return DATA + self._splitter.rewrite(event[len(DATA) :])

    def _looked_at(self, event: bytes) -> bytes:
        chunk = json.loads(event[len(DATA) :])
        if "error" in chunk:
            self.over = True
            return self._after_held(event)
        self.usage = chunk.get("usage") or self.usage
        self._hear(chunk)
        if not chunk.get("choices") and not self._wants_usage:
            return b""
        before, self._held = self._held, event + END
        return before

    def _after_held(self, event: bytes) -> bytes:
        before, self._held = self._held, b""
        return before + event + END

    def _hear(self, chunk: Json) -> None:
        self.said.append(said_in(chunk, "delta"))


class ResponseRelay:
    """Of the stream of a response, which ends with an event that holds the whole of it."""

    def __init__(self, finish: Json) -> None:
        self._finish = finish  # fields of the whole response that are Ada's to tell
        self.over = False
        self.usage: Json = {}
        self.said: list[str] = []

    def take(self, event: bytes) -> bytes:
        """All but the last event go on as they come."""
        if not event.startswith(_RESPONSE_ENDS):
            return event + END
        self.over = True
        head, data = event.split(b"\n" + DATA, 1)
        told = json.loads(data)
        told["response"] |= self._finish
        self.usage = told["response"].get("usage") or {}
        self.said = [said_in_response(told["response"])]
        return head + b"\n" + encoded(told)


def encoded(data: Json) -> bytes:
    """One event."""
    return DATA + json.dumps(data, ensure_ascii=False, separators=(",", ":")).encode() + END


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
