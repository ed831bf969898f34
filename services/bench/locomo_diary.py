"""A LoCoMo conversation as a diary: an entry a session, a line a turn, from ledger to recall as Ada's own."""

import time
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate

from services.bench.locomo import Conversation, Question, Session, Turn
from services.diary.embedding.embedder import Embedder
from services.diary.entry import EntryDraft
from services.diary.index.chunking import spans
from services.diary.index.engine import IndexEngine
from services.diary.index.indexing import build_chunks
from services.diary.ledger.ledger import Ledger
from services.diary.recall.query import RecallQuery
from services.diary.recall.recall import Recall

TURNS = 10  # of a ranking
CHUNKS = 4 * TURNS  # since a long turn is more than one


class TurnsDiary:
    """One owner's diary with all that was said in a conversation."""

    def __init__(self, owner: str, conversation: Conversation, recall: Recall) -> None:
        self._owner = owner
        self._recall = recall
        self._as_of = max(session.at for session in conversation.sessions).date()
        self._turns = {
            (_entry_id(session), place): turn.id
            for session in conversation.sessions
            for place, turn in enumerate(_turn_of_each_chunk(session))
        }

    def ranking(self, question: Question) -> list[str]:
        """The ids of the best turns, best first: a turn has the rank of its best chunk."""
        found = self._recall.search_chunks(self._owner, RecallQuery(question.text, CHUNKS, as_of=self._as_of))
        turns = [self._turns[one.hit.entry_id, one.hit.ordinal] for one in found]
        return list(dict.fromkeys(turns))[:TURNS]

    def seconds(self, question: Question, top_k: int) -> float:
        """How long recall takes from the question to the entries to be shown."""
        start = time.perf_counter()
        self._recall.search(self._owner, RecallQuery(question.text, top_k, as_of=self._as_of))
        return time.perf_counter() - start


def write(
    owner: str, conversation: Conversation, ledger: Ledger, embedder: Embedder, index: IndexEngine
) -> None:
    """Take the sessions into the ledger and the index. Raises DiaryUnavailable."""
    drafts = [
        EntryDraft(text=_text(session.turns), date=session.at.isoformat(), id=_entry_id(session))
        for session in conversation.sessions
    ]
    entries = [ledger.for_owner(owner).add(draft) for draft in drafts]
    index.upsert(build_chunks(entries, embedder))
    ledger.mark_indexed(entries)


def _entry_id(session: Session) -> str:
    return f"session-{session.number}"


def _text(turns: Sequence[Turn]) -> str:
    return "\n".join(map(_line, turns))


def _line(turn: Turn) -> str:
    """As the paper has it for its retrievers, save for the date, which is the entry's."""
    return f'{turn.speaker} said, "{turn.text}"' + (f" [shares {turn.caption}]" if turn.caption else "")


def _turn_of_each_chunk(session: Session) -> list[Turn]:
    """Chunks begin within lines; the line that a chunk begins in is its turn."""
    starts = list(accumulate((len(_line(turn)) + 1 for turn in session.turns), initial=0))
    return [session.turns[bisect_right(starts, start) - 1] for start, _ in spans(_text(session.turns))]
