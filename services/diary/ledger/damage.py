"""A ledger's rows held against their checksums, and its file against itself: a flipped bit is named."""

import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

from sqlalchemy import Connection, Table, Text, literal, select, tuple_, type_coerce

from services.diary.ledger import rows
from services.diary.ledger.database import Database
from services.diary.ledger.tables import ExactText, entries, versions
from services.errors import DiaryUnavailable

_AT_ONCE = 500


class Damage(NamedTuple):
    """A row that is not as it was written; without owner and id, the file that all have in common."""

    owner: str
    entry_id: str
    what: str


def damages(database: Database) -> Iterator[Damage]:
    """Every damaged version of every entry, and what is wrong with SQLite's file. Raises DiaryUnavailable."""
    try:
        if not database.is_postgresql:
            yield from _of_file(database)
        for table in (entries, versions):
            for row in _every(database, table):
                if what := _wrong(row):
                    yield Damage(row["owner"], row["id"], f"version {row['version']}: {what}")
    except (DiaryUnavailable, sqlite3.DatabaseError) as error:
        if "malformed" not in str(error) and "not a database" not in str(error):
            raise
        yield Damage("", "", f"the ledger's file can't be read to its end: {error}")


def _of_file(database: Database) -> Iterator[Damage]:
    with database.reading() as connection:
        for (said,) in connection.exec_driver_sql("PRAGMA quick_check(20)"):
            if said != "ok":
                yield Damage("", "", f"the ledger's file is damaged: {said}")


def _every(database: Database, table: Table) -> Iterator[Mapping[str, Any]]:
    """The rows as they are stored, some in memory at a time."""
    names = ("owner", "id", "version")
    key = tuple_(*(table.c[name] for name in names))
    others = ("folded", "checksum") if table is entries else ("checksum",)
    columns = [type_coerce(table.c[name], Text).label(name) if name == "origin" else table.c[name]
               for name in (*rows.CHECKSUM_COLUMNS, *others)]  # fmt: skip
    place: tuple[Any, ...] = ("", "", 0)
    while True:
        after = tuple_(literal(place[0], ExactText), literal(place[1], ExactText), literal(place[2]))
        query = select(*columns).where(key > after).order_by(*key.clauses).limit(_AT_ONCE)
        with database.reading() as connection, _any_bytes(connection):
            found = [dict(row) for row in connection.execute(query).mappings()]
        if not found:
            return
        yield from found
        place = tuple(found[-1][name] for name in names)


def _wrong(row: Mapping[str, Any]) -> str:
    if row["checksum"] != rows.checksum(row):
        return "what the ledger has is not what was written: restore the entry from a backup or an export"
    if "folded" in row and row["folded"] != rows.casefolded(row["text"]):
        return "what a phrase is searched in is not the entry's text: edit the entry"
    return ""


@contextmanager
def _any_bytes(connection: Connection) -> Iterator[None]:
    """Let SQLite's driver give texts that are not UTF-8 any more."""
    driver = connection.connection.driver_connection
    if not isinstance(driver, sqlite3.Connection):
        yield
        return
    driver.text_factory = lambda raw: raw.decode("utf-8", "surrogateescape")
    try:
        yield
    finally:
        driver.text_factory = str
