"""Chats as they go on, kept until they have been quiet for so long that Ada writes about them.

A request to the API holds the turns that its client still has: all of them, or the last ones of a long chat.
So a chat is recognized by turns that it shares with one that is kept, and what is new is added to that.

Not every request is a chat. Front ends ask for titles, tags and summaries by the same route, and evaluation
harnesses ask each question once. What tells a conversation from them is that it grows: a later request
repeats what was said, Ada's answer included, and goes on from it. Only such a chat is written about. And
what a client's later requests no longer carry (an answer that was asked for again, a prompt that was
appended for a summary) is no part of it.
"""

import json
import logging
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Text, and_, delete, insert, select, type_coerce, update

from services.diary.ledger.ledger import Ledger
from services.diary.ledger.tables import conversations, utc_timestamp
from services.diary.reflection import reflections
from services.diary.reflection.reflections import Reflection, Turn

log = logging.getLogger("ada.diary")
KEPT = timedelta(days=7)  # after which a talk that goes on is a new one
MOST_CHARACTERS = 500_000  # of one talk
_LOOKED_AT = 50  # talks of an owner, the newest


@dataclass(frozen=True)
class Conversation:
    """A talk; of its turns the first `written` have been reflected on.

    `grown` tells that a later request went on from an answer that Ada gave in it.
    """

    owner: str
    id: str
    turns: list[Turn]
    written: int
    changed_at: str
    grown: bool = False


class Conversations:
    """The talks of all owners. Every method raises DiaryUnavailable."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def record(self, owner: str, turns: Sequence[Turn]) -> None:
        """Keep what was said, as a new talk or as the newest of one that goes on."""
        with self._ledger.transaction() as connection:
            for kept in _newest(connection, owner):
                if (now := continued_by(kept, turns)) is not None:
                    return _keep(connection, now) if now.turns != kept.turns else None
            new = Conversation(owner, secrets.token_hex(8), list(turns), 0, utc_timestamp())
            row = {"owner": owner, "id": new.id, "changed_at": new.changed_at, "reflected": False}
            connection.execute(insert(conversations).values(**row, messages=_content(new)))

    def idle(self, seconds: float, limit: int) -> list[Conversation]:
        """Talks with something new in which nothing was said for so long, oldest first."""
        latest = utc_timestamp(datetime.now(UTC) - timedelta(seconds=seconds))
        new = and_(~conversations.c.reflected, conversations.c.changed_at <= latest)
        query = select(*_COLUMNS).where(new).order_by(conversations.c.changed_at).limit(limit)
        with self._ledger.reading() as connection:
            rows = connection.execute(query).all()
        found = [_conversation(row) for row in rows]
        self._pass_over_unreadable([row for row, talk in zip(rows, found, strict=True) if talk is None])
        return [talk for talk in found if talk is not None]

    def reflect(self, talk: Conversation, new: int, date: str = "") -> Reflection | None:
        """Note that Ada is to write of a talk's last `new` turns; None when somebody else has done so.

        The reflection waits for its request to be built. `date` is the entry's: the day of the last words
        where they were said; without it, that day in UTC.
        """
        with self._ledger.transaction() as connection:
            if not _claim(connection, replace(talk, written=len(talk.turns))):
                return None
            day = date or talk.changed_at[:10]
            return reflections.add(connection, talk.owner, talk.turns, new, {}, day)

    def skip(self, talk: Conversation) -> None:
        """Note that there is nothing to write of a talk as it is now; when it grows it is looked at anew."""
        with self._ledger.transaction() as connection:
            _claim(connection, talk)

    def _pass_over_unreadable(self, rows: Sequence[Any]) -> None:
        """A damaged row is named once, and keeps nobody's talks from being looked at."""
        for row in rows:
            log.error(
                "the conversation %s of %s is damaged in the ledger: it is passed over", row.id, row.owner
            )
            this = and_(conversations.c.owner == row.owner, conversations.c.id == row.id)
            with self._ledger.transaction() as connection:
                connection.execute(update(conversations).where(this).values(reflected=True))

    def delete_old(self) -> None:
        """Erase the talks that were reflected on so long ago that they will not go on."""
        old = and_(
            conversations.c.reflected, conversations.c.changed_at < utc_timestamp(datetime.now(UTC) - KEPT)
        )
        with self._ledger.transaction() as connection:
            connection.execute(delete(conversations).where(old))


