"""What clients send to OpenAI's routes. Fields that vLLM knows and we do not are passed through to it."""

from collections.abc import Callable
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from services.diary.dates import check_iso_date
from services.errors import InvalidRequest
from services.orchestrator.timezones import Timezone

MOST_MESSAGES = 2048  # OpenAI's own limit
# A token before the first one of the vocabulary would be an error in the middle of the model.
TokenId = Annotated[int, Field(ge=0)]
_QUESTION = "Where did you grow up?"


Json = dict[str, Any]


def _number(description: str, low: float | None = None, high: float | None = None) -> Json:
    limits = {"minimum": low, "maximum": high}
    return {
        "type": ["number", "null"],
        "description": description,
        **{name: limit for name, limit in limits.items() if limit is not None},
    }


def _whole(description: str, low: int | None = None, high: int | None = None) -> Json:
    return {**_number(description, low, high), "type": ["integer", "null"]}


_DRAWN: Json = {
    "temperature": _number("0 is greedy", 0, 2),
    "top_p": _number("draw from the likeliest tokens that together have this probability", 0, 1),
    "top_k": _whole("draw from so many of the likeliest tokens; 0 and -1 are all", -1),
}
_SAMPLED: Json = _DRAWN | {
    "min_p": _number("leave out tokens less likely than this part of the likeliest", 0, 1),
    "presence_penalty": _number("against words that were said", -2, 2),
    "frequency_penalty": _number("against words, the more often they were said", -2, 2),
    "repetition_penalty": _number("above 1 against repeating; vLLM's own", 0),
    "seed": _whole("the same draw again"),
    "n": _whole("so many answers", 1),
    "stop": {
        "anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}, {"type": "null"}],
        "description": "an answer ends before any of these",
    },
    "logit_bias": {
        "type": ["object", "null"],
        "additionalProperties": {"type": "number"},
        "description": "token id → what is added to its logit",
    },
    "max_tokens": _whole("of the answer, at most", 1),
}
_FORMAT: Json = {"type": ["object", "null"], "description": "`json_object`, or `json_schema` with the schema"}
_LIKELIEST = "so many of the likeliest tokens at each place"

CHAT_FIELDS: Json = _SAMPLED | {
    "max_completion_tokens": _whole("the newer name of `max_tokens`", 1),
    "logprobs": {"type": ["boolean", "null"], "description": "the log probability of each token"},
    "top_logprobs": _whole(f"{_LIKELIEST}; with `logprobs`", 0),
    "response_format": _FORMAT,
}
COMPLETION_FIELDS: Json = _SAMPLED | {
    "logprobs": _whole(_LIKELIEST, 0),
    "echo": {"type": ["boolean", "null"], "description": "the prompt before the answer"},
}
RESPONSE_FIELDS: Json = _DRAWN | {
    "max_output_tokens": _whole("of the answer, at most", 1),
    "text": {"type": ["object", "null"], "description": "`format`, as `response_format` in a chat"},
}


def told_with(fields: Json, example: Json) -> Callable[[Json], None]:
    """For `json_schema_extra`: tells the fields, and a request that works as it is."""

    def tell(schema: Json) -> None:
        schema["properties"] |= fields
        schema["examples"] = [example]

    return tell


