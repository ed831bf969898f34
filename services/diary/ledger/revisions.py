"""How an entry changes within a transaction: made, edited, removed, restored, purged.

Every change writes the next version and puts the one before it into `versions`. Rows are locked before they
are read (FOR UPDATE in PostgreSQL, the one writer in SQLite), so that no change can be lost to another.
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

_AT_ONCE = 500  # entries of a bulk delete that are held in memory


def is_entry(owner: str, entry_id: str) -> ColumnElement[bool]:
    """The condition that picks one entry."""
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
    """Make an entry, or find the one that was made of the same request. Raises EntryConflict."""
    now = utc_timestamp()
    entry_id = draft.id or secrets.token_hex(8)
    if key and not _take_key(connection, owner, key, draft, entry_id, now):
        return _replay(connection, owner, key, draft)
    row = {"owner": owner, "id": entry_id, "source": source, "origin": origin, "import_id": None}
    entry = get_or_create(
        connection, rows.with_checksum({**row, **first_version_columns(draft, now, local)}), draft
    )
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
    """The entry of this row: new, there already and saying the same, or restored after it was removed.

    None when another one has its id.
    """
    if insert_new(connection, entries, row):
        return current(connection, row["owner"], row["id"])
    there = lock_row(connection, row["owner"], row["id"])
    if there.removed:
        return restore(connection, there, row)
    return rows.to_entry(there) if has_had_content(connection, there, draft) else None


def has_had_content(connection: Connection, there: Row[Any], draft: EntryDraft) -> bool:
    """Whether an entry says what a draft says, or did in a version before."""
    if rows.has_same_content(there, draft):
        return True
    past = select(*rows.PAST_ENTRY_COLUMNS).where(versions.c.owner == there.owner, versions.c.id == there.id)
    return any(rows.has_same_content(said, draft) for said in connection.execute(past))


def restore(connection: Connection, there: Row[Any], row: dict[str, Any]) -> Entry:
    """A removed entry comes back as its next version."""
    now = utc_timestamp()  # once more: it may have waited for the row, and versions are in the order of time
    kept = {name: value for name, value in row.items() if name not in ("created_at", "version")}
    return next_version(connection, there, {**kept, "written_at": now, **rows.queued_columns(now)})


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
    there = lock_row(connection, owner, entry_id)
    if there.removed:
        raise not_found(entry_id)
    if if_version not in (None, there.version):
        raise EntryConflict(
            f"the entry has version {there.version} by now, not {if_version}: read it again", "if_version"
        )
    if rows.has_same_content(there, draft):
        return rows.to_entry(there)
    now = utc_timestamp()
    return next_version(
        connection, there, {**rows.entry_columns(draft, now, local, there), **rows.queued_columns(now)}
    )


def remove(connection: Connection, owner: str, entry_id: str, purge: bool) -> Entry:
    """A tombstone as the next version; `purge` erases what the entry ever said. Raises NotFound."""
    there = lock_row(connection, owner, entry_id)
    tombstone = rows.to_entry(there) if there.removed else next_version(connection, there, _tombstone())
    return erasure.purge(connection, tombstone) if purge else tombstone


def remove_all(connection: Connection, owner: str, condition: ColumnElement[bool]) -> int:
    """Tombstones for all of an owner's entries that a condition picks and that are not removed; how many."""
    picked = select(*rows.ENTRY_COLUMNS).where(entries.c.owner == owner, ~entries.c.removed, condition)
    batch = picked.order_by(entries.c.id).limit(_AT_ONCE).with_for_update()
    removed, last = 0, ""
    while there := connection.execute(batch.where(entries.c.id > last)).all():
        _keep_as_past(connection, and_(entries.c.owner == owner, entries.c.id.in_([one.id for one in there])))
        _write_tombstones(connection, there)
        removed, last = removed + len(there), there[-1].id
    return removed


