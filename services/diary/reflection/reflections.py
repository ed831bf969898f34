"""Conversations of which Ada writes an entry of her own: what she is to be asked, and how that stands.

A conversation is known by the sha of its turns, each hashed onto the one before. So it is written about
once, and when it has grown since, only of what is new.

A reflection is accepted, then queued once its request has been built, then done or failed. Either step counts
its attempts, backs off, and fails for good after six of them, with a reason that `/v1/jobs` shows.
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
from services.diary.ledger.ledger import Ledger
from services.diary.ledger.owner_ledger import OwnerLedger
from services.diary.ledger.paging import EntryFilter
from services.diary.ledger.rows import backoff_until, truncate_reason
from services.diary.ledger.tables import reflections, utc_timestamp
from services.diary.reflection.repetition import without_repetition
from services.errors import NotFound

BACKOFF_S = (5, 30, 120, 600, 3600)  # until the next attempt; after the last, it has failed
CLOCK_WENT_BACK = timedelta(seconds=60)  # by less it is only adjusted
MOST = 500  # reflections that are listed at once
ACCEPTED, QUEUED, DONE, FAILED = "accepted", "queued", "done", "failed"
INTERRUPTED = "the process that worked on it ended in the middle of it, every time"
Turn = dict[str, str]


class Attempt(NamedTuple):
    """An attempt at a reflection that has begun; `attempts` is how many were made before it."""

    owner: str
    id: str
    attempts: int


class Attempted(Protocol):
    """What is enough to note how an attempt ended: an Attempt, or the Reflection as it was before it."""

    @property
    def owner(self) -> str: ...
    @property
    def id(self) -> str: ...
    @property
    def attempts(self) -> int: ...


@dataclass(frozen=True)
class Reflection:
    """One conversation, or what is new of it, as Ada is asked about it.

    `request` is the body of a chat completion, empty until it has been built; `turns` are those that the
    entry will come from. `entry_id` is none when nothing was left to write.
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


def entry_text(ledger: OwnerLedger, answer: str, request: Mapping[str, Any] | None = None) -> str:
    """Of Ada's answer the sentences that no entry of the diary says already; "" when none is left.

    Nor may an entry quote what nobody said: the system turns of the request and the instruction at its end.
    Reads the whole diary: about a second for a million words. Raises DiaryUnavailable.
    """
    entries = (entry.text for entry in ledger.iter_entries(EntryFilter()))
    return without_repetition(answer, chain(_unspoken(request or {}), entries))


