"""What a purge erases: all that an entry ever said, wherever the ledger has it.

Within the transaction: the entry's row and its past versions, its conflicts, the hash of the request that
made it, and the conversations that it came from or that repeat it, with what was to be written of them. What
a database keeps in its files afterwards is noted in `erasures` until the file has been rewritten.

Not found are conversations that share fewer than eight words in a row with the entry, or with a shorter one
less than all of it. Other entries are never touched: whoever wants those gone purges them.
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

ERASED = ""  # in the place of a request's hash: any request with that key is the one
_RUN = 8  # words in a row that make a quotation, as in services/diary/reflection/repetition.py
_LEAST = 12  # letters of a quotation: an entry that says "Rain." is not quoted by whoever says rain
_WORD = re.compile(r"\w+")
_DONE = {"state": "done", "reason": "what it was about was erased", "request": {}, "turns": []}


def purge(connection: Connection, tombstone: Entry) -> Entry:
    """Erase an entry that was removed; returns its tombstone, of which only id, version and the day of the
    removal are left."""
    owner, entry_id = tombstone.owner, tombstone.id
    said = _Said(_all_it_said(connection, owner, entry_id))
    connection.execute(delete(versions).where(versions.c.owner == owner, versions.c.id == entry_id))
    named = or_(conflicts.c.a_id == entry_id, conflicts.c.b_id == entry_id)
    connection.execute(delete(conflicts).where(conflicts.c.owner == owner, named))
    of_it = and_(idempotency_keys.c.owner == owner, idempotency_keys.c.entry_id == entry_id)
    connection.execute(update(idempotency_keys).where(of_it).values(body_sha256=ERASED))
    _erase_conversations(connection, owner, entry_id, said)
    _erase_origins(connection, owner, said)
    insert_new(connection, erasures, {"owner": owner, "id": entry_id, "asked_at": utc_timestamp()})
    return _emptied(connection, tombstone)


def is_pending(database: Database, owner: str, entry_id: str) -> bool:
    """Whether what an entry said may still be in the database's files."""
    query = select(erasures.c.id).where(erasures.c.owner == owner, erasures.c.id == entry_id)
    with database.reading() as connection:
        return connection.execute(query).first() is not None


def finish(database: Database, largest: int | None = None) -> bool:
    """Rewrite the files of which something was purged; whether nothing is left to do.

    A file of more than `largest` bytes is left for later. So is one that somebody reads or writes now: it
    stays noted. Raises DiaryUnavailable.
    """
    with database.reading() as connection:
        noted = connection.execute(select(erasures.c.owner, erasures.c.id)).all()
    if not noted:
        return True
    if (largest is not None and database.size() > largest) or not database.rewrite():
        return False
    with database.transaction() as connection:
        for owner, entry_id in noted:
            these = and_(erasures.c.owner == owner, erasures.c.id == entry_id)
            connection.execute(delete(erasures).where(these))
    return True


def _emptied(connection: Connection, tombstone: Entry) -> Entry:
    day = tombstone.written_at[:10]
    nothing = {"date": day, "first_day": day, "last_day": day, "moment": day, "reason": None}
    values = {**rows.DELETED, **nothing}
    one = and_(entries.c.owner == tombstone.owner, entries.c.id == tombstone.id)
    there = connection.execute(select(*rows.ENTRY_COLUMNS).where(one)).one()
    values["checksum"] = rows.with_checksum({**there._mapping, **values})["checksum"]
    return rows.to_entry(
        connection.execute(update(entries).where(one).values(values).returning(*rows.ENTRY_COLUMNS)).one()
    )


def _all_it_said(connection: Connection, owner: str, entry_id: str) -> Iterator[tuple[str, list[Any]]]:
    """The text of every version, and the turns that it came from."""
    past = select(versions.c.text, versions.c.origin)
    for row in connection.execute(past.where(versions.c.owner == owner, versions.c.id == entry_id)):
        yield row.text, (row.origin or {}).get("turns", [])


def _erase_conversations(connection: Connection, owner: str, entry_id: str, said: "_Said") -> None:
    """Those from which Ada wrote the entry, and those that repeat it."""
    kept = select(conversations.c.id, conversations.c.messages).where(conversations.c.owner == owner)
    for row in connection.execute(kept).all():
        if said.is_in(row.messages):
            these = and_(conversations.c.owner == owner, conversations.c.id == row.id)
            connection.execute(delete(conversations).where(these))
    written = select(reflections.c.id, reflections.c.entry_id, reflections.c.turns, reflections.c.request)
    for one in connection.execute(written.where(reflections.c.owner == owner)).all():
        if one.entry_id == entry_id or said.is_in([one.turns, one.request]):
            of_it = and_(reflections.c.owner == owner, reflections.c.id == one.id)
            connection.execute(update(reflections).where(of_it).values(**_DONE))


def _erase_origins(connection: Connection, owner: str, said: "_Said") -> None:
    """Turns that repeat the entry, kept beside entries that Ada wrote."""
    for table in (entries, versions):
        columns = [table.c[column.name] for column in rows.ENTRY_COLUMNS]
        told = and_(table.c.owner == owner, table.c.origin.is_not(None))
        for row in connection.execute(select(*columns).where(told)).all():
            if said.is_in(row.origin):
                bare = rows.with_checksum({**row._mapping, "origin": {**row.origin, "turns": []}})
                values = {name: bare[name] for name in ("origin", "checksum")}
                one = and_(table.c.owner == owner, table.c.id == row.id, table.c.version == row.version)
                connection.execute(update(table).where(one).values(values))


class _Said:
    """What an entry said, to be found again where it is repeated."""

    def __init__(self, said: Iterator[tuple[str, list[Any]]]) -> None:
        self._runs: set[tuple[str, ...]] = set()
        self._turns: set[str] = set()
        for text, turns in said:
            self._runs.update(run for run in _runs(text, _RUN) if sum(map(len, run)) >= _LEAST)
            self._turns.update(_texts(turns))
        self._turns -= {"", "user", "assistant"}
        self._lengths = sorted({len(run) for run in self._runs})

    def is_in(self, kept: Any) -> bool:
        """Whether a conversation has one of the turns, or a quotation of the text."""
        return any(text in self._turns or self._is_quoted(text) for text in _texts(kept))

    def _is_quoted(self, text: str) -> bool:
        words = _words(text)
        return any(
            tuple(words[start : start + length]) in self._runs
            for length in self._lengths
            for start in range(len(words) - length + 1)
        )


def _words(text: str) -> list[str]:
    return [word.casefold() for word in _WORD.findall(text)]


def _runs(text: str, length: int) -> Iterator[tuple[str, ...]]:
    """Every run of so many words; of a shorter text all of it."""
    words = _words(text)
    if 0 < len(words) < length:
        yield tuple(words)
    for start in range(len(words) - length + 1):
        yield tuple(words[start : start + length])


def _texts(kept: Any) -> Iterator[str]:
    """Every text in what JSON spelled."""
    waiting = [kept]
    while waiting:
        value = waiting.pop()
        if isinstance(value, str):
            yield value
        elif isinstance(value, dict):
            waiting += value.values()
        elif isinstance(value, list):
            waiting += value
