"""The index in a Qdrant server, for a deployment with more than one process.

An alias, named after the embedding model, is what is searched and written. It stands for a numbered
collection, and is switched to another one atomically. The worker holds the key that may write; the
orchestrator's key may only read, so it never makes anything.
"""

import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence

from qdrant_client import models

from services.diary.index.owner_search import OwnerChunks, Parts
from services.diary.index.qdrant.server import QdrantServer
from services.diary.index.types import (
    DENSE,
    SPARSE,
    Chunk,
    EntryKey,
    IndexedVersion,
    IndexEngine,
    IndexQuery,
    OwnerIndex,
    SparseVector,
    check_current,
    collection_name,
    numbered_collection,
)
from services.errors import ConfigError, DiaryUnavailable

log = logging.getLogger("ada.diary")
_TIMEOUT_S = 2  # whoever waits for an answer of Ada's waits for this too when Qdrant hangs
_POINTS_A_REQUEST = 500  # about 5 MB; Qdrant takes 32
_ENTRIES_A_DELETE = 100


class QdrantIndex:
    """An `IndexEngine` behind an alias on a Qdrant server."""

    def __init__(
        self, url: str, api_key: str, model: str, dimension: int, timeout_s: int = _TIMEOUT_S
    ) -> None:
        """Reach nothing yet: Qdrant may come later."""
        self.server = QdrantServer(url, api_key, timeout_s)
        self.client = self.server.client
        self.alias = self.collection = collection_name(model, dimension)
        self._model = model
        self._dimension = dimension

    def for_owner(self, owner: str) -> OwnerIndex:
        """What can be searched for `owner`."""
        return OwnerChunks(QdrantOwner(self, owner))

    def create_if_missing(self) -> None:
        """Make collection and alias if they are not there; needs the key that may write.

        Raises DiaryUnavailable, and ConfigError when the diary was indexed with another embedding model.
        """
        self.server.check_version()
        if not self._current():
            first, older = numbered_collection(self.alias), set(self.server.aliases().values())
            self.server.create(first, self._dimension)
            self.server.point(self.alias, first)
            for collection in older - {first}:  # in an older format, which nobody can search any more
                self.server.delete(collection)

    def check(self) -> None:
        """Raises DiaryUnavailable when the server is the wrong one, or has nothing to search in yet.

        Raises ConfigError when the diary was indexed with another embedding model.
        """
        self.server.check_version()
        self._current()
        self.count()

    def _current(self) -> str:
        """The collection that the alias stands for; empty when there is no index yet."""
        aliases = self.server.aliases()
        own = aliases.get(self.alias, "")
        if not own:
            check_current(next(iter(aliases.values()), ""), self.alias, self._model)
        return own

    def count(self) -> int:
        """Chunks of all owners."""
        return self.server.asked(self.client.count, self.collection).count

    def close(self) -> None:
        """Let go of the connections."""
        self.client.close()

    def upsert(self, chunks: Sequence[Chunk]) -> None:
        """Write chunks, replacing those with the same ids."""
        points = [_point(chunk) for chunk in chunks]
        for start in range(0, len(points), _POINTS_A_REQUEST):
            some = points[start : start + _POINTS_A_REQUEST]
            self.server.asked(self.client.upsert, self.collection, some, wait=True)

    def delete(
        self, entries: Iterable[EntryKey], except_version: Mapping[EntryKey, int] | None = None
    ) -> None:
        """Delete all chunks of these entries, save those of the version named for it."""
        chosen = [_chunks_of(entry, (except_version or {}).get(entry)) for entry in entries]
        for start in range(0, len(chosen), _ENTRIES_A_DELETE):
            any_of = models.Filter(should=[*chosen[start : start + _ENTRIES_A_DELETE]])
            selector = models.FilterSelector(filter=any_of)
            self.server.asked(self.client.delete, self.collection, selector, wait=True)

    def versions(self) -> Iterator[IndexedVersion]:
        """Everything that is indexed, one for each version of an entry, in no order."""
        counted = Counter(
            (str(payload["owner"]), str(payload["entry_id"]), int(payload["version"]))
            for payload in self._payloads(["owner", "entry_id", "version"])
        )
        for version, chunks in counted.items():
            yield IndexedVersion(*version, chunks)

    def _payloads(self, fields: list[str]) -> Iterator[models.Payload]:
        offset = None
        while True:
            points, offset = self.server.asked(
                self.client.scroll,
                self.collection,
                limit=_POINTS_A_REQUEST,
                offset=offset,
                with_payload=fields,
            )
            yield from (point.payload or {} for point in points)
            if offset is None:
                return

    def optimize(self) -> None:
        """Nothing to do: a server builds its graph by itself, beside its work."""

    def shadow(self) -> "QdrantIndex":
        """A fresh and empty collection beside the current one; close it unless it is switched to."""
        self.server.check_version()
        return _Twin(self, numbered_collection(self.alias, self.server.aliases().get(self.alias, "")))

    def promote(self, twin: IndexEngine) -> None:
        """Let the alias stand for the twin's collection, and delete what it replaces."""
        if not isinstance(twin, _Twin) or twin.alias != self.alias:
            raise ConfigError("an index can be switched to its own twin alone")
        replaced = set(self.server.aliases().values())
        self.server.point(self.alias, twin.collection)
        try:
            self._sweep(replaced - {twin.collection})
        except DiaryUnavailable as error:  # it is switched all the same, and the next switch sweeps again
            log.warning("the index that was replaced is still there: %s", error)

    def _sweep(self, replaced: set[str]) -> None:
        left = {name for name in self.server.collections() if name.startswith(f"{self.alias}~")}
        for collection in (left | replaced) - set(self.server.aliases().values()):
            self.server.delete(collection)


