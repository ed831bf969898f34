"""What a search of the diary is asked with."""

from pydantic import BaseModel, ConfigDict, Field, field_validator

from services.diary.dates import check_iso_date
from services.orchestrator.timezones import Timezone


class SearchRequest(BaseModel):
    """A search of the diary; `from` and `to` are days, inclusive."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    query: str = Field(min_length=1, max_length=10_000)
    top_k: int = Field(6, ge=1, le=100, strict=True)
    first_day: str | None = Field(None, alias="from", max_length=40)
    last_day: str | None = Field(None, alias="to", max_length=40)
    as_of: str | None = Field(
        None,
        max_length=40,
        description='the ISO date that counts as today: nothing later is found, and "last spring" is counted '
        "from it; else there is no end",
    )
    timezone: Timezone | None = None
    recency: float = Field(
        0.0, ge=0, le=100_000, strict=True, description="half-life in days of a preference for the new"
    )
    mood: str | None = Field(None, max_length=64, description="entries of this mood are preferred")
    explain: bool = Field(
        False,
        strict=True,
        description="tell how dates were read, and what is left out",
    )

    @field_validator("as_of")
    @classmethod
    def _is_in_the_calendar(cls, value: str | None) -> str | None:
        return value if value is None else check_iso_date(value)
