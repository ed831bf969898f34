"""The persona whose diary a ledger holds: one persona for all owners.

The orchestrator records the persona that it serves. The worker, which has no persona, reads from here whether
entries may be written.
"""

from typing import Any

from sqlalchemy import Connection, Row, select, update

from services.diary.ledger.database import insert_new
from services.diary.ledger.ledger import Ledger
from services.diary.ledger.tables import entries, persona_record, utc_timestamp


class PersonaRecord:
    """The persona record of a ledger. Every method raises DiaryUnavailable."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def register(self, identity: str, name: str, *, shared: bool) -> str | None:
        """Record the persona that is served; returns the name of another persona if the diary is hers.

        A diary without entries, or that was never served, becomes the served persona's. `shared` allows
        another persona to write into it.
        """
        with self._ledger.reading() as connection:
            record = _record(connection)
            is_free = record is None or not _has_entries(connection)
        if record is None or is_free or record.id == identity:
            record = self._claim(record, identity, name)
        if record.id == identity:
            return None
        refused = None if shared else name
        if record.refused != refused:
            with self._ledger.transaction() as connection:
                connection.execute(update(persona_record).values(refused=refused))
        return str(record.name)

    def refusal(self) -> str:
        """Why nothing may be written: the diary is another persona's. Empty when entries may be written."""
        with self._ledger.reading() as connection:
            record = _record(connection)
        return foreign_diary_message(record.name, record.refused) if record and record.refused else ""

    def _claim(self, previous: Row[Any] | None, identity: str, name: str) -> Row[Any]:
        """Make the diary this persona's, unless another process was faster; returns the record."""
        is_same = previous is not None and previous.id == identity
        if previous is not None and is_same and (previous.name, previous.refused) == (name, None):
            return previous
        row = {"id": identity, "name": name, "refused": None} | (
            {} if is_same else {"since": utc_timestamp()}
        )
        with self._ledger.transaction() as connection:
            if previous is None:
                insert_new(connection, persona_record, {"number": 1, **row})
            else:
                unchanged = persona_record.c.id == previous.id
                connection.execute(update(persona_record).where(unchanged).values(**row))
            record = _record(connection)
        assert record is not None
        return record


def foreign_diary_message(owner: str, served: str) -> str:
    """One line with the problem and the remedies; `owner` is the persona whose diary it is."""
    return (
        f"the diary is {owner}'s and {served} is served: set LEDGER_URL and INDEX_PATH to a diary of "
        f"{served}'s own, or DIARY_OF_ANOTHER_PERSONA=allow to share this one"
    )


def _record(connection: Connection) -> Row[Any] | None:
    return connection.execute(select(persona_record)).first()


def _has_entries(connection: Connection) -> bool:
    query = select(entries.c.id).where(~entries.c.removed).limit(1)
    return connection.execute(query).first() is not None
