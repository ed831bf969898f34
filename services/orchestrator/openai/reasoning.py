"""The model's reasoning, requested by `enable_thinking` or `reasoning_effort`, is split off the answer.

It is split off here and not by vLLM's reasoning parsers: those need the marks as tokens of the vocabulary,
and take a whole answer for reasoning when the template did not begin it. Where reasoning is requested, Ada's
template ends in `<think>`, so an answer begins inside the reasoning; a base model may also begin one by
itself.
"""

import re
from collections.abc import Mapping
from typing import Any

from services.chat_markup import THINK, THINK_END
from services.errors import InvalidRequest
from services.orchestrator.http.json_body import Json
from services.orchestrator.vllm.validation import encode

_FIRST_CHARACTER = re.compile(rb'"content":"(.)')  # of a chunk's text, as vLLM writes it
_NO_TEXT = b'"'
_MAY_BEGIN_MARK = (_NO_TEXT, b"<", b" ", b"\\")
_EFFORTS_WITHOUT_REASONING = ("none", "minimal")


def wants_thinking(kwargs: Mapping[str, Any] | None, effort: str | None) -> bool:
    """Whether a request asks for reasoning; `enable_thinking` takes precedence over `reasoning_effort`.

    Raises InvalidRequest for other arguments of the template: Ada's knows no other.
    """
    for name in kwargs or {}:
        if name != "enable_thinking":
            field = f"chat_template_kwargs.{name}"
            raise InvalidRequest(f"{field}: Ada's template supports only `enable_thinking`", field)
    match (kwargs or {}).get("enable_thinking"):
        case bool(is_enabled):
            return is_enabled
        case None:
            return effort is not None and effort not in _EFFORTS_WITHOUT_REASONING
    field = "chat_template_kwargs.enable_thinking"
    raise InvalidRequest(f"{field}: must be true or false", field)


class ReasoningSplitter:
    """Splits the text of one answer, which comes in pieces, into (reasoning, content)."""

    def __init__(self, thinking: bool) -> None:
        self._is_reasoning: bool | None = True if thinking else None  # None: not decided yet
        self._buffer = ""  # may be the beginning of a mark
        self._content_started = False

    @property
    def settled(self) -> bool:
        """Whether all further text is content."""
        return self._is_reasoning is False and self._content_started

    def feed(self, text: str) -> tuple[str, str]:
        """The reasoning and the content that are certain after this piece."""
        self._buffer += text
        if self._is_reasoning is None:
            self._decide()
        reasoning = self._take_reasoning() if self._is_reasoning else ""
        return reasoning, self._take_content() if self._is_reasoning is False else ""

    def finish(self) -> tuple[str, str]:
        """The text that was held back."""
        rest, self._buffer = self._buffer, ""
        return (rest, "") if self._is_reasoning else ("", rest)

    def _decide(self) -> None:
        start = self._buffer.lstrip()
        if start.startswith(THINK):
            self._is_reasoning, self._buffer = True, start.removeprefix(THINK).lstrip("\n")
        elif not THINK.startswith(start):
            self._is_reasoning = False
            self._content_started = True

    def _take_reasoning(self) -> str:
        reasoning, mark, rest = self._buffer.partition(THINK_END)
        if mark:
            self._is_reasoning, self._buffer = False, rest
            return reasoning.rstrip("\n")
        # What may be the beginning of the mark, and the empty lines before it, are held back.
        certain = len(self._buffer[: len(self._buffer) - _overlap(self._buffer, THINK_END)].rstrip("\n"))
        reasoning, self._buffer = self._buffer[:certain], self._buffer[certain:]
        return reasoning

    def _take_content(self) -> str:
        content, self._buffer = self._buffer, ""
        if not self._content_started:  # the empty lines after the reasoning
            content = content.lstrip("\n")
            self._content_started = bool(content)
        return content


def split_reasoning(answer: Json, thinking: bool) -> None:
    """Move the reasoning in the choices of a complete chat completion into `reasoning_content`."""
    for choice in answer.get("choices", []):
        message = choice.get("message", {})
        splitter = ReasoningSplitter(thinking)
        pieces = [splitter.feed(message.get("content") or ""), splitter.finish()]
        message["content"] = "".join(content for _, content in pieces)
        if reasoning := "".join(reasoning for reasoning, _ in pieces):
            message["reasoning_content"] = reasoning.strip("\n")
        message.pop("reasoning", None)


class ReasoningParser:
    """Moves the reasoning in the chunks of a stream with `choices` answers."""

    def __init__(self, thinking: bool, choices: int) -> None:
        self._is_plain = choices == 1 and not thinking  # so far no text may be the beginning of a mark
        self._settled = False
        self._splitters = {index: ReasoningSplitter(thinking) for index in range(choices)}

    @property
    def settled(self) -> bool:
        """Whether all further chunks can be passed on unchanged."""
        return self._settled

    def rewrite(self, data: bytes, chunk: Json) -> bytes:
        """The chunk's JSON with its reasoning in `reasoning_content`; changes `chunk`, its value, too."""
        if self._is_plain and (match := _FIRST_CHARACTER.search(data)):
            self._settled = match[1] not in _MAY_BEGIN_MARK
            self._is_plain = match[1] == _NO_TEXT
            if self._settled or self._is_plain:
                return data
        for choice in chunk["choices"]:
            self._rewrite(choice)
        self._settled = all(splitter.settled for splitter in self._splitters.values())
        return encode(chunk)

    def _rewrite(self, choice: Json) -> None:
        splitter, delta = self._splitters[choice["index"]], choice["delta"]
        reasoning, content = splitter.feed(delta.get("content") or "")
        if choice.get("finish_reason") is not None:
            last_reasoning, last_content = splitter.finish()
            reasoning, content = reasoning + last_reasoning, content + last_content
        if content or "role" in delta:
            delta["content"] = content
        else:
            delta.pop("content", None)
        delta.pop("reasoning", None)
        if reasoning:
            delta["reasoning_content"] = reasoning


def _overlap(text: str, mark: str) -> int:
    """How many characters at the end of a text may be the beginning of a mark."""
    return next((n for n in range(min(len(mark), len(text)), 0, -1) if mark.startswith(text[-n:])), 0)