def continued_by(kept: Conversation, turns: Sequence[Turn]) -> Conversation | None:
    """A talk as it is when these turns go on with it; None when they belong to another.

    They do where they begin as its last turns do. The last two of those may differ, because an answer can
    be asked for again, and a question edited: what the client has now takes their place.
    """
    for begin in range(len(kept.turns)):
        rest = len(kept.turns) - begin
        shared = _shared(kept.turns[begin:], turns)
        opening = begin == 0 and rest <= 2 and not kept.written
        if shared >= (1 if opening else 2) and rest - shared <= 2:
            return _extended(kept, begin + shared, turns[shared:])
    return None


def _extended(kept: Conversation, shared: int, rest: Sequence[Turn]) -> Conversation:
    """A talk of which the first `shared` turns stand, and these follow."""
    if not rest:
        return kept
    turns = [*kept.turns[:shared], *rest]
    grown = kept.grown or _goes_on(kept.turns, turns)
    return replace(kept, turns=turns, written=min(kept.written, shared), grown=grown)


def _goes_on(before: Sequence[Turn], now: Sequence[Turn]) -> bool:
    """Whether a talk goes on from the answer with which it ended, with a turn of the user's.

    Clients trim answers, put a name in front, or cut the last sentence: one of the two must hold the other.
    A prompt with worked examples that differs in its last question alone does not go on.
    """
    last = len(before) - 1
    if len(now) <= len(before) or list(before[:last]) != list(now[:last]):
        return False
    if {before[last]["role"], now[last]["role"]} != {"assistant"}:
        return False
    one, other = (" ".join(turns[last]["content"].split()) for turns in (before, now))
    same = bool(one and other) and (one in other or other in one)
    return same and any(turn["role"] == "user" for turn in now[len(before) :])


def _shared(some: Sequence[Turn], others: Sequence[Turn]) -> int:
    """How many turns both begin with."""
    place = 0
    for one, other in zip(some, others, strict=False):
        if one != other:
            break
        place += 1
    return place


def _newest(connection: Connection, owner: str) -> list[Conversation]:
    since = utc_timestamp(datetime.now(UTC) - KEPT)
    of_owner = and_(conversations.c.owner == owner, conversations.c.changed_at >= since)
    newest = select(*_COLUMNS).where(of_owner).order_by(conversations.c.changed_at.desc())
    rows = connection.execute(newest.limit(_LOOKED_AT).with_for_update()).all()
    return [talk for row in rows if (talk := _conversation(row)) is not None]


def _keep(connection: Connection, talk: Conversation) -> None:
    if sum(len(turn["content"]) for turn in talk.turns) > MOST_CHARACTERS:
        talk = replace(talk, turns=talk.turns[talk.written :], written=0)
    values = {"messages": _content(talk), "changed_at": utc_timestamp(), "reflected": False}
    connection.execute(update(conversations).where(_the(talk)).values(**values))


def _claim(connection: Connection, talk: Conversation) -> bool:
    """Mark a talk as looked at, unless it has gone on or somebody else was faster."""
    done = {"reflected": True, "messages": _content(talk)}
    as_it_was = and_(_the(talk), conversations.c.changed_at == talk.changed_at, ~conversations.c.reflected)
    return connection.execute(update(conversations).where(as_it_was).values(**done)).rowcount > 0


def _the(talk: Conversation) -> Any:
    return and_(conversations.c.owner == talk.owner, conversations.c.id == talk.id)


def _content(talk: Conversation) -> dict[str, Any]:
    return {"turns": talk.turns, "written": talk.written, "grown": talk.grown}


# The messages as text: decoded row by row, so that one damaged row does not spoil a whole result.
_COLUMNS = (
    conversations.c.owner,
    conversations.c.id,
    conversations.c.changed_at,
    type_coerce(conversations.c.messages, Text).label("messages"),
)


def _conversation(row: Any) -> Conversation | None:
    """The talk that a row holds; None when it can't be read."""
    try:
        content = json.loads(row.messages)
        turns = [{"role": turn["role"], "content": turn["content"]} for turn in content["turns"]]
        users = sum(turn["role"] == "user" for turn in turns)
        # A talk that was kept before `grown` was noted: two turns of the user's are taken for it.
        written, grown = int(content["written"]), bool(content.get("grown", users > 1))
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    if not all(isinstance(text, str) for turn in turns for text in turn.values()):
        return None
    return Conversation(row.owner, row.id, turns, written, row.changed_at, grown)
