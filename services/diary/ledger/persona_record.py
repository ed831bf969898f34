"""Whose life a diary's entries belong to. One ledger holds the diary of one persona, of all owners alike.

The orchestrator records the persona that it serves; the worker, which knows no persona, reads from here
whether entries may be written now.
"""

from typing import Any

from sqlalchemy import Connection, Row, select, update

from services.diary.ledger.database import insert_new
from services.diary.ledger.ledger import Ledger
from services.diary.ledger.tables import entries, persona_record, utc_timestamp


class PersonaRecord:
    """The record in a ledger. Every method raises DiaryUnavailable."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def register(self, identity: str, name: str, *, shared: bool) -> str | None:
        """Note the persona that is served; returns the name of another whose diary this is.

        A diary without entries, or that was never served, becomes the served persona's. `shared` lets
        another persona write into it.
        """
        with self._ledger.reading() as connection:
            found = _record(connection)
            is_free = found is None or not _has_entries(connection)
        if found is None or is_free or found.id == identity:
            found = self._take(found, identity, name)
        if found.id == identity:
            return None
        refused = None if shared else name
        if found.refused != refused:
            with self._ledger.transaction() as connection:
                connection.execute(update(persona_record).values(refused=refused))
        return str(found.name)

    def refusal(self) -> str:
        """Why nothing may be written now: the diary is another persona's; empty when it may."""
        with self._ledger.reading() as connection:
            found = _record(connection)
        return foreign_diary_message(found.name, found.refused) if found and found.refused else ""

    def _take(self, before: Row[Any] | None, identity: str, name: str) -> Row[Any]:
        """Write that the diary is this persona's, unless another process was faster; returns what stands."""
        is_same = before is not None and before.id == identity
        if before is not None and is_same and (before.name, before.refused) == (name, None):
            return before
        row = {"id": identity, "name": name, "refused": None} | (
            {} if is_same else {"since": utc_timestamp()}
        )
        with self._ledger.transaction() as connection:
            if before is None:
                insert_new(connection, persona_record, {"number": 1, **row})
            else:
                unchanged = persona_record.c.id == before.id
                connection.execute(update(persona_record).where(unchanged).values(**row))
            found = _record(connection)
        assert found is not None
        return found


def foreign_diary_message(whose: str, served: str) -> str:
    """One line that says what is wrong, and the remedies."""
    return (
        f"the diary is {whose}'s and {served} is served: set LEDGER_URL and INDEX_PATH to a diary of "
        f"{served}'s own, or DIARY_OF_ANOTHER_PERSONA=allow to share this one"
    )


def _record(connection: Connection) -> Row[Any] | None:
    return connection.execute(select(persona_record)).first()


def _has_entries(connection: Connection) -> bool:
    query = select(entries.c.id).where(~entries.c.removed).limit(1)
    return connection.execute(query).first() is not None
