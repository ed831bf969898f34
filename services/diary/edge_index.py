"""The index in Qdrant's own engine inside this process (qdrant-edge), for a machine without a server.

The engine takes one process and many threads. Its write-ahead log survives a killed process.
"""

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from qdrant_edge import (
    CountRequest,
    Distance,
    EdgeConfig,
    EdgeShard,
    EdgeVectorParams,
    FieldCondition,
    Filter,
    MatchValue,
    PayloadSchemaType,
    Point,
    Query,
    QueryRequest,
    RangeDateTime,
    UpdateOperation,
)

from services.diary.embedder import Vector
from services.diary.index import Chunk, Hit, collection_name
from services.errors import DiaryUnavailable

_VECTOR = "dense"
Answer = TypeVar("Answer")


class EdgeIndex:
    """An `IndexEngine` in a folder named after the embedding model and its dimension."""

    def __init__(self, folder: Path, model: str, dimension: int) -> None:
        """Open the index, or make it. Raises DiaryUnavailable when another process has it open."""
        self.path = folder / collection_name(model, dimension)
        complete = self.path / "edge_config.json"
        config = EdgeConfig(vectors={_VECTOR: EdgeVectorParams(size=dimension, distance=Distance.Cosine)})
        if _asked(complete.exists):
            self._shard = _asked(lambda: EdgeShard.load(str(self.path), config))
            return
        shutil.rmtree(self.path, ignore_errors=True)  # a creation that was cut short
        _asked(lambda: self.path.mkdir(parents=True))
        self._shard = _asked(lambda: EdgeShard.create(str(self.path), config))
        for key, kind in (
            ("owner", PayloadSchemaType.Keyword),
            ("entry_id", PayloadSchemaType.Keyword),
            ("day", PayloadSchemaType.Datetime),
        ):
            self._shard.update(UpdateOperation.create_field_index(key, kind))

    def ensure(self) -> None:
        """Nothing is missing: the folder was made when it was opened."""

    def check(self) -> None:
        """Raises DiaryUnavailable when the folder can't be read any more."""
        self.count()

    def upsert(self, chunks: Sequence[Chunk]) -> None:
        """Write chunks, replacing those with the same ids."""
        points = [
            Point(
                chunk.point_id,
                {_VECTOR: chunk.vector},
                chunk.payload,
            )
            for chunk in chunks
        ]
        _asked(lambda: self._shard.update(UpdateOperation.upsert_points(points)))

    def search(
        self, owner: str, vector: Vector, limit: int, first_day: str = "", last_day: str = ""
    ) -> list[Hit]:
        """The owner's nearest chunks, best first."""
        days = RangeDateTime(gte=first_day or None, lte=last_day or None)
        within = [FieldCondition(key="day", range=days)] if first_day or last_day else []
        request = QueryRequest(
            limit=limit,
            query=Query.Nearest(vector, using=_VECTOR),
            filter=Filter(must=[_is("owner", owner), *within]),
            with_payload=True,
        )
        found = _asked(lambda: self._shard.query(request))
        return [Hit.of(point.payload or {}, point.score) for point in found]

    def delete(self, owner: str, entry_id: str) -> None:
        """Remove all chunks of an entry."""
        filter_ = Filter(must=[_is("owner", owner), _is("entry_id", entry_id)])
        _asked(lambda: self._shard.update(UpdateOperation.delete_points_by_filter(filter_)))

    def count(self) -> int:
        """Chunks of all owners."""
        return _asked(lambda: self._shard.count(CountRequest()))

    def close(self) -> None:
        """Flush to disk and let go of the folder."""
        _asked(self._shard.flush)
        _asked(self._shard.close)


def _is(key: str, value: str) -> FieldCondition:
    return FieldCondition(key=key, match=MatchValue(value))


def _asked(call: Callable[[], Answer]) -> Answer:
    """The engine raises bare Exception for everything, so this is where it gets a name."""
    try:
        return call()
    except Exception as error:
        raise DiaryUnavailable(f"the diary's index failed: {error}") from error
