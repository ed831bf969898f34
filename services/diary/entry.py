"""A diary entry: the draft that is submitted, and the version that the ledger stores."""

import hashlib
import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, field_validator

from services.diary.dates import parse_date

MAX_BYTES = 32 * 1024  # of an entry's text in UTF-8
Tag = Annotated[str, StringConstraints(min_length=1, max_length=64)]


class IndexState(StrEnum):
    """The state of an entry on its way into the index."""

    QUEUED = "queued"
    INDEXED = "indexed"
    FAILED = "failed"


class Source(StrEnum):
    """The origin of an entry: a person, a file, or the persona."""

    WRITTEN = "written"
    IMPORT = "import"
    REFLECTION = "reflection"


class EntryDraft(BaseModel):
    """An entry as it is submitted. Its text is stored exactly as it is."""

    model_config = ConfigDict(extra="forbid")

    text: str
    date: str | None = Field(
        None,
        max_length=40,
        description="YYYY-MM-DD, ISO 8601 date and time, YYYY-MM, YYYY, 'May 3, 1998', 'May 1998' or "
        "'spring 1998'; today if left out",
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
    def _is_clear(cls, value: str | None) -> str | None:
        if value is not None:
            parse_date(value, datetime.now(UTC).date())
        return value

    def sha256(self) -> str:
        """The hash of the whole draft, which identifies a repeated request."""
        body = json.dumps(self.model_dump(), sort_keys=True, ensure_ascii=False)
        return hashlib.sha256(body.encode()).hexdigest()


@dataclass(frozen=True)
class Entry:
    """One version of an entry as the ledger stores it.

    `date` is the event's date as it was submitted (or the day of writing), and spans the days from
    `first_day` to `last_day`, YYYY-MM-DD. `written_at` is when this version was accepted, UTC in ISO 8601.
    A removed entry is its own last version, without text: a tombstone.
    """

    owner: str
    id: str
    version: int
    text: str
    date: str
    first_day: str
    last_day: str
    mood: str | None
    tags: tuple[str, ...]
    written_at: str
    source: Source = Source.WRITTEN
    origin: dict[str, Any] | None = field(default=None, hash=False)  # of a reflection: its conversation
    import_id: str | None = None
    removed: bool = False
    state: IndexState = IndexState.QUEUED
    reason: str | None = None  # why indexing failed
    attempts: int = 0  # failed attempts at indexing this version
    date_assumed: bool = False  # an import gave no date: `date` is the day of the import

    @property
    def day(self) -> str:
        """The event's first day, YYYY-MM-DD."""
        return self.first_day
