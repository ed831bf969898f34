"""Reads and validates vLLM's answers: sizes, JSON, and the fields that Ada and OpenAI's clients rely on.

A field declared here has the declared type, or the answer is a ModelFaulty. All other fields (`stop_reason`,
`prompt_logprobs`, `token_ids`, and whatever vLLM may add) are passed on unchanged.
"""

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, NotRequired, TypeVar, cast

from aiohttp import ClientResponse
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError, with_config
from pydantic_core import from_json
from typing_extensions import TypedDict

from services.errors import ModelFaulty
from services.orchestrator.vllm.errors import error_in_answer, error_of_response

log = logging.getLogger("ada.orchestrator")
Answer = TypeVar("Answer")
_OPENAI_FINISH_REASONS = frozenset({None, "stop", "length", "content_filter", "tool_calls", "function_call"})
_ABORTED = frozenset({"abort", "error"})
_STRICT = ConfigDict(extra="allow", strict=True)
_ERROR_BYTES = 1 << 20
Number = Annotated[int, Field(ge=0, lt=1 << 53)]


@with_config(_STRICT)
class Usage(TypedDict):
    """Tokens of an answer, under the names of completions and of responses."""

    prompt_tokens: NotRequired[Number | None]
    completion_tokens: NotRequired[Number | None]
    input_tokens: NotRequired[Number | None]
    output_tokens: NotRequired[Number | None]
    total_tokens: NotRequired[Number | None]


@with_config(_STRICT)
class _Message(TypedDict):
    role: NotRequired[str | None]
    content: NotRequired[str | None]
    reasoning: NotRequired[str | None]
    reasoning_content: NotRequired[str | None]


@with_config(_STRICT)
class _Choice(TypedDict):
    index: Number
    finish_reason: NotRequired[str | None]
    logprobs: NotRequired[dict[str, Any] | None]


@with_config(_STRICT)
class _ChatChoice(_Choice):
    message: _Message


@with_config(_STRICT)
class _ChatDelta(_Choice):
    delta: _Message


@with_config(_STRICT)
class _CompletionChoice(_Choice):
    text: str


@with_config(_STRICT)
class _Head(TypedDict):
    id: NotRequired[str]
    object: NotRequired[str]
    created: NotRequired[Number]
    model: NotRequired[str]
    usage: NotRequired[Usage | None]


@with_config(_STRICT)
class Chat(_Head):
    """A chat completion."""

    choices: Annotated[list[_ChatChoice], Field(min_length=1)]


@with_config(_STRICT)
class ChatChunk(_Head):
    """An event of a streamed chat completion; the event with the usage has no choices."""

    choices: list[_ChatDelta]


@with_config(_STRICT)
class Completion(_Head):
    """A completion."""

    choices: Annotated[list[_CompletionChoice], Field(min_length=1)]


@with_config(_STRICT)
class CompletionChunk(_Head):
    """An event of a streamed completion."""

    choices: list[_CompletionChoice]


@with_config(_STRICT)
class _Part(TypedDict):
    type: str
    text: NotRequired[str]


@with_config(_STRICT)
class _Item(TypedDict):
    type: str
    content: NotRequired[list[_Part] | None]


@with_config(_STRICT)
class Response(TypedDict):
    """A response of /v1/responses."""

    id: NotRequired[str]
    status: NotRequired[str | None]
    output: list[_Item]
    usage: NotRequired[Usage | None]


@with_config(_STRICT)
class ResponseEvent(TypedDict):
    """An event of a streamed response; the last event contains the complete response."""

    type: NotRequired[str]
    sequence_number: NotRequired[Number]
    delta: NotRequired[str]
    response: NotRequired[Response]


@with_config(_STRICT)
class TokenIds(TypedDict):
    """The token ids of a text."""

    tokens: list[int]


@with_config(_STRICT)
class _ServedModel(TypedDict):
    id: str
    root: NotRequired[str | None]
    max_model_len: NotRequired[int | None]


@with_config(_STRICT)
class ServedModels(TypedDict):
    """The models that vLLM serves."""

    data: list[_ServedModel]


@dataclass(frozen=True)
class SizeLimits:
    """Limits in bytes: of a complete answer or one event, and of all events of a stream together."""

    whole: int = 32 << 20
    stream: int = 256 << 20


