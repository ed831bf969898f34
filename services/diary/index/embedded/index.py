"""The index in Qdrant's embedded engine inside this process, for a machine without a server."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import qdrant_edge
from qdrant_edge import (
    CountRequest,
    FieldCondition,
    Filter,
    HasIdCondition,
    IdfParams,
    MatchValue,
    Point,
    Query,
    QueryBatchRequest,
    QueryRequest,
    RangeDateTime,
    ScrollRequest,
    SearchParams,
    UpdateOperation,
)

from services.diary.index.collection_names import check_current, collection_name
from services.diary.index.embedded.directory import IndexDirectory
from services.diary.index.embedded.shard import Shard, translated_errors
from services.diary.index.engine import IndexEngine, OwnerIndex
from services.diary.index.owner_search import OwnerChunks, PointsByVector
from services.diary.index.types import (
    DENSE,
    SPARSE,
    Chunk,
    EntryKey,
    IndexedVersion,
    IndexQuery,
    SparseVector,
)
from services.errors import ConfigError

if TYPE_CHECKING:
    from qdrant_edge import ConditionType  # only in the stubs

GRAPH_FROM_CHUNKS = 20_000  # below, a search without a graph takes 2 ms
_ENTRIES_PER_DELETE = 100
_POINTS_PER_PAGE = 1_000


class EdgeIndex:
    """An `IndexEngine` in the directory that INDEX_PATH/current names."""

    def __init__(
        self,
        folder: Path,
        model: str,
        dimension: int,
        replacing: bool = False,
        graph_from_chunks: int = GRAPH_FROM_CHUNKS,
    ) -> None:
        """Open the index, or create it.

        Raises DiaryUnavailable when another process has it open, and ConfigError when it was created with
        another embedding model, unless it is opened in order to be replaced by `promote` (`replacing`).
        `optimize` builds a graph from `graph_from_chunks` on.
        """
        self._dimension = dimension
        self._graph_from_chunks = graph_from_chunks
        self._directory = IndexDirectory(folder, collection_name(model, dimension))
        try:
            current = self._directory.current()
            if not replacing:
                check_current(current, collection_name(model, dimension), model)
            self.shard = Shard(self._directory.own(), dimension)
            if not current or (not replacing and current != self.path.name):
                self._directory.point_at(self.path)  # there is none, or one in an older format
        except BaseException:
            self._directory.close()
            raise
        if not replacing:
            self._directory.delete_others()

    @property
    def path(self) -> Path:
        """The directory that is searched."""
        return self.shard.path

    def for_owner(self, owner: str) -> OwnerIndex:
        """The chunks of `owner`."""
        return OwnerChunks(EdgeOwner(self, owner))

    def create_if_missing(self) -> None:
        """Does nothing: the directory is created when it is opened."""

    def check(self) -> None:
        """Raises DiaryUnavailable when the directory can't be read any more."""
        self.count()

    def count(self) -> int:
        """The number of chunks of all owners."""
        with translated_errors():
            return self.shard.engine.count(CountRequest())

    def close(self) -> None:
        """Flush to disk and release the directory."""
        try:
            self.shard.close()
        finally:
            self._directory.close()

    def upsert(self, chunks: Sequence[Chunk]) -> None:
        """Write chunks, replacing those with the same ids."""
        points = [
            Point(chunk.point_id, {DENSE: chunk.vector, SPARSE: _sparse(chunk.sparse_vector)}, chunk.payload)
            for chunk in chunks
        ]
        with translated_errors():
            self.shard.engine.update(UpdateOperation.upsert_points(points))

    def delete(
        self, entries: Iterable[EntryKey], except_version: Mapping[EntryKey, int] | None = None
    ) -> None:
        """Delete all chunks of these entries, except those of the version given for an entry."""
        filters: list[ConditionType] = [
            _entry_filter(entry, (except_version or {}).get(entry)) for entry in entries
        ]
        for start in range(0, len(filters), _ENTRIES_PER_DELETE):
            any_of = Filter(should=filters[start : start + _ENTRIES_PER_DELETE])
            with translated_errors():
                self.shard.engine.update(UpdateOperation.delete_points_by_filter(any_of))

    def versions(self) -> Iterator[IndexedVersion]:
        """Every indexed version of every entry, in no order."""
        fields = ["owner", "entry_id", "version"]
        counts = Counter(tuple(payload[field] for field in fields) for payload in self._payloads(fields))
        for (owner, entry_id, version), chunks in counts.items():
            yield IndexedVersion(owner, entry_id, version, chunks)

    def _payloads(self, fields: list[str]) -> Iterator[dict[str, Any]]:
        offset = None
        while True:
            request = ScrollRequest(
                offset=offset, limit=_POINTS_PER_PAGE, with_payload=fields, with_vector=False
            )
            with translated_errors():
                points, offset = self.shard.engine.scroll(request)
            yield from (point.payload or {} for point in points)
            if offset is None:
                return

    def optimize(self) -> None:
        """Does nothing to an index that is searched, because searches would wait; its shadow is optimized."""

    def shadow(self) -> "EdgeIndex":
        """A new, empty index in a directory next to this one; close it unless it is promoted."""
        shard = Shard(self._directory.fresh(self.shard.path.name), self._dimension)
        return _Shadow(self._directory, shard, self._graph_from_chunks)

    def promote(self, shadow: IndexEngine) -> None:
        """Search the shadow from now on, even after a restart, and delete the old directory."""
        if not isinstance(shadow, _Shadow):
            raise ConfigError("an index can only be replaced by its own shadow")
        self._directory.point_at(shadow.path)
        self.shard = shadow.shard
        self._directory.delete_others()


