"""Imports: many entries from one file, and how far their reading and indexing is."""

import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

from sqlalchemy import Column, Connection, Row, func, select, text, update

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
_AT_ONCE = 500  # names in one question to the database


@dataclass(frozen=True)
class BatchResult:
    """What became of the drafts of one call; `rejections` has the reason by position in the call."""

    accepted: int
    duplicates: int
    rejections: dict[int, str]
    restored: int = 0  # of the accepted, had been removed


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
    """How an import stands. Raises NotFound."""
    query = select(imports).where(imports.c.owner == owner, imports.c.id == import_id)
    found = connection.execute(query).first()
    if found is None:
        raise _not_found(import_id)
    of_it = (entries.c.owner == owner, entries.c.import_id == import_id)
    states = select(entries.c.state, func.count()).where(*of_it).group_by(entries.c.state)
    number = {IndexState(state): count for state, count in connection.execute(states)}
    fields = {name: value for name, value in found._mapping.items() if name != "owner"}
    return ImportReport(**fields, **{state.value: number.get(state, 0) for state in IndexState})


def add(
    connection: Connection,
    owner: str,
    import_id: str,
    drafts: Sequence[EntryDraft],
    local: LocalTime = IN_UTC,
    known: int = 0,
) -> BatchResult:
    """Take the drafts that are new. Those without id get one made from date and text. Raises NotFound.

    The first `known` were taken by a reading that was cut short: of them it is only told which were refused.
    """
    batch = _Batch(connection, owner, import_id, drafts, local)
    for place, draft in enumerate(drafts):
        batch.take(place, draft, place < known)
    added = batch.insert()
    of_it = update(imports).where(imports.c.owner == owner, imports.c.id == import_id)
    more = {
        "accepted": added.accepted,
        "duplicates": added.duplicates,
        "restored": added.restored,
        "rows_read": len(drafts) - known,
    }
    sums = {name: imports.c[name] + number for name, number in more.items()}
    counted = of_it.values(sums).returning(imports.c.accepted)
    total = connection.execute(counted).scalar()
    if total is None:
        raise _not_found(import_id)
    if total == added.accepted and connection.dialect.name == "postgresql":
        # The first rows: of a table that was empty a moment ago the planner knows nothing, and would read
        # all of it for every batch that follows (measured: six times slower after 25,000 rows).
        connection.execute(text("ANALYZE entries"))
    return added


class _Batch:
    """Some drafts of an import beside what the diary has of them already."""

    def __init__(
        self,
        connection: Connection,
        owner: str,
        import_id: str,
        drafts: Sequence[EntryDraft],
        local: LocalTime,
    ) -> None:
        self._connection = connection
        self._fixed = {"owner": owner, "source": Source.IMPORT, "origin": None, "import_id": import_id}
        self._local = local
        self._began = datetime.now(UTC)
        self._new: list[dict[str, Any]] = []
        self._restored, self._duplicates = 0, 0
        self._refused: dict[int, str] = {}
        # Rows are locked, and further below written, in the order of their ids, as everybody does who takes
        # more than one: otherwise two imports would wait for each other.
        ids = sorted({_id(draft) for draft in drafts})
        self._by_id: dict[str, Any] = {row.id: row for row in self._rows(ids, entries.c.id, lock=True)}
        prints = sorted({rows.fingerprint(d.date, d.text) for d in drafts if d.date and not d.id})
        self._by_print: dict[str, list[Any]] = {}
        for there in self._rows(prints, entries.c.fingerprint, lock=False):
            self._by_print.setdefault(rows.fingerprint(there.date, there.text), []).append(there)

    def take(self, place: int, draft: EntryDraft, is_known: bool) -> None:
        """Decide what becomes of one draft; of one that is known, what became of it."""
        # A microsecond apart, so that the entries of one day keep the file's order.
        now = utc_timestamp(self._began + timedelta(microseconds=place))
        first = {
            **revisions.first_version_columns(draft, now, self._local),
            "date_assumed": draft.date is None,
        }
        row = rows.with_checksum({**self._fixed, "id": _id(draft), **first})
        there = self._there(row, draft)
        if any(revisions.has_had_content(self._connection, one, draft) for one in there if not one.removed):
            self._duplicates += not is_known
        elif any(not one.removed for one in there):
            self._refused[place] = ID_EXISTS if draft.id else TEXT_EXISTS
        elif not is_known:
            self._accept(row, there)

    def _there(self, row: dict[str, Any], draft: EntryDraft) -> list[Any]:
        """What the diary has, or will have of this batch, with the same id, or else date and text."""
        if row["id"] in self._by_id:
            return [self._by_id[row["id"]]]
        return self._by_print.get(row["fingerprint"], []) if draft.date and not draft.id else []

    def _accept(self, row: dict[str, Any], tombstones: list[Any]) -> None:
        if tombstones:
            revisions.restore(self._connection, tombstones[0], row)
            self._restored += 1
        else:
            self._new.append(row)
        self._by_id[row["id"]] = SimpleNamespace(**row)
        self._by_print.setdefault(row["fingerprint"], []).append(self._by_id[row["id"]])

    def insert(self) -> BatchResult:
        """Write what is new. What another process has written in this moment counts as a duplicate."""
        self._new.sort(key=lambda row: str(row["id"]))
        written = insert_all_new(self._connection, entries, self._new)
        duplicates = self._duplicates + len(self._new) - written
        return BatchResult(self._restored + written, duplicates, self._refused, self._restored)

    def _rows(self, values: list[str], column: Column[Any], lock: bool) -> Iterator[Row[Any]]:
        mine = entries.c.owner == self._fixed["owner"]
        for start in range(0, len(values), _AT_ONCE):
            some = column.in_(values[start : start + _AT_ONCE])
            query = select(*rows.ENTRY_COLUMNS).where(mine, some).order_by(entries.c.id)
            yield from self._connection.execute(query.with_for_update() if lock else query)


def _id(draft: EntryDraft) -> str:
    """The same row of a file has the same id, however often the file is read."""
    return draft.id or f"row-{rows.fingerprint(draft.date or '', draft.text)[:24]}"


def _not_found(import_id: str) -> NotFound:
    return NotFound(f"there is no import {import_id[:80]!r}", "id")
