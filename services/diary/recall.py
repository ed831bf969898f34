"""From a question to the diary entries that Ada is shown."""

from dataclasses import dataclass

from services.diary.embedder import Embedder
from services.diary.entry import Entry
from services.diary.index import IndexEngine
from services.diary.ledger import Ledger
from services.errors import NotFound

CHUNKS_AN_ENTRY = 4  # searched for each entry wanted, since one long entry can hold the first places
MAX_ENTRY_CHARACTERS = 1_500
BUDGET_CHARACTERS = 6_000  # about 1,500 tokens of English for the whole diary block


@dataclass(frozen=True)
class Recalled:
    """An entry that was found, what of it fits the prompt, and its score (cosine of its best chunk)."""

    entry: Entry
    shown: str
    score: float


class Recall:
    """Searches one owner's diary by meaning."""

    def __init__(self, ledger: Ledger, embedder: Embedder, index: IndexEngine) -> None:
        self._ledger = ledger
        self._embedder = embedder
        self._index = index

    def check(self) -> None:
        """Raises DiaryUnavailable when the index can't be asked."""
        self._index.check()

    def search(
        self, owner: str, question: str, top_k: int, first_day: str = "", last_day: str = ""
    ) -> list[Recalled]:
        """The `top_k` best entries, best first. Raises DiaryUnavailable."""
        vector = self._embedder.embed_query(question)
        limit = top_k * CHUNKS_AN_ENTRY
        hits = self._index.search(owner, vector, limit, first_day, last_day)
        while len(hits) == limit and len({hit.entry_id for hit in hits}) < top_k:
            limit *= 4  # a long entry holds the first places
            hits = self._index.search(owner, vector, limit, first_day, last_day)
        found: dict[str, Recalled] = {}
        for hit in hits:  # best first: the first hit of an entry is its best
            if len(found) == top_k:
                break
            if hit.entry_id in found:
                continue
            try:
                entry = self._ledger.get(owner, hit.entry_id)
            except NotFound:
                continue  # the index runs behind the ledger, and the ledger is the truth
            found[entry.id] = Recalled(entry, _excerpt(entry.text, hit.text), hit.score)
        return list(found.values())


def within_budget(recalled: list[Recalled]) -> list[Recalled]:
    """The best entries that fit the prompt together, in order of their dates, newest last."""
    kept, room = [], BUDGET_CHARACTERS
    for one in recalled:
        if len(one.shown) <= room:
            kept.append(one)
            room -= len(one.shown)
    return sorted(kept, key=lambda one: (one.entry.date, one.entry.written_at))


def _excerpt(text: str, best_chunk: str) -> str:
    """The whole entry, or of a very long one the piece that was found."""
    return text if len(text) <= MAX_ENTRY_CHARACTERS else f"[…] {best_chunk[:MAX_ENTRY_CHARACTERS]} […]"
