"""Imports: many entries from one file, and how many of them are read and indexed."""

import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

from sqlalchemy import Column, Connection, Row, and_, func, select, text, update

from services.diary.entry import EntryDraft, IndexState, Source
from services.diary.ledger import revisions, rows
from services.diary.ledger.database import insert_all_new, insert_new
from services.diary.ledger.tables import entries, idempotency_keys, imports, utc_timestamp
from services.errors import EntryConflict, NotFound
from services.local_time import IN_UTC, LocalTime

ID_EXISTS = "the diary has another entry with this id: change the id, or leave it out"
TEXT_EXISTS = (
    "the diary has this text under this date, with another mood or other tags: edit that entry instead"
)
_BATCH_VALUES = 500  # in one query


@dataclass(frozen=True)
class BatchResult:
    """The result of one `add`; `rejections` has the reasons by the drafts' positions."""

    accepted: int
    duplicates: int
    rejections: dict[int, str]
    restored: int = 0  # of the accepted: they had been removed before


@dataclass(frozen=True)
class ImportReport:
    """The state of an import.

    `rejected` has the first of the rejected rows as {line, reason}, `rejected_count` is the number of all of
    them. `restored` entries had been removed before and are accepted again. `undated` rows had no date: they
    got the day of the import. `ignored_fields` names the file's fields that an entry does not have.
    `rows_read` counts the rows that were entries, so that an interrupted import can continue. `ended_at` is
    None while the file is being read.
    """

    id: str
    name: str
    accepted: int
    duplicates: int
    rows_read: int
    restored: int
    rejected: list[dict[str, Any]]
    rejected_count: int
    undated: int
    ignored_fields: list[str]
    indexed: int
    failed: int
    queued: int
    created_at: str
    ended_at: str | None


def begin(connection: Connection, owner: str, name: str) -> str:
    """Record a new import of the file `name`; returns its id."""
    import_id = secrets.token_hex(8)
    row = {"owner": owner, "id": import_id, "name": name, "created_at": utc_timestamp()}
    values = {**row, "accepted": 0, "duplicates": 0, "rejected": [], "ignored_fields": []}
    connection.execute(imports.insert().values(**values))
    return import_id


def begin_once(connection: Connection, owner: str, name: str, key: str, file_sha256: str) -> str:
    """The import that this Idempotency-Key began, or a new one.

    Raises EntryConflict when the key was used for another file or for an entry.
    """
    previous = _keyed_import(connection, owner, key)
    if previous is None:
        import_id = begin(connection, owner, name)
        row = {"owner": owner, "key": key, "body_sha256": file_sha256, "import_id": import_id}
        if insert_new(connection, idempotency_keys, {**row, "created_at": utc_timestamp()}):
            return import_id
    elif previous.import_id is not None and previous.body_sha256 == file_sha256:
        return str(previous.import_id)
    raise EntryConflict(
        "this Idempotency-Key was used before for something else: take a new one", "Idempotency-Key"
    )


def _keyed_import(connection: Connection, owner: str, key: str) -> Any:
    """The row of an Idempotency-Key, or None."""
    keys = idempotency_keys
    query = select(keys.c.body_sha256, keys.c.import_id).where(keys.c.owner == owner, keys.c.key == key)
    return connection.execute(query).first()


def end(
    connection: Connection,
    owner: str,
    import_id: str,
    rejected: list[dict[str, Any]],
    rejected_count: int,
    undated: int,
    ignored_fields: list[str],
) -> None:
    """Record that the file was read to its end, and what of it was not taken. Raises NotFound."""
    ended = update(imports).where(imports.c.owner == owner, imports.c.id == import_id)
    values = {"rejected": rejected, "rejected_count": rejected_count, "undated": undated}
    values |= {"ignored_fields": ignored_fields, "ended_at": utc_timestamp()}
    if not connection.execute(ended.values(**values)).rowcount:
        raise _not_found(import_id)


def report(connection: Connection, owner: str, import_id: str) -> ImportReport:
    """The state of an import. Raises NotFound."""
    query = select(imports).where(imports.c.owner == owner, imports.c.id == import_id)
    row = connection.execute(query).first()
    if row is None:
        raise _not_found(import_id)
    is_of_import = (entries.c.owner == owner, entries.c.import_id == import_id)
    states = select(entries.c.state, func.count()).where(*is_of_import).group_by(entries.c.state)
    counts = {IndexState(state): count for state, count in connection.execute(states)}
    columns = {name: value for name, value in row._mapping.items() if name != "owner"}
    return ImportReport(**columns, **{state.value: counts.get(state, 0) for state in IndexState})


