"""The index on a Qdrant server, for a deployment with more than one process.

An alias, named after the embedding model, is searched and written. It points at a numbered collection, and is
moved to another one atomically. The worker has the key that may write; the orchestrator's key may only read,
so the orchestrator never creates anything.
"""

import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence

from qdrant_client import models

from services.diary.index.collection_names import check_current, collection_name, numbered_collection
from services.diary.index.engine import IndexEngine, OwnerIndex
from services.diary.index.owner_search import OwnerChunks, PointsByVector
from services.diary.index.qdrant.server import QdrantServer
from services.diary.index.types import (
    DENSE,
    SPARSE,
    Chunk,
    EntryKey,
    IndexedVersion,
    IndexQuery,
    SparseVector,
)
from services.errors import ConfigError, DiaryUnavailable

log = logging.getLogger("ada.diary")
_TIMEOUT_S = 2  # a chat waits as long when Qdrant hangs
_POINTS_PER_REQUEST = 500  # about 5 MB; Qdrant's limit is 32
_ENTRIES_PER_DELETE = 100


class QdrantIndex:
    """An `IndexEngine` behind an alias on a Qdrant server."""

    def __init__(
        self, url: str, api_key: str, model: str, dimension: int, timeout_s: int = _TIMEOUT_S
    ) -> None:
        """Connects at the first call, so Qdrant may start later."""
        self.server = QdrantServer(url, api_key, timeout_s)
        self.client = self.server.client
        self.alias = self.collection = collection_name(model, dimension)
        self._model = model
        self._dimension = dimension

    def for_owner(self, owner: str) -> OwnerIndex:
        """The chunks of `owner`."""
        return OwnerChunks(QdrantOwner(self, owner))

    def create_if_missing(self) -> None:
        """Create collection and alias if they are missing; needs the key that may write.

        Raises DiaryUnavailable, and ConfigError when the diary was indexed with another embedding model.
        """
        self.server.check_version()
        if not self._current():
            first, older = numbered_collection(self.alias), set(self.server.aliases().values())
            self.server.create(first, self._dimension)
            self.server.point(self.alias, first)
            for collection in older - {first}:  # in an older format, which can't be searched any more
                self.server.delete(collection)

    def check(self) -> None:
        """Raises DiaryUnavailable when the server has another version, or no index yet.

        Raises ConfigError when the diary was indexed with another embedding model.
        """
        self.server.check_version()
        self._current()
        self.count()

    def _current(self) -> str:
        """The collection that the alias points at; "" when there is no index yet."""
        aliases = self.server.aliases()
        current = aliases.get(self.alias, "")
        if not current:
            check_current(next(iter(aliases.values()), ""), self.alias, self._model)
        return current

    def count(self) -> int:
        """The number of chunks of all owners."""
        with self.server.translated_errors():
            return self.client.count(self.collection).count

    def close(self) -> None:
        """Close the connections."""
        self.client.close()

    def upsert(self, chunks: Sequence[Chunk]) -> None:
        """Write chunks, replacing those with the same ids."""
        points = [_point(chunk) for chunk in chunks]
        for start in range(0, len(points), _POINTS_PER_REQUEST):
            with self.server.translated_errors():
                self.client.upsert(self.collection, points[start : start + _POINTS_PER_REQUEST], wait=True)

    def delete(
        self, entries: Iterable[EntryKey], except_version: Mapping[EntryKey, int] | None = None
    ) -> None:
        """Delete all chunks of these entries, except those of the version given for an entry."""
        filters = [_entry_filter(entry, (except_version or {}).get(entry)) for entry in entries]
        for start in range(0, len(filters), _ENTRIES_PER_DELETE):
            any_of = models.Filter(should=[*filters[start : start + _ENTRIES_PER_DELETE]])
            selector = models.FilterSelector(filter=any_of)
            with self.server.translated_errors():
                self.client.delete(self.collection, selector, wait=True)

    def versions(self) -> Iterator[IndexedVersion]:
        """Every indexed version of every entry, in no order."""
        counts = Counter(
            (str(payload["owner"]), str(payload["entry_id"]), int(payload["version"]))
            for payload in self._payloads(["owner", "entry_id", "version"])
        )
        for version, chunks in counts.items():
            yield IndexedVersion(*version, chunks)

    def _payloads(self, fields: list[str]) -> Iterator[models.Payload]:
        offset = None
        while True:
            with self.server.translated_errors():
                points, offset = self.client.scroll(
                    self.collection, limit=_POINTS_PER_REQUEST, offset=offset, with_payload=fields
                )
            yield from (point.payload or {} for point in points)
            if offset is None:
                return

    def optimize(self) -> None:
        """Does nothing: a server builds its graph by itself, in the background."""

    def shadow(self) -> "QdrantIndex":
        """A new, empty collection next to the current one; close it unless it is promoted."""
        self.server.check_version()
        current = self.server.aliases().get(self.alias, "")
        return _Shadow(self, numbered_collection(self.alias, current))

    def promote(self, shadow: IndexEngine) -> None:
        """Point the alias at the shadow's collection, and delete what it replaces."""
        if not isinstance(shadow, _Shadow) or shadow.alias != self.alias:
            raise ConfigError("an index can only be replaced by its own shadow")
        replaced = set(self.server.aliases().values())
        self.server.point(self.alias, shadow.collection)
        try:
            self._delete_unused(replaced - {shadow.collection})
        except (
            DiaryUnavailable
        ) as error:  # the alias has moved all the same; the next `promote` deletes again
            log.warning("the index that was replaced could not be deleted: %s", error)

    def _delete_unused(self, replaced: set[str]) -> None:
        ours = {name for name in self.server.collections() if name.startswith(f"{self.alias}~")}
        for collection in (ours | replaced) - set(self.server.aliases().values()):
            self.server.delete(collection)


