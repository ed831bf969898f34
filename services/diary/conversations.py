"""Chats as they go on, kept until they have been quiet for so long that Ada writes about them.

A request to the API holds the turns that its client still has: all of them, or the last ones of a long talk.
So a talk is known again by turns that it shares with one that is kept, and what is new is added to that.
"""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Connection, and_, delete, insert, select, update

from services.diary import reflections
from services.diary.ledger import Ledger
from services.diary.reflections import Reflection, Turn
from services.diary.tables import conversations, utc

KEPT = timedelta(days=7)  # after which a talk that goes on is a new one
MOST_CHARACTERS = 500_000  # of one talk
_LOOKED_AT = 50  # talks of an owner, the newest


@dataclass(frozen=True)
class Conversation:
    """A talk; of its turns the first `written` have been reflected on."""

    owner: str
    id: str
    turns: list[Turn]
    written: int
    changed_at: str


class Conversations:
    """The talks of all owners. Every method raises DiaryUnavailable."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def heard(self, owner: str, turns: Sequence[Turn]) -> None:
        """Keep what was said, as a new talk or as the newest of one that goes on."""
        with self._ledger.transaction() as connection:
            for kept in _newest(connection, owner):
                if (whole := gone_on(kept, turns)) is not None:
                    return _keep(connection, kept, whole) if len(whole) > len(kept.turns) else None
            row = {"owner": owner, "id": secrets.token_hex(8), "changed_at": utc(), "reflected": False}
            connection.execute(insert(conversations).values(**row, messages=_content(list(turns), 0)))

    def quiet(self, seconds: float, limit: int) -> list[Conversation]:
        """Talks with something new in which nothing was said for so long, oldest first."""
        latest = utc(datetime.now(UTC) - timedelta(seconds=seconds))
        new = and_(~conversations.c.reflected, conversations.c.changed_at <= latest)
        query = select(conversations).where(new).order_by(conversations.c.changed_at).limit(limit)
        with self._ledger.reading() as connection:
            return [_conversation(row) for row in connection.execute(query)]

    def reflect(
        self, talk: Conversation, new: int, request: dict[str, Any], date: str = ""
    ) -> Reflection | None:
        """Note that Ada is to write of a talk's last `new` turns; None when somebody else has done so.

        `date` is the entry's: the day of the last words where they were said; without it, that day in UTC.
        """
        with self._ledger.transaction() as connection:
            if not _claim(connection, talk):
                return None
            day = date or talk.changed_at[:10]
            return reflections.add(connection, talk.owner, talk.turns, new, request, day)

    def pass_over(self, talk: Conversation) -> None:
        """Note that there is nothing to write of a talk as it is now."""
        with self._ledger.transaction() as connection:
            _claim(connection, talk)

    def forget_old(self) -> None:
        """Erase the talks that were reflected on so long ago that they will not go on."""
        old = and_(conversations.c.reflected, conversations.c.changed_at < utc(datetime.now(UTC) - KEPT))
        with self._ledger.transaction() as connection:
            connection.execute(delete(conversations).where(old))


def gone_on(kept: Conversation, turns: Sequence[Turn]) -> list[Turn] | None:
    """The whole of a talk with which these turns go on; None when they belong to another.

    They do where they begin as its last turns do. The last two of those may differ, because an answer can
    be asked for again; both stay.
    """
    for begin in range(len(kept.turns)):
        rest = len(kept.turns) - begin
        shared = _shared(kept.turns[begin:], turns)
        opening = begin == 0 and rest <= 2 and not kept.written
        if shared >= (1 if opening else 2) and rest - shared <= 2:
            return [*kept.turns, *turns[shared:]]
    return None


def _shared(some: Sequence[Turn], others: Sequence[Turn]) -> int:
    """How many turns both begin with."""
    place = 0
    for one, other in zip(some, others, strict=False):
        if one != other:
            break
        place += 1
    return place


def _newest(connection: Connection, owner: str) -> list[Conversation]:
    since = utc(datetime.now(UTC) - KEPT)
    of_owner = and_(conversations.c.owner == owner, conversations.c.changed_at >= since)
    newest = select(conversations).where(of_owner).order_by(conversations.c.changed_at.desc())
    found = connection.execute(newest.limit(_LOOKED_AT).with_for_update()).all()
    return [_conversation(row) for row in found]


def _keep(connection: Connection, kept: Conversation, whole: list[Turn]) -> None:
    if sum(len(turn["content"]) for turn in whole) > MOST_CHARACTERS:
        whole = whole[kept.written :]
        kept = Conversation(kept.owner, kept.id, whole, 0, kept.changed_at)
    values = {"messages": _content(whole, kept.written), "changed_at": utc(), "reflected": False}
    connection.execute(update(conversations).where(_the(kept)).values(**values))


def _claim(connection: Connection, talk: Conversation) -> bool:
    """Mark a talk as written about, unless it has gone on or somebody else was faster."""
    done = {"reflected": True, "messages": _content(talk.turns, len(talk.turns))}
    as_it_was = and_(_the(talk), conversations.c.changed_at == talk.changed_at, ~conversations.c.reflected)
    return connection.execute(update(conversations).where(as_it_was).values(**done)).rowcount > 0


def _the(talk: Conversation) -> Any:
    return and_(conversations.c.owner == talk.owner, conversations.c.id == talk.id)


def _content(turns: list[Turn], written: int) -> dict[str, Any]:
    return {"turns": turns, "written": written}


def _conversation(row: Any) -> Conversation:
    return Conversation(row.owner, row.id, row.messages["turns"], row.messages["written"], row.changed_at)
