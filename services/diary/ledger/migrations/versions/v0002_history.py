"""Versions, tombstones, days, imports, reflections, conversations, conflicts.

`entries` is made anew and filled from the old one, because SQLite changes no column that is there.
"""

import hashlib
import json
import unicodedata
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

AT_ONCE = 500
LETTERS = sa.Text().with_variant(sa.String(collation="C"), "postgresql")


def upgrade() -> None:
    """Make the new tables, move every entry, drop the old one."""
    op.drop_index("entries_by_date", "entries", if_exists=True)
    op.drop_index("entries_by_state", "entries", if_exists=True)
    op.rename_table("entries", "entries_before")
    entries, keys = make_entries(), make_idempotency_keys()
    make_versions()
    make_imports()
    make_reflections()
    make_conflicts()
    for rows in old_rows():
        op.bulk_insert(entries, [moved(row) for row in rows])
        op.bulk_insert(keys, [moved_key(row) for row in rows if row["idempotency_key"] is not None])
    op.drop_table("entries_before")


def old_rows() -> Iterator[list[dict[str, Any]]]:
    """All rows of the table before, some at a time."""
    owner, entry_id = "", ""
    while True:
        query = sa.text(
            "SELECT * FROM entries_before WHERE (owner, id) > (:owner, :id) ORDER BY owner, id LIMIT :limit"
        )
        given = {"owner": owner, "id": entry_id, "limit": AT_ONCE}
        rows = [dict(row) for row in op.get_bind().execute(query, given).mappings()]
        if not rows:
            return
        yield rows
        owner, entry_id = rows[-1]["owner"], rows[-1]["id"]


def moved(row: dict[str, Any]) -> dict[str, Any]:
    """A row of the new table. Dates were days or ISO 8601, of any year."""
    day = row["date"][:10]
    fold = unicodedata.normalize("NFKC", row["text"].casefold())
    return {
        **{name: row[name] for name in ("owner", "id", "version", "text", "date", "mood", "written_at")},
        **{name: row[name] for name in ("state", "reason", "queued_at")},
        "first_day": day,
        "last_day": day,
        "moment": moment(row["date"]),
        "tags": json.dumps(json.loads(row["tags"]), ensure_ascii=False, indent=0),
        "folded": fold.replace("\x00", "\ufffd").replace("\x1a", "\ufffd"),
        "fingerprint": hashlib.sha256(f"{row['date']}\n{row['text']}".encode()).hexdigest(),
        "created_at": row["written_at"],
        "source": "written",
        "origin": None,
        "import_id": None,
        "removed": False,
        "attempts": 0,
        "retry_at": "",
    }


def moment(date: str) -> str:
    """The day, with the local time of day if there is one."""
    if len(date) == 10:
        return date
    return datetime.fromisoformat(date).replace(tzinfo=None).isoformat(timespec="microseconds")


def moved_key(row: dict[str, Any]) -> dict[str, Any]:
    """The Idempotency-Key that an entry came with."""
    return {
        "owner": row["owner"],
        "key": row["idempotency_key"],
        "body_sha256": row["draft_sha256"],
        "entry_id": row["id"],
        "version": 1,
        "created_at": row["written_at"],
    }


