"""The ledger: every accepted entry on disk, and whether the index has it yet.

An entry's row is also its outbox: what is `queued` and never arrives is found by `due` and queued again.
SQLite in WAL mode with full syncing, or PostgreSQL: when `add` returns, the entry survives a power cut.

Everything an owner may do goes through `Ledger.for_owner(owner)`, so no query can forget whose diary it is.
The methods here go over all owners; they are the worker's.
"""

import shutil
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

from sqlalchemy import ColumnElement, Connection, and_, bindparam, delete, func, or_, select, true, update

from services.diary.entry import Entry, IndexState
from services.diary.ledger import erasure, revisions, rows
from services.diary.ledger import paging as listing
from services.diary.ledger.damage import Damage, damages
from services.diary.ledger.database import Database, sqlite_folder
from services.diary.ledger.imports import BatchResult as BatchResult
from services.diary.ledger.imports import ImportReport as ImportReport
from services.diary.ledger.owner_ledger import OwnerLedger
from services.diary.ledger.paging import EntryFilter as EntryFilter
from services.diary.ledger.paging import Page as Page
from services.diary.ledger.tables import entries, idempotency_keys, utc_timestamp
from services.errors import ConfigError, DiaryUnavailable
from services.local_time import IN_UTC, LocalTime

MIN_FREE_BYTES = 200 * 2**20
BACKOFF_S = (1, 5, 30, 120, 600)  # until the next attempt at indexing; after the last, it has failed
# A moment so far ahead was written before the clock was set back: it says nothing, and nobody waits for it.
CLOCK_WENT_BACK = timedelta(seconds=60)
KEYS_KEPT = timedelta(days=30)  # for so long a request may be sent again under its Idempotency-Key
REWRITTEN_AT_THE_END = 64 << 20  # bytes of a database that whoever closes it rewrites, in about a second
_AT_ONCE = 500  # entries that a stream holds in memory


def check_free_space(folder: Path) -> None:
    """Raises ConfigError when the disk is so full that an entry could be lost in mid-writing."""
    if folder.is_dir() and shutil.disk_usage(folder).free < MIN_FREE_BYTES:
        raise ConfigError(f"{folder} has less than {MIN_FREE_BYTES >> 20} MiB free: free some disk")


