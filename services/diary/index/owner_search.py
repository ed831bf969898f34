"""One owner's search, the same over every engine: the best of each part, with the scores of both."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

from services.diary.index.types import DENSE, SPARSE, ChunkRef, Hit, IndexQuery, point_id


class Point(Protocol):
    """A chunk as an engine finds it."""

    @property
    def id(self) -> Any: ...
    @property
    def score(self) -> float: ...
    @property
    def payload(self) -> Mapping[str, Any] | None: ...


Parts = dict[str, Sequence[Point]]  # what DENSE found, and what WORDS found


class OwnerPoints(Protocol):
    """What an engine must answer about one owner's points. Raises DiaryUnavailable."""

    owner: str

    def best(self, asked: IndexQuery, limit: int, first_day: str, last_day: str) -> Parts:
        """The `limit` best by each part, within the days that are not empty."""
        ...

    def scored(self, asked: IndexQuery, ids: Mapping[str, set[str]]) -> Parts:
        """Each part's scores of the points that are named for it."""
        ...


class OwnerChunks:
    """An `OwnersIndex` over any engine's points."""

    def __init__(self, points: OwnerPoints) -> None:
        self._points = points

    def search(self, asked: IndexQuery, limit: int, first_day: str = "", last_day: str = "") -> list[Hit]:
        """The `limit` best chunks by meaning and the `limit` best by words, in one list, nearest first."""
        found = self._points.best(asked, limit, first_day, last_day)
        ids = {part: {str(point.id) for point in found.get(part, ())} for part in (DENSE, SPARSE)}
        other = {DENSE: ids[SPARSE] - ids[DENSE], SPARSE: ids[DENSE] - ids[SPARSE]}
        return _hits(found, self._points.scored(asked, other))

    def fetch(self, places: Iterable[ChunkRef], asked: IndexQuery) -> list[Hit]:
        """The chunks at these places, those that exist, with their scores; nearest first."""
        ids = {point_id(self._points.owner, place) for place in places}
        return _hits(self._points.scored(asked, {DENSE: ids, SPARSE: ids}))


def _hits(*found: Parts) -> list[Hit]:
    """Every point once, with both scores: a point that WORDS does not know shares no word."""
    hits: dict[str, Hit] = {}
    for parts in found:
        for part, points in parts.items():
            for point in points:
                hit = hits.setdefault(
                    str(point.id), Hit.from_payload(point.payload or {}, {DENSE: 0.0, SPARSE: 0.0})
                )
                hit.scores[part] = float(point.score)
    return sorted(hits.values(), key=lambda hit: (-hit.scores[DENSE], hit.entry_id, hit.version, hit.ordinal))
