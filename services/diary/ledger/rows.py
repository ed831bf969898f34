"""An entry's row: how a draft is written into it, and how an Entry is read from it."""

import hashlib
import json
import unicodedata
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Row

from services.diary.dates import parse_date
from services.diary.entry import Entry, EntryDraft, IndexState, Source
from services.diary.ledger.tables import entries, utc_timestamp, versions
from services.local_time import LocalTime

MAX_REASON = 2000  # letters kept of why indexing failed
VERSION_COLUMNS = [column for column in entries.c if column.name in versions.c]  # what becomes a past version
ENTRY_COLUMNS = [
    column for column in VERSION_COLUMNS if column.name != "checksum"
]  # what an Entry is read from
PAST_ENTRY_COLUMNS = [versions.c[column.name] for column in ENTRY_COLUMNS]
# What the checksum is of, in this order: all that a version says, and nothing that changes afterwards.
CHECKSUM_COLUMNS = (
    "owner", "id", "version", "text", "date", "first_day", "last_day", "mood", "tags", "written_at", "source",
    "origin", "import_id", "removed",
)  # fmt: skip
DELETED = {"text": "", "folded": "", "fingerprint": "", "mood": None, "tags": "[]", "origin": None}


def entry_columns(
    draft: EntryDraft, written_at: str, local: LocalTime, before: Row[Any] | None = None
) -> dict[str, Any]:
    """The columns that a draft fills. Without a date it has that of the version before, or of the writing."""
    date = draft.date or (before.date if before is not None else local.today().isoformat())
    values = {
        "text": draft.text,
        "folded": casefolded(draft.text),
        "fingerprint": fingerprint(date, draft.text),
        "mood": draft.mood,
        "tags": format_tags(draft.tags),
        "written_at": written_at,
        "removed": False,
    }
    return values if before is not None and not draft.date else {**values, **date_columns(date, local)}


def date_columns(date: str, local: LocalTime) -> dict[str, Any]:
    """The columns that a date fills."""
    when = parse_date(date, local.today(), local)
    days = {"first_day": when.first_day, "last_day": when.last_day}
    return {"date": date, "date_assumed": False, "moment": when.timestamp, **days}


def queued_columns(now: str) -> dict[str, Any]:
    """The columns of a version that begins to wait for the index."""
    waits = {"queued_at": now, "retry_at": "", "attempts": 0, "reason": None}
    return {"state": IndexState.QUEUED, **waits}


def has_same_content(row: Row[Any], draft: EntryDraft) -> bool:
    """Whether a version says what a draft says; a draft without a date agrees with any."""
    return (
        row.text == draft.text
        and draft.date in (None, row.date)
        and row.mood == draft.mood
        and parse_tags(row.tags) == draft.tags
    )


def with_checksum(row: Mapping[str, Any]) -> dict[str, Any]:
    """The columns of a version, and their checksum."""
    origin = None if row["origin"] is None else json.dumps(row["origin"])
    return {**row, "checksum": checksum({**row, "origin": origin})}


def checksum(row: Mapping[str, Any]) -> str:
    """Of a row whose `origin` is JSON's text, as it is stored; a bit that flips in any of it is found."""
    values = [row[name] for name in CHECKSUM_COLUMNS]
    values[-1] = bool(values[-1])
    return hashlib.sha256(json.dumps(values).encode()).hexdigest()


def to_entry(row: Row[Any]) -> Entry:
    """The Entry that a row of `ENTRY` or `OLD_ENTRY` holds."""
    fields = {column.name: getattr(row, column.name) for column in ENTRY_COLUMNS}
    fields["tags"] = tuple(parse_tags(row.tags))
    fields["source"] = Source(row.source)
    fields["state"] = IndexState(row.state)
    return Entry(**fields)


def casefolded(text: str) -> str:
    """A text as it is searched for a phrase: without case, and however its accents are spelled.

    Without what PostgreSQL has to escape (see Letters), so that every phrase is found in both databases.
    """
    return unicodedata.normalize("NFKC", text.casefold()).replace("\x00", "\ufffd").replace("\x1a", "\ufffd")


def fingerprint(date: str, text: str) -> str:
    """Tells entries apart that an import brings without ids."""
    return hashlib.sha256(f"{date}\n{text}".encode()).hexdigest()


def format_tags(tags: list[str]) -> str:
    """Tags as JSON, each on a line of its own, so that `tag_in_row` is found in it when the tag is there."""
    return json.dumps(tags, ensure_ascii=False, indent=0)


def parse_tags(written: str) -> list[str]:
    """The tags that `written_tags` wrote."""
    tags: list[str] = json.loads(written)
    return tags


def tag_pattern(tag: str) -> str:
    """What the column `tags` holds exactly when the tag is among them: JSON has no bare line break within."""
    return "\n" + json.dumps(tag, ensure_ascii=False)


def truncate_reason(reason: str) -> str:
    """An error's message as far as it is kept; what UTF-8 can't write is spelled out."""
    return reason[:MAX_REASON].encode("utf-8", "backslashreplace").decode("utf-8")


def backoff_until(seconds: float) -> str:
    """So many seconds from now."""
    return utc_timestamp(datetime.now(UTC) + timedelta(seconds=seconds))
