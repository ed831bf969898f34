"""How much the served model reads at once, and how much of it a request takes.

The model server counts with the model's own tokenizer and template. Where a count is not worth a request, a
bound stands in for it: no token of a byte-level vocabulary is shorter than a byte.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from services.errors import ModelUnavailable, UpstreamError
from services.orchestrator.vllm.client import Json, VllmClient

# Planned for when the client names no length: the model server's own default (a test compares).
ANSWER_TOKENS = 512
TOKENS_A_TURN = 8  # `<|im_start|>`, line break, `<|im_end|>`, line break, and some to spare
CHARACTERS_A_TOKEN = 256  # more than the longest token of a vocabulary has (81 in SmolLM2's)
REFRESH_S = 30.0  # a model server that is started again may read less
_ANSWER_FIELDS = ("max_completion_tokens", "max_tokens", "max_output_tokens")  # the first that is set counts
_TEMPLATE_FIELDS = (
    "add_generation_prompt",
    "continue_final_message",
    "add_special_tokens",
    "chat_template_kwargs",
)


@dataclass(frozen=True)
class Room:
    """What a request leaves free of the model's context. `prompt` is a count, or a bound above it."""

    length: int
    prompt: int
    answer: int  # the tokens the client asks for, or plans for by default
    at_least: bool = False  # whether `prompt` is a bound below the count

    @property
    def left(self) -> int:
        """Tokens that neither the conversation nor its answer needs; below zero when they do not fit."""
        return self.length - self.prompt - self._reserved

    @property
    def _reserved(self) -> int:
        """An answer that could not have its whole length anyway keeps what a usual one needs."""
        if self.prompt + self.answer <= self.length:
            return self.answer
        return min(self.answer, ANSWER_TOKENS)


class ContextWindow:
    """Knows the served model's length from the model server, which is asked again after half a minute."""

    def __init__(self, engine: VllmClient, clock: Callable[[], float] = time.monotonic) -> None:
        self._engine = engine
        self._clock = clock
        self._length: int | None = None
        self._read_at = float("-inf")

    async def length(self) -> int | None:
        """The `max_model_len` of the served model; None as long as the model server has not told it."""
        if self._clock() - self._read_at >= REFRESH_S:
            await self._read()
        return self._length

    async def count(self, body: Json) -> int | None:
        """Tokens of a /tokenize request; None when the model server can't or won't count them."""
        try:
            return len(await self._engine.tokenize(body))
        except (ModelUnavailable, UpstreamError):
            return None

    async def room(self, body: Json, messages: Sequence[Mapping[str, str]], wanted: int) -> Room | None:
        """What these messages and their answer leave free; None when the length is not known.

        The tokenizer is asked only when it is not sure without it that at least `wanted` tokens are free.
        """
        length = await self.length()
        if length is None:
            return None
        bound, answer = most_tokens(messages), answer_tokens(body)
        if bound + answer + wanted <= length:
            return Room(length, bound, answer)
        return await self._counted(body, messages, length) or Room(length, bound, answer)

    async def overflow(self, body: Json, messages: Sequence[Mapping[str, str]]) -> Room | None:
        """The same of a request that was refused, counted; None when it surely fits, or can't be counted."""
        length = await self.length()
        if length is None or most_tokens(messages) + answer_tokens(body) <= length:
            return None
        return await self._counted(body, messages, length)

    async def _counted(self, body: Json, messages: Sequence[Mapping[str, str]], length: int) -> Room | None:
        answer = answer_tokens(body)
        if least := least_tokens(sum(len(message["content"]) for message in messages), length):
            return Room(length, least, answer, at_least=True)
        counted = await self.count(tokenize_body(body, messages))
        return None if counted is None else Room(length, counted, answer)

    async def _read(self) -> None:
        try:
            lengths = [model.get("max_model_len") for model in await self._engine.models()]
        except (ModelUnavailable, UpstreamError):
            return
        known = [length for length in lengths if isinstance(length, int)]
        if known:
            self._length, self._read_at = min(known), self._clock()


def most_tokens(messages: Sequence[Mapping[str, str]]) -> int:
    """More tokens than these messages can have, without asking a tokenizer."""
    longest_name = 32  # bytes of a speaker's name or role
    return sum(len(message["content"].encode()) + longest_name + TOKENS_A_TURN for message in messages)


def least_tokens(characters: int, length: int) -> int:
    """A bound below the tokens of a text that is too long to be worth counting; 0 for any other."""
    return characters // CHARACTERS_A_TOKEN if characters > CHARACTERS_A_TOKEN * length else 0


def answer_tokens(body: Mapping[str, Any]) -> int:
    """The length of the answer that a request asks for. What is no number the model server refuses."""
    for name in _ANSWER_FIELDS:
        value = body.get(name)
        if isinstance(value, str) and value.isdecimal():  # the model server takes these, too
            return int(value[:10])
        if isinstance(value, int) and not isinstance(value, bool):
            return max(value, 0)
    return ANSWER_TOKENS


def tokenize_body(body: Json, messages: Sequence[Mapping[str, str]]) -> Json:
    """The /tokenize request that renders `messages` as the request `body` will have them rendered."""
    template = {name: body[name] for name in _TEMPLATE_FIELDS if body.get(name) is not None}
    return {**template, "model": body["model"], "messages": list(messages)}