class Ledger:
    """The diaries of all owners. Safe to share between threads; several processes may open the same one."""

    def __init__(self, url: str) -> None:
        """Open the database at a SQLAlchemy URL, and bring its tables up to date.

        Raises ConfigError or DiaryUnavailable.
        """
        self.folder = sqlite_folder(url)  # none when it is PostgreSQL
        if self.folder:
            check_free_space(self.folder)
        self._database = Database(url)

    def close(self) -> None:
        """Close the database; also at the end of `with Ledger(url) as ledger:`."""
        with suppress(DiaryUnavailable):
            self.finish_erasures(REWRITTEN_AT_THE_END)
        self._database.close()

    def finish_erasures(self, largest: int | None = None) -> bool:
        """Rewrite the file of which something was purged, unless it is larger; whether nothing is left to do.

        Others can read meanwhile, and not write. Raises DiaryUnavailable.
        """
        return self._database.is_postgresql or erasure.finish(self._database, largest)

    def __enter__(self) -> "Ledger":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def for_owner(self, owner: str, local: LocalTime = IN_UTC) -> OwnerLedger:
        """One owner's diary. An entry that is written without a date gets the day that it is in `local`."""
        return OwnerLedger(self._database, owner, local)

    def damages(self) -> Iterator[Damage]:
        """Every version of an entry that is not as it was written. Raises DiaryUnavailable."""
        return damages(self._database)

    def transaction(self) -> AbstractContextManager[Connection]:
        """A transaction for the tables that are not entries: kept as a whole, or not at all.

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
        """Versions, tombstones too, that have waited for the index at least so long and may be tried now.

        Oldest first.
        """
        now = datetime.now(UTC)
        waited = entries.c.queued_at <= utc_timestamp(now - queued_for)
        return self._due(or_(waited, entries.c.queued_at > utc_timestamp(now + CLOCK_WENT_BACK)), limit)

    def due_of_import(self, owner: str, import_id: str, limit: int) -> list[Entry]:
        """Those of one import that may be tried now, oldest first."""
        return self._due(and_(entries.c.owner == owner, entries.c.import_id == import_id), limit)

    def mark_indexed(self, indexed: Sequence[Entry]) -> None:
        """The index has these versions, or has forgotten them. One that is not current is passed over."""
        if not indexed:
            return
        there = {"its_owner": entries.c.owner, "its_id": entries.c.id, "its_version": entries.c.version}
        these = and_(*(column == bindparam(name) for name, column in there.items()))
        done = {"state": IndexState.INDEXED, "reason": None, "retry_at": "", "attempts": 0}
        # In order, so that two workers never wait for each other.
        ordered = sorted((entry.owner, entry.id, entry.version) for entry in indexed)
        names = [dict(zip(there, one, strict=True)) for one in ordered]
        with self._database.transaction() as connection:
            connection.execute(update(entries).where(these).values(done), names)

    def defer(self, entry: Entry, reason: str) -> IndexState:
        """An attempt at indexing failed: queued for later, or, after five of them, failed for good.

        Returns the state that the entry has then.
        """
        with self._database.transaction() as connection:
            there = revisions.lock_row(connection, entry.owner, entry.id)
            if there.version != entry.version:
                return IndexState(there.state)
            has_failed = there.attempts >= len(BACKOFF_S)
            state = IndexState.FAILED if has_failed else IndexState.QUEUED
            values = {"state": state, "reason": rows.truncate_reason(reason), "attempts": there.attempts + 1}
            values["retry_at"] = "" if has_failed else rows.backoff_until(BACKOFF_S[there.attempts])
            connection.execute(update(entries).where(self._version(entry)).values(values))
            return state

    def mark_failed(self, entry: Entry, reason: str) -> None:
        """Indexing this version failed for good; a version that is not current is passed over."""
        values = {"state": IndexState.FAILED, "reason": rows.truncate_reason(reason), "retry_at": ""}
        failed = update(entries).where(self._version(entry))
        with self._database.transaction() as connection:
            connection.execute(failed.values(**values, attempts=entries.c.attempts + 1))

    def requeue_indexed(self) -> int:
        """Everything has to be indexed again: the index was lost. Returns how many entries that is."""
        lost = and_(entries.c.state == IndexState.INDEXED, ~entries.c.removed)
        with self._database.transaction() as connection:
            again = update(entries).where(lost).values(rows.queued_columns(utc_timestamp()))
            return connection.execute(again).rowcount

    def delete_old_keys(self) -> int:
        """Delete the Idempotency-Keys that are older than KEYS_KEPT; returns how many."""
        old = idempotency_keys.c.created_at < utc_timestamp(datetime.now(UTC) - KEYS_KEPT)
        with self._database.transaction() as connection:
            return connection.execute(delete(idempotency_keys).where(old)).rowcount

    def counts(self) -> dict[str, int]:
        """How many entries of all owners stand in each state, tombstones too."""
        query = select(entries.c.state, func.count().label("number")).group_by(entries.c.state)
        with self._database.reading() as connection:
            found = {row.state: int(row.number) for row in connection.execute(query)}
        return {state: found.get(state, 0) for state in IndexState}

    def has_other_owners(self, owner: str) -> bool:
        """Whether anybody else has entries here. Raises DiaryUnavailable."""
        query = select(entries.c.owner).where(and_(entries.c.owner != owner, ~entries.c.removed)).limit(1)
        with self._database.reading() as connection:
            return connection.execute(query).first() is not None

    def iter_current(self) -> Iterator[Entry]:
        """The current version of every entry of all owners, tombstones too, a few in memory at a time."""
        order = (entries.c.owner, entries.c.id)
        place: list[str] = []
        while True:
            with self._database.reading() as connection:
                found, place = listing.page_after(connection, true(), order, place, _AT_ONCE)
            if not found:
                return
            yield from found

    def _due(self, condition: ColumnElement[bool], limit: int) -> list[Entry]:
        now = datetime.now(UTC)
        latest = now + timedelta(seconds=BACKOFF_S[-1]) + CLOCK_WENT_BACK  # that anything is put off to
        may_be_tried = or_(
            entries.c.retry_at <= utc_timestamp(now), entries.c.retry_at > utc_timestamp(latest)
        )
        waits = and_(entries.c.state == IndexState.QUEUED, may_be_tried, condition)
        order = (entries.c.queued_at, entries.c.owner, entries.c.id)
        with self._database.reading() as connection:
            query = select(*rows.ENTRY_COLUMNS).where(waits).order_by(*order).limit(limit)
            with suppress(ValueError, KeyError, TypeError):
                return [rows.to_entry(row) for row in connection.execute(query)]
        self._fail_unreadable(waits, limit)
        return []

    def _fail_unreadable(self, waits: ColumnElement[bool], limit: int) -> None:
        """Of entries that wait, mark those as failed whose rows are damaged: else nobody's could be read."""
        order = (entries.c.queued_at, entries.c.owner, entries.c.id)
        with self._database.reading() as connection:
            keys = connection.execute(
                select(entries.c.owner, entries.c.id).where(waits).order_by(*order).limit(limit)
            ).all()
        for owner, entry_id in keys:
            try:
                self.current(owner, entry_id)
            except (ValueError, KeyError, TypeError) as error:
                reason = f"its row in the ledger is damaged ({type(error).__name__})"
                failed = {"state": IndexState.FAILED, "reason": reason, "retry_at": ""}
                this = and_(entries.c.owner == owner, entries.c.id == entry_id)
                with self._database.transaction() as connection:
                    connection.execute(update(entries).where(this).values(failed))

    @staticmethod
    def _version(entry: Entry) -> ColumnElement[bool]:
        return and_(revisions.is_entry(entry.owner, entry.id), entries.c.version == entry.version)