def add(
    connection: Connection,
    owner: str,
    import_id: str,
    drafts: Sequence[EntryDraft],
    local: LocalTime = IN_UTC,
    already_read: int = 0,
) -> BatchResult:
    """Accept the drafts that are new. A draft without an id gets one from its date and text.

    The first `already_read` drafts were accepted before an interruption: they are only checked, and the
    result has the rejections among them. Raises NotFound.
    """
    batch = _Batch(connection, owner, import_id, drafts, local)
    for position, draft in enumerate(drafts):
        batch.add(position, draft, position < already_read)
    result = batch.insert()
    increments = {
        "accepted": result.accepted,
        "duplicates": result.duplicates,
        "restored": result.restored,
        "rows_read": len(drafts) - already_read,
    }
    sums = {name: imports.c[name] + number for name, number in increments.items()}
    is_import = and_(imports.c.owner == owner, imports.c.id == import_id)
    accepted = connection.execute(
        update(imports).where(is_import).values(sums).returning(imports.c.accepted)
    ).scalar()
    if accepted is None:
        raise _not_found(import_id)
    if accepted == result.accepted and connection.dialect.name == "postgresql":
        # The first rows. PostgreSQL's planner knows nothing of a table that was empty a moment ago, and would
        # read all of it for every further batch (measured: six times slower after 25,000 rows).
        connection.execute(text("ANALYZE entries"))
    return result


class _Batch:
    """Some drafts of an import, compared with what the diary has."""

    def __init__(
        self,
        connection: Connection,
        owner: str,
        import_id: str,
        drafts: Sequence[EntryDraft],
        local: LocalTime,
    ) -> None:
        self._connection = connection
        self._constant = {"owner": owner, "source": Source.IMPORT, "origin": None, "import_id": import_id}
        self._local = local
        self._start = datetime.now(UTC)
        self._new: list[dict[str, Any]] = []
        self._restored, self._duplicates = 0, 0
        self._rejections: dict[int, str] = {}
        # Rows are locked here and written below in the order of their ids, as in every other transaction that
        # locks more than one row: otherwise two imports could wait for each other.
        ids = sorted({_id(draft) for draft in drafts})
        self._by_id: dict[str, Any] = {row.id: row for row in self._rows(ids, entries.c.id, lock=True)}
        prints = sorted({rows.fingerprint(d.date, d.text) for d in drafts if d.date and not d.id})
        self._by_fingerprint: dict[str, list[Any]] = {}
        for row in self._rows(prints, entries.c.fingerprint, lock=False):
            self._by_fingerprint.setdefault(rows.fingerprint(row.date, row.text), []).append(row)

    def add(self, position: int, draft: EntryDraft, is_already_read: bool) -> None:
        """Accept a draft, count it as a duplicate, or reject it; one that is already read is only checked."""
        # A microsecond apart, so that the entries of one day keep the file's order.
        now = utc_timestamp(self._start + timedelta(microseconds=position))
        columns = revisions.first_version_columns(draft, now, self._local)
        columns["date_assumed"] = draft.date is None
        row = rows.with_checksum({**self._constant, "id": _id(draft), **columns})
        existing = self._existing(row, draft)
        living = [entry for entry in existing if not entry.removed]
        if any(revisions.has_had_content(self._connection, entry, draft) for entry in living):
            self._duplicates += not is_already_read
        elif living:
            self._rejections[position] = ID_EXISTS if draft.id else TEXT_EXISTS
        elif not is_already_read:
            self._accept(row, existing)

    def _existing(self, row: dict[str, Any], draft: EntryDraft) -> list[Any]:
        """The rows of the diary and of this batch with the same id, or else with the same date and text."""
        if row["id"] in self._by_id:
            return [self._by_id[row["id"]]]
        is_by_content = draft.date and not draft.id
        return self._by_fingerprint.get(row["fingerprint"], []) if is_by_content else []

    def _accept(self, row: dict[str, Any], tombstones: list[Any]) -> None:
        if tombstones:
            revisions.restore(self._connection, tombstones[0], row)
            self._restored += 1
        else:
            self._new.append(row)
        self._by_id[row["id"]] = SimpleNamespace(**row)
        self._by_fingerprint.setdefault(row["fingerprint"], []).append(self._by_id[row["id"]])

    def insert(self) -> BatchResult:
        """Write the new rows. A row that another process has just written counts as a duplicate."""
        self._new.sort(key=lambda row: str(row["id"]))
        inserted = insert_all_new(self._connection, entries, self._new)
        duplicates = self._duplicates + len(self._new) - inserted
        return BatchResult(self._restored + inserted, duplicates, self._rejections, self._restored)

    def _rows(self, values: list[str], column: Column[Any], lock: bool) -> Iterator[Row[Any]]:
        is_owned = entries.c.owner == self._constant["owner"]
        for start in range(0, len(values), _BATCH_VALUES):
            is_in = column.in_(values[start : start + _BATCH_VALUES])
            query = select(*rows.ENTRY_COLUMNS).where(is_owned, is_in).order_by(entries.c.id)
            yield from self._connection.execute(query.with_for_update() if lock else query)


def _id(draft: EntryDraft) -> str:
    """The draft's id, or one of its content: a row has the same id however often its file is read."""
    return draft.id or f"row-{rows.fingerprint(draft.date or '', draft.text)[:24]}"


def _not_found(import_id: str) -> NotFound:
    return NotFound(f"there is no import {import_id[:80]!r}", "id")
