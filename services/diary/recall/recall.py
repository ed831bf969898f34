"""From a question to the diary entries that Ada is shown.

The index gives candidates with two scores each, `fusion` makes one of them, and the ledger has the last word:
what was removed or edited meanwhile is left out.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice

from services.diary import conflicts
from services.diary.embedding.embedder import Embedder
from services.diary.entry import Entry
from services.diary.index import bm25
from services.diary.index.types import Hit, IndexEngine, IndexQuery, OwnerIndex
from services.diary.ledger.ledger import Ledger
from services.diary.recall.cancellation import NEVER, Cancellation
from services.diary.recall.excerpt import MAX_ENTRY_CHARACTERS as MAX_ENTRY_CHARACTERS
from services.diary.recall.excerpt import excerpt
from services.diary.recall.near_duplicates import Deduplicator
from services.diary.recall.query import RecallQuery
from services.diary.recall.ranking import ScoredChunk, TemporalQuery, rank, retelling_end
from services.diary.recall.temporal_query import (
    DateMention,
    QueryDates,
    bm25_text,
    is_only_about_dates,
    truncate_query,
)

CANDIDATES = 200  # by each part; among 14,600 chunks 100 found as much as 800 (79.4, 79.7)
DATED_CANDIDATES = 50  # more of each time that the question names
MAX_DATED_CANDIDATES = 3_200  # are looked at for so many among rows whose day was only assumed
ENTRIES_PER_QUERY = 16  # entries that are asked of the ledger
BUDGET_CHARACTERS = 6_000  # about 1,500 tokens of English for the whole diary block
MOOD_WEIGHT = 0.25  # for an entry of the mood that is asked for
EXCERPT_SCORE_RATIO = 0.75  # of the best chunk's score, for another one of its entry to be shown with it


@dataclass(frozen=True)
class RecalledEntry:
    """An entry that was found.

    `shown` is what of it fits the prompt. `parts` explain `score`: as the engine has them ("raw dense" is a
    cosine, "raw words" BM25), and then those that it is the sum of. `why` says in words what numbers don't:
    how a date of the question was read, which entries are left out because they say the same, and whether
    passages are left out because they were settled as superseded.
    """

    entry: Entry
    excerpt: str
    score: float
    score_parts: dict[str, float] = field(default_factory=dict, hash=False)
    duplicate_ids: tuple[str, ...] = ()
    reasons: tuple[str, ...] = ()
    chunk_ordinals: tuple[int, ...] = ()  # of the matching chunks, best first: a shorter excerpt shows these
    hidden_ordinals: frozenset[int] = frozenset()  # places of the chunks that no excerpt shows


@dataclass(frozen=True)
class _Question:
    """A question to one owner's diary; `superseded` has the passages that don't hold."""

    owner: str
    index: OwnerIndex
    asked: IndexQuery
    times: TemporalQuery
    first_day: str
    last_day: str
    mood: str | None
    superseded: Mapping[tuple[str, int], Sequence[str]]
    cancellation: Cancellation

    def hits(self, limit: int) -> list[Hit]:
        """Candidates from all days that are searched, and more from those that are named."""
        hits = self._search(limit, self.first_day, self.last_day)
        for days in self.times.mentions:
            hits += self._hits_of(days)
        return hits

    def _hits_of(self, days: DateMention) -> list[Hit]:
        """Candidates of days that are named; rows whose day was only assumed take no place of theirs."""
        first = max(days.first.isoformat(), self.first_day)
        last = retelling_end(days).isoformat()
        last = min(last, self.last_day) if self.last_day else last
        limit, dated = DATED_CANDIDATES, list[Hit]()
        while first <= last and limit <= MAX_DATED_CANDIDATES:
            hits = self._search(limit, first, last)
            dated = [hit for hit in hits if hit.dated]
            if len(hits) < limit or len(dated) >= DATED_CANDIDATES:
                break
            limit *= 4
        return dated

    def _search(self, limit: int, first_day: str, last_day: str) -> list[Hit]:
        self.cancellation.check()
        return self.index.search(self.asked, limit, first_day, last_day)


@dataclass(frozen=True)
class _Found:
    """An entry with its chunks that were found, best first, and the places of those that don't hold."""

    entry: Entry
    chunks: list[ScoredChunk]
    mood: float
    superseded: frozenset[int]

    @property
    def score(self) -> float:
        return self.chunks[0].score + self.mood

    @property
    def newness(self) -> tuple[str, str]:
        return self.entry.last_day, self.entry.written_at