class _Twin(QdrantIndex):
    """A collection that no alias stands for yet, on the connections of the index it will replace."""

    def __init__(self, index: QdrantIndex, collection: str) -> None:
        self.__dict__.update(index.__dict__)
        self.collection = collection
        self.server.delete(collection)  # of a reindexing that was cut short
        self.server.create(collection, self._dimension)

    def close(self) -> None:
        """Delete the collection, unless it was switched to."""
        if self.collection not in self.server.aliases().values():
            self.server.delete(self.collection)


class QdrantOwner:
    """One owner's points. The only place where a Qdrant server is searched."""

    def __init__(self, index: QdrantIndex, owner: str) -> None:
        self.owner = owner
        self._index = index

    def best(self, asked: IndexQuery, limit: int, first_day: str, last_day: str) -> Parts:
        """The `limit` best by each part, within the days that are not empty."""
        within = self._owners(*_overlap(first_day, last_day))
        return self._query(asked, limit, {DENSE: within, SPARSE: within})

    def scored(self, asked: IndexQuery, ids: Mapping[str, set[str]]) -> Parts:
        """Each part's scores of the points that are named for it."""
        within = {
            part: self._owners(models.HasIdCondition(has_id=sorted(wanted)))
            for part, wanted in ids.items()
            if wanted
        }
        return self._query(asked, max(map(len, ids.values())), within)

    def _query(self, asked: IndexQuery, limit: int, within: Mapping[str, models.Filter]) -> Parts:
        corpus = models.SearchParams(idf=models.IdfCorpusParams(corpus=self._owners()))
        requests = {
            part: models.QueryRequest(
                query=models.NearestQuery(
                    nearest=asked.vector if part == DENSE else _sparse(asked.sparse_vector)
                ),
                using=part,
                filter=filter_,
                params=corpus if part == SPARSE else None,
                limit=limit,
                with_payload=True,
            )
            for part, filter_ in within.items()
        }
        if not requests:
            return {}
        found = self._index.server.asked(
            self._index.client.query_batch_points, self._index.collection, list(requests.values())
        )
        return {part: answer.points for part, answer in zip(requests, found, strict=True)}

    def _owners(self, *conditions: models.Condition) -> models.Filter:
        return models.Filter(must=[_is("owner", self.owner), *conditions])


def _point(chunk: Chunk) -> models.PointStruct:
    vector = {DENSE: chunk.vector, SPARSE: _sparse(chunk.sparse_vector)}
    return models.PointStruct(id=chunk.point_id, vector=vector, payload=chunk.payload)


def _sparse(words: SparseVector) -> models.SparseVector:
    return models.SparseVector(indices=words.indices, values=words.values)


def _chunks_of(entry: EntryKey, except_version: int | None) -> models.Filter:
    others: list[models.Condition] = [] if except_version is None else [_is("version", except_version)]
    return models.Filter(
        must=[_is("owner", entry.owner), _is("entry_id", entry.entry_id)], must_not=others or None
    )


def _overlap(first_day: str, last_day: str) -> list[models.Condition]:
    """A chunk's own days and those asked for, inclusive, have one in common; an empty day asks nothing."""
    asked = {"last_day": {"gte": first_day}} if first_day else {}
    asked |= {"first_day": {"lte": last_day}} if last_day else {}
    return [
        models.FieldCondition(key=key, range=models.DatetimeRange.model_validate(days))
        for key, days in asked.items()
    ]


def _is(key: str, value: str | int) -> models.FieldCondition:
    return models.FieldCondition(key=key, match=models.MatchValue(value=value))
