"""One owner's diary: everything that a person or their client may do with it."""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any

from sqlalchemy import ColumnElement, and_, func, select, update

from services.diary.entry import Entry, EntryDraft, IndexState, Source
from services.diary.ledger import erasure, imports, paging, revisions, rows
from services.diary.ledger.database import Database
from services.diary.ledger.imports import BatchResult, ImportReport
from services.diary.ledger.paging import EntryFilter, Page
from services.diary.ledger.tables import entries, utc_timestamp, versions
from services.errors import DiaryUnavailable, EntryConflict
from services.local_time import LocalTime

PURGE_REWRITE_BYTES = 8 << 20  # of a database that a purge rewrites itself; the worker rewrites larger ones
_BATCH_ENTRIES = 500  # that an iterator holds in memory


class OwnerLedger:
    """The entries of one owner, and of nobody else; see `Ledger.for_owner`.

    Safe to share between threads. Every method raises DiaryUnavailable, and those that write raise
    LedgerFull.
    """

    def __init__(
        self,
        database: Database,
        owner: str,
        local: LocalTime,
        purge_rewrite_bytes: int = PURGE_REWRITE_BYTES,
    ) -> None:
        self._database = database
        self._local = local  # gives an entry without a date its day
        self._purge_rewrite_bytes = purge_rewrite_bytes
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

        The same key with the same draft returns the version that the first request made. An id that exists
        with the same content, now or in a past version, returns the entry as it is; the id of a removed entry
        restores it as its next version. Raises EntryConflict for any other use of an existing key or id.
        """
        with self._database.transaction() as connection:
            return revisions.add(
                connection, self.owner, draft, idempotency_key or None, source, origin, self._local
            )

    def get(self, entry_id: str) -> Entry:
        """One entry. Raises NotFound, also for a removed one."""
        with self._database.reading() as connection:
            entry = revisions.current(connection, self.owner, entry_id)
        if entry.removed:
            raise revisions.not_found(entry_id)
        return entry

    def get_many(self, ids: Sequence[str]) -> dict[str, Entry]:
        """The entries with these ids, by id; ids without an entry are left out."""
        result: dict[str, Entry] = {}
        with self._database.reading() as connection:
            for start in range(0, len(ids), _BATCH_ENTRIES):
                has_id = entries.c.id.in_(ids[start : start + _BATCH_ENTRIES])
                query = select(*rows.ENTRY_COLUMNS).where(
                    entries.c.owner == self.owner, has_id, ~entries.c.removed
                )
                result |= {row.id: rows.to_entry(row) for row in connection.execute(query)}
        return result

    def edit(self, entry_id: str, draft: EntryDraft, if_version: int | None = None) -> Entry:
        """Make the draft the entry's next version; returns the current version when nothing changes.

        A draft without a date leaves the date as it is. Raises NotFound; EntryConflict when `if_version` is
        not the current version; EntryRejected when the draft has another id.
        """
        with self._database.transaction() as connection:
            return revisions.edit(connection, self.owner, entry_id, draft, if_version, self._local)

    def remove(self, entry_id: str, purge: bool = False) -> Entry:
        """Remove an entry; returns its tombstone, which is queued so that the index deletes the entry.

        The text stays in the history, unless it is purged. Removing twice changes nothing. Raises NotFound.
        """
        with self._database.transaction() as connection:
            tombstone = revisions.remove(connection, self.owner, entry_id, purge)
        if purge and not self._database.is_postgresql:
            with suppress(DiaryUnavailable):  # the erasure is recorded, and done later
                erasure.finish(self._database, self._purge_rewrite_bytes)
        return tombstone

    def is_erased(self, entry_id: str) -> bool:
        """Whether no text of a purged entry is left in the database's files.

        Always False for PostgreSQL: dead rows stay until VACUUM FULL, and its log is its own.
        """
        return not self._database.is_postgresql and not erasure.is_pending(
            self._database, self.owner, entry_id
        )

    def history(self, entry_id: str) -> list[Entry]:
        """All versions, newest first, with the current one or the tombstone. Raises NotFound."""
        is_version = and_(versions.c.owner == self.owner, versions.c.id == entry_id)
        past = select(*rows.PAST_ENTRY_COLUMNS).where(is_version).order_by(versions.c.version.desc())
        with self._database.reading() as connection:
            current = revisions.current(connection, self.owner, entry_id)
            return [current, *(rows.to_entry(row) for row in connection.execute(past))]

    # --- many entries ------------------------------------------------------------------------------

    def page(self, entry_filter: EntryFilter, limit: int, cursor: str | None = None) -> Page:
        """Up to `limit` entries, newest day first. Entries that are added meanwhile move no page.

        Raises FieldError for an invalid cursor.
        """
        with self._database.reading() as connection:
            return paging.page(connection, self._condition(entry_filter), paging.BY_DAY, limit, cursor)

    def iter_entries(self, entry_filter: EntryFilter) -> Iterator[Entry]:
        """All entries, oldest day first, a few in memory at a time.

        No transaction stays open, so a slow reader blocks nobody. An entry that is added, moved to another
        day or removed meanwhile may be missing or not.
        """
        position: list[str] = []
        condition = self._condition(entry_filter)
        while True:
            with self._database.reading() as connection:
                page, position = paging.page_after(
                    connection, condition, paging.BY_DAY, position, _BATCH_ENTRIES
                )
            if not page:
                return
            yield from page

    def count(self, entry_filter: EntryFilter) -> int:
        """The number of entries."""
        with self._database.reading() as connection:
            query = select(func.count()).select_from(entries).where(self._condition(entry_filter))
            return connection.execute(query).scalar_one()

    def remove_where(self, entry_filter: EntryFilter) -> int:
        """Remove all entries that match, as `remove` does, or none; returns how many."""
        with self._database.transaction() as connection:
            return revisions.remove_all(connection, self.owner, self._condition(entry_filter))

    def tags(self) -> dict[str, int]:
        """All tags with their number of entries, in alphabetical order."""
        query = select(entries.c.tags, func.count()).where(self._condition(EntryFilter()))
        counts: dict[str, int] = {}
        with self._database.reading() as connection:
            for tags, count in connection.execute(query.group_by(entries.c.tags)):
                for tag in rows.parse_tags(tags):
                    counts[tag] = counts.get(tag, 0) + count
        return dict(sorted(counts.items()))

    # --- indexing ----------------------------------------------------------------------------------

    def with_state(self, state: IndexState, limit: int, cursor: str | None = None) -> Page:
        """Up to `limit` entries in this state, tombstones too; those that were queued last come first."""
        condition = and_(entries.c.owner == self.owner, entries.c.state == state)
        with self._database.reading() as connection:
            return paging.page(connection, condition, paging.BY_QUEUE, limit, cursor)

    def retry(self, entry_id: str, version: int) -> Entry:
        """Queue a failed version again; in any other state it is returned as it is.

        Raises NotFound; EntryConflict when the entry has another version by now.
        """
        with self._database.transaction() as connection:
            row = revisions.lock_row(connection, self.owner, entry_id)
            if row.version != version:
                raise EntryConflict(f"the entry has version {row.version} by now", "id")
            if row.state == IndexState.FAILED:
                again = update(entries).where(revisions.is_entry(self.owner, entry_id))
                connection.execute(again.values(rows.queued_columns(utc_timestamp())))
            return revisions.current(connection, self.owner, entry_id)

    # --- imports -----------------------------------------------------------------------------------

    def begin_import(self, name: str, key: str | None = None, file_sha256: str = "") -> str:
        """The id of a new import of the file `name`.

        With an Idempotency-Key, the same key and file return the import that they began. Raises EntryConflict
        when the key was used for something else.
        """
        with self._database.transaction() as connection:
            if key:
                return imports.begin_once(connection, self.owner, name, key, file_sha256)
            return imports.begin(connection, self.owner, name)

    def add_rows(self, import_id: str, drafts: Sequence[EntryDraft], already_read: int = 0) -> BatchResult:
        """Accept the drafts that are new, all in one transaction. Raises NotFound.

        The first `already_read` were accepted by an import of the same file that was interrupted. A draft
        that the diary has already adds nothing; it is found by its id, or without one by date and text.
        """
        with self._database.transaction() as connection:
            return imports.add(connection, self.owner, import_id, drafts, self._local, already_read)

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

    def _condition(self, entry_filter: EntryFilter) -> ColumnElement[bool]:
        return entry_filter.condition(self.owner, self._database.is_postgresql)
