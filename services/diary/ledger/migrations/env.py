"""Alembic runs this around the migrations. The connection and its transaction are those of `upgrade`."""

from alembic import context

from services.diary.ledger.tables import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
context.run_migrations()
