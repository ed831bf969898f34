"""The ledger: every accepted entry on disk, and whether the index has it.

An entry's row is also its outbox: an entry that is `queued` and never reached the index is found by `due` and
queued again. SQLite runs in WAL mode with full syncing; with it or with PostgreSQL an entry survives a power
cut once `add` has returned.

Everything an owner may do goes through `Ledger.for_owner(owner)`, so no query can forget whose diary it is.
The methods here go over all owners; they are for the worker.
"""

import shutil
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from sqlalchemy import ColumnElement, Connection, and_, bindparam, delete, func, or_, select, true, update

from services.diary.entry import Entry, IndexState
from services.diary.ledger import erasure, paging, revisions, rows
from services.diary.ledger.damage import Damage, damages
from services.diary.ledger.database import Database, sqlite_folder
from services.diary.ledger.owner_ledger import PURGE_REWRITE_BYTES, OwnerLedger
from services.diary.ledger.tables import entries, idempotency_keys, utc_timestamp
from services.errors import ConfigError, DiaryUnavailable
from services.local_time import IN_UTC, LocalTime

MIN_FREE_BYTES = 200 * 2**20
# A time so far ahead was written before the clock was set back: it means nothing, and nobody waits for it.
CLOCK_WENT_BACK = timedelta(seconds=60)
CLOSING_REWRITE_BYTES = 64 << 20  # of a database that `close` rewrites, in about a second
_BATCH_ENTRIES = 500  # that an iterator holds in memory
_UNREADABLE = (ValueError, KeyError, TypeError)  # raised for a damaged row
_OLDEST_FIRST = (entries.c.queued_at, entries.c.owner, entries.c.id)


@dataclass(frozen=True)
class LedgerOptions:
    """Limits and schedules of a ledger.

    A backoff has the seconds until each next attempt; after the last one, the entry or reflection has failed.
    """

    index_backoff_s: tuple[float, ...] = (1, 5, 30, 120, 600)
    reflection_backoff_s: tuple[float, ...] = (5, 30, 120, 600, 3600)
    key_retention: timedelta = timedelta(days=30)  # a request may be repeated under its Idempotency-Key
    conversation_retention: timedelta = timedelta(days=7)  # a conversation may be continued
    min_free_bytes: int = MIN_FREE_BYTES  # on SQLite's disk when the ledger is opened
    purge_rewrite_bytes: int = PURGE_REWRITE_BYTES  # of a database that a purge rewrites itself


def check_free_space(folder: Path, min_free_bytes: int = MIN_FREE_BYTES) -> None:
    """Raises ConfigError when the disk is so full that an entry could be lost while it is written."""
    if folder.is_dir() and shutil.disk_usage(folder).free < min_free_bytes:
        raise ConfigError(f"{folder} has less than {min_free_bytes >> 20} MiB free: free some disk")


