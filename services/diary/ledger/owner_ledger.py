"""One owner's diary: all that a person or their client may do with it."""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any

from sqlalchemy import and_, func, select, update

from services.diary.entry import Entry, EntryDraft, IndexState, Source
from services.diary.ledger import erasure, imports, revisions, rows
from services.diary.ledger import paging as listing
from services.diary.ledger.database import Database
from services.diary.ledger.imports import BatchResult, ImportReport
from services.diary.ledger.paging import EntryFilter, Page
from services.diary.ledger.tables import entries, utc_timestamp, versions
from services.errors import DiaryUnavailable, EntryConflict
from services.local_time import LocalTime

_AT_ONCE = 500  # entries that a stream holds in memory
REWRITTEN_AT_ONCE = 8 << 20  # bytes of a database that a purge rewrites itself; others the worker does


class OwnerLedger:
    """The entries of one owner, and of nobody else. Made by `Ledger.of`; safe to share between threads.

    Every method raises DiaryUnavailable, and those that write raise LedgerFull.
    """

    def __init__(self, database: Database, owner: str, local: LocalTime) -> None:
        self._database = database
        self._local = local  # whose day an entry without a date gets
        self.owner = owner

    # --- one entry ---------------------------------------------------------------------------------

    def add(
        self,
        draft: EntryDraft,
        idempotency_key: str | None = None,
        *,
        source: Source = Source.WRITTEN,
        origin: dict[str, Any] | None = None,
    ) -> Entry:
        """Accept an entry; on return it is on disk.

        The same key with the same draft returns the version that was made then. The same id with what the
        entry says, or said once, returns the entry as it is; the id of a removed one brings it back as its
        next version. Anything else under a key or an id that is taken raises EntryConflict.
        """
        with self._database.transaction() as connection:
            return revisions.add(
                connection, self.owner, draft, idempotency_key or None, source, origin, self._local
            )

    def get(self, entry_id: str) -> Entry:
        """One entry. Raises NotFound, for a removed one too."""
        with self._database.reading() as connection:
            found = revisions.current(connection, self.owner, entry_id)
        if found.removed:
            raise revisions.not_found(entry_id)
        return found

    def get_many(self, ids: Sequence[str]) -> dict[str, Entry]:
        """Those of these entries that are there, by id."""
        found: dict[str, Entry] = {}
        with self._database.reading() as connection:
            for start in range(0, len(ids), _AT_ONCE):
                some = entries.c.id.in_(ids[start : start + _AT_ONCE])
                query = select(*rows.ENTRY_COLUMNS).where(
                    entries.c.owner == self.owner, some, ~entries.c.removed
                )
                found |= {row.id: rows.to_entry(row) for row in connection.execute(query)}
        return found

    def edit(self, entry_id: str, draft: EntryDraft, if_version: int | None = None) -> Entry:
        """The entry as the draft has it, as its next version; the same version when nothing is changed.

        A draft without a date leaves the date as it is. Raises NotFound; EntryConflict when `if_version` is
        not the version that is there; EntryRejected when the draft has another id.
        """
        with self._database.transaction() as connection:
            return revisions.edit(connection, self.owner, entry_id, draft, if_version, self._local)

    def remove(self, entry_id: str, purge: bool = False) -> Entry:
        """Remove an entry; returns its tombstone, which waits for the index to forget it.

        What it said stays in its history, unless it is purged. Twice is as once. Raises NotFound.
        """
        with self._database.transaction() as connection:
            tombstone = revisions.remove(connection, self.owner, entry_id, purge)
        if purge and not self._database.is_postgresql:
            with suppress(DiaryUnavailable):  # then it is noted, and done later
                erasure.finish(self._database, largest=REWRITTEN_AT_ONCE)
        return tombstone

    def is_erased(self, entry_id: str) -> bool:
        """Whether nothing that a purged entry said is left in the database's files.

        PostgreSQL never says so: dead rows stay until VACUUM FULL, and its log is its own.
        """
        return not self._database.is_postgresql and not erasure.is_pending(
            self._database, self.owner, entry_id
        )

    def history(self, entry_id: str) -> list[Entry]:
        """All versions, newest first, the current one or the tombstone included. Raises NotFound."""
        of_it = and_(versions.c.owner == self.owner, versions.c.id == entry_id)
        past = select(*rows.PAST_ENTRY_COLUMNS).where(of_it).order_by(versions.c.version.desc())
        with self._database.reading() as connection:
            now = revisions.current(connection, self.owner, entry_id)
            return [now, *(rows.to_entry(row) for row in connection.execute(past))]

    # --- many entries ------------------------------------------------------------------------------

    def page(self, picked: EntryFilter, limit: int, cursor: str | None = None) -> Page:
        """Up to `limit` entries, newest day first. What is added meanwhile moves no page.

        Raises FieldError for a cursor that is none.
        """
        with self._database.reading() as connection:
            return listing.page(connection, self._condition(picked), listing.BY_DAY, limit, cursor)

    def iter_entries(self, picked: EntryFilter) -> Iterator[Entry]:
        """All entries, oldest day first, a few in memory at a time.

        No transaction stays open, so a slow reader stops nobody. An entry that is added, moved to another
        day or removed meanwhile is in it or not.
        """
        place: list[str] = []
        while True:
            with self._database.reading() as connection:
                condition = self._condition(picked)
                found, place = listing.page_after(connection, condition, listing.BY_DAY, place, _AT_ONCE)
            if not found:
                return
            yield from found

    def count(self, picked: EntryFilter) -> int:
        """How many entries there are."""
        with self._database.reading() as connection:
            query = select(func.count()).select_from(entries).where(self._condition(picked))
            return connection.execute(query).scalar_one()

    def remove_where(self, picked: EntryFilter) -> int:
        """Remove all that the filter picks, as `remove` does, or nothing; returns how many."""
        with self._database.transaction() as connection:
            return revisions.remove_all(connection, self.owner, self._condition(picked))

    def tags(self) -> dict[str, int]:
        """All tags with the number of entries that carry them, in alphabetical order."""
        query = select(entries.c.tags, func.count()).where(self._condition(EntryFilter()))
        numbers: dict[str, int] = {}
        with self._database.reading() as connection:
            for tags, number in connection.execute(query.group_by(entries.c.tags)):
                for tag in rows.parse_tags(tags):
                    numbers[tag] = numbers.get(tag, 0) + number
        return dict(sorted(numbers.items()))

    # --- the way into the index --------------------------------------------------------------------

    def with_state(self, state: IndexState, limit: int, cursor: str | None = None) -> Page:
        """Up to `limit` entries, tombstones too, that stand so; those that were queued last come first."""
        condition = and_(entries.c.owner == self.owner, entries.c.state == state)
        with self._database.reading() as connection:
            return listing.page(connection, condition, listing.BY_QUEUE, limit, cursor)

    def retry(self, entry_id: str, version: int) -> Entry:
        """Queue a version again that failed; in any other state it is returned as it is.

        Raises NotFound; EntryConflict when the entry has another version by now.
        """
        with self._database.transaction() as connection:
            there = revisions.lock_row(connection, self.owner, entry_id)
            if there.version != version:
                raise EntryConflict(f"the entry has version {there.version} by now", "id")
            if there.state == IndexState.FAILED:
                again = update(entries).where(revisions.is_entry(self.owner, entry_id))
                connection.execute(again.values(rows.queued_columns(utc_timestamp())))
            return revisions.current(connection, self.owner, entry_id)

    # --- imports -----------------------------------------------------------------------------------

    def begin_import(self, name: str, key: str | None = None, file_sha256: str = "") -> str:
        """The id of a new import of the file `name`.

        With an Idempotency-Key, the same key and file give the import that they began. Raises EntryConflict
        when the key was used for something else.
        """
        with self._database.transaction() as connection:
            if key:
                return imports.begin_once(connection, self.owner, name, key, file_sha256)
            return imports.begin(connection, self.owner, name)

    def add_rows(self, import_id: str, drafts: Sequence[EntryDraft], known: int = 0) -> BatchResult:
        """Take the drafts that are new, all in one transaction. Raises NotFound.

        The first `known` were taken by a reading that was cut short.

        A draft that the diary has already adds nothing: by its id, or without one by date and text.
        """
        with self._database.transaction() as connection:
            return imports.add(connection, self.owner, import_id, drafts, self._local, known)

    def end_import(
        self,
        import_id: str,
        rejected: list[dict[str, Any]],
        rejected_count: int | None = None,
        undated: int = 0,
        ignored_fields: Sequence[str] = (),
    ) -> None:
        """Record that the file was read to its end; see ImportReport for the arguments. Raises NotFound."""
        count = len(rejected) if rejected_count is None else rejected_count
        with self._database.transaction() as connection:
            imports.end(connection, self.owner, import_id, rejected, count, undated, list(ignored_fields))

    def import_report(self, import_id: str) -> ImportReport:
        """The state of an import. Raises NotFound."""
        with self._database.reading() as connection:
            return imports.report(connection, self.owner, import_id)

    def _condition(self, picked: EntryFilter) -> Any:
        return picked.condition(self.owner, self._database.is_postgresql)
