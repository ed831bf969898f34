"""Checks the ledger's rows against their checksums, and SQLite's file with its own check."""

import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

from sqlalchemy import Connection, Table, Text, literal, select, tuple_, type_coerce

from services.diary.ledger import rows
from services.diary.ledger.database import Database
from services.diary.ledger.tables import ExactText, entries, versions
from services.errors import DiaryUnavailable

_BATCH_ROWS = 500
_KEY = ("owner", "id", "version")


class Damage(NamedTuple):
    """A row that differs from what was written. Damage of the whole file has neither owner nor id."""

    owner: str
    entry_id: str
    what: str


def damages(database: Database) -> Iterator[Damage]:
    """Every damaged version of every entry, and damage of SQLite's file. Raises DiaryUnavailable."""
    try:
        if not database.is_postgresql:
            yield from _file_damages(database)
        for table in (entries, versions):
            for row in _stored_rows(database, table):
                if what := _row_damage(row):
                    yield Damage(row["owner"], row["id"], f"version {row['version']}: {what}")
    except (DiaryUnavailable, sqlite3.DatabaseError) as error:
        if "malformed" not in str(error) and "not a database" not in str(error):
            raise
        yield Damage("", "", f"the ledger's file can't be read to its end: {error}")


def _file_damages(database: Database) -> Iterator[Damage]:
    with database.reading() as connection:
        for (message,) in connection.exec_driver_sql("PRAGMA quick_check(20)"):
            if message != "ok":
                yield Damage("", "", f"the ledger's file is damaged: {message}")


def _stored_rows(database: Database, table: Table) -> Iterator[Mapping[str, Any]]:
    """All rows as they are stored, a batch in memory at a time."""
    key = tuple_(*(table.c[name] for name in _KEY))
    others = ("folded", "checksum") if table is entries else ("checksum",)
    columns = [type_coerce(table.c[name], Text).label(name) if name == "origin" else table.c[name]
               for name in (*rows.CHECKSUM_COLUMNS, *others)]  # fmt: skip
    owner, entry_id, version = "", "", 0
    while True:
        last = tuple_(literal(owner, ExactText), literal(entry_id, ExactText), literal(version))
        query = select(*columns).where(key > last).order_by(*key.clauses).limit(_BATCH_ROWS)
        with database.reading() as connection, _undecodable_text(connection):
            batch = [dict(row) for row in connection.execute(query).mappings()]
        if not batch:
            return
        yield from batch
        owner, entry_id, version = (batch[-1][name] for name in _KEY)


def _row_damage(row: Mapping[str, Any]) -> str:
    if row["checksum"] != rows.checksum(row):
        return "the stored content is not what was written: restore the entry from a backup or an export"
    if "folded" in row and row["folded"] != rows.casefolded(row["text"]):
        return "the text that phrases are searched in is not the entry's text: edit the entry"
    return ""


@contextmanager
def _undecodable_text(connection: Connection) -> Iterator[None]:
    """Let SQLite's driver return texts that are not UTF-8, with their bytes as surrogates."""
    driver = connection.connection.driver_connection
    if not isinstance(driver, sqlite3.Connection):
        yield
        return
    driver.text_factory = lambda raw: raw.decode("utf-8", "surrogateescape")
    try:
        yield
    finally:
        driver.text_factory = str
