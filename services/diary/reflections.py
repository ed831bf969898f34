"""Conversations of which Ada writes an entry of her own: what she is to be asked, and how that stands.

A conversation is known by the sha of its turns, each hashed onto the one before. So it is written about
once, and when it has grown since, only of what is new.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, select, update

from services.diary.database import insert_new
from services.diary.ledger import Ledger
from services.diary.listing import EntryFilter
from services.diary.owners_ledger import OwnersLedger
from services.diary.repetition import without_repetition
from services.diary.rows import cut_reason, later
from services.diary.tables import reflections, utc
from services.errors import NotFound

BACKOFF_S = (5, 30, 120, 600, 3600)  # until the next attempt; after the last, it has failed
MOST = 500  # reflections that are listed at once
QUEUED, DONE, FAILED = "queued", "done", "failed"
Turn = dict[str, str]


@dataclass(frozen=True)
class Reflection:
    """One conversation, or what is new of it, as Ada is asked about it.

    `request` is the body of a chat completion; `turns` are those that the entry will come from. `entry_id`
    is none when nothing was left to write.
    """

    owner: str
    id: str
    request: dict[str, Any]
    turns: list[Turn]
    date: str
    state: str
    entry_id: str | None
    reason: str | None
    attempts: int


def entry_text(ledger: OwnersLedger, answer: str) -> str:
    """Of Ada's answer the sentences that no entry of the diary says already; "" when none is left.

    Reads the whole diary: about a second for a million words. Raises DiaryUnavailable.
    """
    return without_repetition(answer, (entry.text for entry in ledger.every(EntryFilter())))


def ids_of(owner: str, turns: Sequence[Turn]) -> list[str]:
    """The ids of a conversation's beginnings, the shortest first; the last is that of the whole."""
    ids, so_far = [], hashlib.sha256(owner.encode()).hexdigest()
    for turn in turns:
        said = json.dumps([so_far, turn["role"], turn["content"]])
        so_far = hashlib.sha256(said.encode()).hexdigest()
        ids.append(so_far)
    return ids


class Reflections:
    """The reflections of all owners. Every method raises DiaryUnavailable."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    # --- for whoever asks Ada to reflect ---------------------------------------------------------------

    def known(self, owner: str, turns: Sequence[Turn]) -> int:
        """How many turns of a conversation, from its beginning, have been reflected on, or will be."""
        ids = ids_of(owner, turns)
        with self._ledger.reading() as connection:
            return _known(connection, owner, ids)

    def add(
        self, owner: str, turns: Sequence[Turn], new: int, request: dict[str, Any], date: str
    ) -> Reflection:
        """Keep the wish that Ada writes of a conversation's last `new` turns. Twice is once."""
        with self._ledger.transaction() as connection:
            return add(connection, owner, turns, new, request, date)

    def of_turns(self, owner: str, turns: Sequence[Turn]) -> Reflection:
        """The one on this whole conversation. Raises NotFound."""
        return self.get(owner, ids_of(owner, turns)[-1])

    # --- for the worker --------------------------------------------------------------------------------

    def get(self, owner: str, reflection_id: str) -> Reflection:
        """One reflection. Raises NotFound."""
        with self._ledger.reading() as connection:
            return _get(connection, owner, reflection_id)

    def due(self, limit: int) -> list[Reflection]:
        """Those of all owners that may be tried now, oldest first."""
        return self._list(and_(reflections.c.state == QUEUED, reflections.c.retry_at <= utc()), limit)

    def with_state(self, owner: str, state: str) -> list[Reflection]:
        """An owner's reflections that stand so, oldest first, MOST at most."""
        return self._list(and_(reflections.c.owner == owner, reflections.c.state == state), MOST)

    def mark_done(self, reflection: Reflection, entry_id: str | None, reason: str | None = None) -> None:
        """Ada has written; or, without an entry, there was nothing to write, for this reason."""
        self._set(reflection, state=DONE, entry_id=entry_id, reason=reason)

    def put_off(self, reflection: Reflection, reason: str) -> str:
        """An attempt failed: queued for later, or, after five of them, failed. Returns the state."""
        if reflection.attempts >= len(BACKOFF_S):
            self.mark_failed(reflection, reason)
            return FAILED
        wait, attempts = BACKOFF_S[reflection.attempts], reflection.attempts + 1
        self._set(reflection, reason=cut_reason(reason), attempts=attempts, retry_at=later(wait))
        return QUEUED

    def mark_failed(self, reflection: Reflection, reason: str) -> None:
        """It will not be tried again unless somebody says so."""
        attempts = reflection.attempts + 1
        self._set(reflection, state=FAILED, reason=cut_reason(reason), attempts=attempts)

    def retry(self, owner: str, reflection_id: str) -> Reflection:
        """Queue a failed one again; in any other state it is returned as it is. Raises NotFound."""
        failed = and_(_the(owner, reflection_id), reflections.c.state == FAILED)
        with self._ledger.transaction() as connection:
            again = {"state": QUEUED, "reason": None, "attempts": 0, "retry_at": ""}
            connection.execute(update(reflections).where(failed).values(**again))
            return _get(connection, owner, reflection_id)

    def _set(self, reflection: Reflection, **values: object) -> None:
        with self._ledger.transaction() as connection:
            these = and_(_the(reflection.owner, reflection.id), reflections.c.state == QUEUED)
            connection.execute(update(reflections).where(these).values(**values))

    def _list(self, condition: ColumnElement[bool], limit: int) -> list[Reflection]:
        order = (reflections.c.created_at, reflections.c.id)
        query = select(*_COLUMNS).where(condition).order_by(*order).limit(limit)
        with self._ledger.reading() as connection:
            return [Reflection(**row._mapping) for row in connection.execute(query)]


def add(
    connection: Connection, owner: str, turns: Sequence[Turn], new: int, request: dict[str, Any], date: str
) -> Reflection:
    """As `Reflections.add`, within a transaction."""
    reflection_id = ids_of(owner, turns)[-1]
    row = {"owner": owner, "id": reflection_id, "request": request, "turns": list(turns[-new:]), "date": date}
    waits = {"state": QUEUED, "attempts": 0, "retry_at": "", "created_at": utc()}
    insert_new(connection, reflections, {**row, **waits})
    return _get(connection, owner, reflection_id)


_COLUMNS = [reflections.c[name] for name in Reflection.__dataclass_fields__]


def _known(connection: Connection, owner: str, ids: list[str]) -> int:
    """The length of the longest beginning that is there."""
    query = select(reflections.c.id).where(reflections.c.owner == owner, reflections.c.id.in_(ids))
    there = set(connection.execute(query).scalars())
    return max((length for length, one in enumerate(ids, 1) if one in there), default=0)


def _get(connection: Connection, owner: str, reflection_id: str) -> Reflection:
    found = connection.execute(select(*_COLUMNS).where(_the(owner, reflection_id))).first()
    if found is None:
        raise NotFound(f"there is no reflection {reflection_id[:80]!r}", "id")
    return Reflection(**found._mapping)


def _the(owner: str, reflection_id: str) -> ColumnElement[bool]:
    return and_(reflections.c.owner == owner, reflections.c.id == reflection_id)
