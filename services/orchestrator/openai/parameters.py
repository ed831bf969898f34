"""Which fields of a request go to vLLM as they are, which are set aside, and which are refused by name.

Clients send much by habit: what can't change an answer of Ada's is dropped, what might have is dropped and
told in `ada.ignored`, and only what asks for something that she can't do is refused.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from services.errors import InvalidRequest
from services.orchestrator.vllm.client import Json

# Ada's template has no place for these, or vLLM would take them from its operator alone.
_REFUSED = {
    "audio": "Ada has no voice",
    "chat_template": "the model is asked with the template of its training",
    "prompt_embeds": "Ada reads text",
    "mm_processor_kwargs": "Ada reads text",
    "media_io_kwargs": "Ada reads text",
    "documents": "Ada's template has no documents: put them into a message",
    "prompt": "stored prompts are not kept here: send the text",
    "previous_response_id": "nothing is stored here: send the whole conversation",
    "conversation": "nothing is stored here: send the whole conversation",
    "background": "nothing is stored here: wait for the answer",
    "kv_transfer_params": "they are vLLM's own",
    "ec_transfer_params": "they are vLLM's own",
}
_LISTS = ("tools", "functions")
# Dropped, and told when they are not empty: without them an answer may be another.
_TOLD = (*_LISTS, "web_search_options", "prediction", "verbosity", "store")
# Dropped without a word. vLLM keys its work by the request's id, so two clients who send the same one must
# not meet; the others would choose among tools that are not there, or are notes for a platform with accounts.
_DROPPED = (
    "request_id",
    "tool_choice",
    "function_call",
    "parallel_tool_calls",
    "max_tool_calls",
    "user",
    "safety_identifier",
    "prompt_cache_key",
    "prompt_cache_retention",
    "service_tier",
)
_EMPTY: tuple[object, ...] = (None, [], {}, False)
_OPEN_CHOICES = ("none", "auto")
_SPOKEN = ["text"]
MOST_ANSWERS = 128  # to one prompt; OpenAI's own limit


@dataclass(frozen=True)
class PassthroughParameters:
    """The fields that go on to vLLM, and the names of those that were set aside."""

    fields: Json
    ignored: tuple[str, ...]


def passed(fields: Mapping[str, Any] | None) -> PassthroughParameters:
    """Sort the fields of a request. Raises RequestRefused, naming the first that can't be."""
    fields = fields or {}
    for name, why in _REFUSED.items():
        if fields.get(name) not in _EMPTY:
            raise _unsupported(name, why)
    if fields.get("modalities") not in (None, _SPOKEN):
        raise _unsupported("modalities", "Ada answers in text")
    for name in _LISTS:
        if fields.get(name) not in _EMPTY and not isinstance(fields[name], list):
            raise InvalidRequest(f"{name}: a list is needed", name)
    for name in ("tool_choice", "function_call"):
        if _demands_tool(fields.get(name)):
            raise _unsupported(name, 'Ada has no tools to call: leave it out, or send "auto" or "none"')
    _check_number(fields.get("n"))
    ignored = tuple(name for name in _TOLD if fields.get(name) not in _EMPTY or _is_wish(name, fields))
    rest = {name: value for name, value in fields.items() if name not in _DROPPED and name not in _TOLD}
    return PassthroughParameters(rest, ignored)


def check_answers(prompts: int, n: object, most: int) -> None:
    """Raises RequestRefused when a request asks for more answers than `most`."""
    answers = prompts * (n if isinstance(n, int) else 1)
    if answers > most:
        raise InvalidRequest(
            f"{prompts} prompts, each answered {answers // prompts} times, are {answers} answers: a request "
            f"takes {most} at most (MAX_ANSWERS_A_REQUEST); send several requests",
            "prompt" if prompts > 1 else "n",
        )


def _is_wish(name: str, fields: Mapping[str, Any]) -> bool:
    """An empty `web_search_options` still asks for a search."""
    return name == "web_search_options" and fields.get(name) == {}


def _demands_tool(choice: object) -> bool:
    """Whether a choice can only be met by calling a tool."""
    match choice:
        case None | False | "none" | "auto" | {"type": "none" | "auto"}:
            return False
        case {**entries} if not entries:
            return False
        case {"type": "allowed_tools", "allowed_tools": {"mode": mode}} | {
            "type": "allowed_tools",
            "mode": mode,
        }:
            return mode not in _OPEN_CHOICES
    return True


def _unsupported(name: str, why: str) -> InvalidRequest:
    return InvalidRequest(f"{name}: {why}", name, "unsupported_parameter")


def _check_number(n: object) -> None:
    """Not left to vLLM: a stream is made ready for so many answers before it is asked."""
    if n is not None and (type(n) is not int or not 1 <= n <= MOST_ANSWERS):
        raise InvalidRequest(f"n: a whole number from 1 to {MOST_ANSWERS} is needed", "n")
