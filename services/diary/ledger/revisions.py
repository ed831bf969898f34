"""Changes of an entry within a transaction: add, edit, remove, restore, purge.

Every change writes the next version and copies the one before it into `versions`. Rows are locked before they
are read (FOR UPDATE in PostgreSQL, the single writer in SQLite), so that no change is lost.
"""

import secrets
from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, and_, bindparam, insert, select, update

from services.diary.entry import Entry, EntryDraft, Source
from services.diary.ledger import erasure, rows
from services.diary.ledger.database import insert_new
from services.diary.ledger.tables import entries, idempotency_keys, utc_timestamp, versions
from services.errors import EntryConflict, EntryRejected, NotFound
from services.local_time import LocalTime

_BATCH_ENTRIES = 500  # that a bulk removal holds in memory


def is_entry(owner: str, entry_id: str) -> ColumnElement[bool]:
    """The SQL condition that selects one entry."""
    return and_(entries.c.owner == owner, entries.c.id == entry_id)


def add(
    connection: Connection,
    owner: str,
    draft: EntryDraft,
    key: str | None,
    source: Source,
    origin: dict[str, Any] | None,
    local: LocalTime,
) -> Entry:
    """Add an entry, or return the one that an equal request added. Raises EntryConflict."""
    now = utc_timestamp()
    entry_id = draft.id or secrets.token_hex(8)
    if key and not _insert_key(connection, owner, key, draft, entry_id, now):
        return _replay(connection, owner, key, draft)
    row = {"owner": owner, "id": entry_id, "source": source, "origin": origin, "import_id": None}
    columns = first_version_columns(draft, now, local)
    entry = get_or_create(connection, rows.with_checksum({**row, **columns}), draft)
    if entry is None:
        raise EntryConflict("this id was used before for another entry: take a new one", "id")
    if key and entry.version > 1:
        connection.execute(
            update(idempotency_keys)
            .where(idempotency_keys.c.owner == owner, idempotency_keys.c.key == key)
            .values(version=entry.version)
        )
    return entry


def first_version_columns(draft: EntryDraft, now: str, local: LocalTime) -> dict[str, Any]:
    """The columns of a first version."""
    return {
        "version": 1,
        "created_at": now,
        **rows.entry_columns(draft, now, local),
        **rows.queued_columns(now),
    }


def get_or_create(connection: Connection, row: dict[str, Any], draft: EntryDraft) -> Entry | None:
    """The entry of this row: a new one, an existing one with the same content, or a removed one restored.

    None when another entry has its id.
    """
    if insert_new(connection, entries, row):
        return current(connection, row["owner"], row["id"])
    existing = lock_row(connection, row["owner"], row["id"])
    if existing.removed:
        return restore(connection, existing, row)
    return rows.to_entry(existing) if has_had_content(connection, existing, draft) else None


def has_had_content(connection: Connection, row: Row[Any], draft: EntryDraft) -> bool:
    """Whether an entry has the content of a draft, now or in a past version."""
    if rows.has_same_content(row, draft):
        return True
    is_version = and_(versions.c.owner == row.owner, versions.c.id == row.id)
    past = connection.execute(select(*rows.PAST_ENTRY_COLUMNS).where(is_version))
    return any(rows.has_same_content(version, draft) for version in past)


def restore(connection: Connection, tombstone: Row[Any], row: dict[str, Any]) -> Entry:
    """Restore a removed entry with the columns of `row`, as its next version."""
    # A new timestamp: it may have waited for the row, and versions are in the order of time.
    now = utc_timestamp()
    columns = {name: value for name, value in row.items() if name not in ("created_at", "version")}
    return next_version(connection, tombstone, {**columns, "written_at": now, **rows.queued_columns(now)})


def edit(
    connection: Connection,
    owner: str,
    entry_id: str,
    draft: EntryDraft,
    if_version: int | None,
    local: LocalTime,
) -> Entry:
    """The next version of an entry. Raises NotFound, EntryRejected, EntryConflict."""
    if draft.id not in (None, entry_id):
        raise EntryRejected(f"the entry's id is {entry_id!r} and stays so: leave `id` out", "id")
    row = lock_row(connection, owner, entry_id)
    if row.removed:
        raise not_found(entry_id)
    if if_version not in (None, row.version):
        raise EntryConflict(
            f"the entry has version {row.version} by now, not {if_version}: read it again", "if_version"
        )
    if rows.has_same_content(row, draft):
        return rows.to_entry(row)
    now = utc_timestamp()
    columns = {**rows.entry_columns(draft, now, local, row), **rows.queued_columns(now)}
    return next_version(connection, row, columns)


def remove(connection: Connection, owner: str, entry_id: str, purge: bool) -> Entry:
    """Write a tombstone as the next version; `purge` erases every version's text. Raises NotFound."""
    row = lock_row(connection, owner, entry_id)
    tombstone = rows.to_entry(row) if row.removed else next_version(connection, row, _tombstone_columns())
    return erasure.purge(connection, tombstone) if purge else tombstone


