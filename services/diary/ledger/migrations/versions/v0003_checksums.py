"""A checksum for every version of every entry, how far an import has been read, and unfinished erasures.

Files of before may have purged text in their gaps: a row in `erasures` that belongs to nobody has the file
rewritten.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

AT_ONCE = 500
LETTERS = sa.Text().with_variant(sa.String(collation="C"), "postgresql")
SEALED = (
    "owner", "id", "version", "text", "date", "first_day", "last_day", "mood", "tags", "written_at", "source",
    "origin", "import_id", "removed",
)  # fmt: skip


def upgrade() -> None:
    """Add the columns, fill them, make the table."""
    for table in ("entries", "versions"):
        op.add_column(table, sa.Column("checksum", sa.String(64)))
        fill(table)
    for column in ("rows_read", "restored"):
        op.add_column("imports", sa.Column(column, sa.Integer, nullable=False, server_default="0"))
    erasures = op.create_table(
        "erasures",
        sa.Column("owner", LETTERS, primary_key=True),
        sa.Column("id", LETTERS, primary_key=True),
        sa.Column("asked_at", LETTERS, nullable=False),
    )
    if op.get_bind().dialect.name == "sqlite":
        op.bulk_insert(erasures, [{"owner": "", "id": "", "asked_at": ""}])


def fill(name: str) -> None:
    """Seal the rows of a table, some at a time."""
    columns: list[Any] = [sa.column(column) for column in SEALED]
    table = sa.table(name, *columns, sa.column("checksum"))
    key = sa.tuple_(table.c.owner, table.c.id, table.c.version)
    position = ("", "", 0)
    sealing = (
        sa.update(table)
        .where(
            table.c.owner == sa.bindparam("its_owner"),
            table.c.id == sa.bindparam("its_id"),
            table.c.version == sa.bindparam("its_version"),
        )
        .values(checksum=sa.bindparam("sealed"))
    )
    while True:
        query = sa.select(*columns).select_from(table).where(key > sa.tuple_(*map(sa.literal, position)))
        rows = op.get_bind().execute(query.order_by(*key.clauses).limit(AT_ONCE)).mappings().all()
        if not rows:
            return
        names = ("owner", "id", "version")
        op.get_bind().execute(
            sealing, [{**{f"its_{n}": row[n] for n in names}, "sealed": checksum(dict(row))} for row in rows]
        )
        position = tuple(rows[-1][name] for name in names)


def checksum(row: Mapping[str, Any]) -> str:
    """As services/diary/ledger/rows.py has it, of a row as it is stored."""
    values = [row[name] for name in SEALED]
    values[-1] = bool(values[-1])
    for number, value in enumerate(values):
        if isinstance(value, str) and op.get_bind().dialect.name == "postgresql":
            values[number] = value.replace("\x1a0", "\x00").replace("\x1a1", "\x1a")
    return hashlib.sha256(json.dumps(values).encode()).hexdigest()
