"""An entry's row: the columns that a draft fills, and the Entry that a row holds."""

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

MAX_REASON_CHARACTERS = 2000  # of why indexing failed
VERSION_COLUMNS = [column for column in entries.c if column.name in versions.c]  # copied into `versions`
ENTRY_COLUMNS = [column for column in VERSION_COLUMNS if column.name != "checksum"]  # of an Entry
PAST_ENTRY_COLUMNS = [versions.c[column.name] for column in ENTRY_COLUMNS]
# The checksum covers these columns, in this order: the content of a version, which never changes.
CHECKSUM_COLUMNS = (
    "owner", "id", "version", "text", "date", "first_day", "last_day", "mood", "tags", "written_at", "source",
    "origin", "import_id", "removed",
)  # fmt: skip
DELETED = {"text": "", "folded": "", "fingerprint": "", "mood": None, "tags": "[]", "origin": None}


def entry_columns(
    draft: EntryDraft, written_at: str, local: LocalTime, previous: Row[Any] | None = None
) -> dict[str, Any]:
    """The columns that a draft fills. Without a date it keeps the previous version's, or gets today's."""
    date = draft.date or (previous.date if previous is not None else local.today().isoformat())
    values = {
        "text": draft.text,
        "folded": casefolded(draft.text),
        "fingerprint": fingerprint(date, draft.text),
        "mood": draft.mood,
        "tags": format_tags(draft.tags),
        "written_at": written_at,
        "removed": False,
    }
    return values if previous is not None and not draft.date else {**values, **date_columns(date, local)}


def date_columns(date: str, local: LocalTime) -> dict[str, Any]:
    """The columns that a date fills."""
    span = parse_date(date, local.today(), local)
    days = {"first_day": span.first_day, "last_day": span.last_day}
    return {"date": date, "date_assumed": False, "moment": span.timestamp, **days}


def queued_columns(now: str) -> dict[str, Any]:
    """The columns of a version that is queued for the index now."""
    values = {"queued_at": now, "retry_at": "", "attempts": 0, "reason": None}
    return {"state": IndexState.QUEUED, **values}


def has_same_content(row: Row[Any], draft: EntryDraft) -> bool:
    """Whether a version has the content of a draft; a draft without a date matches any date."""
    return (
        row.text == draft.text
        and draft.date in (None, row.date)
        and row.mood == draft.mood
        and parse_tags(row.tags) == draft.tags
    )


def with_checksum(row: Mapping[str, Any]) -> dict[str, Any]:
    """The columns of a version, with their checksum."""
    origin = None if row["origin"] is None else json.dumps(row["origin"])
    return {**row, "checksum": checksum({**row, "origin": origin})}


def checksum(row: Mapping[str, Any]) -> str:
    """The SHA-256 of a row whose `origin` is JSON text, as it is stored. It changes with every bit of it."""
    values = [row[name] for name in CHECKSUM_COLUMNS]
    values[-1] = bool(values[-1])
    return hashlib.sha256(json.dumps(values).encode()).hexdigest()


def to_entry(row: Row[Any]) -> Entry:
    """The Entry in a row of `ENTRY_COLUMNS` or `PAST_ENTRY_COLUMNS`."""
    fields = {column.name: getattr(row, column.name) for column in ENTRY_COLUMNS}
    fields["tags"] = tuple(parse_tags(row.tags))
    fields["source"] = Source(row.source)
    fields["state"] = IndexState(row.state)
    return Entry(**fields)


def casefolded(text: str) -> str:
    """A text as phrases are searched in it: without case, and however its accents are encoded.

    The characters that PostgreSQL has to escape (see ExactText) are replaced, so that both databases find
    the same phrases.
    """
    return unicodedata.normalize("NFKC", text.casefold()).replace("\x00", "\ufffd").replace("\x1a", "\ufffd")


def fingerprint(date: str, text: str) -> str:
    """Identifies an entry that an import brings without an id."""
    return hashlib.sha256(f"{date}\n{text}".encode()).hexdigest()


def format_tags(tags: list[str]) -> str:
    """Tags as JSON, each on a line of its own, so that `tag_pattern` occurs in it exactly for its tags."""
    return json.dumps(tags, ensure_ascii=False, indent=0)


def parse_tags(text: str) -> list[str]:
    """The tags that `format_tags` wrote."""
    tags: list[str] = json.loads(text)
    return tags


def tag_pattern(tag: str) -> str:
    """A text that the column `tags` contains exactly when it has the tag: JSON escapes line breaks."""
    return "\n" + json.dumps(tag, ensure_ascii=False)


def truncate_reason(reason: str) -> str:
    """The beginning of an error message. Characters that UTF-8 can't encode are escaped."""
    return reason[:MAX_REASON_CHARACTERS].encode("utf-8", "backslashreplace").decode("utf-8")


def backoff_until(seconds: float) -> str:
    """The timestamp so many seconds from now."""
    return utc_timestamp(datetime.now(UTC) + timedelta(seconds=seconds))
