"""Whose life the entries of a ledger belong to."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0003"

LETTERS = sa.Text().with_variant(sa.String(collation="C"), "postgresql")


def upgrade() -> None:
    """Make the table, empty: the persona that is served next is taken for the one the diary is of."""
    op.create_table(
        "persona_record",
        sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("id", LETTERS, nullable=False),
        sa.Column("name", LETTERS, nullable=False),
        sa.Column("since", LETTERS, nullable=False),
        sa.Column("refused", LETTERS),
    )