def what_it_says() -> list[sa.Column[Any]]:
    """The columns that entries and versions share."""
    return [
        sa.Column("owner", LETTERS, primary_key=True),
        sa.Column("id", LETTERS, primary_key=True),
        sa.Column("text", LETTERS, nullable=False),
        sa.Column("date", LETTERS, nullable=False),
        sa.Column("first_day", LETTERS, nullable=False),
        sa.Column("last_day", LETTERS, nullable=False),
        sa.Column("mood", LETTERS),
        sa.Column("tags", LETTERS, nullable=False),
        sa.Column("written_at", LETTERS, nullable=False),
        sa.Column("source", sa.String(16), nullable=False),
        sa.Column("origin", sa.Text),
        sa.Column("import_id", LETTERS),
        sa.Column("removed", sa.Boolean, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("reason", LETTERS),
        sa.Column("attempts", sa.Integer, nullable=False),
    ]


def make_entries() -> sa.Table:
    """The current version of every entry."""
    table = op.create_table(
        "entries",
        *what_it_says(),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("created_at", LETTERS, nullable=False),
        sa.Column("moment", LETTERS, nullable=False),
        sa.Column("folded", LETTERS, nullable=False),
        sa.Column("fingerprint", sa.String(64), nullable=False),
        sa.Column("queued_at", LETTERS, nullable=False),
        sa.Column("retry_at", LETTERS, nullable=False),
    )
    op.create_index("entries_by_moment", "entries", ["owner", "removed", "moment", "created_at", "id"])
    op.create_index("entries_by_state", "entries", ["state", "queued_at"])
    op.create_index("entries_by_owners_state", "entries", ["owner", "state", "queued_at", "id"])
    op.create_index("entries_by_import", "entries", ["owner", "import_id", "state"])
    op.create_index("entries_by_fingerprint", "entries", ["owner", "fingerprint"])
    return table


def make_versions() -> None:
    """What entries said before."""
    op.create_table("versions", *what_it_says(), sa.Column("version", sa.Integer, primary_key=True))


def make_idempotency_keys() -> sa.Table:
    """Which request made which version."""
    return op.create_table(
        "idempotency_keys",
        sa.Column("owner", LETTERS, primary_key=True),
        sa.Column("key", LETTERS, primary_key=True),
        sa.Column("body_sha256", sa.String(64), nullable=False),
        sa.Column("entry_id", LETTERS, nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("created_at", LETTERS, nullable=False),
    )


def make_imports() -> None:
    """Files that were read."""
    op.create_table(
        "imports",
        sa.Column("owner", LETTERS, primary_key=True),
        sa.Column("id", LETTERS, primary_key=True),
        sa.Column("name", LETTERS, nullable=False),
        sa.Column("accepted", sa.Integer, nullable=False),
        sa.Column("duplicates", sa.Integer, nullable=False),
        sa.Column("rejected", sa.Text, nullable=False),
        sa.Column("created_at", LETTERS, nullable=False),
        sa.Column("ended_at", LETTERS),
    )


def make_reflections() -> None:
    """Conversations, and those that Ada writes of."""
    op.create_table(
        "reflections",
        sa.Column("owner", LETTERS, primary_key=True),
        sa.Column("id", LETTERS, primary_key=True),
        sa.Column("request", sa.Text, nullable=False),
        sa.Column("turns", sa.Text, nullable=False),
        sa.Column("date", LETTERS, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("entry_id", LETTERS),
        sa.Column("reason", LETTERS),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("retry_at", LETTERS, nullable=False),
        sa.Column("created_at", LETTERS, nullable=False),
    )
    op.create_index("reflections_by_state", "reflections", ["state", "retry_at"])
    op.create_table(
        "conversations",
        sa.Column("owner", LETTERS, primary_key=True),
        sa.Column("id", LETTERS, primary_key=True),
        sa.Column("messages", sa.Text, nullable=False),
        sa.Column("changed_at", LETTERS, nullable=False),
        sa.Column("reflected", sa.Boolean, nullable=False),
    )
    op.create_index("conversations_by_quiet", "conversations", ["reflected", "changed_at"])


def make_conflicts() -> None:
    """Pairs of versions that were judged."""
    op.create_table(
        "conflicts",
        sa.Column("owner", LETTERS, primary_key=True),
        sa.Column("a_id", LETTERS, primary_key=True),
        sa.Column("a_version", sa.Integer, primary_key=True),
        sa.Column("b_id", LETTERS, primary_key=True),
        sa.Column("b_version", sa.Integer, primary_key=True),
        sa.Column("verdict", sa.String(16), nullable=False),
        sa.Column("why", LETTERS, nullable=False),
        sa.Column("settled", sa.String(16)),
        sa.Column("judged_at", LETTERS, nullable=False),
    )
