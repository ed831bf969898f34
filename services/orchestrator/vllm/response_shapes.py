"""What an answer of vLLM's must hold, whole or as an event: as much as Ada and OpenAI's clients rely on.

A field that is named here has the right type, or the answer is a ModelFaulty. All others (`stop_reason`,
`prompt_logprobs`, `token_ids` and what vLLM may add) are passed on as vLLM sent them.
"""

import logging
from collections.abc import Sequence
from typing import Annotated, Any, NotRequired, TypeVar, cast

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError, with_config
from typing_extensions import TypedDict

from services.errors import ModelFaulty

log = logging.getLogger("ada.orchestrator")
Shaped = TypeVar("Shaped")
_OPENAIS_REASONS = frozenset({None, "stop", "length", "content_filter", "tool_calls", "function_call"})
_BROKEN_OFF = frozenset({"abort", "error"})
_OPEN = ConfigDict(extra="allow", strict=True)
Number = Annotated[int, Field(ge=0, lt=1 << 53)]


@with_config(_OPEN)
class Usage(TypedDict):
    """What an answer has cost: the names of completions, and those of responses."""

    prompt_tokens: NotRequired[Number | None]
    completion_tokens: NotRequired[Number | None]
    input_tokens: NotRequired[Number | None]
    output_tokens: NotRequired[Number | None]
    total_tokens: NotRequired[Number | None]


@with_config(_OPEN)
class _Text(TypedDict):
    role: NotRequired[str | None]
    content: NotRequired[str | None]
    reasoning: NotRequired[str | None]
    reasoning_content: NotRequired[str | None]


@with_config(_OPEN)
class _Choice(TypedDict):
    index: Number
    finish_reason: NotRequired[str | None]
    logprobs: NotRequired[dict[str, Any] | None]


@with_config(_OPEN)
class _ChatChoice(_Choice):
    message: _Text


@with_config(_OPEN)
class _ChatPiece(_Choice):
    delta: _Text


@with_config(_OPEN)
class _CompletionChoice(_Choice):
    text: str


@with_config(_OPEN)
class _Head(TypedDict):
    id: NotRequired[str]
    object: NotRequired[str]
    created: NotRequired[Number]
    model: NotRequired[str]
    usage: NotRequired[Usage | None]


@with_config(_OPEN)
class Chat(_Head):
    """A chat completion."""

    choices: Annotated[list[_ChatChoice], Field(min_length=1)]


@with_config(_OPEN)
class ChatChunk(_Head):
    """An event of a chat completion; the one with the usage has no choices."""

    choices: list[_ChatPiece]


@with_config(_OPEN)
class Completion(_Head):
    """A completion."""

    choices: Annotated[list[_CompletionChoice], Field(min_length=1)]


@with_config(_OPEN)
class CompletionChunk(_Head):
    """An event of a completion."""

    choices: list[_CompletionChoice]


@with_config(_OPEN)
class _Part(TypedDict):
    type: str
    text: NotRequired[str]


@with_config(_OPEN)
class _Item(TypedDict):
    type: str
    content: NotRequired[list[_Part] | None]


@with_config(_OPEN)
class Response(TypedDict):
    """A response of /v1/responses."""

    id: NotRequired[str]
    status: NotRequired[str | None]
    output: list[_Item]
    usage: NotRequired[Usage | None]


@with_config(_OPEN)
class ResponseEvent(TypedDict):
    """An event of a response; the last one holds the whole of it."""

    type: NotRequired[str]
    sequence_number: NotRequired[Number]
    delta: NotRequired[str]
    response: NotRequired[Response]


@with_config(_OPEN)
class Tokens(TypedDict):
    """The token ids of a text."""

    tokens: list[int]


@with_config(_OPEN)
class _Served(TypedDict):
    id: str
    root: NotRequired[str | None]
    max_model_len: NotRequired[int | None]


@with_config(_OPEN)
class Served(TypedDict):
    """The models that vLLM serves."""

    data: list[_Served]


def shaped(adapter: TypeAdapter[Shaped], found: object) -> Shaped:
    """What was decoded, in the adapter's shape. Raises ModelFaulty."""
    try:
        return cast(Shaped, adapter.validator.validate_python(found))
    except ValidationError as error:
        first = error.errors(include_input=False, include_context=False, include_url=False)[0]
        log.warning("the model server's answer is wrong at %s: %s", first["loc"], first["type"])
        raise ModelFaulty("the model server's answer is not in the shape of an answer: ask again") from None


def choices_asked(body: dict[str, Any]) -> int:
    """How many answers a request asks for: `n` for each of its prompts."""
    prompt = body.get("prompt")
    several = isinstance(prompt, list) and bool(prompt) and not isinstance(prompt[0], int)
    return (body.get("n") or 1) * (len(cast(Sequence[object], prompt)) if several else 1)


def check_choices(choices: Sequence[Any], asked: int) -> bool:
    """Whether a `finish_reason` was changed to one of OpenAI's.

    Raises ModelFaulty for a choice that was not asked for, and for one that vLLM broke off.
    """
    changed = False
    for choice in choices:
        reason = choice.get("finish_reason")
        if choice["index"] >= asked:
            raise ModelFaulty("the model server answered more often than it was asked: ask again")
        if reason in _BROKEN_OFF:
            raise ModelFaulty("the model server broke its answer off: ask again")
        if reason not in _OPENAIS_REASONS:  # vLLM's `repetition`, and what it may call an end tomorrow
            choice["finish_reason"], changed = "stop", True
    return changed
