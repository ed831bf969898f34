"""The ledger's first table, which Ada made without Alembic until version 0.1: it may be there already."""

from alembic import op
from sqlalchemy import Column, Index, Integer, MetaData, String, Table, Text, UniqueConstraint

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make the table if it is not there."""
    entries = Table(
        "entries",
        MetaData(),
        Column("owner", String(64), primary_key=True),
        Column("id", String(64), primary_key=True),
        Column("version", Integer, nullable=False),
        Column("text", Text, nullable=False),
        Column("date", String(40), nullable=False),
        Column("mood", String(64)),
        Column("tags", Text, nullable=False),
        Column("written_at", String(40), nullable=False),
        Column("draft_sha256", String(64), nullable=False),
        Column("idempotency_key", String(255)),
        Column("state", String(16), nullable=False),
        Column("queued_at", String(40), nullable=False),
        Column("reason", Text),
        UniqueConstraint("owner", "idempotency_key"),
        Index("entries_by_date", "owner", "date"),
        Index("entries_by_state", "state", "queued_at"),
    )
    entries.create(op.get_bind(), checkfirst=True)
