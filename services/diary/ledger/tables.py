"""The ledger's tables in SQLAlchemy Core; migrations/ creates them.

Timestamps are UTC in ISO 8601, all of one width, so that they sort by time.
"""

import json
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Boolean, Column, Dialect, Index, Integer, MetaData, String, Table, Text, false
from sqlalchemy.types import TypeDecorator, TypeEngine

_ESCAPE = "\x1a"  # SUBSTITUTE: it is hardly ever written, so nearly every text is stored as it is


class ExactText(TypeDecorator[str]):
    """Any text, stored exactly, compared and ordered by code point.

    PostgreSQL accepts no NUL in a text: it is stored as \\x1a0 there, and \\x1a itself as \\x1a1. Everything
    else can be read in psql as it was written.
    """

    impl = Text
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """TEXT, with the collation "C" in PostgreSQL, so that it sorts as SQLite does."""
        collation = "C" if dialect.name == "postgresql" else None
        return dialect.type_descriptor(Text(collation=collation))

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        """The value as the database stores it."""
        if value is None or dialect.name != "postgresql":
            return value
        return value.replace(_ESCAPE, _ESCAPE + "1").replace("\x00", _ESCAPE + "0")

    def process_result_value(self, value: str | None, dialect: Dialect) -> str | None:
        """The value as it was written."""
        if value is None or dialect.name != "postgresql":
            return value
        return value.replace(_ESCAPE + "0", "\x00").replace(_ESCAPE + "1", _ESCAPE)


