"""From a question to the diary entries that Ada is shown.

The index gives candidates with two scores each, `fusion` makes one of them, and the ledger has the last word:
what was removed or edited meanwhile is left out.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date as Date
from itertools import islice

from services.diary import conflicts
from services.diary.embedding.embedder import Embedder
from services.diary.entry import Entry
from services.diary.index import bm25 as words
from services.diary.index.types import Hit, IndexEngine, IndexQuery, OwnerIndex
from services.diary.ledger.ledger import Ledger
from services.diary.recall.cancellation import NEVER, Cancellation
from services.diary.recall.excerpt import MAX_ENTRY_CHARACTERS as MAX_ENTRY_CHARACTERS
from services.diary.recall.excerpt import excerpt
from services.diary.recall.near_duplicates import Deduplicator
from services.diary.recall.ranking import Scored, TemporalQuery, fused, told_until
from services.diary.recall.temporal_query import Days, QueryDates, for_words, only_days, shortened
from services.local_time import IN_UTC, LocalTime

CANDIDATES = 200  # by each part; among 14,600 chunks 100 found as much as 800 (79.4, 79.7)
CANDIDATES_OF_DAYS = 50  # more of each time that the question names
MOST_OF_DAYS = 3_200  # are looked at for so many among rows whose day was only assumed
AT_ONCE = 16  # entries that are asked of the ledger
BUDGET_CHARACTERS = 6_000  # about 1,500 tokens of English for the whole diary block
MOOD = 0.25  # for an entry of the mood that is asked for
WORTH_SHOWING = 0.75  # of the best chunk's score, for another one of its entry to be shown with it


@dataclass(frozen=True)
class Recalled:
    """An entry that was found.

    `shown` is what of it fits the prompt. `parts` explain `score`: as the engine has them ("raw dense" is a
    cosine, "raw words" BM25), and then those that it is the sum of. `why` says in words what numbers don't:
    how a date of the question was read, which entries are left out because they say the same, and whether
    passages are left out because they were settled as superseded.
    """

    entry: Entry
    shown: str
    score: float
    parts: dict[str, float] = field(default_factory=dict, hash=False)
    duplicates: tuple[str, ...] = ()
    why: tuple[str, ...] = ()
    places: tuple[int, ...] = ()  # of the chunks that were found, best first: what a shorter excerpt shows
    hidden: frozenset[int] = frozenset()  # places of the chunks that no excerpt shows


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
        for days in self.times.named:
            hits += self._hits_of(days)
        return hits

    def _hits_of(self, days: Days) -> list[Hit]:
        """Candidates of days that are named; rows whose day was only assumed take no place of theirs."""
        first = max(days.first.isoformat(), self.first_day)
        last = told_until(days).isoformat()
        last = min(last, self.last_day) if self.last_day else last
        limit, dated = CANDIDATES_OF_DAYS, list[Hit]()
        while first <= last and limit <= MOST_OF_DAYS:
            hits = self._search(limit, first, last)
            dated = [hit for hit in hits if hit.dated]
            if len(hits) < limit or len(dated) >= CANDIDATES_OF_DAYS:
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
    chunks: list[Scored]
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
        self,
        owner: str,
        question: str,
        top_k: int,
        first_day: str = "",
        last_day: str = "",
        as_of: Date | None = None,
        recency: float = 0.0,
        mood: str | None = None,
        local: LocalTime = IN_UTC,
        cancellation: Cancellation = NEVER,
    ) -> list[Recalled]:
        """The `top_k` best entries, best first; of those that say the same only the newest.

        Only entries from `first_day` to `last_day`, YYYY-MM-DD, are searched. `as_of` is the day that counts
        as today: nothing later is recalled. Days that the question names are counted from it, else from
        `last_day`, else from today in `local`; they are preferred, and half of the places are theirs as far
        as they have entries. With `recency`, a half-life in days, newer entries are preferred, with `mood`
        those of that mood. Passages that were settled as superseded are neither found nor shown. Raises
        DiaryUnavailable, and SearchCancelled when `cancellation` says so.
        """
        cancellation.check()
        times = self._times(question, as_of, last_day, recency, local)
        days = first_day, _earlier(last_day, as_of)
        asked = self._question(owner, question, times, days, mood, cancellation)
        limit = CANDIDATES
        while True:
            hits = asked.hits(limit)
            chosen = self._chosen(asked, fused(hits, times), top_k)
            if len(chosen) == top_k or len(hits) < limit:
                return [_recalled(*one, times) for one in chosen]
            limit *= 4  # long entries or removed ones hold the first places

    def chunks(
        self,
        owner: str,
        question: str,
        limit: int,
        first_day: str = "",
        last_day: str = "",
        as_of: Date | None = None,
        recency: float = 0.0,
        local: LocalTime = IN_UTC,
    ) -> list[Scored]:
        """The `limit` best chunks, which `search` makes its entries of. Raises DiaryUnavailable."""
        times = self._times(question, as_of, last_day, recency, local)
        days = first_day, _earlier(last_day, as_of)
        asked = self._question(owner, question, times, days, None, NEVER)
        scored = fused(asked.hits(max(limit, CANDIDATES)), times)
        there = {id(chunk) for one in self._found(asked, _by_entry(scored)) for chunk in one.chunks}
        return [chunk for chunk in scored if id(chunk) in there][:limit]

    def _times(
        self, question: str, as_of: Date | None, last_day: str, recency: float, local: LocalTime
    ) -> TemporalQuery:
        day = as_of or (Date.fromisoformat(last_day) if last_day else local.today())
        named = self._dates.read(question, day)
        return TemporalQuery(day, named, recency, only_days(question, named))

    def _question(
        self,
        owner: str,
        question: str,
        times: TemporalQuery,
        days: tuple[str, str],
        mood: str | None,
        cancellation: Cancellation,
    ) -> _Question:
        text = shortened(question).encode("utf-8", "replace").decode("utf-8")  # half a character is no word
        vector = self._embedder.embed_query(text)
        asked = IndexQuery(vector, words.question(for_words(text, times.named)))
        superseded = conflicts.superseded_passages(self._ledger, owner)
        index = self._index.for_owner(owner)
        return _Question(owner, index, asked, times, *days, mood, superseded, cancellation)

    def _chosen(
        self, question: _Question, scored: Sequence[Scored], top_k: int
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
            groups.put(one, one.entry.text)
        return _in_their_places([_newest(group) for group in groups.all], top_k)

    def _found(
        self, question: _Question, entries: Mapping[tuple[str, int], list[Scored]]
    ) -> Iterator[_Found]:
        """The entries that the ledger has in the version that was found, best first."""
        found = self._there(question, entries)
        return found if question.mood is None else iter(sorted(found, key=lambda one: -one.score))

    def _there(
        self, question: _Question, entries: Mapping[tuple[str, int], list[Scored]]
    ) -> Iterator[_Found]:
        """A few at a time, since mostly the first few are enough."""
        ledger, rest = self._ledger.for_owner(question.owner), iter(entries.items())
        while some := dict(islice(rest, AT_ONCE)):
            question.cancellation.check()
            current = ledger.get_many([entry_id for entry_id, _ in some])
            for (entry_id, version), chunks in some.items():
                entry = current.get(entry_id)
                if entry and entry.version == version and (found := _holding(question, entry, chunks)):
                    yield found


def within_budget(
    recalled: Sequence[Recalled], budget: int = BUDGET_CHARACTERS, size: Callable[[str], int] = len
) -> list[Recalled]:
    """The best entries that fit the prompt together, in the order of their days, newest last.

    `size` measures what is shown in the budget's unit: characters, or the tokens of the served model.
    """
    kept, room = [], budget
    for one in recalled:
        needed = size(one.shown)
        if needed <= room:
            kept.append(one)
            room -= needed
    return sorted(kept, key=lambda one: (one.entry.first_day, one.entry.written_at))


def _holding(question: _Question, entry: Entry, chunks: Sequence[Scored]) -> _Found | None:
    """An entry with those of its chunks that hold; None when there are none among them."""
    passages = question.superseded.get((entry.id, entry.version), ())
    hidden = conflicts.chunk_ordinals(passages, entry.text) if passages else frozenset()
    holding = [chunk for chunk in chunks if chunk.hit.place not in hidden]
    is_of_the_mood = question.mood is not None and (entry.mood or "").casefold() == question.mood.casefold()
    return _Found(entry, holding, MOOD * is_of_the_mood, hidden) if holding else None


def _earlier(last_day: str, as_of: Date | None) -> str:
    """The last day that is searched; "" for none."""
    days = [day for day in (last_day, as_of.isoformat() if as_of else "") if day]
    return min(days, default="")


def _by_entry(scored: Sequence[Scored]) -> dict[tuple[str, int], list[Scored]]:
    """The chunks of each version of an entry, by its id and version; the entry with the best chunk first."""
    entries: dict[tuple[str, int], list[Scored]] = {}
    for one in scored:
        entries.setdefault((one.hit.entry_id, one.hit.version), []).append(one)
    return entries


def _is_dated(chunk: Scored) -> bool:
    return chunk.parts["dates"] > 0


def _until(found: Iterator[_Found], groups: int) -> list[_Found]:
    """The first of what was found, as many as make so many groups that differ."""
    taken: Deduplicator[_Found] = Deduplicator()
    for one in found:
        taken.put(one, one.entry.text)
        if len(taken.all) >= groups:
            break
    return [one for group in taken.all for one in group]


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


def _recalled(one: _Found, others: Sequence[_Found], times: TemporalQuery) -> Recalled:
    best = one.chunks[0]
    places = [chunk.hit.place for chunk in one.chunks if chunk.score >= WORTH_SHOWING * best.score]
    raw = {f"raw {part}": score for part, score in best.hit.scores.items()}
    return Recalled(
        entry=one.entry,
        shown=excerpt(one.entry.text, places, one.superseded),
        score=one.score,
        parts={**raw, **best.parts, "mood": one.mood},
        duplicates=tuple(other.entry.id for other in others),
        why=tuple(_reasons(one, others, times)),
        places=tuple(places),
        hidden=one.superseded,
    )


def _reasons(one: _Found, others: Sequence[_Found], times: TemporalQuery) -> Iterator[str]:
    if _is_dated(one.chunks[0]):
        for days in times.named:
            yield f"{days.said!r} is read as {days.first} to {days.last}"
    if others:
        yield f"{len(others)} left out that say nearly the same: {', '.join(o.entry.id for o in others)}"
    if one.superseded:
        yield f"passages left out that were settled as superseded: {len(one.superseded)}"