class Recall:
    """Searches diaries, each time one owner's. Safe to share between threads."""

    def __init__(
        self,
        ledger: Ledger,
        embedder: Embedder,
        index: IndexEngine,
        birthday: tuple[int, int] | None = None,
    ) -> None:
        """`birthday` is the diarist's, month and day, for questions about it."""
        self._ledger = ledger
        self._embedder = embedder
        self._index = index
        self._dates = QueryDates(birthday)

    def check(self) -> None:
        """Raises DiaryUnavailable when the index can't be asked."""
        self._index.check()

    def search(
        self, owner: str, query: RecallQuery, cancellation: Cancellation = NEVER
    ) -> list[RecalledEntry]:
        """The `query.top_k` best entries, best first; of those that say the same only the newest.

        Dates in the question are preferred, and half of the results are entries of these days as far as there
        are any. Passages that were settled as superseded are neither found nor shown. Raises
        DiaryUnavailable, and SearchCancelled when `cancellation` says so.
        """
        cancellation.check()
        times = self._times(query)
        asked = self._question(owner, query, times, cancellation)
        limit = CANDIDATES
        while True:
            hits = asked.hits(limit)
            chosen = self._chosen(asked, rank(hits, times), query.top_k)
            if len(chosen) == query.top_k or len(hits) < limit:
                return [_recalled(*one, times) for one in chosen]
            limit *= 4  # long entries or removed ones hold the first places

    def search_chunks(self, owner: str, query: RecallQuery) -> list[ScoredChunk]:
        """The `query.top_k` best chunks, of which `search` makes its entries. Raises DiaryUnavailable."""
        times = self._times(query)
        asked = self._question(owner, replace(query, mood=None), times, NEVER)
        scored = rank(asked.hits(max(query.top_k, CANDIDATES)), times)
        there = {id(chunk) for one in self._found(asked, _by_entry(scored)) for chunk in one.chunks}
        return [chunk for chunk in scored if id(chunk) in there][: query.top_k]

    def _times(self, query: RecallQuery) -> TemporalQuery:
        named = self._dates.read(query.text, query.today)
        return TemporalQuery(query.today, named, query.recency, is_only_about_dates(query.text, named))

    def _question(
        self, owner: str, query: RecallQuery, times: TemporalQuery, cancellation: Cancellation
    ) -> _Question:
        text = (
            truncate_query(query.text).encode("utf-8", "replace").decode("utf-8")
        )  # half a character is no word
        vector = self._embedder.embed_query(text)
        asked = IndexQuery(vector, bm25.query_vector(bm25_text(text, times.mentions)))
        superseded = conflicts.superseded_passages(self._ledger, owner)
        index = self._index.for_owner(owner)
        days = query.first_day, query.last_searched_day
        return _Question(owner, index, asked, times, *days, query.mood, superseded, cancellation)

    def _chosen(
        self, question: _Question, scored: Sequence[ScoredChunk], top_k: int
    ) -> list[tuple[_Found, list[_Found]]]:
        """The `top_k` best that differ, best first, each with those that say the same as it.

        Of the places half are for entries of the days that the question names, as far as there are any.
        """
        entries = _by_entry(scored)
        dated = {key: chunks for key, chunks in entries.items() if _is_dated(chunks[0])}
        best = _until(self._found(question, entries), top_k + 1)
        of_days = _until(self._found(question, dated), top_k // 2)
        found = {one.entry.id: one for one in [*best, *of_days]}
        groups: Deduplicator[_Found] = Deduplicator()
        for one in sorted(found.values(), key=lambda one: -one.score):
            groups.add(one, one.entry.text)
        return _in_their_places([_newest(group) for group in groups.groups], top_k)

    def _found(
        self, question: _Question, entries: Mapping[tuple[str, int], list[ScoredChunk]]
    ) -> Iterator[_Found]:
        """The entries that the ledger has in the version that was found, best first."""
        found = self._there(question, entries)
        return found if question.mood is None else iter(sorted(found, key=lambda one: -one.score))

    def _there(
        self, question: _Question, entries: Mapping[tuple[str, int], list[ScoredChunk]]
    ) -> Iterator[_Found]:
        """A few at a time, since mostly the first few are enough."""
        ledger, rest = self._ledger.for_owner(question.owner), iter(entries.items())
        while some := dict(islice(rest, ENTRIES_PER_QUERY)):
            question.cancellation.check()
            current = ledger.get_many([entry_id for entry_id, _ in some])
            for (entry_id, version), chunks in some.items():
                entry = current.get(entry_id)
                if entry and entry.version == version and (found := _holding(question, entry, chunks)):
                    yield found


def within_budget(
    recalled: Sequence[RecalledEntry], budget: int = BUDGET_CHARACTERS, size: Callable[[str], int] = len
) -> list[RecalledEntry]:
    """The best entries that fit the prompt together, in the order of their days, newest last.

    `size` measures what is shown in the budget's unit: characters, or the tokens of the served model.
    """
    kept, room = [], budget
    for one in recalled:
        needed = size(one.excerpt)
        if needed <= room:
            kept.append(one)
            room -= needed
    return sorted(kept, key=lambda one: (one.entry.first_day, one.entry.written_at))


def _holding(question: _Question, entry: Entry, chunks: Sequence[ScoredChunk]) -> _Found | None:
    """An entry with those of its chunks that hold; None when there are none among them."""
    passages = question.superseded.get((entry.id, entry.version), ())
    hidden = conflicts.chunk_ordinals(passages, entry.text) if passages else frozenset()
    holding = [chunk for chunk in chunks if chunk.hit.ordinal not in hidden]
    is_of_the_mood = question.mood is not None and (entry.mood or "").casefold() == question.mood.casefold()
    return _Found(entry, holding, MOOD_WEIGHT * is_of_the_mood, hidden) if holding else None


def _by_entry(scored: Sequence[ScoredChunk]) -> dict[tuple[str, int], list[ScoredChunk]]:
    """The chunks of each version of an entry, by its id and version; the entry with the best chunk first."""
    entries: dict[tuple[str, int], list[ScoredChunk]] = {}
    for one in scored:
        entries.setdefault((one.hit.entry_id, one.hit.version), []).append(one)
    return entries


def _is_dated(chunk: ScoredChunk) -> bool:
    return chunk.parts["dates"] > 0


def _until(found: Iterator[_Found], groups: int) -> list[_Found]:
    """The first of what was found, as many as make so many groups that differ."""
    taken: Deduplicator[_Found] = Deduplicator()
    for one in found:
        taken.add(one, one.entry.text)
        if len(taken.groups) >= groups:
            break
    return [one for group in taken.groups for one in group]


def _newest(group: Sequence[_Found]) -> tuple[_Found, list[_Found]]:
    """Of entries that say the same the one to be shown, and the others: the newest, of those that are of a
    day that the question names if there are any."""
    shown = max(group, key=lambda one: (one.chunks[0].parts["dates"], one.newness))
    return shown, [one for one in group if one is not shown]


def _in_their_places(
    groups: Sequence[tuple[_Found, list[_Found]]], top_k: int
) -> list[tuple[_Found, list[_Found]]]:
    """The groups that are recalled, best first: half of the places are for the days that are named."""
    ordered = sorted(groups, key=lambda group: -group[0].score)
    dated = [group for group in ordered if _is_dated(group[0].chunks[0])][: top_k // 2]
    others = [group for group in ordered if not any(group is one for one in dated)]
    return sorted([*dated, *others[: top_k - len(dated)]], key=lambda group: -group[0].score)


def _recalled(one: _Found, others: Sequence[_Found], times: TemporalQuery) -> RecalledEntry:
    best = one.chunks[0]
    places = [chunk.hit.ordinal for chunk in one.chunks if chunk.score >= EXCERPT_SCORE_RATIO * best.score]
    raw = {f"raw {part}": score for part, score in best.hit.scores.items()}
    return RecalledEntry(
        entry=one.entry,
        excerpt=excerpt(one.entry.text, places, one.superseded),
        score=one.score,
        score_parts={**raw, **best.parts, "mood": one.mood},
        duplicate_ids=tuple(other.entry.id for other in others),
        reasons=tuple(_reasons(one, others, times)),
        chunk_ordinals=tuple(places),
        hidden_ordinals=one.superseded,
    )


def _reasons(one: _Found, others: Sequence[_Found], times: TemporalQuery) -> Iterator[str]:
    if _is_dated(one.chunks[0]):
        for days in times.mentions:
            yield f"{days.phrase!r} is read as {days.first} to {days.last}"
    if others:
        yield f"{len(others)} left out that say nearly the same: {', '.join(o.entry.id for o in others)}"
    if one.superseded:
        yield f"passages left out that were settled as superseded: {len(one.superseded)}"
