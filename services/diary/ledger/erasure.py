"""Purge: erases every text that an entry ever had, wherever the ledger stores it.

Within the transaction these are erased: the entry's row and its past versions, its conflicts, the hash of the
request that made it, and the conversations that it came from or that quote it, with the reflections on them.
What the database keeps in its files afterwards is recorded in `erasures` until the file has been rewritten.

Conversations that share fewer than eight words in a row with the entry are not found, nor those that share
less than all of a shorter one. Other entries are never changed: purge them to erase them.
"""

import re
from collections.abc import Iterator
from typing import Any

from sqlalchemy import Connection, and_, delete, or_, select, update

from services.diary.entry import Entry
from services.diary.ledger import rows
from services.diary.ledger.database import Database, insert_new
from services.diary.ledger.tables import (
    conflicts,
    conversations,
    entries,
    erasures,
    idempotency_keys,
    reflections,
    utc_timestamp,
    versions,
)
from services.diary.word_ngrams import QUOTATION_WORDS, word_ngrams

ERASED = ""  # in place of a request's hash: any request with that key matches
_QUOTATION_LETTERS = 12  # at least: whoever mentions rain does not quote an entry that says "Rain."
_WORD = re.compile(r"\w+")
_DONE = {"state": "done", "reason": "what it was about was erased", "request": {}, "turns": []}


def purge(connection: Connection, tombstone: Entry) -> Entry:
    """Erase a removed entry; returns its tombstone, which keeps the id, the version and the removal's day."""
    owner, entry_id = tombstone.owner, tombstone.id
    quotations = _Quotations(_all_texts(connection, owner, entry_id))
    connection.execute(delete(versions).where(versions.c.owner == owner, versions.c.id == entry_id))
    is_in_pair = or_(conflicts.c.a_id == entry_id, conflicts.c.b_id == entry_id)
    connection.execute(delete(conflicts).where(conflicts.c.owner == owner, is_in_pair))
    is_key = and_(idempotency_keys.c.owner == owner, idempotency_keys.c.entry_id == entry_id)
    connection.execute(update(idempotency_keys).where(is_key).values(body_sha256=ERASED))
    _erase_conversations(connection, owner, quotations)
    _erase_reflections(connection, owner, entry_id, quotations)
    _erase_origins(connection, owner, quotations)
    insert_new(connection, erasures, {"owner": owner, "id": entry_id, "asked_at": utc_timestamp()})
    return _empty_tombstone(connection, tombstone)


def is_pending(database: Database, owner: str, entry_id: str) -> bool:
    """Whether text of a purged entry may still be in the database's files."""
    query = select(erasures.c.id).where(erasures.c.owner == owner, erasures.c.id == entry_id)
    with database.reading() as connection:
        return connection.execute(query).first() is not None


def finish(database: Database, max_bytes: int | None = None) -> bool:
    """Rewrite the file if something was purged; whether nothing is left to do.

    A file of more than `max_bytes` is left for later. So is one that another process reads or writes now; its
    erasures stay recorded. Raises DiaryUnavailable.
    """
    with database.reading() as connection:
        pending = connection.execute(select(erasures.c.owner, erasures.c.id)).all()
    if not pending:
        return True
    if (max_bytes is not None and database.size() > max_bytes) or not database.rewrite():
        return False
    with database.transaction() as connection:
        for owner, entry_id in pending:
            is_erasure = and_(erasures.c.owner == owner, erasures.c.id == entry_id)
            connection.execute(delete(erasures).where(is_erasure))
    return True


def _empty_tombstone(connection: Connection, tombstone: Entry) -> Entry:
    day = tombstone.written_at[:10]
    dates = {"date": day, "first_day": day, "last_day": day, "moment": day, "reason": None}
    values = {**rows.DELETED, **dates}
    is_entry = and_(entries.c.owner == tombstone.owner, entries.c.id == tombstone.id)
    row = connection.execute(select(*rows.ENTRY_COLUMNS).where(is_entry)).one()
    values["checksum"] = rows.with_checksum({**row._mapping, **values})["checksum"]
    statement = update(entries).where(is_entry).values(values).returning(*rows.ENTRY_COLUMNS)
    return rows.to_entry(connection.execute(statement).one())


