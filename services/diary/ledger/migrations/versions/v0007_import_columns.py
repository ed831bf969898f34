"""What an import's file left out, and an import's Idempotency-Key, in columns of their own.

Until this step the summary was the last element of `imports.rejected`, behind the rejected rows, and the id
of an import was stored in `idempotency_keys.entry_id`, with version 0.
"""

import json
from collections.abc import Iterator, Sequence
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"

BATCH_IMPORTS = 50  # each may have 1000 rejected rows
EXACT_TEXT = sa.Text().with_variant(sa.String(collation="C"), "postgresql")


def upgrade() -> None:
    """Add the columns, move what is stored into them, and shorten the lists of rejected rows."""
    with op.batch_alter_table("idempotency_keys") as keys:
        keys.add_column(sa.Column("import_id", EXACT_TEXT))
        keys.alter_column("entry_id", existing_type=EXACT_TEXT, nullable=True)
        keys.alter_column("version", existing_type=sa.Integer, nullable=True)
    op.execute(
        "UPDATE idempotency_keys SET import_id = entry_id, entry_id = NULL, version = NULL WHERE version = 0"
    )
    for name in ("rejected_count", "undated"):
        op.add_column("imports", sa.Column(name, sa.Integer, nullable=False, server_default="0"))
    op.add_column("imports", sa.Column("ignored_fields", sa.Text, nullable=False, server_default="[]"))
    for rows in imports_in_batches():
        for row in rows:
            split_summary(row)


def imports_in_batches() -> Iterator[Sequence[sa.Row[Any]]]:
    """All imports, some at a time."""
    owner, import_id = "", ""
    query = sa.text(
        "SELECT owner, id, rejected FROM imports WHERE (owner, id) > (:owner, :id)"
        " ORDER BY owner, id LIMIT :limit"
    )
    while True:
        after = {"owner": owner, "id": import_id, "limit": BATCH_IMPORTS}
        rows = op.get_bind().execute(query, after).all()
        if not rows:
            return
        yield rows
        owner, import_id = rows[-1].owner, rows[-1].id


def split_summary(row: sa.Row[Any]) -> None:
    """Move the summary of one import; one that is still being read has none."""
    rejected = json.loads(row.rejected)
    if not rejected or "line" in rejected[-1]:
        return
    summary = rejected.pop()
    values = {
        "rejected": json.dumps(rejected),
        "rejected_count": summary.get("rejected", 0),
        "undated": summary.get("undated", 0),
        "ignored_fields": json.dumps(summary.get("ignored_fields", [])),
    }
    columns = ", ".join(f"{name} = :{name}" for name in values)
    this = {"owner": row.owner, "id": row.id}
    op.get_bind().execute(
        sa.text(f"UPDATE imports SET {columns} WHERE owner = :owner AND id = :id"), {**values, **this}
    )
