"""Conversations: chats are stored until they have been idle for so long that Ada writes about them.

A request to the API holds the turns that its client still has: all of them, or the last ones of a long chat.
So a request is matched with a stored conversation by the turns that they share, and its new turns are added.

Not every request is a chat. Front ends ask for titles, tags and summaries by the same route, and evaluation
harnesses send each question once. A conversation differs from them in that it grows: a later request repeats
earlier turns, Ada's answer included, and continues them. Only such a chat is written about. What a client's
later requests no longer contain (an answer that was regenerated, a prompt that was appended for a summary) is
no part of it.
"""

import json
import logging
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Connection, Text, and_, delete, insert, select, type_coerce, update

from services.diary.ledger.ledger import Ledger
from services.diary.ledger.tables import conversations, utc_timestamp
from services.diary.reflection import reflections
from services.diary.reflection.reflections import Reflection, Turn

log = logging.getLogger("ada.diary")
MAX_CHARACTERS = 500_000  # of one conversation
_CANDIDATES = 50  # an owner's newest conversations, which a request may continue


@dataclass(frozen=True)
class Conversation:
    """A stored conversation; the first `written` of its turns have been reflected on.

    `grown` says that a later request continued it from an answer of Ada's.
    """

    owner: str
    id: str
    turns: list[Turn]
    written: int
    changed_at: str
    grown: bool = False


