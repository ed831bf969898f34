"""Which dates were only assumed, and an index to the conflicts that are settled.

Rows that an import brought without a date are known by their ids, which are made from date and text.
"""

import hashlib
from collections.abc import Iterator, Sequence
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"

AT_ONCE = 500
COLUMNS = ("owner", "id", "version", "text", "date", "written_at", "source")


def upgrade() -> None:
    """Add the column to both tables, mark what is known to have had no date, and make the index."""
    for name in ("entries", "versions"):
        op.add_column(name, sa.Column("date_assumed", sa.Boolean, nullable=False, server_default=sa.false()))
    op.create_index("conflicts_by_settled", "conflicts", ["owner", "settled"])
    for name in ("entries", "versions"):
        table = sa.table(name, *map(sa.column, COLUMNS), sa.column("date_assumed", sa.Boolean))
        for rows in first_versions_of_imports(table):
            mark(table, [row for row in rows if is_undated(row)])


def first_versions_of_imports(table: sa.TableClause) -> Iterator[Sequence[sa.Row[Any]]]:
    """Rows without an id of the file's own, some at a time."""
    columns = table.c
    position = sa.tuple_(columns.owner, columns.id)
    last = ("", "")
    query = sa.select(table).where(columns.source == "import", columns.version == 1).order_by("owner", "id")
    while True:
        after = query.where(columns.id.like("row-%"), position > sa.tuple_(*map(sa.literal, last)))
        rows = op.get_bind().execute(after.limit(AT_ONCE)).all()
        if not rows:
            return
        yield rows
        last = rows[-1].owner, rows[-1].id


def is_undated(row: sa.Row[Any]) -> bool:
    """Whether the id says that there was no date, and the date is still the day of the import."""
    made = hashlib.sha256(f"\n{row.text}".encode()).hexdigest()[:24]
    return bool(row.id == f"row-{made}" and row.date == row.written_at[:10])


def mark(table: sa.TableClause, rows: Sequence[sa.Row[Any]]) -> None:
    """Note that the date of these versions was assumed."""
    for row in rows:
        these = sa.and_(table.c.owner == row.owner, table.c.id == row.id, table.c.version == 1)
        op.get_bind().execute(sa.update(table).where(these).values(date_assumed=True))
