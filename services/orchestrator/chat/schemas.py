"""What clients send. Fields that vLLM knows and we do not are passed through to it."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from services.diary.entry import iso_date


class ChatMessage(BaseModel):
    """One turn of the conversation."""

    model_config = ConfigDict(extra="ignore")

    role: str
    content: str


class AdaOptions(BaseModel):
    """Ada's own extension of OpenAI's request."""

    model_config = ConfigDict(extra="forbid")

    diary: bool = True
    top_k: int = Field(6, ge=1, le=50, description="diary entries to recall at most")
    as_of: str | None = Field(None, description="recall nothing later than this ISO date")

    @field_validator("as_of")
    @classmethod
    def _is_in_the_calendar(cls, value: str | None) -> str | None:
        return value if value is None else iso_date(value)


class ChatRequest(BaseModel):
    """OpenAI's chat completion request; unknown fields go to vLLM as they are."""

    model_config = ConfigDict(extra="allow")

    model: str = "ada"
    messages: list[ChatMessage] = Field(min_length=1)
    stream: bool = False
    ada: AdaOptions = Field(default_factory=AdaOptions)


class RecalledEntry(BaseModel):
    """An entry that Ada was shown."""

    id: str
    date: str
    score: float


class DiaryReport(BaseModel):
    """What the diary gave to an answer, best entry first."""

    status: Literal["used", "off", "empty", "unavailable"]
    entries: list[RecalledEntry]


class AdaReport(BaseModel):
    """Ada's own extension of OpenAI's answer; in a stream it is on the last chunk."""

    diary: DiaryReport
    adapter: str | None = Field(description="the version of the adapter that answered; none for `base`")
    disclosure: str


class ChatAnswer(BaseModel):
    """OpenAI's chat completion as vLLM gave it, and what Ada has to say about it."""

    model_config = ConfigDict(extra="allow")

    ada: AdaReport


class SearchRequest(BaseModel):
    """A search of the diary; `from` and `to` are days, inclusive."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    query: str = Field(min_length=1, max_length=10_000)
    top_k: int = Field(6, ge=1, le=100)
    first_day: str | None = Field(None, alias="from", max_length=40)
    last_day: str | None = Field(None, alias="to", max_length=40)
    as_of: str | None = Field(
        None, description='the ISO date from which "last spring" is counted; else today'
    )
    recency: float = Field(0.0, ge=0, le=100_000, description="half-life in days of a preference for the new")
    mood: str | None = Field(None, max_length=64, description="entries of this mood are preferred")
    explain: bool = Field(
        False, description="tell how dates were read, and which near-duplicates are left out"
    )

    @field_validator("as_of")
    @classmethod
    def _is_in_the_calendar(cls, value: str | None) -> str | None:
        return value if value is None else iso_date(value)
