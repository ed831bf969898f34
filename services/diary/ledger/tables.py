"""The ledger's tables, as SQLAlchemy Core has them. What made them is in migrations/.

Moments are UTC in ISO 8601, all of one width, so that the order of the texts is that of time.
"""

import json
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Boolean, Column, Dialect, Index, Integer, MetaData, String, Table, Text, false
from sqlalchemy.types import TypeDecorator, TypeEngine

_ESCAPE = "\x1a"  # SUBSTITUTE: nobody writes it, so nearly every text is stored as it is


class ExactText(TypeDecorator[str]):
    """Any text, to the letter, compared and ordered by code point.

    PostgreSQL takes no NUL in a text: it is written as \\x1a0 there, and \\x1a itself as \\x1a1. Everything
    else can be read in psql as it was written.
    """

    impl = Text
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """TEXT, or VARCHAR in PostgreSQL, with the collation that SQLite has, so that both order alike."""
        collation = "C" if dialect.name == "postgresql" else None
        return dialect.type_descriptor(Text(collation=collation))

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        """As it is written to the database."""
        if value is None or dialect.name != "postgresql":
            return value
        return value.replace(_ESCAPE, _ESCAPE + "1").replace("\x00", _ESCAPE + "0")

    def process_result_value(self, value: str | None, dialect: Dialect) -> str | None:
        """As it was handed in."""
        if value is None or dialect.name != "postgresql":
            return value
        return value.replace(_ESCAPE + "0", "\x00").replace(_ESCAPE + "1", _ESCAPE)


class Json(TypeDecorator[Any]):
    """Anything that JSON can spell, as ASCII text."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> str | None:
        """As it is written to the database."""
        return None if value is None else json.dumps(value)

    def process_result_value(self, value: str | None, dialect: Dialect) -> Any:
        """As it was handed in; tuples come back as lists."""
        return None if value is None else json.loads(value)


def utc_timestamp(moment: datetime | None = None) -> str:
    """A moment, or now, as the tables keep it."""
    return (moment or datetime.now(UTC)).astimezone(UTC).isoformat(timespec="microseconds")


metadata = MetaData()


def _what_it_says() -> list[Column[Any]]:
    """The columns that tell an entry's version, in entries as in versions."""
    return [
        Column("owner", ExactText, primary_key=True),
        Column("id", ExactText, primary_key=True),
        Column("text", ExactText, nullable=False),
        Column("date", ExactText, nullable=False),
        Column("first_day", ExactText, nullable=False),
        Column("last_day", ExactText, nullable=False),
        # The row of an import that had no date: the day is that of the import, and dates nothing.
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
        Column("checksum", String(64)),  # of what it says, see services/diary/ledger/rows.py
    ]


# The current version of every entry, which is also the outbox to the index.
entries = Table(
    "entries",
    metadata,
    *_what_it_says(),
    Column("version", Integer, nullable=False),
    Column("created_at", ExactText, nullable=False),  # of the first version: it keeps the pages' order stable
    Column("moment", ExactText, nullable=False),  # first_day, with the time of day if one was given
    Column("folded", ExactText, nullable=False),  # the text, as it is searched for a phrase
    Column("fingerprint", String(64), nullable=False),  # of date and text, to find what is there already
    Column("queued_at", ExactText, nullable=False),  # when this version began to wait for the index
    Column("retry_at", ExactText, nullable=False),  # "" at once
    Index("entries_by_moment", "owner", "removed", "moment", "created_at", "id"),
    Index("entries_by_state", "state", "queued_at"),
    Index("entries_by_owners_state", "owner", "state", "queued_at", "id"),
    Index("entries_by_import", "owner", "import_id", "state"),
    Index("entries_by_fingerprint", "owner", "fingerprint"),
)

# What entries said before.
versions = Table("versions", metadata, *_what_it_says(), Column("version", Integer, primary_key=True))

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

# Entries that were purged, while their text may still be in what the database keeps of its files. One that
# belongs to nobody is the file as an older version of Ada left it.
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
    Column("rows_read", Integer, nullable=False, server_default="0"),  # that were entries, refused ones too
    Column("restored", Integer, nullable=False, server_default="0"),  # of the accepted, had been removed
    Column("rejected", Json, nullable=False),  # the first of the rejected rows: [{"line": …, "reason": …}]
    Column("rejected_count", Integer, nullable=False, server_default="0"),  # of all of them
    Column("undated", Integer, nullable=False, server_default="0"),  # accepted rows without a date
    Column("ignored_fields", Json, nullable=False, server_default="[]"),  # of the file, that no entry has
    Column("created_at", ExactText, nullable=False),
    Column("ended_at", ExactText),  # none: still being read, or its process was killed
)

# Conversations of which Ada has written, or is to write, an entry of her own.
reflections = Table(
    "reflections",
    metadata,
    Column("owner", ExactText, primary_key=True),
    Column("id", ExactText, primary_key=True),  # the sha of the turns: never twice
    Column("request", Json, nullable=False),  # the body for the model
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

# Pairs of versions that were judged for disagreement.
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
    Column("settled", String(16)),  # a, b, both, neither; none: not yet
    Column("judged_at", ExactText, nullable=False),
    Index("conflicts_by_settled", "owner", "settled"),
)

# Whose life the entries belong to: one row, once a persona has been served with this diary.
persona_record = Table(
    "persona_record",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=False),  # always 1
    Column("id", ExactText, nullable=False),
    Column("name", ExactText, nullable=False),
    Column("since", ExactText, nullable=False),
    Column("refused", ExactText),  # the name of another persona that is served now, and may not write
)
