"""Requests and answers of OpenAI's routes. Undeclared fields of a request are passed on to vLLM."""

from collections.abc import Callable
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from services.diary.dates import check_iso_date
from services.errors import InvalidRequest
from services.orchestrator.http.json_body import Json
from services.orchestrator.timezones import Timezone

MAX_MESSAGES = 2048  # OpenAI's own limit
# vLLM would fail at a negative id in the middle of a forward pass.
TokenId = Annotated[int, Field(ge=0)]
_QUESTION = "Where did you grow up?"


def _number(description: str, low: float | None = None, high: float | None = None) -> Json:
    limits = {"minimum": low, "maximum": high}
    return {
        "type": ["number", "null"],
        "description": description,
        **{name: limit for name, limit in limits.items() if limit is not None},
    }


def _integer(description: str, low: int | None = None, high: int | None = None) -> Json:
    return {**_number(description, low, high), "type": ["integer", "null"]}


_SAMPLING: Json = {
    "temperature": _number("0 is greedy", 0, 2),
    "top_p": _number("sample from the most likely tokens whose probabilities add up to this", 0, 1),
    "top_k": _integer("sample from this many of the most likely tokens; 0 and -1 mean all", -1),
}
_GENERATION: Json = _SAMPLING | {
    "min_p": _number("exclude tokens less likely than this fraction of the most likely token", 0, 1),
    "presence_penalty": _number("penalty for tokens that occurred", -2, 2),
    "frequency_penalty": _number("penalty for tokens by how often they occurred", -2, 2),
    "repetition_penalty": _number("above 1 penalizes repetition; an extension of vLLM", 0),
    "seed": _integer("the same seed samples the same answer"),
    "n": _integer("number of answers", 1),
    "stop": {
        "anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}, {"type": "null"}],
        "description": "the answer ends before any of these texts",
    },
    "logit_bias": {
        "type": ["object", "null"],
        "additionalProperties": {"type": "number"},
        "description": "token id → value added to its logit",
    },
    "max_tokens": _integer("maximum length of the answer", 1),
}
_FORMAT: Json = {"type": ["object", "null"], "description": "`json_object`, or `json_schema` with the schema"}
_LOGPROBS = "number of most likely tokens at each position"

CHAT_FIELDS: Json = _GENERATION | {
    "max_completion_tokens": _integer("the newer name of `max_tokens`", 1),
    "logprobs": {"type": ["boolean", "null"], "description": "the log probability of each token"},
    "top_logprobs": _integer(f"{_LOGPROBS}; with `logprobs`", 0),
    "response_format": _FORMAT,
}
COMPLETION_FIELDS: Json = _GENERATION | {
    "logprobs": _integer(_LOGPROBS, 0),
    "echo": {"type": ["boolean", "null"], "description": "the prompt before the answer"},
}
RESPONSE_FIELDS: Json = _SAMPLING | {
    "max_output_tokens": _integer("maximum length of the answer", 1),
    "text": {"type": ["object", "null"], "description": "`format`, as `response_format` in a chat"},
}


def with_fields(fields: Json, example: Json) -> Callable[[Json], None]:
    """For `json_schema_extra`: adds the fields, and an example of a valid request."""

    def extend(schema: Json) -> None:
        schema["properties"] |= fields
        schema["examples"] = [example]

    return extend


class AdaOptions(BaseModel):
    """Ada's extension of OpenAI's request."""

    model_config = ConfigDict(extra="forbid")

    diary: bool = Field(True, description="whether to recall the diary, and to reflect on the chat")
    reflect: bool = Field(
        True,
        description="whether a reflection may be written on this chat; also `X-Ada-Reflect: off`",
    )
    top_k: int = Field(6, ge=1, le=50, description="maximum number of diary entries to recall")
    as_of: str | None = Field(
        None,
        description="the ISO date that counts as today: later entries are not recalled; by default all are",
    )
    timezone: Timezone | None = None
    allow_control_tokens: bool = Field(
        False, description="/v1/completions only: read control marks in `prompt` as control tokens"
    )

    @field_validator("as_of")
    @classmethod
    def _is_in_the_calendar(cls, value: str | None) -> str | None:
        return value if value is None else check_iso_date(value)

    def check_no_control_tokens(self) -> None:
        """Raises InvalidRequest if it is set: the text of a conversation never writes a control token."""
        if self.allow_control_tokens:
            field = "ada.allow_control_tokens"
            raise InvalidRequest(f"{field}: only /v1/completions accepts control marks; leave it out", field)


class StreamOptions(BaseModel):
    """OpenAI's options of a stream."""

    model_config = ConfigDict(extra="allow")

    include_usage: bool = False