def _unspoken(request: Mapping[str, Any]) -> list[str]:
    """The texts of a reflection's request that are no part of the conversation."""
    messages = request.get("messages", [])
    return [one["content"] for one in messages if one["role"] == "system" or one is messages[-1]]


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

    def reflected_turns(self, owner: str, turns: Sequence[Turn]) -> int:
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

    def get_by_turns(self, owner: str, turns: Sequence[Turn]) -> Reflection:
        """The one on this whole conversation. Raises NotFound."""
        return self.get(owner, ids_of(owner, turns)[-1])

    # --- building the request ---------------------------------------------------------------------------

    def unprepared(self, limit: int) -> list[Attempt]:
        """Those of all owners whose request may be built now, oldest first."""
        return self._due(ACCEPTED, limit)

    def prepare(self, attempt: Attempted, new: int, request: dict[str, Any]) -> None:
        """Queue an accepted reflection, whose request shows the last `new` of its turns."""
        with self._ledger.transaction() as connection:
            turns = _get(connection, attempt.owner, attempt.id).turns[-new:]
            waits = {"state": QUEUED, "reason": None, "attempts": 0, "retry_at": ""}
            this = and_(_the(attempt.owner, attempt.id), reflections.c.state == ACCEPTED)
            connection.execute(update(reflections).where(this).values(request=request, turns=turns, **waits))

    # --- for the worker --------------------------------------------------------------------------------

    def get(self, owner: str, reflection_id: str) -> Reflection:
        """One reflection. Raises NotFound."""
        with self._ledger.reading() as connection:
            return _get(connection, owner, reflection_id)

    def due(self, limit: int) -> list[Attempt]:
        """Those of all owners that the worker may try now, oldest first.

        No text is read here, so that a row that can't be read stands in nobody's way.
        """
        return self._due(QUEUED, limit)

    def begin(self, owner: str, reflection_id: str, state: str = QUEUED) -> Attempt | None:
        """Count an attempt at what stands in `state` before it is made; None when there is nothing to try.

        So an attempt that ends its process is counted like any other, and is not made for ever.
        """
        this = and_(_the(owner, reflection_id), reflections.c.state == state)
        with self._ledger.transaction() as connection:
            attempts = connection.execute(select(reflections.c.attempts).where(this)).scalar()
            if attempts is None:
                return None
            if attempts > len(BACKOFF_S):
                connection.execute(update(reflections).where(this).values(state=FAILED, reason=INTERRUPTED))
                return None
            values = {"attempts": attempts + 1, "retry_at": backoff_until(_backoff_s(attempts))}
            connection.execute(update(reflections).where(this).values(**values))
        return Attempt(owner, reflection_id, attempts)

    def with_state(self, owner: str, *states: str) -> list[Reflection]:
        """An owner's reflections that stand so, oldest first, MOST at most."""
        these = and_(reflections.c.owner == owner, reflections.c.state.in_(states))
        query = select(*_COLUMNS).where(these).order_by(*_OLDEST_FIRST).limit(MOST)
        with self._ledger.reading() as connection:
            return [Reflection(**row._mapping) for row in connection.execute(query)]

    def mark_done(self, attempt: Attempted, entry_id: str | None, reason: str | None = None) -> None:
        """Ada has written; or, without an entry, there was nothing to write, for this reason."""
        self._set(attempt, state=DONE, entry_id=entry_id, reason=reason)

    def defer(self, attempt: Attempted, reason: str) -> str:
        """An attempt failed: to be tried later, or, after five of them, failed. Returns the state."""
        if attempt.attempts >= len(BACKOFF_S):
            self.mark_failed(attempt, reason)
            return FAILED
        wait, attempts = _backoff_s(attempt.attempts), attempt.attempts + 1
        self._set(attempt, reason=truncate_reason(reason), attempts=attempts, retry_at=backoff_until(wait))
        return QUEUED

    def mark_failed(self, attempt: Attempted, reason: str) -> None:
        """It will not be tried again unless somebody says so."""
        self._set(attempt, state=FAILED, reason=truncate_reason(reason), attempts=attempt.attempts + 1)

    def retry(self, owner: str, reflection_id: str) -> Reflection:
        """Queue a failed one again; in any other state it is returned as it is. Raises NotFound."""
        failed = and_(_the(owner, reflection_id), reflections.c.state == FAILED)
        with self._ledger.transaction() as connection:
            state = QUEUED if _get(connection, owner, reflection_id).request else ACCEPTED
            again = {"state": state, "reason": None, "attempts": 0, "retry_at": ""}
            connection.execute(update(reflections).where(failed).values(**again))
            return _get(connection, owner, reflection_id)

    def _set(self, attempt: Attempted, **values: object) -> None:
        with self._ledger.transaction() as connection:
            these = and_(_the(attempt.owner, attempt.id), reflections.c.state.in_(_OPEN))
            connection.execute(update(reflections).where(these).values(**values))

    def _due(self, state: str, limit: int) -> list[Attempt]:
        columns = [reflections.c[name] for name in Attempt._fields]
        now = datetime.now(UTC)
        # A moment farther ahead was written before the clock was set back: nobody waits for it.
        latest = now + timedelta(seconds=BACKOFF_S[-1]) + CLOCK_WENT_BACK
        may_be_tried = or_(
            reflections.c.retry_at <= utc_timestamp(now), reflections.c.retry_at > utc_timestamp(latest)
        )
        these = and_(reflections.c.state == state, may_be_tried)
        query = select(*columns).where(these).order_by(*_OLDEST_FIRST).limit(limit)
        with self._ledger.reading() as connection:
            return [Attempt(*row) for row in connection.execute(query)]


def add(
    connection: Connection, owner: str, turns: Sequence[Turn], new: int, request: dict[str, Any], date: str
) -> Reflection:
    """As `Reflections.add`, within a transaction. With an empty request it waits for one."""
    reflection_id = ids_of(owner, turns)[-1]
    row = {"owner": owner, "id": reflection_id, "request": request, "turns": list(turns[-new:]), "date": date}
    waits = {
        "state": QUEUED if request else ACCEPTED,
        "attempts": 0,
        "retry_at": "",
        "created_at": utc_timestamp(),
    }
    insert_new(connection, reflections, {**row, **waits})
    return _get(connection, owner, reflection_id)


def _backoff_s(attempts: int) -> int:
    """Seconds until the next attempt after so many."""
    return BACKOFF_S[min(attempts, len(BACKOFF_S) - 1)]


_OPEN = (ACCEPTED, QUEUED)
_OLDEST_FIRST = (reflections.c.created_at, reflections.c.id)
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