DEFAULT_SIZES = SizeLimits()


def parse(schema: TypeAdapter[Answer], data: bytes, address: str) -> Answer:
    """Decode and validate an answer or an event.

    Pydantic decodes and validates ordinary data in one pass, which takes 1.4 µs for an event of a chat where
    decoding and then validating take 4.4 µs. The two passes tell what is wrong with all other data.

    Raises ModelFaulty, and the error that the data contains (`errors.error_in_answer`).
    """
    try:
        answer = cast(Answer, schema.validator.validate_json(data))
    except ValidationError:
        return _parse_in_two_passes(schema, data, address)
    if b"NaN" in data or b"Infinity" in data:  # no JSON, and accepted by pydantic all the same
        return _parse_in_two_passes(schema, data, address)
    if error := error_in_answer(answer, address):
        raise error
    return answer


def _parse_in_two_passes(schema: TypeAdapter[Answer], data: bytes, address: str) -> Answer:
    decoded = decode(data)
    if error := error_in_answer(decoded, address):
        raise error
    return validate(schema, decoded)


def validate(schema: TypeAdapter[Answer], decoded: object) -> Answer:
    """The decoded answer with the schema's types. Raises ModelFaulty."""
    try:
        return cast(Answer, schema.validator.validate_python(decoded))
    except ValidationError as error:
        first = error.errors(include_input=False, include_context=False, include_url=False)[0]
        log.warning("the model server's answer is invalid at %s: %s", first["loc"], first["type"])
        raise ModelFaulty("the model server's answer lacks a field or has a wrong one: try again") from None


def decode(data: bytes) -> object:
    """Decode JSON. Raises ModelFaulty for invalid JSON or UTF-8, NaN, and nesting deeper than 200 levels."""
    try:
        return from_json(data, allow_inf_nan=False)
    except ValueError:
        raise ModelFaulty("the model server's answer is not valid JSON: try again") from None


def encode(value: object) -> bytes:
    """Encode compact JSON for a client. Raises ModelFaulty for infinity, as which 1e400 is decoded."""
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
    except ValueError:
        raise ModelFaulty(
            "the model server's answer contains a number that JSON can't express: try again"
        ) from None


async def read_body(response: ClientResponse, max_bytes: int) -> bytes:
    """The body of an answer. Raises ModelFaulty when it is larger than `max_bytes`."""
    body = bytearray()
    while piece := await response.content.readany():
        body += piece
        if len(body) > max_bytes:
            raise ModelFaulty(
                f"the model server's answer is larger than {max_bytes} bytes: "
                "ask for fewer answers or log probabilities"
            )
    return bytes(body)


async def check_status(response: ClientResponse, address: str) -> None:
    """Raise the error for a status other than 200. Raises ModelFaulty for a content encoding, too.

    `address` is vLLM's own host and port, which no client may see.
    """
    status = response.status
    if status != 200:
        body = await read_body(response, _ERROR_BYTES) if 400 <= status < 500 else b""
        raise error_of_response(status, body, address)
    if response.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise ModelFaulty("the model server compressed its answer though no client asked for that: try again")


def expected_choices(body: Mapping[str, Any]) -> int:
    """How many choices a request asks for: `n` for each of its prompts."""
    prompt = body.get("prompt")
    is_batch = isinstance(prompt, list) and bool(prompt) and not isinstance(prompt[0], int)
    return (body.get("n") or 1) * (len(cast(Sequence[object], prompt)) if is_batch else 1)


def normalize_choices(choices: Sequence[Any], expected: int) -> bool:
    """Replace each `finish_reason` that OpenAI does not know by "stop"; returns whether one was replaced.

    Raises ModelFaulty for more choices than `expected`, and for one that vLLM aborted.
    """
    changed = False
    for choice in choices:
        reason = choice.get("finish_reason")
        if choice["index"] >= expected:
            raise ModelFaulty("the model server sent more answers than were requested: try again")
        if reason in _ABORTED:
            raise ModelFaulty("the model server aborted its answer: try again")
        if reason not in _OPENAI_FINISH_REASONS:  # vLLM's `repetition`, and any reason it may add
            choice["finish_reason"], changed = "stop", True
    return changed
