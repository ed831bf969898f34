"""What clients send to OpenAI's routes. Fields that vLLM knows and we do not are passed through to it."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from services.diary.entry import iso_date
from services.orchestrator.chat.sampling import CHAT_FIELDS, COMPLETION_FIELDS, RESPONSE_FIELDS, told_with

MOST_MESSAGES = 2048  # OpenAI's own limit
# A token before the first one of the vocabulary would be an error in the middle of the model.
TokenId = Annotated[int, Field(ge=0)]
_QUESTION = "Where did you grow up?"


class AdaOptions(BaseModel):
    """Ada's own extension of OpenAI's request."""

    model_config = ConfigDict(extra="forbid")

    diary: bool = Field(True, description="whether the diary is recalled, and the chat reflected on")
    reflect: bool = Field(
        True, description="whether she may write about this chat; `X-Ada-Reflect: off` says no as well"
    )
    top_k: int = Field(6, ge=1, le=50, description="diary entries to recall at most")
    as_of: str | None = Field(None, description="recall nothing later than this ISO date")

    @field_validator("as_of")
    @classmethod
    def _is_in_the_calendar(cls, value: str | None) -> str | None:
        return value if value is None else iso_date(value)


class StreamOptions(BaseModel):
    """OpenAI's options of a stream."""

    model_config = ConfigDict(extra="allow")

    include_usage: bool = False


class AskedOfAda(BaseModel):
    """What all of OpenAI's requests have in common."""

    model_config = ConfigDict(extra="allow", protected_namespaces=())

    model: str = "ada"
    stream: bool | None = False
    ada: AdaOptions = Field(default_factory=AdaOptions)


class ChatMessage(BaseModel):
    """One turn. `developer` is a system turn; content is text, or parts of type `text`."""

    model_config = ConfigDict(extra="allow")

    role: str = Field(description="`system`, `developer`, `user` or `assistant`")
    content: str | list[dict[str, Any]] | None = None


class ChatRequest(AskedOfAda):
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
        None, description="`none` or `minimal`: no thinking; else she thinks"
    )
    chat_template_kwargs: dict[str, Any] | None = Field(None, description="only `enable_thinking`")


class CompletionRequest(AskedOfAda):
    """OpenAI's older completion request: text goes on, without persona, template and diary."""

    model_config = ConfigDict(
        json_schema_extra=told_with(
            COMPLETION_FIELDS, {"model": "base", "prompt": "Once upon a time", "max_tokens": 50}
        )
    )

    prompt: str | list[str] | list[TokenId] | list[list[TokenId]]
    stream_options: StreamOptions | None = None


class Reasoning(BaseModel):
    """Whether she thinks before she answers."""

    model_config = ConfigDict(extra="allow")

    effort: str | None = None


class ResponsesRequest(AskedOfAda):
    """OpenAI's Responses request in its stateless core."""

    model_config = ConfigDict(
        json_schema_extra=told_with(
            RESPONSE_FIELDS, {"model": "ada", "input": _QUESTION, "max_output_tokens": 200}
        )
    )

    input: str | list[dict[str, Any]]
    instructions: str | None = None
    reasoning: Reasoning | None = None
    store: bool | None = Field(None, description="nothing is stored, whatever this says")


class RecalledEntry(BaseModel):
    """An entry that Ada was shown."""

    id: str
    date: str
    score: float


class DiaryReport(BaseModel):
    """What the diary gave to an answer, best entry first."""

    status: Literal["used", "off", "empty", "unavailable"]
    entries: list[RecalledEntry]
    reason: str | None = Field(None, description="why it was unavailable")


class AdaReport(BaseModel):
    """Ada's own extension of OpenAI's answer; in a stream it is on the last chunk."""

    diary: DiaryReport
    adapter: str | None = Field(description="the version of the adapter that answered; none for `base`")
    disclosure: str


class Answer(BaseModel):
    """OpenAI's answer as vLLM gave it, and what Ada has to say about it."""

    model_config = ConfigDict(extra="allow")

    ada: AdaReport


class AboutModel(BaseModel):
    """Ada's own extension of OpenAI's model."""

    base_model: str
    adapter: str | None = Field(None, description="the version of the adapter; `base` has none")
    disclosure: str


class Model(BaseModel):
    """A model that can be asked."""

    model_config = ConfigDict(protected_namespaces=())

    id: Literal["ada", "base"]
    object: Literal["model"]
    owned_by: str
    created: int
    ada: AboutModel


class Models(BaseModel):
    """All models."""

    object: Literal["list"]
    data: list[Model]