def _all_texts(connection: Connection, owner: str, entry_id: str) -> Iterator[tuple[str, list[Any]]]:
    """The text of every version, and the turns that it was written from."""
    query = select(versions.c.text, versions.c.origin)
    for row in connection.execute(query.where(versions.c.owner == owner, versions.c.id == entry_id)):
        yield row.text, (row.origin or {}).get("turns", [])


def _erase_conversations(connection: Connection, owner: str, quotations: "_Quotations") -> None:
    query = select(conversations.c.id, conversations.c.messages).where(conversations.c.owner == owner)
    for row in connection.execute(query).all():
        if quotations.are_in(row.messages):
            is_conversation = and_(conversations.c.owner == owner, conversations.c.id == row.id)
            connection.execute(delete(conversations).where(is_conversation))


def _erase_reflections(connection: Connection, owner: str, entry_id: str, quotations: "_Quotations") -> None:
    """Empty the reflections from which Ada wrote the entry, and those that quote it."""
    query = select(reflections.c.id, reflections.c.entry_id, reflections.c.turns, reflections.c.request)
    for row in connection.execute(query.where(reflections.c.owner == owner)).all():
        if row.entry_id == entry_id or quotations.are_in([row.turns, row.request]):
            is_reflection = and_(reflections.c.owner == owner, reflections.c.id == row.id)
            connection.execute(update(reflections).where(is_reflection).values(**_DONE))


def _erase_origins(connection: Connection, owner: str, quotations: "_Quotations") -> None:
    """Empty the turns that are stored with entries of Ada's own, where they quote the entry."""
    for table in (entries, versions):
        columns = [table.c[column.name] for column in rows.ENTRY_COLUMNS]
        has_origin = and_(table.c.owner == owner, table.c.origin.is_not(None))
        for row in connection.execute(select(*columns).where(has_origin)).all():
            if quotations.are_in(row.origin):
                emptied = rows.with_checksum({**row._mapping, "origin": {**row.origin, "turns": []}})
                values = {name: emptied[name] for name in ("origin", "checksum")}
                is_version = and_(
                    table.c.owner == owner, table.c.id == row.id, table.c.version == row.version
                )
                connection.execute(update(table).where(is_version).values(values))


class _Quotations:
    """The texts of an entry and the turns behind it, to be found where they are quoted."""

    def __init__(self, texts: Iterator[tuple[str, list[Any]]]) -> None:
        self._runs: set[tuple[str, ...]] = set()
        self._turns: set[str] = set()
        for text, turns in texts:
            runs = _quotable_runs(text)
            self._runs.update(run for run in runs if sum(map(len, run)) >= _QUOTATION_LETTERS)
            self._turns.update(_strings(turns))
        self._turns -= {"", "user", "assistant"}
        self._lengths = sorted({len(run) for run in self._runs})

    def are_in(self, messages: Any) -> bool:
        """Whether a JSON value has one of the turns, or a quotation of a text."""
        return any(text in self._turns or self._is_quoted(text) for text in _strings(messages))

    def _is_quoted(self, text: str) -> bool:
        words = _words(text)
        return any(run in self._runs for length in self._lengths for run in word_ngrams(words, length))


def _words(text: str) -> list[str]:
    return [word.casefold() for word in _WORD.findall(text)]


def _quotable_runs(text: str) -> Iterator[tuple[str, ...]]:
    """Every run of QUOTATION_WORDS words; for a shorter text, all its words."""
    words = _words(text)
    return word_ngrams(words, min(len(words), QUOTATION_WORDS)) if words else iter(())


def _strings(value: Any) -> Iterator[str]:
    """Every string in a JSON value, at any depth."""
    stack = [value]
    while stack:
        item = stack.pop()
        if isinstance(item, str):
            yield item
        elif isinstance(item, dict):
            stack += item.values()
        elif isinstance(item, list):
            stack += item
