"""Parses a request's messages into turns of plain text; rejects what Ada's template can't show.

What another model left in a conversation is ignored, and named in `ada.ignored`: its tool calls, their
results and its reasoning. They are rejected only if no user turn follows, so that the answer would depend on
them.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from services.errors import InvalidRequest, UnknownRole
from services.orchestrator.openai.schemas import ChatMessage
from services.persona.prompt import ROLES

TEXT_PARTS = ("text", "input_text", "output_text", "refusal")
TOOL_ROLES = ("tool", "function")
_TOOL_CALLS = ("tool_calls", "function_call")
_IGNORED_FIELDS = ("reasoning_content", "reasoning", "name")
PREFILL_WHITESPACE = "prefill_whitespace"
Turn = dict[str, str]


@dataclass
class Conversation:
    """Role and text of each turn, and the kinds of content that were ignored."""

    turns: list[Turn] = field(default_factory=list)
    ignored: dict[str, None] = field(default_factory=dict)  # in order, without duplicates


def parse_conversation(
    messages: Sequence[ChatMessage], name: str = "messages", first: int = 0
) -> Conversation:
    """The conversation in these messages, the first of which is number `first` of the field `name`.

    Raises FieldError, naming the message by its path.
    """
    conversation = Conversation()
    newest_user = max((i for i, message in enumerate(messages) if message.role == "user"), default=-1)
    for i, message in enumerate(messages):
        _add_message(conversation, message, name, f"{name}[{first + i}]", is_past=i < newest_user)
    return conversation


def _add_message(
    conversation: Conversation, message: ChatMessage, name: str, path: str, *, is_past: bool
) -> None:
    extra = message.model_extra or {}
    if extra.get("audio"):
        raise InvalidRequest(f"{path}.audio: Ada does not support audio", f"{path}.audio")
    if is_past and message.role in TOOL_ROLES:
        conversation.ignored[f"{name}[].{message.role}"] = None
        return
    calls = [call for call in _TOOL_CALLS if extra.get(call)]
    for call in calls:
        if not is_past:
            raise InvalidRequest(
                f"{path}.{call}: Ada has no tools, so she can't continue from a tool call", f"{path}.{call}"
            )
        conversation.ignored[f"{name}[].{call}"] = None
    text = content_text(message.content, f"{path}.content") or _refusal(extra)
    if calls and not text:
        return
    conversation.ignored |= {f"{name}[].{kind}": None for kind in _IGNORED_FIELDS if extra.get(kind)}
    conversation.turns.append({"role": _role(message.role, path), "content": text})


def report_prefill_whitespace(conversation: Conversation, fields: Mapping[str, Any]) -> None:
    """Report that the template, which trims every turn, drops the whitespace around a prefilled answer."""
    turns = conversation.turns
    if (
        fields.get("continue_final_message")
        and turns
        and turns[-1]["content"] != turns[-1]["content"].strip()
    ):
        conversation.ignored[PREFILL_WHITESPACE] = None


def content_text(content: str | Sequence[Mapping[str, Any]] | None, path: str) -> str:
    """The text of a message's content. Raises InvalidRequest for a part that is not text."""
    if content is None or isinstance(content, str):
        return content or ""
    return "\n".join(_part_texts(content, path))


def _part_texts(parts: Sequence[Mapping[str, Any]], path: str) -> Iterator[str]:
    for i, part in enumerate(parts):
        kind = part.get("type")
        if kind not in TEXT_PARTS:
            raise InvalidRequest(f"{path}[{i}].type is {kind!r}: Ada reads only text", f"{path}[{i}].type")
        text = part.get("refusal" if kind == "refusal" else "text")
        if not isinstance(text, str):
            raise InvalidRequest(f"{path}[{i}].text: must be a string", f"{path}[{i}].text")
        yield text


def _refusal(extra: Mapping[str, Any]) -> str:
    refusal = extra.get("refusal")
    return refusal if isinstance(refusal, str) else ""


def _role(role: str, path: str) -> str:
    if role == "developer":
        return "system"
    if role not in ROLES:
        raise UnknownRole(f"{path}.role is {role!r}; use one of {', '.join(ROLES)}", f"{path}.role")
    return role