def remove_all(connection: Connection, owner: str, condition: ColumnElement[bool]) -> int:
    """Write tombstones for all of an owner's entries that a condition selects; returns how many."""
    living = select(*rows.ENTRY_COLUMNS).where(entries.c.owner == owner, ~entries.c.removed, condition)
    query = living.order_by(entries.c.id).limit(_BATCH_ENTRIES).with_for_update()
    removed, last_id = 0, ""
    while batch := connection.execute(query.where(entries.c.id > last_id)).all():
        ids = [row.id for row in batch]
        _copy_to_versions(connection, and_(entries.c.owner == owner, entries.c.id.in_(ids)))
        _write_tombstones(connection, batch)
        removed, last_id = removed + len(batch), batch[-1].id
    return removed


def _write_tombstones(connection: Connection, batch: Sequence[Row[Any]]) -> None:
    """Replace these rows by tombstones; each has a checksum of its own."""
    columns = _tombstone_columns()
    tombstones = [
        rows.with_checksum({**row._mapping, **columns, "version": row.version + 1}) for row in batch
    ]
    changed = {"version", "checksum", *columns}
    is_row = and_(entries.c.owner == bindparam("new_owner"), entries.c.id == bindparam("new_id"))
    statement = update(entries).where(is_row).values({name: bindparam(f"new_{name}") for name in changed})
    parameters = [{f"new_{name}": row[name] for name in {"owner", "id", *changed}} for row in tombstones]
    connection.execute(statement, parameters)


def next_version(connection: Connection, row: Row[Any], columns: dict[str, Any]) -> Entry:
    """Copy the current version into `versions`, and write the next. Raises EntryConflict."""
    is_current = and_(is_entry(row.owner, row.id), entries.c.version == row.version)
    _copy_to_versions(connection, is_current)
    columns = {**columns, "version": row.version + 1}
    columns["checksum"] = rows.with_checksum({**row._mapping, **columns})["checksum"]
    statement = update(entries).where(is_current).values(columns).returning(*rows.ENTRY_COLUMNS)
    written = connection.execute(statement).first()
    if written is None:
        raise EntryConflict("the entry was changed meanwhile: read it again", "if_version")
    return rows.to_entry(written)


def _copy_to_versions(connection: Connection, condition: ColumnElement[bool]) -> None:
    names = [column.name for column in rows.VERSION_COLUMNS]
    current_rows = select(*rows.VERSION_COLUMNS).where(condition)
    connection.execute(insert(versions).from_select(names, current_rows))


def current(connection: Connection, owner: str, entry_id: str) -> Entry:
    """The current version, removed or not. Raises NotFound."""
    row = connection.execute(select(*rows.ENTRY_COLUMNS).where(is_entry(owner, entry_id))).first()
    if row is None:
        raise not_found(entry_id)
    return rows.to_entry(row)


def lock_row(connection: Connection, owner: str, entry_id: str) -> Row[Any]:
    """The current row, which nobody else changes until the transaction ends. Raises NotFound."""
    query = select(*rows.ENTRY_COLUMNS).where(is_entry(owner, entry_id)).with_for_update()
    row = connection.execute(query).first()
    if row is None:
        raise not_found(entry_id)
    return row


def not_found(entry_id: str) -> NotFound:
    """The error for an entry that does not exist or was removed."""
    return NotFound(f"there is no diary entry {entry_id[:80]!r}", "id")


def _tombstone_columns() -> dict[str, Any]:
    now = utc_timestamp()
    return {**rows.DELETED, "removed": True, "written_at": now, **rows.queued_columns(now)}


def _insert_key(
    connection: Connection, owner: str, key: str, draft: EntryDraft, entry_id: str, now: str
) -> bool:
    """Record an Idempotency-Key; False when it exists."""
    row = {"owner": owner, "key": key, "body_sha256": draft.sha256(), "created_at": now}
    return insert_new(connection, idempotency_keys, {**row, "entry_id": entry_id, "version": 1})


def _replay(connection: Connection, owner: str, key: str, draft: EntryDraft) -> Entry:
    """The version that the first request with this key made; the current one if that was purged."""
    keys = idempotency_keys
    request = connection.execute(select(keys).where(keys.c.owner == owner, keys.c.key == key)).one()
    if request.entry_id is None or request.body_sha256 not in (erasure.ERASED, draft.sha256()):
        raise EntryConflict(
            "this Idempotency-Key was used before for another entry: take a new one", "Idempotency-Key"
        )
    entry = current(connection, owner, request.entry_id)
    if entry.version == request.version:
        return entry
    past = select(*rows.PAST_ENTRY_COLUMNS).where(
        versions.c.owner == owner, versions.c.id == request.entry_id, versions.c.version == request.version
    )
    row = connection.execute(past).first()
    return entry if row is None else rows.to_entry(row)