class AdaOptions(BaseModel):
    """Ada's own extension of OpenAI's request."""

    model_config = ConfigDict(extra="forbid")

    diary: bool = Field(True, description="whether the diary is recalled, and the chat reflected on")
    reflect: bool = Field(
        True,
        description="whether a reflection may be written on this chat; also `X-Ada-Reflect: off`",
    )
    top_k: int = Field(6, ge=1, le=50, description="diary entries to recall at most")
    as_of: str | None = Field(
        None, description="the ISO date that counts as today: nothing later is recalled; else there is no end"
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
        """Raises RequestRefused: the text of a conversation never writes a control token."""
        if self.allow_control_tokens:
            where = "ada.allow_control_tokens"
            raise InvalidRequest(f"{where}: only /v1/completions reads control marks", where)


class StreamOptions(BaseModel):
    """OpenAI's options of a stream."""

    model_config = ConfigDict(extra="allow")

    include_usage: bool = False


class AdaRequestOptions(BaseModel):
    """What all of OpenAI's requests have in common."""

    model_config = ConfigDict(extra="allow", protected_namespaces=())

    model: str = "ada"
    stream: bool | None = False
    ada: AdaOptions = Field(default_factory=AdaOptions)

    @field_validator("ada", mode="before")
    @classmethod
    def _null_is_left_out(cls, value: object) -> object:
        return AdaOptions() if value is None else value


class ChatMessage(BaseModel):
    """One turn. `developer` is a system turn; content is text, or parts of type `text`."""

    model_config = ConfigDict(extra="allow")

    role: str = Field(description="`system`, `developer`, `user` or `assistant`")
    content: str | list[dict[str, Any]] | None = None


class ChatRequest(AdaRequestOptions):
    """OpenAI's chat completion request; unknown fields go to vLLM as they are."""

    model_config = ConfigDict(
        json_schema_extra=told_with(
            CHAT_FIELDS,
            {
                "model": "ada",
                "messages": [{"role": "user", "content": _QUESTION}],
                "max_tokens": 200,
                "ada": {"diary": True, "top_k": 6},
            },
        )
    )

    messages: list[ChatMessage] = Field(min_length=1, max_length=MOST_MESSAGES)
    stream_options: StreamOptions | None = None
    reasoning_effort: str | None = Field(
        None, description="`none` or `minimal`: no thinking; else there is some"
    )
    chat_template_kwargs: dict[str, Any] | None = Field(None, description="only `enable_thinking`")


class CompletionRequest(AdaRequestOptions):
    """OpenAI's older completion request: text goes on, without persona, template and diary."""

    model_config = ConfigDict(
        json_schema_extra=told_with(
            COMPLETION_FIELDS, {"model": "base", "prompt": "Once upon a time", "max_tokens": 50}
        )
    )

    prompt: str | list[str] | list[TokenId] | list[list[TokenId]]
    stream_options: StreamOptions | None = None


class Reasoning(BaseModel):
    """Whether thinking comes before the answer."""

    model_config = ConfigDict(extra="allow")

    effort: str | None = None


class ResponsesRequest(AdaRequestOptions):
    """OpenAI's Responses request in its stateless core."""

    model_config = ConfigDict(
        json_schema_extra=told_with(
            RESPONSE_FIELDS, {"model": "ada", "input": _QUESTION, "max_output_tokens": 200}
        )
    )

    input: str | list[dict[str, Any]]
    instructions: str | None = None
    reasoning: Reasoning | None = None
    chat_template_kwargs: dict[str, Any] | None = Field(None, description="only `enable_thinking: false`")
    store: bool | None = Field(None, description="nothing is stored, whatever this says")


class RecalledEntry(BaseModel):
    """An entry that was shown in the prompt."""

    id: str
    date: str
    score: float


class DiaryReport(BaseModel):
    """What the diary gave to an answer, best entry first."""

    status: Literal["used", "off", "empty", "no_room", "unavailable"]
    entries: list[RecalledEntry]
    left_out: int | None = Field(None, description="entries that were found and had no room in the prompt")
    reason: str | None = Field(None, description="why it was unavailable, or had no room")


class AdaReport(BaseModel):
    """Ada's own extension of OpenAI's answer; in a stream it is on the last chunk."""

    diary: DiaryReport
    adapter: str | None = Field(description="the version of the adapter that answered; none for `base`")
    disclosure: str
    ignored: list[str] | None = Field(None, description="what of the request was set aside")
    neutralized: int | None = Field(None, description="control marks in messages that were made inert")


class Answer(BaseModel):
    """OpenAI's answer as vLLM gave it, and what is to be said about it."""

    model_config = ConfigDict(extra="allow")

    ada: AdaReport


class AboutPersona(BaseModel):
    """The speakers of a persona's conversations."""

    name: str
    user_name: str
    pronouns: str


class AboutModel(BaseModel):
    """Ada's own extension of OpenAI's model."""

    base_model: str
    adapter: str | None = Field(None, description="the version of the adapter; `base` has none")
    persona: AboutPersona | None = Field(None, description="who answers; `base` is nobody")
    disclosure: str


class Model(BaseModel):
    """A model that can be asked."""

    model_config = ConfigDict(protected_namespaces=())

    id: Literal["ada", "base"]
    object: Literal["model"]
    owned_by: str
    created: int
    max_model_len: int | None = Field(
        None, description="tokens of prompt and answer together, as vLLM tells it"
    )
    ada: AboutModel


class Models(BaseModel):
    """All models."""

    object: Literal["list"]
    data: list[Model]