def _write_tombstones(connection: Connection, there: Sequence[Row[Any]]) -> None:
    """In the place of these rows; each has a checksum of its own."""
    values = _tombstone()
    written = [rows.with_checksum({**one._mapping, **values, "version": one.version + 1}) for one in there]
    one = and_(entries.c.owner == bindparam("its_owner"), entries.c.id == bindparam("its_id"))
    same = (
        update(entries)
        .where(one)
        .values(
            {name: bindparam(f"its_{name}") for name in values}
            | {
                "version": bindparam("its_version"),
                "checksum": bindparam("its_checksum"),
            }
        )
    )
    names = {"owner", "id", "version", "checksum", *values}
    connection.execute(same, [{f"its_{name}": row[name] for name in names} for row in written])


def next_version(connection: Connection, there: Row[Any], values: dict[str, Any]) -> Entry:
    """Keep the version that is there as a past one, and write the next. Raises EntryConflict."""
    here = and_(is_entry(there.owner, there.id), entries.c.version == there.version)
    _keep_as_past(connection, here)
    values = {**values, "version": there.version + 1}
    values["checksum"] = rows.with_checksum({**there._mapping, **values})["checksum"]
    written = connection.execute(
        update(entries).where(here).values(values).returning(*rows.ENTRY_COLUMNS)
    ).first()
    if written is None:
        raise EntryConflict("the entry was changed meanwhile: read it again", "if_version")
    return rows.to_entry(written)


def _keep_as_past(connection: Connection, condition: ColumnElement[bool]) -> None:
    names = [column.name for column in rows.VERSION_COLUMNS]
    connection.execute(insert(versions).from_select(names, select(*rows.VERSION_COLUMNS).where(condition)))


def current(connection: Connection, owner: str, entry_id: str) -> Entry:
    """The current version, removed or not. Raises NotFound."""
    found = connection.execute(select(*rows.ENTRY_COLUMNS).where(is_entry(owner, entry_id))).first()
    if found is None:
        raise not_found(entry_id)
    return rows.to_entry(found)


def lock_row(connection: Connection, owner: str, entry_id: str) -> Row[Any]:
    """The current row, which nobody else changes until the transaction ends. Raises NotFound."""
    query = select(*rows.ENTRY_COLUMNS).where(is_entry(owner, entry_id)).with_for_update()
    found = connection.execute(query).first()
    if found is None:
        raise not_found(entry_id)
    return found


def not_found(entry_id: str) -> NotFound:
    """What is raised for an entry that is not there, or not any more."""
    return NotFound(f"there is no diary entry {entry_id[:80]!r}", "id")


def _tombstone() -> dict[str, Any]:
    now = utc_timestamp()
    return {**rows.DELETED, "removed": True, "written_at": now, **rows.queued_columns(now)}


def _take_key(
    connection: Connection, owner: str, key: str, draft: EntryDraft, entry_id: str, now: str
) -> bool:
    row = {"owner": owner, "key": key, "body_sha256": draft.sha256(), "created_at": now}
    return insert_new(connection, idempotency_keys, {**row, "entry_id": entry_id, "version": 1})


def _replay(connection: Connection, owner: str, key: str, draft: EntryDraft) -> Entry:
    """The version that the first request with this key made; the current one if that was purged."""
    keys = idempotency_keys
    used = connection.execute(select(keys).where(keys.c.owner == owner, keys.c.key == key)).one()
    if used.entry_id is None or used.body_sha256 not in (erasure.ERASED, draft.sha256()):
        raise EntryConflict(
            "this Idempotency-Key was used before for another entry: take a new one", "Idempotency-Key"
        )
    entry = current(connection, owner, used.entry_id)
    if entry.version == used.version:
        return entry
    past = select(*rows.PAST_ENTRY_COLUMNS).where(
        versions.c.owner == owner, versions.c.id == used.entry_id, versions.c.version == used.version
    )
    found = connection.execute(past).first()
    return entry if found is None else rows.to_entry(found)
