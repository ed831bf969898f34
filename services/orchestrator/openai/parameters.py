"""Sorts a request's other fields: passed on to vLLM, reported as ignored, dropped, or rejected.

Clients send many fields by habit. A field that can't change an answer of Ada's is dropped; one that might
have changed it is dropped and reported in `ada.ignored`. Only a field that asks for what Ada can't do is
rejected.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from services.errors import InvalidRequest
from services.orchestrator.http.json_body import Json
from services.orchestrator.openai.schemas import ChatRequest, CompletionRequest

# Ada's template can't show these, or vLLM would accept them from its operator alone.
_UNSUPPORTED = {
    "audio": "Ada does not produce audio",
    "chat_template": "the model is always used with the template of its training",
    "prompt_embeds": "Ada reads only text",
    "mm_processor_kwargs": "Ada reads only text",
    "media_io_kwargs": "Ada reads only text",
    "documents": "Ada's template has no documents: put them into a message",
    "prompt": "stored prompts are not supported: send the text",
    "previous_response_id": "nothing is stored here: send the whole conversation",
    "conversation": "nothing is stored here: send the whole conversation",
    "background": "nothing is stored here: wait for the answer",
    "kv_transfer_params": "it is reserved for vLLM itself",
    "ec_transfer_params": "it is reserved for vLLM itself",
}
_LISTS = ("tools", "functions")
# Dropped, and reported when they are not empty: with them the answer might have been different.
_REPORTED = (*_LISTS, "web_search_options", "prediction", "verbosity", "store")
# Dropped silently. vLLM keys its work by the request's id, so two clients that send the same id must not
# meet; the others choose among tools that do not exist, or are notes for a platform with accounts.
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
_OPTIONAL_TOOL_MODES = ("none", "auto")
_TEXT_ONLY = ["text"]
MAX_CHOICES = 128  # to one prompt; OpenAI's own limit


@dataclass(frozen=True)
class PassthroughParameters:
    """The fields that are passed on to vLLM, and the names of those that were ignored."""

    fields: Json
    ignored: tuple[str, ...]


def passthrough_parameters(fields: Mapping[str, Any] | None) -> PassthroughParameters:
    """Sort the fields of a request. Raises InvalidRequest, naming the first field that is not supported."""
    fields = fields or {}
    for name, reason in _UNSUPPORTED.items():
        if fields.get(name) not in _EMPTY:
            raise _unsupported(name, reason)
    if fields.get("modalities") not in (None, _TEXT_ONLY):
        raise _unsupported("modalities", "Ada answers only in text")
    for name in _LISTS:
        if fields.get(name) not in _EMPTY and not isinstance(fields[name], list):
            raise InvalidRequest(f"{name}: must be a list", name)
    for name in ("tool_choice", "function_call"):
        if _requires_tool(fields.get(name)):
            raise _unsupported(name, 'Ada has no tools to call: leave it out, or send "auto" or "none"')
    _check_n(fields.get("n"))
    ignored = tuple(name for name in _REPORTED if _asks_for_something(name, fields.get(name)))
    passed_on = {
        name: value for name, value in fields.items() if name not in _DROPPED and name not in _REPORTED
    }
    return PassthroughParameters(passed_on, ignored)


def check_choice_count(prompts: int, n: object, max_choices: int) -> None:
    """Raises InvalidRequest when a request asks for more answers than `max_choices`, over all its prompts."""
    choices = prompts * (n if isinstance(n, int) else 1)
    if choices > max_choices:
        raise InvalidRequest(
            f"{prompts} prompts with {choices // prompts} answers each are {choices} answers: "
            f"a request may ask for {max_choices} (MAX_ANSWERS_A_REQUEST); send several requests",
            "prompt" if prompts > 1 else "n",
        )


def add_stream_options(body: Json, request: ChatRequest | CompletionRequest) -> bool:
    """Add the options of a streamed answer to vLLM's request; returns whether the client wants the usage.

    vLLM is always asked for the usage: a key's tokens are counted by it.
    """
    if not request.stream:
        return False
    options = request.stream_options.model_dump() if request.stream_options else {}
    body |= {"stream": True, "stream_options": {**options, "include_usage": True}}
    return bool(options.get("include_usage"))


def _asks_for_something(name: str, value: object) -> bool:
    """Whether a field is not empty. An empty `web_search_options` still asks for a search."""
    return value not in _EMPTY or (name == "web_search_options" and value == {})


def _requires_tool(choice: object) -> bool:
    """Whether a choice can only be fulfilled by calling a tool."""
    match choice:
        case None | False | "none" | "auto" | {"type": "none" | "auto"}:
            return False
        case {**entries} if not entries:
            return False
        case {"type": "allowed_tools", "allowed_tools": {"mode": mode}} | {
            "type": "allowed_tools",
            "mode": mode,
        }:
            return mode not in _OPTIONAL_TOOL_MODES
    return True


def _unsupported(name: str, reason: str) -> InvalidRequest:
    return InvalidRequest(f"{name}: {reason}", name, "unsupported_parameter")


def _check_n(n: object) -> None:
    """Not left to vLLM: a stream is prepared for this many answers before vLLM gets the request."""
    if n is not None and (type(n) is not int or not 1 <= n <= MAX_CHOICES):
        raise InvalidRequest(f"n: must be an integer from 1 to {MAX_CHOICES}", "n")
