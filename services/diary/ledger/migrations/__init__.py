"""The ledger's migrations. Alembic runs those that a database lacks.

A migration is never changed after its release. It holds copies of what it needs, because tables.py changes
later. To add one, write a new file in versions/ and change tables.py; a test compares the two.
"""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection, text

from services.errors import ConfigError

_LOCK = 0x414441  # "ADA", as PostgreSQL numbers its advisory locks


def is_current(connection: Connection) -> bool:
    """Whether a database has all migrations."""
    head = ScriptDirectory.from_config(_config()).get_current_head()
    return MigrationContext.configure(connection).get_current_revision() == head


def upgrade(connection: Connection, revision: str = "head") -> None:
    """Run the steps up to `revision` that a database lacks, in the connection's transaction: all or none.

    When several processes start at once, one runs the steps while the others wait and then find nothing to
    do: SQLite's writer holds the lock already. Raises ConfigError for a database that a later version of Ada
    has made.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
    config = _config()
    config.attributes["connection"] = connection
    try:
        command.upgrade(config, revision)
    except CommandError as error:
        raise ConfigError(f"the ledger is of a later version of Ada, update Ada: {error}") from None


def _config() -> Config:
    config = Config()
    # An absolute path: the process may have been started in any directory.
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    return config
