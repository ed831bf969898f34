"""The ledger's database: SQLite or PostgreSQL by URL, opened, migrated, and its errors translated."""

import logging
import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, Insert, Table, create_engine, event, make_url, text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import ArgumentError, DBAPIError, IntegrityError, SQLAlchemyError

from services.diary.ledger import migrations
from services.errors import ConfigError, DiaryUnavailable, LedgerFull

log = logging.getLogger("ada.diary")
_URLS = "write sqlite:///folder/ledger.sqlite3 or postgresql://user:password@host/database"
_READS = "ada_reads"  # the execution option that tells a reading transaction
# The second is of a write-ahead log that finds no room for its index (measured on a full tmpfs).
_SQLITE_FULL = (13, 4874)  # SQLITE_FULL, SQLITE_IOERR_SHMSIZE
_TRIES = 20
_BUSY_MS = 20_000  # that a writer waits for another one
_REWRITE_WAIT_MS = 300
_POSTGRESQL_FULL = "53100"


class Database:
    """Transactions on one database. Safe to share between threads."""

    def __init__(self, url: str) -> None:
        """Open the database at a SQLAlchemy URL and bring its tables up to date.

        Raises ConfigError for a URL of no use, DiaryUnavailable when the database can't be reached.
        """
        self._engine = _engine(url)
        # Readers have connections of their own: writers that wait for each other may hold all of theirs.
        self._reading_engine = _engine(url)
        snapshot = {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
        reads = snapshot if self.is_postgresql else {_READS: True}
        self._readers = self._reading_engine.execution_options(**reads)
        try:
            self._prepare()
        except BaseException:
            self.close()
            raise

    @property
    def is_postgresql(self) -> bool:
        """Whether it is PostgreSQL, and not SQLite."""
        return self._engine.dialect.name == "postgresql"

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()
        self._reading_engine.dispose()

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """A transaction that may write: kept as a whole at the end of the block, or not at all.

        SQLite has one writer at a time, others wait for it. Raises LedgerFull, DiaryUnavailable;
        IntegrityError passes as it is.
        """
        with _translated(), self._engine.begin() as connection:
            yield connection

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A transaction that only reads, all of one moment, and waits for no writer.

        Raises DiaryUnavailable.
        """
        with _translated(), self._readers.begin() as connection:
            yield connection

    def size(self) -> int:
        """Bytes of SQLite's file."""
        with _translated(), self._readers.connect() as connection:
            pages, size = (
                connection.connection.execute(f"PRAGMA {name}").fetchone()[0]
                for name in ("page_count", "page_size")
            )
        return int(pages) * int(size)

    def rewrite(self) -> bool:
        """Write SQLite's file anew, with nothing in it that was deleted, and empty its log.

        False when somebody else writes, or still reads what was there before: then it has to be done again.
        secure_delete alone is not enough: when pages are balanced, cells are copied, and what stood in the
        place that they left stays (measured: of 300 purged texts 2 or 3 could be read in the file).
        """
        with _translated(), self._engine.connect() as connection:
            raw = connection.connection
            try:
                raw.execute(f"PRAGMA busy_timeout={_REWRITE_WAIT_MS}")
                raw.execute("VACUUM")
                return not raw.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
            except sqlite3.Error as error:  # locked; or full: it takes as much room again as the file has
                log.info("the ledger's file could not be written anew, it is tried again: %s", error)
                return False
            finally:
                with suppress(sqlite3.Error):
                    raw.execute(f"PRAGMA busy_timeout={_BUSY_MS}")

    def _prepare(self) -> None:
        """Bring the tables up to date, again if need be.

        SQLite's change to WAL does not always wait for another process that does the same (measured: one of
        480 openings of a new file by eight at once).
        """
        for _ in range(_TRIES):
            try:
                return self._migrate()
            except DiaryUnavailable as error:
                if "locked" not in str(error):
                    raise
                time.sleep(0.05)
        self._migrate()

    def _migrate(self) -> None:
        with self.reading() as connection:
            if self.is_postgresql and (spelled := connection.scalar(text("SHOW server_encoding"))) != "UTF8":
                raise ConfigError(f"the ledger's database is in {spelled}: make one with ENCODING 'UTF8'")
            is_current = migrations.is_current(connection)
        if not is_current:
            with self.transaction() as connection:
                migrations.upgrade(connection)


def insert_all_new(connection: Connection, table: Table, rows: Sequence[Mapping[str, Any]]) -> int:
    """Insert rows; those whose primary key is there already are left out. Returns how many were written."""
    if not rows:
        return 0
    made: dict[str, Insert] = {
        "sqlite": sqlite.insert(table).on_conflict_do_nothing(),
        "postgresql": postgresql.insert(table).on_conflict_do_nothing(),
    }
    counted = connection.execution_options(preserve_rowcount=True)
    return counted.execute(made[connection.dialect.name], rows).rowcount


def insert_new(connection: Connection, table: Table, row: Mapping[str, Any]) -> bool:
    """Insert a row; False when one with its primary key is there already, which is left as it is."""
    return insert_all_new(connection, table, [row]) == 1


def sqlite_folder(url: str) -> Path | None:
    """The folder in which SQLite keeps the file; none for another database. Raises ConfigError."""
    where = _parsed(url)
    return Path(where.database or "").parent if where.get_backend_name() == "sqlite" else None


def _parsed(url: str) -> URL:
    try:
        where = make_url(url)
    except ArgumentError:
        raise ConfigError(f"LEDGER_URL is no URL of a database: {_URLS}") from None
    if where.get_backend_name() not in ("sqlite", "postgresql"):
        raise ConfigError(f"LEDGER_URL names {where.get_backend_name()!r}, which is not used here: {_URLS}")
    if where.get_backend_name() == "sqlite" and (where.database or ":memory:") == ":memory:":
        raise ConfigError(f"LEDGER_URL names no file, the diary would be lost: {_URLS}")
    return where


def _engine(url: str) -> Engine:
    where = _parsed(url)
    try:
        if where.get_backend_name() == "postgresql":
            wait = {} if "connect_timeout" in where.query else {"connect_timeout": 5}
            where = where.set(drivername="postgresql+psycopg")
            return create_engine(where, pool_pre_ping=True, connect_args=wait)
        engine = create_engine(where.set(drivername="sqlite"))
    except (ArgumentError, ImportError) as error:
        raise ConfigError(f"LEDGER_URL names no database that can be used: {error}") from None
    event.listen(engine, "connect", _configure_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _configure_sqlite(connection: Any, _record: object) -> None:
    try:
        connection.isolation_level = None  # transactions begin where `_begin_sqlite` says
        # secure_delete: what was purged is not to be found in the file's free pages.
        settings = (f"busy_timeout={_BUSY_MS}", "journal_mode=WAL", "synchronous=FULL", "secure_delete=ON")
        for pragma in settings:
            connection.execute(f"PRAGMA {pragma}")
    except BaseException:
        connection.close()  # the pool does not know it yet
        raise


def _begin_sqlite(connection: Connection) -> None:
    """A writer takes the lock before it reads: two that read first could not both go on to write."""
    reads = connection.get_execution_options().get(_READS, False)
    connection.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except IntegrityError:
        raise
    except SQLAlchemyError as error:
        # PostgreSQL's further lines quote the values that were to be written.
        reason = str(getattr(error, "orig", None) or error).partition("\n")[0]
        if _is_full(error):
            raise LedgerFull(
                f"the ledger's disk is full, nothing was written: free some ({reason})"
            ) from error
        raise DiaryUnavailable(f"the diary's ledger failed: {reason}") from error


def _is_full(error: SQLAlchemyError) -> bool:
    reason = error.orig if isinstance(error, DBAPIError) else None
    return (
        getattr(reason, "sqlite_errorcode", None) in _SQLITE_FULL
        or getattr(reason, "sqlstate", None) == _POSTGRESQL_FULL
    )
