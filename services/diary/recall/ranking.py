"""From the two scores of a chunk to one: how well it answers, and how well what stands around it does.

A score is a plain sum, so that every part of it can be shown. Measured turn by turn on three conversations of
LoCoMo (495 questions, recall@5 / @10; docs/measurements/diary.md has the rest and the losers): meaning alone
41 / 53, words alone 60 / 67; both by reciprocal ranks 54 / 65, by distributions 60 / 72, by min-max 64 / 74,
as here 64 / 73; then with neighbours 69 / 78, the answer after a question 73 / 81, and the entry 75 / 85.
Five hundred random choices of the weights on a grid around these end at 75.0 ± 1.6 / 83.2 ± 0.9.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date as Date
from datetime import timedelta
from typing import NamedTuple

from services.diary.index.types import DENSE, SPARSE, Hit
from services.diary.recall.temporal_query import DateMention

DENSE_WEIGHT = 1.5  # the weight of a cosine beside that of the best match by words, which is 1
BM25_FULL_SCORE = 8.0  # BM25 of a match that is worth that; LoCoMo's best have from 5 to 22, mostly 11
ANSWER_WEIGHT = 0.5  # what a chunk takes over of the one before it, when that one ends in a question
NEIGHBOUR_WEIGHT = 0.1  # and of each other one that is no further away than
NEIGHBOUR_RADIUS = 2
ENTRY_WEIGHT = 0.5  # and of the best chunk of its entry
DATE_WEIGHT = 0.75  # for a day that the question names
RETELLING_WINDOW = timedelta(7)  # after such a day it is still told of: for half of that
RECENCY_WEIGHT = 0.5  # for today, where recency is asked for
DATES_ONLY_FACTOR = 0.2  # of meaning and words, where a question asks of nothing but days


@dataclass(frozen=True)
class TemporalQuery:
    """What is asked about time: the days that are named, and the half-life of recency in days (0: none).

    `only_dates`: nothing else is asked ("What did you do last spring?"). Then the days decide, because what
    is near to such a question in meaning and words is anything that people do in any spring.
    """

    as_of: Date
    mentions: Sequence[DateMention] = ()
    half_life: float = 0.0
    only_dates: bool = False


@dataclass(frozen=True)
class ScoredChunk:
    """A chunk with the parts that its score is the sum of."""

    hit: Hit
    parts: dict[str, float]

    @property
    def score(self) -> float:
        return sum(self.parts.values())


def retelling_end(days: DateMention) -> Date:
    """The last day on which an entry may still tell of them."""
    return min(days.last, Date.max - RETELLING_WINDOW) + RETELLING_WINDOW


def rank(hits: Sequence[Hit], times: TemporalQuery) -> list[ScoredChunk]:
    """The chunks, each once, best first; of equals the newest."""
    entries: dict[tuple[str, int], dict[int, Hit]] = {}
    for hit in hits:
        entries.setdefault((hit.entry_id, hit.version), {})[hit.ordinal] = hit
    measure = _measure(hits, DATES_ONLY_FACTOR if times.only_dates else 1.0)
    scored = [one for _, found in sorted(entries.items()) for one in _of_entry(found, measure, times)]
    scored.sort(key=lambda one: one.hit.last_day, reverse=True)
    return sorted(scored, key=lambda one: one.score, reverse=True)


def _of_entry(found: Mapping[int, Hit], measure: "_Measure", times: TemporalQuery) -> Iterator[ScoredChunk]:
    """The chunks of one entry, by their places."""
    own = {place: measure.parts(hit) for place, hit in sorted(found.items())}
    sums = {place: sum(parts.values()) for place, parts in own.items()}
    of_the_best = ENTRY_WEIGHT * max(sums.values())
    for place, parts in own.items():
        rest = {
            "neighbours": _neighbours(place, found, sums),
            "entry": of_the_best,
            "dates": DATE_WEIGHT * _named(found[place], times.mentions),
            "recency": RECENCY_WEIGHT * _freshness(found[place], times),
        }
        yield ScoredChunk(found[place], parts | rest)


class _Measure(NamedTuple):
    """What makes the two scores of a chunk comparable.

    A cosine counts over the least of those found, BM25 as a share of the best, unless that is a poor one: in
    a small diary every word is rare. So both mean the same whether ten chunks were found or a thousand, and a
    neighbour that was not found is one that adds nothing. `weight` is that of both.
    """

    least: float
    best: float
    weight: float

    def parts(self, hit: Hit) -> dict[str, float]:
        meaning, words = DENSE_WEIGHT * (hit.scores[DENSE] - self.least), hit.scores[SPARSE] / self.best
        return {DENSE: self.weight * meaning, SPARSE: self.weight * words}


def _measure(hits: Sequence[Hit], weight: float) -> _Measure:
    least = min((hit.scores[DENSE] for hit in hits), default=0.0)
    return _Measure(least, max([BM25_FULL_SCORE, *(hit.scores[SPARSE] for hit in hits)]), weight)


def _neighbours(place: int, found: Mapping[int, Hit], sums: Mapping[int, float]) -> float:
    total = 0.0
    for beside in range(place - NEIGHBOUR_RADIUS, place + NEIGHBOUR_RADIUS + 1):
        if beside != place and beside in sums:
            answers = beside == place - 1 and found[beside].ends_in_question
            total += (ANSWER_WEIGHT if answers else NEIGHBOUR_WEIGHT) * sums[beside]
    return total


def _named(hit: Hit, named: Sequence[DateMention]) -> float:
    """1 for a chunk of the days that are named, 1/2 for one soon after, else 0: a bonus, never a filter.

    Days that were only assumed are none.

    As a filter, LoCoMo's questions that name days lost 8 points: people remember the wrong year.
    """
    return max((_nearness(hit, days) for days in named), default=0.0) if hit.dated else 0.0


def _nearness(hit: Hit, days: DateMention) -> float:
    if hit.last_day < days.first.isoformat() or hit.first_day > retelling_end(days).isoformat():
        return 0.0
    return 1.0 if hit.first_day <= days.last.isoformat() else 0.5


def _freshness(hit: Hit, times: TemporalQuery) -> float:
    """1 for today, half of it a half-life ago, and so on towards 0."""
    if times.half_life <= 0 or not hit.dated:
        return 0.0
    age = (times.as_of - Date.fromisoformat(hit.last_day)).days
    return float(0.5 ** (max(age, 0) / times.half_life))
