"""Ranks chunks by one score, made of the two scores that the index gives.

The score of a chunk c is a plain sum, so that every part of it can be shown:

    score(c) = base(c) + neighbours(c) + entry(c) + dates(c) + recency(c)

    base(c)       = w · DENSE_WEIGHT · (cosine(c) - min cosine) + w · bm25(c) / max(BM25_FULL_SCORE, max bm25)
    neighbours(c) = Σ k(c, n) · base(n)     over the retrieved chunks n of c's entry with
                                            1 ≤ |ordinal(n) - ordinal(c)| ≤ NEIGHBOUR_RADIUS
                    k = ANSWER_WEIGHT if n is the chunk before c and ends in a question, else NEIGHBOUR_WEIGHT
    entry(c)      = ENTRY_WEIGHT · max base(n)        over the retrieved chunks n of c's entry
    dates(c)      = DATE_WEIGHT · d(c)      d = 1 on days that the question mentions, 1/2 up to
                                            RETELLING_WINDOW after them, else 0
    recency(c)    = RECENCY_WEIGHT · 2 ^ (-age(c) / half-life)       0 unless a half-life is given

Minimum and maximum are those of the retrieved chunks. w is 1, or DATES_ONLY_FACTOR when the question asks
about nothing but dates.

How the constants were found: on three conversations of LoCoMo (Maharana et al., ACL 2024; 495 questions), as
round numbers on plateaus, not as the best. Five hundred random choices of the weights on a grid around them
give 75.0 ± 1.6 / 83.2 ± 0.9 (recall@5 / @10 of turns, in percent); the best of those is 77.8 / 84.4. What the
parts give, one added to the other: cosine alone 41 / 53, BM25 alone 60 / 67; both by reciprocal ranks 54 /
65, by distributions 60 / 72, by min-max 64 / 74, as in `base` 64 / 73; neighbours 69 / 78, the answer after a
question 73 / 81, entry 75 / 85. DATE_WEIGHT was chosen from 0.25 to 1.0 on questions about dates in a long
diary; without BM25_FULL_SCORE one common word beat the right meaning in a diary of 20 entries.
docs/measurements/diary.md has the tables, and what was tried and not taken.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date as Date
from datetime import timedelta
from typing import NamedTuple

from services.diary.index.types import DENSE, SPARSE, Hit
from services.diary.recall.temporal_query import DateMention

DENSE_WEIGHT = 1.5  # of a cosine, where the best BM25 score has 1
BM25_FULL_SCORE = 8.0  # BM25 that counts fully; the best of LoCoMo's questions have 5 to 22, mostly 11
ANSWER_WEIGHT = 0.5
NEIGHBOUR_WEIGHT = 0.1
NEIGHBOUR_RADIUS = 2  # chunks
ENTRY_WEIGHT = 0.5
DATE_WEIGHT = 0.75
RETELLING_WINDOW = timedelta(7)  # people write about a day within a week
RECENCY_WEIGHT = 0.5
DATES_ONLY_FACTOR = 0.2


@dataclass(frozen=True)
class TemporalQuery:
    """What a question asks about time.

    `mentions` are the days that it names. `half_life` is that of recency in days; 0 prefers nothing.
    `only_dates` says that it asks about nothing else ("What did you do last spring?"). Then the dates decide,
    because in meaning and words such a question is near to whatever people do in any spring.
    """

    as_of: Date
    mentions: Sequence[DateMention] = ()
    half_life: float = 0.0
    only_dates: bool = False


@dataclass(frozen=True)
class ScoredChunk:
    """A chunk with the parts whose sum is its score."""

    hit: Hit
    parts: dict[str, float]

    @property
    def score(self) -> float:
        """The sum of the parts."""
        return sum(self.parts.values())

    @property
    def is_dated(self) -> bool:
        """Whether the chunk belongs to days that the question mentions."""
        return self.parts["dates"] > 0


def retelling_end(mention: DateMention) -> Date:
    """The last day on which an entry may still tell about these days."""
    return min(mention.last, Date.max - RETELLING_WINDOW) + RETELLING_WINDOW


def rank(hits: Sequence[Hit], times: TemporalQuery) -> list[ScoredChunk]:
    """Each chunk once, best first; of equal scores the newest first."""
    entries: dict[tuple[str, int], dict[int, Hit]] = {}
    for hit in hits:
        entries.setdefault((hit.entry_id, hit.version), {})[hit.ordinal] = hit
    scale = _scale(hits, DATES_ONLY_FACTOR if times.only_dates else 1.0)
    scored = [chunk for _, chunks in sorted(entries.items()) for chunk in _rank_entry(chunks, scale, times)]
    scored.sort(key=lambda chunk: chunk.hit.last_day, reverse=True)
    return sorted(scored, key=lambda chunk: chunk.score, reverse=True)


def _rank_entry(hits: Mapping[int, Hit], scale: "_Scale", times: TemporalQuery) -> Iterator[ScoredChunk]:
    """The chunks of one entry, in the order of their ordinals."""
    bases = {ordinal: scale.base(hit) for ordinal, hit in sorted(hits.items())}
    sums = {ordinal: sum(parts.values()) for ordinal, parts in bases.items()}
    entry = ENTRY_WEIGHT * max(sums.values())
    for ordinal, base in bases.items():
        context = {
            "neighbours": _neighbours(ordinal, hits, sums),
            "entry": entry,
            "dates": DATE_WEIGHT * _date_match(hits[ordinal], times.mentions),
            "recency": RECENCY_WEIGHT * _recency(hits[ordinal], times),
        }
        yield ScoredChunk(hits[ordinal], base | context)


class _Scale(NamedTuple):
    """Makes the two scores of a chunk comparable.

    A cosine counts above the lowest one retrieved. BM25 counts as a share of the highest, unless that is a
    poor one: in a small diary every word is rare. So both mean the same whether ten chunks were retrieved or
    a thousand, and a neighbour that was not retrieved adds nothing.
    """

    min_cosine: float
    full_bm25: float
    weight: float

    def base(self, hit: Hit) -> dict[str, float]:
        dense = DENSE_WEIGHT * (hit.scores[DENSE] - self.min_cosine)
        sparse = hit.scores[SPARSE] / self.full_bm25
        return {DENSE: self.weight * dense, SPARSE: self.weight * sparse}


def _scale(hits: Sequence[Hit], weight: float) -> _Scale:
    min_cosine = min((hit.scores[DENSE] for hit in hits), default=0.0)
    return _Scale(min_cosine, max([BM25_FULL_SCORE, *(hit.scores[SPARSE] for hit in hits)]), weight)


def _neighbours(ordinal: int, hits: Mapping[int, Hit], sums: Mapping[int, float]) -> float:
    total = 0.0
    for other in range(ordinal - NEIGHBOUR_RADIUS, ordinal + NEIGHBOUR_RADIUS + 1):
        if other != ordinal and other in sums:
            is_question = other == ordinal - 1 and hits[other].ends_in_question
            total += (ANSWER_WEIGHT if is_question else NEIGHBOUR_WEIGHT) * sums[other]
    return total


def _date_match(hit: Hit, mentions: Sequence[DateMention]) -> float:
    """1 on the days that are mentioned, 1/2 soon after, else 0; an assumed date matches nothing.

    A bonus, never a filter: as a filter, LoCoMo's questions that name days lost 8 points, because people
    remember the wrong year.
    """
    return max((_overlap(hit, mention) for mention in mentions), default=0.0) if hit.dated else 0.0


def _overlap(hit: Hit, mention: DateMention) -> float:
    if hit.last_day < mention.first.isoformat() or hit.first_day > retelling_end(mention).isoformat():
        return 0.0
    return 1.0 if hit.first_day <= mention.last.isoformat() else 0.5


def _recency(hit: Hit, times: TemporalQuery) -> float:
    """1 today, 1/2 one half-life ago, and so on towards 0."""
    if times.half_life <= 0 or not hit.dated:
        return 0.0
    age = (times.as_of - Date.fromisoformat(hit.last_day)).days
    return float(0.5 ** (max(age, 0) / times.half_life))
