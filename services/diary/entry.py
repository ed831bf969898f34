"""A diary entry: what a writer may hand in, and what the ledger keeps."""

import hashlib
import json
import re
from dataclasses import dataclass
from datetime import date as Date
from datetime import datetime
from enum import StrEnum
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, field_validator

_EXTENDED = re.compile(r"\d{4}-\d\d-\d\d([T ][0-9:.,+Z-]+)?", re.ASCII)
MAX_BYTES = 32 * 1024  # of an entry's text in UTF-8
Tag = Annotated[str, StringConstraints(min_length=1, max_length=64)]


class IndexState(StrEnum):
    """Where an entry stands on its way into the index."""

    QUEUED = "queued"
    INDEXED = "indexed"
    FAILED = "failed"


class EntryDraft(BaseModel):
    """An entry as somebody hands it in. The text is kept as it is, to the letter."""

    model_config = ConfigDict(extra="forbid")

    text: str
    date: str | None = Field(
        None, max_length=40, description="YYYY-MM-DD or ISO 8601 date and time; today if left out"
    )
    mood: str | None = Field(None, max_length=64)
    tags: list[Tag] = Field(default_factory=list, max_length=32)
    id: str | None = Field(None, pattern=r"^[A-Za-z0-9_-]{1,64}$")

    @field_validator("text")
    @classmethod
    def _is_some_text(cls, text: str) -> str:
        if not text.strip():
            raise ValueError("the entry is empty: write something")
        size = len(text.encode("utf-8"))
        if size > MAX_BYTES:
            raise ValueError(f"the entry has {size} bytes: at most {MAX_BYTES}, split it")
        return text

    @field_validator("date")
    @classmethod
    def _is_in_the_calendar(cls, value: str | None) -> str | None:
        return value if value is None else iso_date(value)

    def sha256(self) -> str:
        """Fingerprint of the whole draft, to tell a repeated request from another one."""
        body = json.dumps(self.model_dump(), sort_keys=True, ensure_ascii=False)
        return hashlib.sha256(body.encode()).hexdigest()


def iso_date(value: str) -> str:
    """`value` if it is a day (YYYY-MM-DD) or a date and time in ISO 8601 that exists.

    Raises ValueError. Only the extended format: 20260102 and 2026-W01-5 are not taken.
    """
    remedy = f"{value!r} is no date of the calendar: write YYYY-MM-DD or YYYY-MM-DDTHH:MM:SS+00:00"
    if not _EXTENDED.fullmatch(value):
        raise ValueError(remedy)
    try:
        _ = Date.fromisoformat(value) if len(value) == 10 else datetime.fromisoformat(value)
    except ValueError:
        raise ValueError(remedy) from None
    return value


@dataclass(frozen=True)
class Entry:
    """An entry as the ledger keeps it. `date` is the event's, `written_at` when it was accepted (UTC)."""

    owner: str
    id: str
    version: int
    text: str
    date: str
    mood: str | None
    tags: tuple[str, ...]
    written_at: str
    state: IndexState
    reason: str | None  # why indexing failed

    @property
    def day(self) -> str:
        """The event's day, YYYY-MM-DD."""
        return self.date[:10]
