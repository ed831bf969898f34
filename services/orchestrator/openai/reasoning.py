"""Her thoughts: asked for by `enable_thinking` or `reasoning_effort`, and kept apart from what she says.

Split here and not by vLLM's reasoning parsers: those need the marks as tokens of the vocabulary, and take the
whole of an answer for a thought when the template did not begin one. Where thinking is asked for, Ada's
template ends in `<think>`, so an answer begins inside a thought; a base model may begin one by itself.
"""

import re
from collections.abc import Mapping
from typing import Any

from services.chat_markup import THINK, THINK_END
from services.errors import InvalidRequest
from services.orchestrator.vllm.upstream import encode

_BEGUN = re.compile(rb'"content":"(.)')  # the first character of a chunk's text, as vLLM writes it
_NOTHING = b'"'
_MAY_BE_A_MARK = (_NOTHING, b"<", b" ", b"\\")
_NO_EFFORT = ("none", "minimal")
Json = dict[str, Any]


def wants_thinking(kwargs: Mapping[str, Any] | None, effort: str | None) -> bool:
    """Whether a request asks for thoughts; `enable_thinking` outweighs `reasoning_effort`.

    Raises RequestRefused for other arguments of the template: Ada's knows no other.
    """
    for name in kwargs or {}:
        if name != "enable_thinking":
            where = f"chat_template_kwargs.{name}"
            raise InvalidRequest(f"{where}: Ada's template knows only `enable_thinking`", where)
    match (kwargs or {}).get("enable_thinking"):
        case bool(wanted):
            return wanted
        case None:
            return effort is not None and effort not in _NO_EFFORT
    where = "chat_template_kwargs.enable_thinking"
    raise InvalidRequest(f"{where}: true or false is needed", where)


class ReasoningSplitter:
    """Takes one answer's text in pieces and gives back (thought, said) of each."""

    def __init__(self, thinking: bool) -> None:
        self._thinking: bool | None = True if thinking else None  # None: not decided yet
        self._held = ""  # may be the beginning of a mark
        self._begun = False

    @property
    def settled(self) -> bool:
        """Whether all further text is said as it comes."""
        return self._thinking is False and self._begun

    def take(self, text: str) -> tuple[str, str]:
        """What of the text so far can be told apart."""
        self._held += text
        if self._thinking is None:
            self._decide()
        thought = self._thought() if self._thinking else ""
        return thought, self._said() if self._thinking is False else ""

    def end(self) -> tuple[str, str]:
        """What was held back."""
        rest, self._held = self._held, ""
        return (rest, "") if self._thinking else ("", rest)

    def _decide(self) -> None:
        start = self._held.lstrip()
        if start.startswith(THINK):
            self._thinking, self._held = True, start.removeprefix(THINK).lstrip("\n")
        elif not THINK.startswith(start):
            self._thinking = False
            self._begun = True

    def _thought(self) -> str:
        thought, mark, rest = self._held.partition(THINK_END)
        if mark:
            self._thinking, self._held = False, rest
            return thought.rstrip("\n")
        # Held back: what may be the beginning of the mark, and the empty lines before it.
        whole = len(self._held[: len(self._held) - _overlap(self._held, THINK_END)].rstrip("\n"))
        thought, self._held = self._held[:whole], self._held[whole:]
        return thought

    def _said(self) -> str:
        said, self._held = self._held, ""
        if not self._begun:  # the empty lines behind a thought
            said = said.lstrip("\n")
            self._begun = bool(said)
        return said


def split_answer(answer: Json, thinking: bool) -> None:
    """Take the thoughts out of the choices of a whole chat completion, into `reasoning_content`."""
    for choice in answer.get("choices", []):
        message = choice.get("message", {})
        splitter = ReasoningSplitter(thinking)
        pieces = [splitter.take(message.get("content") or ""), splitter.end()]
        message["content"] = "".join(said for _, said in pieces)
        if thought := "".join(thought for thought, _ in pieces):
            message["reasoning_content"] = thought.strip("\n")
        message.pop("reasoning", None)


class ReasoningParser:
    """The same for the chunks of a stream with `choices` answers."""

    def __init__(self, thinking: bool, choices: int) -> None:
        self._plain = choices == 1 and not thinking  # so far nothing may be the beginning of a mark
        self._settled = False
        self._splitters = {index: ReasoningSplitter(thinking) for index in range(choices)}

    @property
    def settled(self) -> bool:
        """Whether all further chunks are passed on as they come."""
        return self._settled

    def rewrite(self, data: bytes, chunk: Json) -> bytes:
        """A chunk's JSON with thoughts in `reasoning_content`; `chunk`, what it says, is changed with it."""
        if self._plain and (begun := _BEGUN.search(data)):
            self._settled = begun[1] not in _MAY_BE_A_MARK
            self._plain = begun[1] == _NOTHING
            if self._settled or self._plain:
                return data
        for choice in chunk["choices"]:
            self._rewrite(choice)
        self._settled = all(splitter.settled for splitter in self._splitters.values())
        return encode(chunk)

    def _rewrite(self, choice: Json) -> None:
        splitter, delta = self._splitters[choice["index"]], choice["delta"]
        thought, said = splitter.take(delta.get("content") or "")
        if choice.get("finish_reason") is not None:
            last_thought, last_said = splitter.end()
            thought, said = thought + last_thought, said + last_said
        if said or "role" in delta:
            delta["content"] = said
        else:
            delta.pop("content", None)
        delta.pop("reasoning", None)
        if thought:
            delta["reasoning_content"] = thought


def _overlap(text: str, mark: str) -> int:
    """How many characters at the end of a text may be the beginning of a mark."""
    return next((n for n in range(min(len(mark), len(text)), 0, -1) if mark.startswith(text[-n:])), 0)