class _Shadow(QdrantIndex):
    """A collection that no alias points at yet, on the connections of the index that it will replace."""

    def __init__(self, index: QdrantIndex, collection: str) -> None:
        self.__dict__.update(index.__dict__)
        self.collection = collection
        self.server.delete(collection)  # left by a reindexing that was interrupted
        self.server.create(collection, self._dimension)

    def close(self) -> None:
        """Delete the collection, unless it was promoted."""
        if self.collection not in self.server.aliases().values():
            self.server.delete(self.collection)


class QdrantOwner:
    """One owner's points. Nothing else searches a Qdrant server."""

    def __init__(self, index: QdrantIndex, owner: str) -> None:
        self.owner = owner
        self._index = index

    def nearest(self, query: IndexQuery, limit: int, first_day: str, last_day: str) -> PointsByVector:
        """The `limit` best by each vector, within the days that are not empty."""
        within = self._owner_filter(*_overlap(first_day, last_day))
        return self._query(query, limit, {DENSE: within, SPARSE: within})

    def score(self, query: IndexQuery, ids: Mapping[str, set[str]]) -> PointsByVector:
        """By each vector, those of its `ids` that exist."""
        filters = {
            name: self._owner_filter(models.HasIdCondition(has_id=sorted(wanted)))
            for name, wanted in ids.items()
            if wanted
        }
        return self._query(query, max(map(len, ids.values())), filters)

    def _query(self, query: IndexQuery, limit: int, filters: Mapping[str, models.Filter]) -> PointsByVector:
        """The best points by each vector that has a filter; the corpus of BM25 is the owner's chunks."""
        corpus = models.SearchParams(idf=models.IdfCorpusParams(corpus=self._owner_filter()))
        requests = {
            name: models.QueryRequest(
                query=models.NearestQuery(
                    nearest=query.vector if name == DENSE else _sparse(query.sparse_vector)
                ),
                using=name,
                filter=filter_,
                params=corpus if name == SPARSE else None,
                limit=limit,
                with_payload=True,
            )
            for name, filter_ in filters.items()
        }
        if not requests:
            return {}
        with self._index.server.translated_errors():
            responses = self._index.client.query_batch_points(self._index.collection, list(requests.values()))
        return {name: response.points for name, response in zip(requests, responses, strict=True)}

    def _owner_filter(self, *conditions: models.Condition) -> models.Filter:
        return models.Filter(must=[_equals("owner", self.owner), *conditions])


def _point(chunk: Chunk) -> models.PointStruct:
    vector = {DENSE: chunk.vector, SPARSE: _sparse(chunk.sparse_vector)}
    return models.PointStruct(id=chunk.point_id, vector=vector, payload=chunk.payload)


def _sparse(vector: SparseVector) -> models.SparseVector:
    return models.SparseVector(indices=vector.indices, values=vector.values)


def _entry_filter(entry: EntryKey, except_version: int | None) -> models.Filter:
    others: list[models.Condition] = [] if except_version is None else [_equals("version", except_version)]
    return models.Filter(
        must=[_equals("owner", entry.owner), _equals("entry_id", entry.entry_id)], must_not=others or None
    )


def _overlap(first_day: str, last_day: str) -> list[models.Condition]:
    """A chunk's days and the requested ones overlap, inclusively; an empty day sets no limit."""
    ranges = {"last_day": {"gte": first_day}} if first_day else {}
    ranges |= {"first_day": {"lte": last_day}} if last_day else {}
    return [
        models.FieldCondition(key=key, range=models.DatetimeRange.model_validate(days))
        for key, days in ranges.items()
    ]


def _equals(key: str, value: str | int) -> models.FieldCondition:
    return models.FieldCondition(key=key, match=models.MatchValue(value=value))
