"""Recall: from a question to the diary entries that Ada is shown.

`candidates` fetches chunks from the index, each with two scores; `ranking` makes one score of them;
`selection` takes the entries from the ledger, so that what was removed or edited meanwhile is left out.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from services.diary import conflicts
from services.diary.embedding.embedder import Embedder
from services.diary.entry import Entry
from services.diary.index import bm25
from services.diary.index.engine import SearchIndex
from services.diary.index.types import IndexQuery
from services.diary.ledger.ledger import Ledger
from services.diary.recall.cancellation import NEVER, Cancellation
from services.diary.recall.candidates import CANDIDATES, CandidateSearch
from services.diary.recall.excerpt import excerpt
from services.diary.recall.query import RecallQuery
from services.diary.recall.ranking import ScoredChunk, TemporalQuery, rank
from services.diary.recall.selection import EntrySelector, SelectedEntry, group_by_version
from services.diary.recall.temporal_query import QueryDates, bm25_text, is_only_about_dates, truncate_query

BUDGET_CHARACTERS = 6_000  # about 1,500 tokens of English for the whole diary block
EXCERPT_SCORE_RATIO = 0.75  # of the best chunk's score, from which on an excerpt shows another chunk too


@dataclass(frozen=True)
class RecalledEntry:
    """An entry that was recalled.

    `excerpt` is the part of its text that fits the prompt. `score` is the sum of `score_parts`, except for
    the index's own scores "raw dense" (a cosine) and "raw words" (BM25). `reasons` explain in words how a
    date in the question was read, which duplicates were left out, and how many superseded passages.
    """

    entry: Entry
    excerpt: str
    score: float
    score_parts: dict[str, float] = field(default_factory=dict, hash=False)
    duplicate_ids: tuple[str, ...] = ()
    reasons: tuple[str, ...] = ()
    chunk_ordinals: tuple[int, ...] = ()  # of the matching chunks, best first: a shorter excerpt shows these
    hidden_ordinals: frozenset[int] = frozenset()  # of the chunks that no excerpt may show


class Recall:
    """Searches diaries, one owner's at a time. Safe to share between threads."""

    def __init__(
        self,
        ledger: Ledger,
        embedder: Embedder,
        index: SearchIndex,
        birthday: tuple[int, int] | None = None,
    ) -> None:
        """`birthday` is the diarist's month and day, for questions that mention it."""
        self._ledger = ledger
        self._embedder = embedder
        self._index = index
        self._dates = QueryDates(birthday)

    def check(self) -> None:
        """Raises DiaryUnavailable when the index cannot be searched."""
        self._index.check()

    def search(
        self, owner: str, query: RecallQuery, cancellation: Cancellation = NEVER
    ) -> list[RecalledEntry]:
        """The `query.top_k` best entries, best first; of those that say the same only the newest.

        Entries of days that the question mentions are preferred, and half of the results are theirs as far as
        there are any. Passages that were settled as superseded are neither found nor shown. Raises
        DiaryUnavailable, and SearchCancelled after `cancellation.cancel()`.
        """
        cancellation.check()
        times = self._times(query)
        candidates = self._candidates(owner, query, times, cancellation)
        selector = self._selector(owner, query.mood, cancellation)
        limit = CANDIDATES
        while True:
            hits = candidates.hits(limit)
            selected = selector.select(rank(hits, times), query.top_k)
            if len(selected) == query.top_k or len(hits) < limit:
                return [_recalled(entry, times) for entry in selected]
            limit *= 4  # the candidates were mostly chunks of long entries, or of removed ones

    def search_chunks(self, owner: str, query: RecallQuery) -> list[ScoredChunk]:
        """The `query.top_k` best chunks, from which `search` makes its entries. Raises DiaryUnavailable."""
        times = self._times(query)
        hits = self._candidates(owner, query, times, NEVER).hits(max(query.top_k, CANDIDATES))
        ranked = rank(hits, times)
        matches = self._selector(owner, None, NEVER).matches(group_by_version(ranked))
        current = {id(chunk) for match in matches for chunk in match.chunks}
        return [chunk for chunk in ranked if id(chunk) in current][: query.top_k]

    def _times(self, query: RecallQuery) -> TemporalQuery:
        mentions = self._dates.parse(query.text, query.today)
        return TemporalQuery(query.today, mentions, query.recency, is_only_about_dates(query.text, mentions))

    def _candidates(
        self, owner: str, query: RecallQuery, times: TemporalQuery, cancellation: Cancellation
    ) -> CandidateSearch:
        text = truncate_query(query.text)
        text = text.encode("utf-8", "replace").decode("utf-8")  # a lone surrogate breaks the tokenizer
        vector = self._embedder.embed_query(text)
        sparse_vector = bm25.query_vector(bm25_text(text, times.mentions))
        return CandidateSearch(
            self._index.for_owner(owner),
            IndexQuery(vector, sparse_vector),
            list(times.mentions),
            query.first_day,
            query.last_searched_day,
            cancellation,
        )

    def _selector(self, owner: str, mood: str | None, cancellation: Cancellation) -> EntrySelector:
        superseded = conflicts.superseded_passages(self._ledger, owner)
        return EntrySelector(self._ledger.for_owner(owner), superseded, mood, cancellation)


def within_budget(
    recalled: Sequence[RecalledEntry], budget: int = BUDGET_CHARACTERS, size: Callable[[str], int] = len
) -> list[RecalledEntry]:
    """The best entries that fit the prompt together, oldest day first.

    `size` measures an excerpt in the unit of `budget`: characters, or tokens of the served model.
    """
    fitting, remaining = [], budget
    for entry in recalled:
        needed = size(entry.excerpt)
        if needed <= remaining:
            fitting.append(entry)
            remaining -= needed
    return sorted(fitting, key=lambda entry: (entry.entry.first_day, entry.entry.written_at))


def _recalled(selected: SelectedEntry, times: TemporalQuery) -> RecalledEntry:
    match, duplicates = selected
    best = match.chunks[0]
    ordinals = [
        chunk.hit.ordinal for chunk in match.chunks if chunk.score >= EXCERPT_SCORE_RATIO * best.score
    ]
    raw = {f"raw {part}": score for part, score in best.hit.scores.items()}
    return RecalledEntry(
        entry=match.entry,
        excerpt=excerpt(match.entry.text, ordinals, match.superseded),
        score=match.score,
        score_parts={**raw, **best.parts, "mood": match.mood_bonus},
        duplicate_ids=tuple(duplicate.entry.id for duplicate in duplicates),
        reasons=tuple(_reasons(selected, times)),
        chunk_ordinals=tuple(ordinals),
        hidden_ordinals=match.superseded,
    )


def _reasons(selected: SelectedEntry, times: TemporalQuery) -> Iterator[str]:
    match, duplicates = selected
    if match.is_dated:
        for mention in times.mentions:
            yield f"{mention.phrase!r} is read as {mention.first} to {mention.last}"
    if duplicates:
        ids = ", ".join(duplicate.entry.id for duplicate in duplicates)
        yield f"{len(duplicates)} left out that say nearly the same: {ids}"
    if match.superseded:
        yield f"passages left out that were settled as superseded: {len(match.superseded)}"