class Ledger:
    """The diaries of all owners. Safe to share between threads; several processes may open the same one."""

    def __init__(self, url: str, options: LedgerOptions | None = None) -> None:
        """Open the database at a SQLAlchemy URL, and bring its tables up to date.

        Raises ConfigError or DiaryUnavailable.
        """
        self.options = options or LedgerOptions()
        self.folder = sqlite_folder(url)  # None for PostgreSQL
        if self.folder:
            check_free_space(self.folder, self.options.min_free_bytes)
        self._database = Database(url)

    def close(self) -> None:
        """Close the database; also at the end of `with Ledger(url) as ledger:`."""
        with suppress(DiaryUnavailable):
            self.finish_erasures(CLOSING_REWRITE_BYTES)
        self._database.close()

    def finish_erasures(self, max_bytes: int | None = None) -> bool:
        """Rewrite the file if something was purged, unless it is larger; whether nothing is left to do.

        Others can read meanwhile, but not write. Raises DiaryUnavailable.
        """
        return self._database.is_postgresql or erasure.finish(self._database, max_bytes)

    def __enter__(self) -> "Ledger":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def for_owner(self, owner: str, local: LocalTime = IN_UTC) -> OwnerLedger:
        """One owner's diary. An entry that is written without a date gets the current day in `local`."""
        return OwnerLedger(self._database, owner, local, self.options.purge_rewrite_bytes)

    def damages(self) -> Iterator[Damage]:
        """Every version of an entry that differs from what was written. Raises DiaryUnavailable."""
        return damages(self._database)

    def transaction(self) -> AbstractContextManager[Connection]:
        """A transaction for the tables that hold no entries; see `Database.transaction`.

        Raises LedgerFull, DiaryUnavailable; IntegrityError passes as it is.
        """
        return self._database.transaction()

    def reading(self) -> AbstractContextManager[Connection]:
        """A transaction that only reads and waits for no writer. Raises DiaryUnavailable."""
        return self._database.reading()

    def current(self, owner: str, entry_id: str) -> Entry:
        """The current version of an entry, removed or not. Raises NotFound."""
        with self._database.reading() as connection:
            return revisions.current(connection, owner, entry_id)

    def due(self, limit: int, queued_for: timedelta = timedelta()) -> list[Entry]:
        """Versions, tombstones too, that were queued at least so long ago and may be tried now.

        Oldest first.
        """
        now = datetime.now(UTC)
        waited = entries.c.queued_at <= utc_timestamp(now - queued_for)
        return self._due(or_(waited, entries.c.queued_at > utc_timestamp(now + CLOCK_WENT_BACK)), limit)

    def due_of_import(self, owner: str, import_id: str, limit: int) -> list[Entry]:
        """The entries of one import that may be tried now, oldest first."""
        return self._due(and_(entries.c.owner == owner, entries.c.import_id == import_id), limit)

    def mark_indexed(self, indexed: Sequence[Entry]) -> None:
        """Record that the index has these versions, or none of a tombstone's entry.

        Versions that are not current any more are ignored.
        """
        if not indexed:
            return
        keys = {"key_owner": entries.c.owner, "key_id": entries.c.id, "key_version": entries.c.version}
        is_key = and_(*(column == bindparam(name) for name, column in keys.items()))
        values = {"state": IndexState.INDEXED, "reason": None, "retry_at": "", "attempts": 0}
        # In order, so that two workers never wait for each other.
        ordered = sorted((entry.owner, entry.id, entry.version) for entry in indexed)
        parameters = [dict(zip(keys, key, strict=True)) for key in ordered]
        with self._database.transaction() as connection:
            connection.execute(update(entries).where(is_key).values(values), parameters)

    def defer(self, entry: Entry, reason: str) -> IndexState:
        """Count a failed attempt at indexing: the next one comes later, or the entry has failed for good.

        Returns the state that the entry has then.
        """
        backoff = self.options.index_backoff_s
        with self._database.transaction() as connection:
            row = revisions.lock_row(connection, entry.owner, entry.id)
            if row.version != entry.version:
                return IndexState(row.state)
            has_failed = row.attempts >= len(backoff)
            state = IndexState.FAILED if has_failed else IndexState.QUEUED
            values = {"state": state, "reason": rows.truncate_reason(reason), "attempts": row.attempts + 1}
            values["retry_at"] = "" if has_failed else rows.backoff_until(backoff[row.attempts])
            connection.execute(update(entries).where(_is_version(entry)).values(values))
            return state

    def mark_failed(self, entry: Entry, reason: str) -> None:
        """Record that indexing this version failed for good; ignored when it is not current any more."""
        values = {"state": IndexState.FAILED, "reason": rows.truncate_reason(reason), "retry_at": ""}
        failed = update(entries).where(_is_version(entry))
        with self._database.transaction() as connection:
            connection.execute(failed.values(**values, attempts=entries.c.attempts + 1))

    def requeue_indexed(self) -> int:
        """Queue everything again, because the index was lost. Returns the number of entries."""
        lost = and_(entries.c.state == IndexState.INDEXED, ~entries.c.removed)
        with self._database.transaction() as connection:
            again = update(entries).where(lost).values(rows.queued_columns(utc_timestamp()))
            return connection.execute(again).rowcount

    def delete_old_keys(self) -> int:
        """Delete the Idempotency-Keys whose retention is over; returns how many."""
        oldest = utc_timestamp(datetime.now(UTC) - self.options.key_retention)
        with self._database.transaction() as connection:
            return connection.execute(
                delete(idempotency_keys).where(idempotency_keys.c.created_at < oldest)
            ).rowcount

    def counts(self) -> dict[str, int]:
        """The number of entries of all owners in each state, tombstones included."""
        query = select(entries.c.state, func.count().label("number")).group_by(entries.c.state)
        with self._database.reading() as connection:
            counts = {row.state: int(row.number) for row in connection.execute(query)}
        return {state: counts.get(state, 0) for state in IndexState}

    def has_other_owners(self, owner: str) -> bool:
        """Whether anybody else has entries here. Raises DiaryUnavailable."""
        query = select(entries.c.owner).where(and_(entries.c.owner != owner, ~entries.c.removed)).limit(1)
        with self._database.reading() as connection:
            return connection.execute(query).first() is not None

    def iter_current(self) -> Iterator[Entry]:
        """The current version of every entry of all owners, tombstones too, a few in memory at a time."""
        order = (entries.c.owner, entries.c.id)
        position: list[str] = []
        while True:
            with self._database.reading() as connection:
                page, position = paging.page_after(connection, true(), order, position, _BATCH_ENTRIES)
            if not page:
                return
            yield from page

    def _due(self, condition: ColumnElement[bool], limit: int) -> list[Entry]:
        now = datetime.now(UTC)
        latest = now + timedelta(seconds=self.options.index_backoff_s[-1]) + CLOCK_WENT_BACK
        may_be_tried = or_(
            entries.c.retry_at <= utc_timestamp(now), entries.c.retry_at > utc_timestamp(latest)
        )
        is_due = and_(entries.c.state == IndexState.QUEUED, may_be_tried, condition)
        with self._database.reading() as connection:
            query = select(*rows.ENTRY_COLUMNS).where(is_due).order_by(*_OLDEST_FIRST).limit(limit)
            with suppress(*_UNREADABLE):
                return [rows.to_entry(row) for row in connection.execute(query)]
        self._fail_unreadable(is_due, limit)
        return []

    def _fail_unreadable(self, is_due: ColumnElement[bool], limit: int) -> None:
        """Mark the due entries whose rows are damaged as failed; otherwise no due entry could be read."""
        query = select(entries.c.owner, entries.c.id).where(is_due).order_by(*_OLDEST_FIRST).limit(limit)
        with self._database.reading() as connection:
            keys = connection.execute(query).all()
        for owner, entry_id in keys:
            try:
                self.current(owner, entry_id)
            except _UNREADABLE as error:
                reason = f"its row in the ledger is damaged ({type(error).__name__})"
                values = {"state": IndexState.FAILED, "reason": reason, "retry_at": ""}
                with self._database.transaction() as connection:
                    connection.execute(
                        update(entries).where(revisions.is_entry(owner, entry_id)).values(values)
                    )


def _is_version(entry: Entry) -> ColumnElement[bool]:
    return and_(revisions.is_entry(entry.owner, entry.id), entries.c.version == entry.version)
