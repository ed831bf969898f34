"""From a request's messages to plain text turns; what Ada's template can't show is refused by its place."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from services.errors import RequestRefused
from services.orchestrator.chat.schemas import ChatMessage

TEXT_PARTS = ("text", "input_text", "output_text", "refusal")
Turn = dict[str, str]


def conversation(messages: Sequence[ChatMessage], field: str = "messages") -> list[Turn]:
    """Role and text of each message. Raises RequestRefused, naming the message by its place."""
    turns = []
    for place, message in enumerate(messages):
        where = f"{field}[{place}]"
        for name in ("tool_calls", "function_call", "audio"):
            if (message.model_extra or {}).get(name):
                raise RequestRefused(f"{where}.{name}: Ada has neither tools nor a voice", f"{where}.{name}")
        turns.append({"role": _role(message.role), "content": text_of(message.content, f"{where}.content")})
    return turns


def text_of(content: str | Sequence[Mapping[str, Any]] | None, where: str) -> str:
    """The text of a message's content. Raises RequestRefused for a part that is no text."""
    if content is None or isinstance(content, str):
        return content or ""
    return "\n".join(_texts(content, where))


def _texts(parts: Sequence[Mapping[str, Any]], where: str) -> Iterator[str]:
    for place, part in enumerate(parts):
        kind = part.get("type")
        if kind not in TEXT_PARTS:
            raise RequestRefused(
                f"{where}[{place}].type is {kind!r}: Ada reads text only", f"{where}[{place}].type"
            )
        text = part.get("refusal" if kind == "refusal" else "text")
        if not isinstance(text, str):
            raise RequestRefused(f"{where}[{place}].text: a text is needed", f"{where}[{place}].text")
        yield text


def _role(role: str) -> str:
    return "system" if role == "developer" else role
