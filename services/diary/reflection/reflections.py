"""Reflections: conversations about which Ada writes an entry of her own, with their requests and states.

A conversation is identified by a hash of its turns, each hashed together with those before it. So it is
written about once, and when it has grown since, only about the new turns.

A reflection is accepted, then queued once its request has been built, then done or failed. Both steps count
their attempts, back off, and fail for good after six of them, with a reason that `/v1/jobs` shows.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import chain
from typing import Any, NamedTuple, Protocol

from sqlalchemy import ColumnElement, Connection, and_, or_, select, update

from services.diary.ledger.database import insert_new
from services.diary.ledger.ledger import CLOCK_WENT_BACK, Ledger
from services.diary.ledger.owner_ledger import OwnerLedger
from services.diary.ledger.paging import EntryFilter
from services.diary.ledger.rows import backoff_until, truncate_reason
from services.diary.ledger.tables import reflections, utc_timestamp
from services.diary.reflection.repetition import without_repetition
from services.errors import NotFound

MAX_LISTED = 500  # reflections that are listed at once
ACCEPTED, QUEUED, DONE, FAILED = "accepted", "queued", "done", "failed"
INTERRUPTED = "the process that worked on it ended in the middle of it, every time"
_OPEN = (ACCEPTED, QUEUED)
_OLDEST_FIRST = (reflections.c.created_at, reflections.c.id)
Turn = dict[str, str]


class Attempt(NamedTuple):
    """An attempt at a reflection that has begun; `attempts` is the number of those before it."""

    owner: str
    id: str
    attempts: int


class Attempted(Protocol):
    """What identifies an attempt that ended: an Attempt, or the Reflection as it was before it."""

    @property
    def owner(self) -> str: ...
    @property
    def id(self) -> str: ...
    @property
    def attempts(self) -> int: ...


@dataclass(frozen=True)
class Reflection:
    """One conversation, or its new part, about which Ada writes.

    `request` is the body of a chat completion, empty until it has been built; `turns` are those that the
    entry comes from. `entry_id` is None when there was nothing new to write.
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


_COLUMNS = [reflections.c[name] for name in Reflection.__dataclass_fields__]


def entry_text(ledger: OwnerLedger, answer: str, request: Mapping[str, Any] | None = None) -> str:
    """The sentences of Ada's answer that no entry of the diary has already; "" when none is left.

    Sentences that quote the system turns of the request or the instruction at its end are left out, too:
    nobody said them in the conversation. Reads the whole diary: about a second for a million words. Raises
    DiaryUnavailable.
    """
    entries = (entry.text for entry in ledger.iter_entries(EntryFilter()))
    return without_repetition(answer, chain(_instructions(request or {}), entries))


def _instructions(request: Mapping[str, Any]) -> list[str]:
    """The texts of a reflection's request that are no part of the conversation."""
    messages = request.get("messages", [])
    last = messages[-1] if messages else None
    return [message["content"] for message in messages if message["role"] == "system" or message is last]


def ids_of(owner: str, turns: Sequence[Turn]) -> list[str]:
    """The ids of a conversation's prefixes, the shortest first; the last is that of the whole."""
    ids, digest = [], hashlib.sha256(owner.encode()).hexdigest()
    for turn in turns:
        link = json.dumps([digest, turn["role"], turn["content"]])
        digest = hashlib.sha256(link.encode()).hexdigest()
        ids.append(digest)
    return ids


