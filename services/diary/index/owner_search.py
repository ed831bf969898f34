"""Searches one owner's chunks in any engine: the best by each vector, each with the scores of both."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

from services.diary.index.types import DENSE, SPARSE, ChunkRef, Hit, IndexQuery, point_id


class Point(Protocol):
    """A chunk as an engine returns it."""

    @property
    def id(self) -> Any: ...
    @property
    def score(self) -> float: ...
    @property
    def payload(self) -> Mapping[str, Any] | None: ...


PointsByVector = dict[str, Sequence[Point]]  # what DENSE matched, and what SPARSE matched


class OwnerPoints(Protocol):
    """What an engine must answer about one owner's points. Every method raises DiaryUnavailable."""

    owner: str

    def nearest(self, query: IndexQuery, limit: int, first_day: str, last_day: str) -> PointsByVector:
        """The `limit` best by each vector, within the days that are not empty."""
        ...

    def score(self, query: IndexQuery, ids: Mapping[str, set[str]]) -> PointsByVector:
        """By each vector, those of its `ids` that exist."""
        ...


class OwnerChunks:
    """An `OwnerIndex` over any engine's points."""

    def __init__(self, points: OwnerPoints) -> None:
        self._points = points

    def search(self, query: IndexQuery, limit: int, first_day: str = "", last_day: str = "") -> list[Hit]:
        """The `limit` best chunks by cosine and the `limit` best by BM25 in one list, by cosine."""
        nearest = _by_id(self._points.nearest(query, limit, first_day, last_day))
        dense, sparse = nearest[DENSE].keys(), nearest[SPARSE].keys()
        unscored = {DENSE: set(sparse - dense), SPARSE: set(dense - sparse)}
        return _hits(nearest, _by_id(self._points.score(query, unscored)))

    def fetch(self, chunks: Iterable[ChunkRef], query: IndexQuery) -> list[Hit]:
        """Those of these chunks that exist, with their scores, highest cosine first."""
        ids = {point_id(self._points.owner, chunk) for chunk in chunks}
        return _hits(_by_id(self._points.score(query, {DENSE: ids, SPARSE: ids})))


def _by_id(points: PointsByVector) -> dict[str, dict[str, Point]]:
    # The embedded engine creates a UUID at every access to an id, so each id is read once.
    return {part: {str(point.id): point for point in points.get(part, ())} for part in (DENSE, SPARSE)}


def _hits(*results: Mapping[str, Mapping[str, Point]]) -> list[Hit]:
    """Every point once, with both scores. A point that SPARSE does not return shares no term: 0.0."""
    hits: dict[str, Hit] = {}
    for points in results:
        for part in (DENSE, SPARSE):
            for point_id_, point in points[part].items():
                if (hit := hits.get(point_id_)) is None:
                    hit = Hit.from_payload(point.payload or {}, {DENSE: 0.0, SPARSE: 0.0})
                    hits[point_id_] = hit
                hit.scores[part] = float(point.score)
    return sorted(hits.values(), key=lambda hit: (-hit.scores[DENSE], hit.entry_id, hit.version, hit.ordinal))
