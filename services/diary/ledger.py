"""The ledger: every accepted entry on disk, and whether the index has it yet.

An entry's row is also its outbox: what is `queued` and never arrives is found by `unindexed` and queued
again. SQLite in WAL mode with full syncing: when `add` returns, the entry survives a power cut.
"""

import json
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import (
    Column,
    Connection,
    Index,
    Integer,
    MetaData,
    Row,
    String,
    Table,
    Text,
    UniqueConstraint,
    create_engine,
    event,
    insert,
    select,
    update,
)
from sqlalchemy.exc import ArgumentError, IntegrityError, SQLAlchemyError

from services.diary.entry import Entry, EntryDraft, IndexState
from services.errors import ConfigError, DiaryUnavailable, EntryConflict, NotFound

MIN_FREE_BYTES = 200 * 2**20
_metadata = MetaData()
entries = Table(
    "entries",
    _metadata,
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


def check_room(folder: Path) -> None:
    """Raises ConfigError when the disk is so full that an entry could be lost in mid-writing."""
    if folder.is_dir() and shutil.disk_usage(folder).free < MIN_FREE_BYTES:
        raise ConfigError(f"{folder} has less than {MIN_FREE_BYTES >> 20} MiB free: free some disk")


class Ledger:
    """All entries of all owners; every call names the owner. Safe to share between threads."""

    def __init__(self, url: str) -> None:
        """Open the database at a SQLAlchemy URL. Raises ConfigError or DiaryUnavailable."""
        try:
            self._engine = create_engine(url)
        except (ArgumentError, ImportError) as error:
            raise ConfigError(f"LEDGER_URL names no database that can be used: {error}") from None
        if self._engine.dialect.name == "sqlite":
            check_room(Path(self._engine.url.database or ".").parent)
            event.listen(self._engine, "connect", _configure_sqlite)
        self._prepare()

    def _prepare(self, tries: int = 10) -> None:
        """Make the tables. Another process may be making them in this moment, so it is tried again."""
        try:
            with self._transaction() as connection:
                _metadata.create_all(connection)
        except (DiaryUnavailable, IntegrityError):
            if tries == 1:
                self.close()
                raise
            time.sleep(0.05)
            self._prepare(tries - 1)

    def close(self) -> None:
        """Close the database; also at the end of `with Ledger(url) as ledger:`."""
        self._engine.dispose()

    def __enter__(self) -> "Ledger":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def add(self, owner: str, draft: EntryDraft, idempotency_key: str | None = None) -> Entry:
        """Accept an entry; on return it is on disk.

        The same id, or Idempotency-Key, with the same draft returns the entry that is there already;
        with another draft it raises EntryConflict. Raises DiaryUnavailable.
        """
        idempotency_key = idempotency_key or None
        now = _now()
        row = {
            "owner": owner,
            "id": draft.id or secrets.token_hex(8),
            "version": 1,
            "text": draft.text,
            "date": draft.date or now[:10],
            "mood": draft.mood,
            "tags": json.dumps(draft.tags, ensure_ascii=False),
            "written_at": now,
            "draft_sha256": draft.sha256(),
            "idempotency_key": idempotency_key,
            "state": IndexState.QUEUED,
            "queued_at": now,
        }
        try:
            with self._transaction() as connection:
                connection.execute(insert(entries).values(row))
                return self._get(connection, owner, str(row["id"]))
        except IntegrityError:
            return self._replay(owner, draft, idempotency_key)

    def _replay(self, owner: str, draft: EntryDraft, idempotency_key: str | None) -> Entry:
        used = {"id": entries.c.id == draft.id}
        if idempotency_key:
            used = {"Idempotency-Key": entries.c.idempotency_key == idempotency_key, **used}
        for name, condition in used.items():
            with self._transaction() as connection:
                found = connection.execute(select(entries).where(entries.c.owner == owner, condition)).first()
            if found is None:
                continue
            if found.draft_sha256 != draft.sha256():
                raise EntryConflict(f"this {name} was used before for another entry: take a new one", name)
            return _entry(found)
        raise AssertionError("an entry was refused for nothing that is there")

    def get(self, owner: str, entry_id: str) -> Entry:
        """One entry. Raises NotFound."""
        with self._transaction() as connection:
            return self._get(connection, owner, entry_id)

    def _get(self, connection: Connection, owner: str, entry_id: str) -> Entry:
        found = connection.execute(
            select(entries).where(entries.c.owner == owner, entries.c.id == entry_id)
        ).first()
        if found is None:
            raise NotFound(f"there is no diary entry {entry_id!r}", "id")
        return _entry(found)

    def newest(self, owner: str, limit: int) -> list[Entry]:
        """The `limit` entries with the latest dates, newest first."""
        order = (entries.c.date.desc(), entries.c.written_at.desc(), entries.c.id)
        query = select(entries).where(entries.c.owner == owner).order_by(*order).limit(limit)
        with self._transaction() as connection:
            return [_entry(row) for row in connection.execute(query)]

    def unindexed(self, queued_for: timedelta = timedelta()) -> list[Entry]:
        """Entries of all owners that have waited for the index at least so long, oldest first."""
        latest = (datetime.now(UTC) - queued_for).isoformat()
        query = (
            select(entries)
            .where(entries.c.state == IndexState.QUEUED, entries.c.queued_at <= latest)
            .order_by(entries.c.queued_at)
        )
        with self._transaction() as connection:
            return [_entry(row) for row in connection.execute(query)]

    def mark(self, entry: Entry, state: IndexState, reason: str | None = None) -> None:
        """Note how indexing of this version of an entry went."""
        values = {"state": state, "reason": reason, "queued_at": _now()}
        with self._transaction() as connection:
            connection.execute(
                update(entries)
                .where(
                    entries.c.owner == entry.owner,
                    entries.c.id == entry.id,
                    entries.c.version == entry.version,
                )
                .values(values)
            )

    def requeue_indexed(self) -> int:
        """Everything has to be indexed again: the index was lost. Returns how many entries that is."""
        with self._transaction() as connection:
            done = connection.execute(
                update(entries)
                .where(entries.c.state == IndexState.INDEXED)
                .values(state=IndexState.QUEUED, queued_at=_now())
            )
            return done.rowcount

    @contextmanager
    def _transaction(self) -> Iterator[Connection]:
        try:
            with self._engine.begin() as connection:
                yield connection
        except IntegrityError:
            raise
        except SQLAlchemyError as error:
            reason = getattr(error, "orig", None) or error
            raise DiaryUnavailable(f"the diary's ledger failed: {reason}") from error


def _configure_sqlite(connection: Any, _record: object) -> None:
    try:
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "busy_timeout=5000"):
            connection.execute(f"PRAGMA {pragma}")
    except BaseException:
        connection.close()  # the pool does not know it yet
        raise


def _entry(row: Row[Any]) -> Entry:
    return Entry(
        owner=row.owner,
        id=row.id,
        version=row.version,
        text=row.text,
        date=row.date,
        mood=row.mood,
        tags=tuple(json.loads(row.tags)),
        written_at=row.written_at,
        state=IndexState(row.state),
        reason=row.reason,
    )


def _now() -> str:
    return datetime.now(UTC).isoformat()
