"""The ledger's database: opens SQLite or PostgreSQL, migrates it, and translates its errors."""

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
_READS = "ada_reads"  # the execution option of a transaction that only reads
# The second is raised when a write-ahead log has no space for its index (measured on a full tmpfs).
_SQLITE_FULL = (13, 4874)  # SQLITE_FULL, SQLITE_IOERR_SHMSIZE
_ATTEMPTS = 20  # at migrating a database that another process opens
_BUSY_MS = 20_000  # for so long a writer waits for another one
_REWRITE_WAIT_MS = 300
_POSTGRESQL_FULL = "53100"


class Database:
    """Transactions on one database. Safe to share between threads."""

    def __init__(self, url: str) -> None:
        """Open the database at a SQLAlchemy URL and bring its tables up to date.

        Raises ConfigError for an invalid URL, DiaryUnavailable when the database can't be reached.
        """
        self._engine = _engine(url)
        # Readers have connections of their own: waiting writers may hold all of theirs.
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
        """Whether the database is PostgreSQL; otherwise it is SQLite."""
        return self._engine.dialect.name == "postgresql"

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()
        self._reading_engine.dispose()

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """A transaction that may write: committed at the end of the block, rolled back by an exception.

        SQLite has one writer at a time; others wait for it. Raises LedgerFull, DiaryUnavailable;
        IntegrityError passes as it is.
        """
        with translated_errors(), self._engine.begin() as connection:
            yield connection

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A transaction that only reads a snapshot, and waits for no writer.

        Raises DiaryUnavailable.
        """
        with translated_errors(), self._readers.begin() as connection:
            yield connection

    def size(self) -> int:
        """The size of SQLite's file in bytes."""
        with translated_errors(), self._readers.connect() as connection:
            pages, size = (
                connection.connection.execute(f"PRAGMA {name}").fetchone()[0]
                for name in ("page_count", "page_size")
            )
        return int(pages) * int(size)

    def rewrite(self) -> bool:
        """Rewrite SQLite's file without anything that was deleted, and empty its log.

        Returns False when another process writes, or still reads a snapshot: then it has to be done again.
        secure_delete alone is not enough: when pages are balanced, cells are copied, and their old bytes stay
        (measured: of 300 purged texts 2 or 3 could be read in the file).
        """
        with translated_errors(), self._engine.connect() as connection:
            raw = connection.connection
            try:
                raw.execute(f"PRAGMA busy_timeout={_REWRITE_WAIT_MS}")
                raw.execute("VACUUM")
                return not raw.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
            except (
                sqlite3.Error
            ) as error:  # locked; or the disk is full: a rewrite needs as much space as the file has
                log.info("the ledger's file could not be rewritten, which is tried again later: %s", error)
                return False
            finally:
                with suppress(sqlite3.Error):
                    raw.execute(f"PRAGMA busy_timeout={_BUSY_MS}")

    def _prepare(self) -> None:
        """Bring the tables up to date, with retries.

        SQLite's change to WAL does not always wait for another process that does the same (measured: one of
        480 openings of a new file by eight processes at once).
        """
        for _ in range(_ATTEMPTS):
            try:
                return self._migrate()
            except DiaryUnavailable as error:
                if "locked" not in str(error):
                    raise
                time.sleep(0.05)
        self._migrate()

    def _migrate(self) -> None:
        with self.reading() as connection:
            if self.is_postgresql and (encoding := connection.scalar(text("SHOW server_encoding"))) != "UTF8":
                raise ConfigError(f"the ledger's database is in {encoding}: make one with ENCODING 'UTF8'")
            is_current = migrations.is_current(connection)
        if not is_current:
            with self.transaction() as connection:
                migrations.upgrade(connection)


def insert_all_new(connection: Connection, table: Table, rows: Sequence[Mapping[str, Any]]) -> int:
    """Insert the rows whose primary keys do not exist. Returns how many were inserted."""
    if not rows:
        return 0
    statements: dict[str, Insert] = {
        "sqlite": sqlite.insert(table).on_conflict_do_nothing(),
        "postgresql": postgresql.insert(table).on_conflict_do_nothing(),
    }
    counted = connection.execution_options(preserve_rowcount=True)
    return counted.execute(statements[connection.dialect.name], rows).rowcount


def insert_new(connection: Connection, table: Table, row: Mapping[str, Any]) -> bool:
    """Insert a row; False when its primary key exists, and then nothing changes."""
    return insert_all_new(connection, table, [row]) == 1


def sqlite_folder(url: str) -> Path | None:
    """The folder of SQLite's file; None for another database. Raises ConfigError."""
    parsed = _parse_url(url)
    return Path(parsed.database or "").parent if parsed.get_backend_name() == "sqlite" else None


def _parse_url(url: str) -> URL:
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise ConfigError(f"LEDGER_URL is no database URL: {_URLS}") from None
    if parsed.get_backend_name() not in ("sqlite", "postgresql"):
        raise ConfigError(f"LEDGER_URL names {parsed.get_backend_name()!r}, which is not supported: {_URLS}")
    if parsed.get_backend_name() == "sqlite" and (parsed.database or ":memory:") == ":memory:":
        raise ConfigError(f"LEDGER_URL names no file, so the diary would be lost: {_URLS}")
    return parsed


def _engine(url: str) -> Engine:
    parsed = _parse_url(url)
    try:
        if parsed.get_backend_name() == "postgresql":
            arguments = {} if "connect_timeout" in parsed.query else {"connect_timeout": 5}
            parsed = parsed.set(drivername="postgresql+psycopg")
            return create_engine(parsed, pool_pre_ping=True, connect_args=arguments)
        engine = create_engine(parsed.set(drivername="sqlite"))
    except (ArgumentError, ImportError) as error:
        raise ConfigError(f"LEDGER_URL names no usable database: {error}") from None
    event.listen(engine, "connect", _configure_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _configure_sqlite(connection: Any, _record: object) -> None:
    try:
        connection.isolation_level = None  # `_begin_sqlite` begins the transactions
        # secure_delete: purged text is not left in free pages of the file.
        settings = (f"busy_timeout={_BUSY_MS}", "journal_mode=WAL", "synchronous=FULL", "secure_delete=ON")
        for pragma in settings:
            connection.execute(f"PRAGMA {pragma}")
    except BaseException:
        connection.close()  # the pool does not have it yet
        raise


def _begin_sqlite(connection: Connection) -> None:
    """Lock before a writer reads: of two writers that read first only one could go on."""
    reads = connection.get_execution_options().get(_READS, False)
    connection.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")


@contextmanager
def translated_errors() -> Iterator[None]:
    """Raise LedgerFull or DiaryUnavailable for SQLAlchemy's errors; IntegrityError passes as it is."""
    try:
        yield
    except IntegrityError:
        raise
    except SQLAlchemyError as error:
        # Further lines of PostgreSQL's messages quote the values of the statement.
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