class Conversations:
    """The conversations of all owners. Every method raises DiaryUnavailable."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._retention = ledger.options.conversation_retention

    def record(self, owner: str, turns: Sequence[Turn]) -> None:
        """Store the turns of a chat, as a new conversation or as the newest state of a stored one."""
        with self._ledger.transaction() as connection:
            for stored in _newest(connection, owner, self._retention):
                if (updated := continued_by(stored, turns)) is not None:
                    return _save(connection, updated) if updated.turns != stored.turns else None
            new = Conversation(owner, secrets.token_hex(8), list(turns), 0, utc_timestamp())
            row = {"owner": owner, "id": new.id, "changed_at": new.changed_at, "reflected": False}
            connection.execute(insert(conversations).values(**row, messages=_content(new)))

    def idle(self, seconds: float, limit: int) -> list[Conversation]:
        """Conversations with new turns that have been idle for so many seconds, oldest first."""
        latest = utc_timestamp(datetime.now(UTC) - timedelta(seconds=seconds))
        is_idle = and_(~conversations.c.reflected, conversations.c.changed_at <= latest)
        query = select(*_COLUMNS).where(is_idle).order_by(conversations.c.changed_at).limit(limit)
        with self._ledger.reading() as connection:
            rows = connection.execute(query).all()
        parsed = [_conversation(row) for row in rows]
        self._skip_unreadable([row for row, result in zip(rows, parsed, strict=True) if result is None])
        return [conversation for conversation in parsed if conversation is not None]

    def reflect(self, conversation: Conversation, new: int, date: str = "") -> Reflection | None:
        """Accept a reflection on the last `new` turns; None when another process has done so.

        The reflection waits for its request to be built. `date` is the entry's: the local day of the last
        turn, or without it that day in UTC.
        """
        with self._ledger.transaction() as connection:
            if not _claim(connection, replace(conversation, written=len(conversation.turns))):
                return None
            day = date or conversation.changed_at[:10]
            return reflections.add(connection, conversation.owner, conversation.turns, new, {}, day)

    def skip(self, conversation: Conversation) -> None:
        """Record that there is nothing to write about it now; when it grows it is idle again later."""
        with self._ledger.transaction() as connection:
            _claim(connection, conversation)

    def delete_old(self) -> None:
        """Delete the conversations that were reflected on and are too old to be continued."""
        oldest = utc_timestamp(datetime.now(UTC) - self._retention)
        is_old = and_(conversations.c.reflected, conversations.c.changed_at < oldest)
        with self._ledger.transaction() as connection:
            connection.execute(delete(conversations).where(is_old))

    def _skip_unreadable(self, rows: Sequence[Any]) -> None:
        """Log each damaged row once, and keep it from blocking other conversations."""
        for row in rows:
            log.error("the conversation %s of %s is damaged in the ledger: it is skipped", row.id, row.owner)
            with self._ledger.transaction() as connection:
                is_row = _is_conversation(row.owner, row.id)
                connection.execute(update(conversations).where(is_row).values(reflected=True))


def continued_by(stored: Conversation, turns: Sequence[Turn]) -> Conversation | None:
    """A conversation after these turns have continued it; None when they belong to another.

    They continue it where they begin with its last turns. The last two of those may differ, because an answer
    can be regenerated and a question edited: the client's turns replace them.
    """
    for begin in range(len(stored.turns)):
        rest = len(stored.turns) - begin
        shared = _shared_prefix(stored.turns[begin:], turns)
        is_opening = begin == 0 and rest <= 2 and not stored.written
        if shared >= (1 if is_opening else 2) and rest - shared <= 2:
            return _extended(stored, begin + shared, turns[shared:])
    return None


def _extended(stored: Conversation, shared: int, rest: Sequence[Turn]) -> Conversation:
    """The conversation with its first `shared` turns, followed by these."""
    if not rest:
        return stored
    turns = [*stored.turns[:shared], *rest]
    grown = stored.grown or _continues_answer(stored.turns, turns)
    return replace(stored, turns=turns, written=min(stored.written, shared), grown=grown)


def _continues_answer(before: Sequence[Turn], after: Sequence[Turn]) -> bool:
    """Whether a conversation continues its last answer with a turn of the user's.

    Clients trim answers, put a name in front, or cut the last sentence: one of the two must contain the
    other.
    A prompt with worked examples that differs in its last question alone does not continue.
    """
    last = len(before) - 1
    if len(after) <= len(before) or list(before[:last]) != list(after[:last]):
        return False
    if {before[last]["role"], after[last]["role"]} != {"assistant"}:
        return False
    old, new = (" ".join(turns[last]["content"].split()) for turns in (before, after))
    is_same = bool(old and new) and (old in new or new in old)
    return is_same and any(turn["role"] == "user" for turn in after[len(before) :])


def _shared_prefix(first: Sequence[Turn], second: Sequence[Turn]) -> int:
    """The number of turns with which both begin."""
    length = 0
    for turn, other in zip(first, second, strict=False):
        if turn != other:
            break
        length += 1
    return length


def _newest(connection: Connection, owner: str, retention: timedelta) -> list[Conversation]:
    since = utc_timestamp(datetime.now(UTC) - retention)
    is_recent = and_(conversations.c.owner == owner, conversations.c.changed_at >= since)
    query = select(*_COLUMNS).where(is_recent).order_by(conversations.c.changed_at.desc())
    rows = connection.execute(query.limit(_CANDIDATES).with_for_update()).all()
    return [conversation for row in rows if (conversation := _conversation(row)) is not None]


def _save(connection: Connection, conversation: Conversation) -> None:
    if sum(len(turn["content"]) for turn in conversation.turns) > MAX_CHARACTERS:
        unwritten = conversation.turns[conversation.written :]
        conversation = replace(conversation, turns=unwritten, written=0)
    values = {"messages": _content(conversation), "changed_at": utc_timestamp(), "reflected": False}
    is_row = _is_conversation(conversation.owner, conversation.id)
    connection.execute(update(conversations).where(is_row).values(**values))


def _claim(connection: Connection, conversation: Conversation) -> bool:
    """Mark a conversation as reflected on, unless it was continued or another process was faster."""
    is_unchanged = and_(
        _is_conversation(conversation.owner, conversation.id),
        conversations.c.changed_at == conversation.changed_at,
        ~conversations.c.reflected,
    )
    values = {"reflected": True, "messages": _content(conversation)}
    return connection.execute(update(conversations).where(is_unchanged).values(**values)).rowcount > 0


def _is_conversation(owner: str, conversation_id: str) -> ColumnElement[bool]:
    return and_(conversations.c.owner == owner, conversations.c.id == conversation_id)


def _content(conversation: Conversation) -> dict[str, Any]:
    return {
        "turns": conversation.turns,
        "written": conversation.written,
        "grown": conversation.grown,
    }


# The messages as text: they are decoded row by row, so that a damaged row does not spoil a whole result.
_COLUMNS = (
    conversations.c.owner,
    conversations.c.id,
    conversations.c.changed_at,
    type_coerce(conversations.c.messages, Text).label("messages"),
)


def _conversation(row: Any) -> Conversation | None:
    """The conversation in a row; None when it can't be read."""
    try:
        content = json.loads(row.messages)
        turns = [{"role": turn["role"], "content": turn["content"]} for turn in content["turns"]]
        users = sum(turn["role"] == "user" for turn in turns)
        # Rows that were stored before `grown` existed: two turns of the user's count as growth.
        written, grown = int(content["written"]), bool(content.get("grown", users > 1))
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    if not all(isinstance(text, str) for turn in turns for text in turn.values()):
        return None
    return Conversation(row.owner, row.id, turns, written, row.changed_at, grown)
