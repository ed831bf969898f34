"""From a request's messages to plain text turns; what Ada's template can't show is refused by its place.

What another model left in a conversation is set aside and named in `ada.ignored`: its tool calls, their
results and its thoughts. Only when no user turn follows, and the answer would rest on them, are they refused.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from services.errors import InvalidRequest, UnknownRole
from services.orchestrator.openai.schemas import ChatMessage
from services.persona.prompt import ROLES

TEXT_PARTS = ("text", "input_text", "output_text", "refusal")
TOOL_ROLES = ("tool", "function")
_CALLS = ("tool_calls", "function_call")
_SET_ASIDE = ("reasoning_content", "reasoning", "name")
PREFILL_SPACE = "prefill_whitespace"
Turn = dict[str, str]


@dataclass
class Conversation:
    """Role and text of each turn, and the kinds of what was set aside."""

    turns: list[Turn] = field(default_factory=list)
    ignored: dict[str, None] = field(default_factory=dict)  # in order, each once


def conversation(messages: Sequence[ChatMessage], name: str = "messages", first: int = 0) -> Conversation:
    """The conversation in these messages. Raises FieldError, naming the message by its place in `name`."""
    found = Conversation()
    newest_user = max((place for place, one in enumerate(messages) if one.role == "user"), default=-1)
    for place, message in enumerate(messages):
        _read(message, f"{name}[{first + place}]", found, name, is_past=place < newest_user)
    return found


def _read(message: ChatMessage, where: str, found: Conversation, name: str, *, is_past: bool) -> None:
    extra = message.model_extra or {}
    if extra.get("audio"):
        raise InvalidRequest(f"{where}.audio: Ada has no voice", f"{where}.audio")
    if is_past and message.role in TOOL_ROLES:
        found.ignored[f"{name}[].{message.role}"] = None
        return
    calls = [call for call in _CALLS if extra.get(call)]
    for call in calls:
        if not is_past:
            raise InvalidRequest(
                f"{where}.{call}: there are no tools, so no answer can go on from one", f"{where}.{call}"
            )
        found.ignored[f"{name}[].{call}"] = None
    text = text_of(message.content, f"{where}.content") or _refusal(extra)
    if calls and not text:
        return
    found.ignored |= {f"{name}[].{kind}": None for kind in _SET_ASIDE if extra.get(kind)}
    found.turns.append({"role": _role(message.role, where), "content": text})


def check_prefill(turns: Sequence[Turn], fields: Mapping[str, Any], ignored: dict[str, None]) -> None:
    """The template trims every turn: of a beginning that Ada goes on from, the space around it is lost."""
    if (
        fields.get("continue_final_message")
        and turns
        and turns[-1]["content"] != turns[-1]["content"].strip()
    ):
        ignored[PREFILL_SPACE] = None


def text_of(content: str | Sequence[Mapping[str, Any]] | None, where: str) -> str:
    """The text of a message's content. Raises RequestRefused for a part that is no text."""
    if content is None or isinstance(content, str):
        return content or ""
    return "\n".join(_texts(content, where))


def _texts(parts: Sequence[Mapping[str, Any]], where: str) -> Iterator[str]:
    for place, part in enumerate(parts):
        kind = part.get("type")
        if kind not in TEXT_PARTS:
            raise InvalidRequest(
                f"{where}[{place}].type is {kind!r}: Ada reads text only", f"{where}[{place}].type"
            )
        text = part.get("refusal" if kind == "refusal" else "text")
        if not isinstance(text, str):
            raise InvalidRequest(f"{where}[{place}].text: a text is needed", f"{where}[{place}].text")
        yield text


def _refusal(extra: Mapping[str, Any]) -> str:
    refusal = extra.get("refusal")
    return refusal if isinstance(refusal, str) else ""


def _role(role: str, where: str) -> str:
    if role == "developer":
        return "system"
    if role not in ROLES:
        raise UnknownRole(f"{where}.role is {role!r}; use one of {', '.join(ROLES)}", f"{where}.role")
    return role
