"""A LoCoMo conversation as a diary: an entry per session, a line per turn, in Ada's own ledger and index."""

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

TOP_TURNS = 10  # of a ranking
TOP_CHUNKS = 4 * TOP_TURNS  # because a long turn has several chunks


class TurnsDiary:
    """One owner's diary, whose chunks are the turns of a conversation."""

    def __init__(self, owner: str, conversation: Conversation, recall: Recall) -> None:
        self._owner = owner
        self._recall = recall
        self._as_of = max(session.at for session in conversation.sessions).date()
        self._turn_ids = {
            (_entry_id(session), ordinal): turn.id
            for session in conversation.sessions
            for ordinal, turn in enumerate(_turn_of_each_chunk(session))
        }

    def ranking(self, question: Question) -> list[str]:
        """The ids of the best turns, best first: a turn has the rank of its best chunk."""
        query = RecallQuery(question.text, TOP_CHUNKS, as_of=self._as_of)
        chunks = self._recall.search_chunks(self._owner, query)
        turn_ids = [self._turn_ids[chunk.hit.entry_id, chunk.hit.ordinal] for chunk in chunks]
        return list(dict.fromkeys(turn_ids))[:TOP_TURNS]

    def seconds(self, question: Question, top_k: int) -> float:
        """How long recall takes for the question."""
        start = time.perf_counter()
        self._recall.search(self._owner, RecallQuery(question.text, top_k, as_of=self._as_of))
        return time.perf_counter() - start


def write(
    owner: str, conversation: Conversation, ledger: Ledger, embedder: Embedder, index: IndexEngine
) -> None:
    """Write the sessions to the ledger and the index. Raises DiaryUnavailable."""
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
    """A turn as the paper's retrievers have it, except for the date, which is the entry's."""
    return f'{turn.speaker} said, "{turn.text}"' + (f" [shares {turn.caption}]" if turn.caption else "")


def _turn_of_each_chunk(session: Session) -> list[Turn]:
    """Chunks begin within lines; a chunk belongs to the turn in whose line it begins."""
    starts = list(accumulate((len(_line(turn)) + 1 for turn in session.turns), initial=0))
    return [session.turns[bisect_right(starts, start) - 1] for start, _ in spans(_text(session.turns))]