class Json(TypeDecorator[Any]):
    """Any JSON value, as ASCII text."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> str | None:
        """The value as the database stores it."""
        return None if value is None else json.dumps(value)

    def process_result_value(self, value: str | None, dialect: Dialect) -> Any:
        """The value as it was written; tuples come back as lists."""
        return None if value is None else json.loads(value)


def utc_timestamp(time: datetime | None = None) -> str:
    """A time, or the current one, as the tables store it."""
    return (time or datetime.now(UTC)).astimezone(UTC).isoformat(timespec="microseconds")


metadata = MetaData()


def _version_columns() -> list[Column[Any]]:
    """The columns of a version, in `entries` as in `versions`."""
    return [
        Column("owner", ExactText, primary_key=True),
        Column("id", ExactText, primary_key=True),
        Column("text", ExactText, nullable=False),
        Column("date", ExactText, nullable=False),
        Column("first_day", ExactText, nullable=False),
        Column("last_day", ExactText, nullable=False),
        # An import gave no date: `date` is the day of the import, and says nothing about the event.
        Column("date_assumed", Boolean, nullable=False, server_default=false()),
        Column("mood", ExactText),
        Column("tags", ExactText, nullable=False),  # see services/diary/ledger/rows.py
        Column("written_at", ExactText, nullable=False),
        Column("source", String(16), nullable=False),
        Column("origin", Json),
        Column("import_id", ExactText),
        Column("removed", Boolean, nullable=False),
        Column("state", String(16), nullable=False),
        Column("reason", ExactText),
        Column("attempts", Integer, nullable=False),
        Column("checksum", String(64)),  # of the content, see services/diary/ledger/rows.py
    ]


# The current version of every entry, which is also the outbox to the index.
entries = Table(
    "entries",
    metadata,
    *_version_columns(),
    Column("version", Integer, nullable=False),
    Column("created_at", ExactText, nullable=False),  # of the first version; keeps the order of pages stable
    Column("moment", ExactText, nullable=False),  # first_day, with the time of day if the date has one
    Column("folded", ExactText, nullable=False),  # the text, as phrases are searched in it
    Column("fingerprint", String(64), nullable=False),  # of date and text, to find duplicates
    Column("queued_at", ExactText, nullable=False),  # since when this version waits for the index
    Column("retry_at", ExactText, nullable=False),  # "": at once
    Index("entries_by_moment", "owner", "removed", "moment", "created_at", "id"),
    Index("entries_by_state", "state", "queued_at"),
    Index("entries_by_owners_state", "owner", "state", "queued_at", "id"),
    Index("entries_by_import", "owner", "import_id", "state"),
    Index("entries_by_fingerprint", "owner", "fingerprint"),
)

# Past versions of entries.
versions = Table("versions", metadata, *_version_columns(), Column("version", Integer, primary_key=True))

idempotency_keys = Table(
    "idempotency_keys",
    metadata,
    Column("owner", ExactText, primary_key=True),
    Column("key", ExactText, primary_key=True),
    Column("body_sha256", String(64), nullable=False),
    Column("entry_id", ExactText),  # the entry that the request made, and its version, or
    Column("version", Integer),
    Column("import_id", ExactText),  # the import that it began
    Column("created_at", ExactText, nullable=False),
)

# Purged entries whose text may still be in the database's files. A row with an empty owner stands for a whole
# file that an older version of Ada wrote.
erasures = Table(
    "erasures",
    metadata,
    Column("owner", ExactText, primary_key=True),
    Column("id", ExactText, primary_key=True),
    Column("asked_at", ExactText, nullable=False),
)

imports = Table(
    "imports",
    metadata,
    Column("owner", ExactText, primary_key=True),
    Column("id", ExactText, primary_key=True),
    Column("name", ExactText, nullable=False),
    Column("accepted", Integer, nullable=False),
    Column("duplicates", Integer, nullable=False),
    Column("rows_read", Integer, nullable=False, server_default="0"),  # entries, rejected ones included
    Column("restored", Integer, nullable=False, server_default="0"),  # of the accepted, were removed before
    Column("rejected", Json, nullable=False),  # the first of the rejected rows: [{"line": …, "reason": …}]
    Column("rejected_count", Integer, nullable=False, server_default="0"),  # of all of them
    Column("undated", Integer, nullable=False, server_default="0"),  # accepted rows without a date
    Column("ignored_fields", Json, nullable=False, server_default="[]"),  # of the file, that no entry has
    Column("created_at", ExactText, nullable=False),
    Column("ended_at", ExactText),  # NULL: the file is being read, or its process was killed
)

# Conversations about which Ada has written, or is to write, an entry.
reflections = Table(
    "reflections",
    metadata,
    Column("owner", ExactText, primary_key=True),
    Column("id", ExactText, primary_key=True),  # the hash of the turns: none is written about twice
    Column("request", Json, nullable=False),  # the body of the chat completion
    Column("turns", Json, nullable=False),
    Column("date", ExactText, nullable=False),
    Column("state", String(16), nullable=False),  # queued, done, failed
    Column("entry_id", ExactText),
    Column("reason", ExactText),
    Column("attempts", Integer, nullable=False),
    Column("retry_at", ExactText, nullable=False),
    Column("created_at", ExactText, nullable=False),
    Index("reflections_by_state", "state", "retry_at"),
)

conversations = Table(
    "conversations",
    metadata,
    Column("owner", ExactText, primary_key=True),
    Column("id", ExactText, primary_key=True),
    Column("messages", Json, nullable=False),
    Column("changed_at", ExactText, nullable=False),
    Column("reflected", Boolean, nullable=False),
    Index("conversations_by_quiet", "reflected", "changed_at"),
)

# Verdicts on pairs of versions that may contradict each other.
conflicts = Table(
    "conflicts",
    metadata,
    Column("owner", ExactText, primary_key=True),
    Column("a_id", ExactText, primary_key=True),
    Column("a_version", Integer, primary_key=True),
    Column("b_id", ExactText, primary_key=True),
    Column("b_version", Integer, primary_key=True),
    Column("verdict", String(16), nullable=False),  # contradicts, agrees, unrelated
    Column("why", ExactText, nullable=False),
    Column("settled", String(16)),  # a, b, both, neither; NULL: not yet
    Column("judged_at", ExactText, nullable=False),
    Index("conflicts_by_settled", "owner", "settled"),
)

# The persona whose diary this is: one row, once a persona has been served with it.
persona_record = Table(
    "persona_record",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=False),  # always 1
    Column("id", ExactText, nullable=False),
    Column("name", ExactText, nullable=False),
    Column("since", ExactText, nullable=False),
    Column("refused", ExactText),  # the name of another persona, which is served now and may not write
)