class Reflections:
    """The reflections of all owners. Every method raises DiaryUnavailable."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._backoff_s = ledger.options.reflection_backoff_s

    # --- for the API -----------------------------------------------------------------------------------

    def reflected_turns(self, owner: str, turns: Sequence[Turn]) -> int:
        """The number of turns, from the beginning, that are or will be reflected on."""
        ids = ids_of(owner, turns)
        query = select(reflections.c.id).where(reflections.c.owner == owner, reflections.c.id.in_(ids))
        with self._ledger.reading() as connection:
            existing = set(connection.execute(query).scalars())
        return max((length for length, prefix in enumerate(ids, 1) if prefix in existing), default=0)

    def add(
        self, owner: str, turns: Sequence[Turn], new: int, request: dict[str, Any], date: str
    ) -> Reflection:
        """Accept a reflection on a conversation's last `new` turns. Adding it twice changes nothing."""
        with self._ledger.transaction() as connection:
            return add(connection, owner, turns, new, request, date)

    def get_by_turns(self, owner: str, turns: Sequence[Turn]) -> Reflection:
        """The reflection on this whole conversation. Raises NotFound."""
        return self.get(owner, ids_of(owner, turns)[-1])

    # --- building the request ---------------------------------------------------------------------------

    def unprepared(self, limit: int) -> list[Attempt]:
        """The reflections of all owners whose request may be built now, oldest first."""
        return self._due(ACCEPTED, limit)

    def prepare(self, attempt: Attempted, new: int, request: dict[str, Any]) -> None:
        """Queue an accepted reflection, whose request contains the last `new` of its turns."""
        with self._ledger.transaction() as connection:
            turns = _get(connection, attempt.owner, attempt.id).turns[-new:]
            values = {"state": QUEUED, "reason": None, "attempts": 0, "retry_at": ""}
            is_accepted = and_(_is_reflection(attempt.owner, attempt.id), reflections.c.state == ACCEPTED)
            connection.execute(
                update(reflections).where(is_accepted).values(request=request, turns=turns, **values)
            )

    # --- for the worker --------------------------------------------------------------------------------

    def get(self, owner: str, reflection_id: str) -> Reflection:
        """One reflection. Raises NotFound."""
        with self._ledger.reading() as connection:
            return _get(connection, owner, reflection_id)

    def due(self, limit: int) -> list[Attempt]:
        """The reflections of all owners that the worker may try now, oldest first.

        Texts are not read here, so that a damaged row blocks no other.
        """
        return self._due(QUEUED, limit)

    def begin(self, owner: str, reflection_id: str, state: str = QUEUED) -> Attempt | None:
        """Count an attempt before it is made; None when the reflection is not in `state`.

        So an attempt that kills its process is counted like any other, and is not repeated for ever.
        """
        is_open = and_(_is_reflection(owner, reflection_id), reflections.c.state == state)
        with self._ledger.transaction() as connection:
            attempts = connection.execute(select(reflections.c.attempts).where(is_open)).scalar()
            if attempts is None:
                return None
            statement = update(reflections).where(is_open)
            if attempts > len(self._backoff_s):
                connection.execute(statement.values(state=FAILED, reason=INTERRUPTED))
                return None
            wait_s = self._backoff_s[min(attempts, len(self._backoff_s) - 1)]
            connection.execute(statement.values(attempts=attempts + 1, retry_at=backoff_until(wait_s)))
        return Attempt(owner, reflection_id, attempts)

    def with_state(self, owner: str, *states: str) -> list[Reflection]:
        """An owner's reflections in these states, oldest first, at most MAX_LISTED."""
        condition = and_(reflections.c.owner == owner, reflections.c.state.in_(states))
        query = select(*_COLUMNS).where(condition).order_by(*_OLDEST_FIRST).limit(MAX_LISTED)
        with self._ledger.reading() as connection:
            return [Reflection(**row._mapping) for row in connection.execute(query)]

    def mark_done(self, attempt: Attempted, entry_id: str | None, reason: str | None = None) -> None:
        """Record that the entry is written; without an entry, why there was nothing to write."""
        self._set(attempt, state=DONE, entry_id=entry_id, reason=reason)

    def defer(self, attempt: Attempted, reason: str) -> str:
        """Record that an attempt failed: the next one comes later, or it has failed. Returns the state."""
        if attempt.attempts >= len(self._backoff_s):
            self.mark_failed(attempt, reason)
            return FAILED
        retry_at = backoff_until(self._backoff_s[attempt.attempts])
        self._set(attempt, reason=truncate_reason(reason), attempts=attempt.attempts + 1, retry_at=retry_at)
        return QUEUED

    def mark_failed(self, attempt: Attempted, reason: str) -> None:
        """Record that it failed for good; only a retry tries it again."""
        self._set(attempt, state=FAILED, reason=truncate_reason(reason), attempts=attempt.attempts + 1)

    def retry(self, owner: str, reflection_id: str) -> Reflection:
        """Queue a failed reflection again; in any other state it is returned as it is. Raises NotFound."""
        is_failed = and_(_is_reflection(owner, reflection_id), reflections.c.state == FAILED)
        with self._ledger.transaction() as connection:
            state = QUEUED if _get(connection, owner, reflection_id).request else ACCEPTED
            values = {"state": state, "reason": None, "attempts": 0, "retry_at": ""}
            connection.execute(update(reflections).where(is_failed).values(**values))
            return _get(connection, owner, reflection_id)

    def _set(self, attempt: Attempted, **values: object) -> None:
        is_open = and_(_is_reflection(attempt.owner, attempt.id), reflections.c.state.in_(_OPEN))
        with self._ledger.transaction() as connection:
            connection.execute(update(reflections).where(is_open).values(**values))

    def _due(self, state: str, limit: int) -> list[Attempt]:
        columns = [reflections.c[name] for name in Attempt._fields]
        now = datetime.now(UTC)
        # A later time was written before the clock was set back: nobody waits for it.
        latest = now + timedelta(seconds=self._backoff_s[-1]) + CLOCK_WENT_BACK
        may_be_tried = or_(
            reflections.c.retry_at <= utc_timestamp(now), reflections.c.retry_at > utc_timestamp(latest)
        )
        is_due = and_(reflections.c.state == state, may_be_tried)
        query = select(*columns).where(is_due).order_by(*_OLDEST_FIRST).limit(limit)
        with self._ledger.reading() as connection:
            return [Attempt(*row) for row in connection.execute(query)]


def add(
    connection: Connection, owner: str, turns: Sequence[Turn], new: int, request: dict[str, Any], date: str
) -> Reflection:
    """As `Reflections.add`, within a transaction. With an empty request the reflection waits for one."""
    reflection_id = ids_of(owner, turns)[-1]
    row = {
        "owner": owner,
        "id": reflection_id,
        "request": request,
        "turns": list(turns[-new:]),
        "date": date,
        "state": QUEUED if request else ACCEPTED,
        "attempts": 0,
        "retry_at": "",
        "created_at": utc_timestamp(),
    }
    insert_new(connection, reflections, row)
    return _get(connection, owner, reflection_id)


def _get(connection: Connection, owner: str, reflection_id: str) -> Reflection:
    row = connection.execute(select(*_COLUMNS).where(_is_reflection(owner, reflection_id))).first()
    if row is None:
        raise NotFound(f"there is no reflection {reflection_id[:80]!r}", "id")
    return Reflection(**row._mapping)


def _is_reflection(owner: str, reflection_id: str) -> ColumnElement[bool]:
    return and_(reflections.c.owner == owner, reflections.c.id == reflection_id)