class _Shadow(EdgeIndex):
    """A directory that is not searched yet, next to the one that it will replace."""

    def __init__(self, directory: IndexDirectory, shard: Shard, graph_from_chunks: int) -> None:
        self._directory = directory
        self.shard = shard
        self._graph_from_chunks = graph_from_chunks

    def optimize(self) -> None:
        """Build the graph that makes searches in many chunks fast, in a process of its own."""
        if self.count() >= self._graph_from_chunks:
            self.shard.optimize()

    def close(self) -> None:
        """Delete the directory, unless it was promoted."""
        if self._directory.current() != self.path.name:
            self.shard.close()
            self.shard.drop()


class EdgeOwner:
    """One owner's points. Nothing else searches the embedded engine."""

    def __init__(self, index: EdgeIndex, owner: str) -> None:
        self.owner = owner
        self._index = index
        self._corpus = Filter(must=[_equals("owner", owner)])

    def nearest(self, query: IndexQuery, limit: int, first_day: str, last_day: str) -> PointsByVector:
        """The `limit` best by each vector, within the days that are not empty."""
        within = Filter(must=[_equals("owner", self.owner), *_overlap(first_day, last_day)])
        return self._query(query, limit, {DENSE: within, SPARSE: within})

    def score(self, query: IndexQuery, ids: Mapping[str, set[str]]) -> PointsByVector:
        """By each vector, those of its `ids` that exist."""
        filters = {
            name: Filter(must=[_equals("owner", self.owner), HasIdCondition(set(wanted))])
            for name, wanted in ids.items()
            if wanted
        }
        return self._query(query, max(map(len, ids.values())), filters)

    def _query(self, query: IndexQuery, limit: int, filters: Mapping[str, Filter]) -> PointsByVector:
        """The best points by each vector that has a filter; the corpus of BM25 is the owner's chunks."""
        requests = {
            name: QueryRequest(
                limit=limit,
                query=Query.Nearest(
                    query.vector if name == DENSE else _sparse(query.sparse_vector), using=name
                ),
                filter=filter_,
                params=None if name == DENSE else SearchParams(idf=IdfParams(corpus=self._corpus)),
                with_payload=True,
            )
            for name, filter_ in filters.items()
        }
        with translated_errors():
            results = self._index.shard.engine.query_batch(QueryBatchRequest(list(requests.values())))
        return dict(zip(requests, results, strict=True))


def _entry_filter(entry: EntryKey, except_version: int | None) -> Filter:
    others = [] if except_version is None else [_equals("version", except_version)]
    return Filter(
        must=[_equals("owner", entry.owner), _equals("entry_id", entry.entry_id)], must_not=[*others]
    )


def _overlap(first_day: str, last_day: str) -> "list[ConditionType]":
    """A chunk's days and the requested ones overlap, inclusively; an empty day sets no limit."""
    conditions: list[ConditionType] = []
    if first_day:
        conditions.append(FieldCondition(key="last_day", range=RangeDateTime(gte=first_day)))
    if last_day:
        conditions.append(FieldCondition(key="first_day", range=RangeDateTime(lte=last_day)))
    return conditions


def _equals(key: str, value: str | int) -> FieldCondition:
    return FieldCondition(key=key, match=MatchValue(value))


def _sparse(vector: SparseVector) -> qdrant_edge.SparseVector:
    return qdrant_edge.SparseVector(vector.indices, vector.values)