class BaseRequest(BaseModel):
    """The fields that all requests to OpenAI's routes share."""

    model_config = ConfigDict(extra="allow", protected_namespaces=())

    model: str = "ada"
    stream: bool | None = False
    ada: AdaOptions = Field(default_factory=AdaOptions)

    @field_validator("ada", mode="before")
    @classmethod
    def _null_is_the_default(cls, value: object) -> object:
        return AdaOptions() if value is None else value


class ChatMessage(BaseModel):
    """One turn. `developer` means `system`; content is a text, or a list of parts of type `text`."""

    model_config = ConfigDict(extra="allow")

    role: str = Field(description="`system`, `developer`, `user` or `assistant`")
    content: str | list[dict[str, Any]] | None = None


class ChatRequest(BaseRequest):
    """OpenAI's chat completion request; unknown fields are passed on to vLLM."""

    model_config = ConfigDict(
        json_schema_extra=with_fields(
            CHAT_FIELDS,
            {
                "model": "ada",
                "messages": [{"role": "user", "content": _QUESTION}],
                "max_tokens": 200,
                "ada": {"diary": True, "top_k": 6},
            },
        )
    )

    messages: list[ChatMessage] = Field(min_length=1, max_length=MAX_MESSAGES)
    stream_options: StreamOptions | None = None
    reasoning_effort: str | None = Field(
        None, description="`none` or `minimal`: no reasoning; any other value: reasoning"
    )
    chat_template_kwargs: dict[str, Any] | None = Field(None, description="only `enable_thinking`")


class CompletionRequest(BaseRequest):
    """OpenAI's legacy completion request; continues a text without persona, template and diary."""

    model_config = ConfigDict(
        json_schema_extra=with_fields(
            COMPLETION_FIELDS, {"model": "base", "prompt": "Once upon a time", "max_tokens": 50}
        )
    )

    prompt: str | list[str] | list[TokenId] | list[list[TokenId]]
    stream_options: StreamOptions | None = None


class Reasoning(BaseModel):
    """Whether the model reasons before it answers."""

    model_config = ConfigDict(extra="allow")

    effort: str | None = None


class ResponsesRequest(BaseRequest):
    """OpenAI's Responses request; only its stateless core is supported."""

    model_config = ConfigDict(
        json_schema_extra=with_fields(
            RESPONSE_FIELDS, {"model": "ada", "input": _QUESTION, "max_output_tokens": 200}
        )
    )

    input: str | list[dict[str, Any]]
    instructions: str | None = None
    reasoning: Reasoning | None = None
    chat_template_kwargs: dict[str, Any] | None = Field(None, description="only `enable_thinking: false`")
    store: bool | None = Field(None, description="ignored: nothing is stored")


class RecalledEntry(BaseModel):
    """A diary entry in the prompt."""

    id: str
    date: str
    score: float


class DiaryReport(BaseModel):
    """How the diary was used for an answer, with the best entry first."""

    status: Literal["used", "off", "empty", "no_room", "unavailable"]
    entries: list[RecalledEntry]
    left_out: int | None = Field(None, description="number of hits that did not fit the prompt")
    reason: str | None = Field(None, description="why the diary was unavailable, or did not fit")


class AdaReport(BaseModel):
    """Ada's extension of OpenAI's answer; in a stream the last chunk has it."""

    diary: DiaryReport
    adapter: str | None = Field(description="the version of the adapter; null for `base`")
    disclosure: str
    ignored: list[str] | None = Field(None, description="parts of the request that were ignored")
    neutralized: int | None = Field(
        None, description="number of control marks in messages that were neutralized"
    )


class Answer(BaseModel):
    """OpenAI's answer from vLLM, with Ada's report."""

    model_config = ConfigDict(extra="allow")

    ada: AdaReport


class AboutPersona(BaseModel):
    """The speakers of a persona's conversations."""

    name: str
    user_name: str
    pronouns: str


class AboutModel(BaseModel):
    """Ada's extension of OpenAI's model."""

    base_model: str
    adapter: str | None = Field(None, description="the version of the adapter; `base` has none")
    persona: AboutPersona | None = Field(None, description="the persona; `base` has none")
    disclosure: str


class Model(BaseModel):
    """A served model."""

    model_config = ConfigDict(protected_namespaces=())

    id: Literal["ada", "base"]
    object: Literal["model"]
    owned_by: str
    created: int
    max_model_len: int | None = Field(
        None, description="maximum number of tokens of prompt and answer together"
    )
    ada: AboutModel


class Models(BaseModel):
    """All served models."""

    object: Literal["list"]
    data: list[Model]
