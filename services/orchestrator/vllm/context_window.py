"""How many tokens the served model takes, and how many of them a request needs.

vLLM counts with the model's own tokenizer and template. Where a count is not worth a request, an upper or a
lower bound replaces it: no token of a byte-level vocabulary is shorter than one byte.
"""

import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from services.errors import InvalidRequest, ModelUnavailable, UpstreamError
from services.orchestrator.http.json_body import Json
from services.orchestrator.vllm.client import VllmClient
from services.orchestrator.vllm.errors import error_fields

# Reserved when a request names no length: the model server's own default (a test compares the two).
DEFAULT_ANSWER_TOKENS = 512
TOKENS_PER_TURN = 8  # `<|im_start|>`, line break, `<|im_end|>`, line break, and some to spare
CHARACTERS_PER_TOKEN = 256  # more than the longest token of a vocabulary has (81 in SmolLM2's)
REFRESH_S = 30.0  # a restarted model server may take fewer tokens
TOO_LONG = "context_length_exceeded"
_ANSWER_FIELDS = ("max_completion_tokens", "max_tokens", "max_output_tokens")  # the first one set counts
_TEMPLATE_FIELDS = (
    "add_generation_prompt",
    "continue_final_message",
    "add_special_tokens",
    "chat_template_kwargs",
)
# How the versions of vLLM complain of an answer that does not fit behind its prompt.
_ABOUT_LENGTH = re.compile(
    r"context length|max_model_len|maximum model length|max_(completion_|output_)?tokens", re.I
)


@dataclass(frozen=True)
class TokenBudget:
    """The tokens of the context window, and those that a request needs of it."""

    context: int
    prompt: int  # a count, or an upper bound
    answer: int  # requested, or reserved by default
    is_lower_bound: bool = False  # whether `prompt` is a lower bound instead

    @property
    def free(self) -> int:
        """Tokens that neither the prompt nor its answer needs; negative when they do not fit."""
        return self.context - self.prompt - self._reserved

    @property
    def _reserved(self) -> int:
        """An answer that does not fit at its full length anyway gets the default length reserved."""
        if self.prompt + self.answer <= self.context:
            return self.answer
        return min(self.answer, DEFAULT_ANSWER_TOKENS)

    def check(self, field: str, error: UpstreamError) -> None:
        """Raises InvalidRequest if the prompt leaves no token for an answer, or not as many as requested.

        `field` names where the request has its prompt: messages, input or prompt. A prompt that is too long
        is recognized by its count; an answer that is too long, by what vLLM's `error` is about.
        """
        limit = f"This model's maximum context length is {self.context} tokens. However, "
        if self.prompt >= self.context:
            tokens = f"at least {self.prompt}" if self.is_lower_bound else self.prompt
            reason = f"your {field} resulted in {tokens} tokens. Please reduce the length of the {field}."
            raise InvalidRequest(limit + reason, field, TOO_LONG)
        is_about_length = _ABOUT_LENGTH.search(str(error_fields(error).get("message")))
        if is_about_length and self.answer <= self.context < self.prompt + self.answer:
            reason = (
                f"you requested {self.prompt + self.answer} tokens ({self.prompt} in the {field}, "
                f"{self.answer} in the completion). Please reduce the length of the {field} or completion."
            )
            raise InvalidRequest(limit + reason, field, TOO_LONG)


class ContextWindow:
    """Reads the length of the served model's context from vLLM, again every `REFRESH_S`."""

    def __init__(self, client: VllmClient, clock: Callable[[], float] = time.monotonic) -> None:
        self._client = client
        self._clock = clock
        self._length: int | None = None
        self._read_at = float("-inf")

    async def length(self) -> int | None:
        """The `max_model_len` of the served model; None until vLLM has answered once."""
        if self._clock() - self._read_at >= REFRESH_S:
            await self._read()
        return self._length

    async def count(self, body: Json) -> int | None:
        """Tokens of a /tokenize request; None when vLLM can't or won't count them."""
        try:
            return len(await self._client.tokenize(body))
        except (ModelUnavailable, UpstreamError):
            return None

    async def budget(
        self, body: Json, messages: Sequence[Mapping[str, str]], min_free: int
    ) -> TokenBudget | None:
        """The budget of these messages and their answer; None when the context's length is unknown.

        vLLM counts only when the upper bound does not prove that at least `min_free` tokens are free.
        """
        length = await self.length()
        if length is None:
            return None
        bound, answer = max_prompt_tokens(messages), answer_tokens(body)
        if bound + answer + min_free <= length:
            return TokenBudget(length, bound, answer)
        return await self._counted_budget(body, messages, length) or TokenBudget(length, bound, answer)

    async def exact_budget(self, body: Json, messages: Sequence[Mapping[str, str]]) -> TokenBudget | None:
        """The counted budget of a rejected request; None when it surely fits, or can't be counted."""
        length = await self.length()
        if length is None or max_prompt_tokens(messages) + answer_tokens(body) <= length:
            return None
        return await self._counted_budget(body, messages, length)

    async def _counted_budget(
        self, body: Json, messages: Sequence[Mapping[str, str]], length: int
    ) -> TokenBudget | None:
        answer = answer_tokens(body)
        characters = sum(len(message["content"]) for message in messages)
        if bound := min_prompt_tokens(characters, length):
            return TokenBudget(length, bound, answer, is_lower_bound=True)
        count = await self.count(tokenize_body(body, messages))
        return None if count is None else TokenBudget(length, count, answer)

    async def _read(self) -> None:
        try:
            lengths = [model.get("max_model_len") for model in await self._client.models()]
        except (ModelUnavailable, UpstreamError):
            return
        valid = [length for length in lengths if isinstance(length, int)]
        if valid:
            self._length, self._read_at = min(valid), self._clock()


def max_prompt_tokens(messages: Sequence[Mapping[str, str]]) -> int:
    """An upper bound of the tokens of these messages, without a tokenizer."""
    longest_name = 32  # bytes of a speaker's name or role
    return sum(len(message["content"].encode()) + longest_name + TOKENS_PER_TURN for message in messages)


def min_prompt_tokens(characters: int, length: int) -> int:
    """A lower bound of the tokens of a text that is too long to be worth counting; 0 for any other text."""
    return characters // CHARACTERS_PER_TOKEN if characters > CHARACTERS_PER_TOKEN * length else 0


def answer_tokens(body: Mapping[str, Any]) -> int:
    """How long an answer a request asks for. vLLM rejects whatever is no number."""
    for name in _ANSWER_FIELDS:
        value = body.get(name)
        if isinstance(value, str) and value.isdecimal():  # vLLM accepts these, too
            return int(value[:10])
        if isinstance(value, int) and not isinstance(value, bool):
            return max(value, 0)
    return DEFAULT_ANSWER_TOKENS


def tokenize_body(body: Json, messages: Sequence[Mapping[str, str]]) -> Json:
    """The /tokenize request that renders `messages` with the template arguments of the request `body`."""
    template = {name: body[name] for name in _TEMPLATE_FIELDS if body.get(name) is not None}
    return {**template, "model": body["model"], "messages": list(messages)}
