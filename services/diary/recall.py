"""From a question to the diary entries that Ada is shown.

The index gives candidates with two scores each, `fusion` makes one of them, and the ledger has the last word:
what was removed or edited meanwhile is left out.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from datetime import date as Date
from itertools import islice

from services.diary import words
from services.diary.alike import Collapsed
from services.diary.dates_asked import DatesAsked, for_words
from services.diary.embedder import Embedder
from services.diary.entry import Entry
from services.diary.excerpt import MAX_ENTRY_CHARACTERS as MAX_ENTRY_CHARACTERS
from services.diary.excerpt import excerpt
from services.diary.fusion import Scored, Times, fused, told_until
from services.diary.index import Asked, Hit, IndexEngine
from services.diary.ledger import Ledger

CANDIDATES = 200  # by each part; among 14,600 chunks 100 found as much as 800 (79.4, 79.7)
CANDIDATES_OF_DAYS = 50  # more of each time that the question names
AT_ONCE = 16  # entries that are asked of the ledger
BUDGET_CHARACTERS = 6_000  # about 1,500 tokens of English for the whole diary block
MOOD = 0.25  # for an entry of the mood that is asked for
WORTH_SHOWING = 0.75  # of the best chunk's score, for another one of its entry to be shown with it


@dataclass(frozen=True)
class Recalled:
    """An entry that was found.

    `shown` is what of it fits the prompt. `parts` explain `score`: as the engine has them ("raw dense" is a
    cosine, "raw words" BM25), and then those that it is the sum of. `why` says in words what numbers don't:
    how a date of the question was read, and which entries are left out because they say nearly the same.
    """

    entry: Entry
    shown: str
    score: float
    parts: dict[str, float] = field(default_factory=dict, hash=False)
    duplicates: tuple[str, ...] = ()
    why: tuple[str, ...] = ()
    places: tuple[int, ...] = ()  # of the chunks that were found, best first: what a shorter excerpt shows


@dataclass(frozen=True)
class _Found:
    """An entry with its chunks that were found, best first."""

    entry: Entry
    chunks: list[Scored]
    mood: float

    @property
    def score(self) -> float:
        return self.chunks[0].score + self.mood


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
        self._dates = DatesAsked(birthday)

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
    ) -> list[Recalled]:
        """The `top_k` best entries, best first; of those that say nearly the same only the best.

        Only entries from `first_day` to `last_day`, YYYY-MM-DD, are searched. Days that the question names
        are counted from `as_of`, else from `last_day`, else from today, and are preferred. With `recency`, a
        half-life in days, newer entries are preferred, with `mood` those of that mood. Raises
        DiaryUnavailable.
        """
        times = self._times(question, as_of, last_day, recency)
        asked = self._asked(question, times)
        limit = CANDIDATES
        while True:
            hits = self._hits(owner, asked, times, limit, first_day, last_day)
            groups = _collapsed(self._found(owner, fused(hits, times), mood), top_k)
            if len(groups) == top_k or len(hits) < limit:
                return [_recalled(one, others, times) for one, others in groups]
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
    ) -> list[Scored]:
        """The `limit` best chunks, which `search` makes its entries of. Raises DiaryUnavailable."""
        times = self._times(question, as_of, last_day, recency)
        asked = self._asked(question, times)
        hits = self._hits(owner, asked, times, max(limit, CANDIDATES), first_day, last_day)
        scored = fused(hits, times)
        there = {id(chunk) for one in self._found(owner, scored, None) for chunk in one.chunks}
        return [chunk for chunk in scored if id(chunk) in there][:limit]

    def _asked(self, question: str, times: Times) -> Asked:
        text = question.encode("utf-8", "replace").decode("utf-8")  # half a character is no word
        return Asked(self._embedder.embed_query(text), words.question(for_words(text, times.named)))

    def _times(self, question: str, as_of: Date | None, last_day: str, recency: float) -> Times:
        day = as_of or (Date.fromisoformat(last_day) if last_day else datetime.now(UTC).date())
        return Times(day, self._dates.read(question, day), recency)

    def _hits(
        self, owner: str, asked: Asked, times: Times, limit: int, first_day: str, last_day: str
    ) -> list[Hit]:
        """Candidates from all days that are searched, and more from those that the question names."""
        index = self._index.of(owner)
        hits = index.search(asked, limit, first_day, last_day)
        for days in times.named:
            first = max(days.first.isoformat(), first_day)
            last = told_until(days).isoformat()
            last = min(last, last_day) if last_day else last
            if first <= last:
                hits += index.search(asked, CANDIDATES_OF_DAYS, first, last)
        return hits

    def _found(self, owner: str, scored: Sequence[Scored], mood: str | None) -> Iterator[_Found]:
        """The entries that the ledger has in the version that was found, best first."""
        groups: dict[tuple[str, int], list[Scored]] = {}
        for one in scored:
            groups.setdefault((one.hit.entry_id, one.hit.version), []).append(one)
        found = self._there(owner, groups, mood)
        return found if mood is None else iter(sorted(found, key=lambda one: -one.score))

    def _there(
        self, owner: str, groups: dict[tuple[str, int], list[Scored]], mood: str | None
    ) -> Iterator[_Found]:
        """A few at a time, since mostly the first few are enough."""
        ledger, rest = self._ledger.of(owner), iter(groups.items())
        while some := dict(islice(rest, AT_ONCE)):
            entries = ledger.get_many([entry_id for entry_id, _ in some])
            for (entry_id, version), chunks in some.items():
                entry = entries.get(entry_id)
                if entry and entry.version == version:
                    same = mood is not None and (entry.mood or "").casefold() == mood.casefold()
                    yield _Found(entry, chunks, MOOD * same)


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


def _collapsed(found: Iterator[_Found], top_k: int) -> list[tuple[_Found, list[_Found]]]:
    """The `top_k` best that differ, each with those that are nearly the same as it."""
    groups: Collapsed[_Found] = Collapsed()
    for one in found:
        groups.put(one, one.entry.text)
        if len(groups.kept) > top_k:
            break
    return [(group.one, group.others) for group in groups.kept[:top_k]]


def _recalled(one: _Found, others: Sequence[_Found], times: Times) -> Recalled:
    best = one.chunks[0]
    places = [chunk.hit.place for chunk in one.chunks if chunk.score >= WORTH_SHOWING * best.score]
    raw = {f"raw {part}": score for part, score in best.hit.scores.items()}
    return Recalled(
        entry=one.entry,
        shown=excerpt(one.entry.text, places),
        score=one.score,
        parts={**raw, **best.parts, "mood": one.mood},
        duplicates=tuple(other.entry.id for other in others),
        why=tuple(_reasons(one, others, times)),
        places=tuple(places),
    )


def _reasons(one: _Found, others: Sequence[_Found], times: Times) -> Iterator[str]:
    if one.chunks[0].parts["dates"]:
        for days in times.named:
            yield f"{days.said!r} is read as {days.first} to {days.last}"
    if others:
        yield f"{len(others)} left out that say nearly the same: {', '.join(o.entry.id for o in others)}"
