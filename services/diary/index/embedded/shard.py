"""One folder of chunks in Qdrant's own engine (qdrant-edge): made, filled, searched.

The engine takes one process and many threads. Its write-ahead log survives a killed process.

Measured at 100,000 chunks of 384 numbers on two cores (docs/measurements/diary.md): the engine's own
`optimize` takes 39 s and lets no other thread of the process run meanwhile, so it runs in a process of its
own, over a folder that nobody searches:

    python -m services.diary.index.embedded.shard FOLDER
"""

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import qdrant_edge
from qdrant_edge import (
    CountRequest,
    Distance,
    EdgeConfig,
    EdgeShard,
    EdgeSparseVectorParams,
    EdgeVectorParams,
    FieldCondition,
    Filter,
    IdfParams,
    KeywordIndexParams,
    MatchValue,
    Modifier,
    PayloadSchemaType,
    Point,
    Query,
    QueryBatchRequest,
    QueryRequest,
    RangeDateTime,
    ScrollRequest,
    SearchParams,
    UpdateOperation,
)

from services.diary.index.owner_search import Parts
from services.diary.index.types import DENSE, SPARSE, Chunk, IndexQuery, SparseVector
from services.errors import DiaryUnavailable

if TYPE_CHECKING:
    from qdrant_edge import ConditionType  # in the stubs alone

_COMPLETE = "edge_config.json"  # the engine writes it last
_PAGE = 1_000  # points
Answer = TypeVar("Answer")


class Shard:
    """A folder of chunks. Every method raises DiaryUnavailable."""

    def __init__(self, path: Path, dimension: int) -> None:
        """Open `path`, or make it."""
        self.path = path
        self._config = EdgeConfig(
            vectors={DENSE: EdgeVectorParams(size=dimension, distance=Distance.Cosine)},
            sparse_vectors={SPARSE: EdgeSparseVectorParams(modifier=Modifier.Idf)},
        )
        complete = asked_engine((path / _COMPLETE).exists)
        self._shard = self._load() if complete else self._create()

    def _load(self) -> EdgeShard:
        return asked_engine(lambda: EdgeShard.load(str(self.path), self._config))

    def _create(self) -> EdgeShard:
        shutil.rmtree(self.path, ignore_errors=True)  # a creation that was cut short
        asked_engine(lambda: self.path.mkdir(parents=True))
        shard = asked_engine(lambda: EdgeShard.create(str(self.path), self._config))
        for key, kind in (
            ("owner", KeywordIndexParams(is_tenant=True)),
            ("entry_id", PayloadSchemaType.Keyword),
            ("first_day", PayloadSchemaType.Datetime),
            ("last_day", PayloadSchemaType.Datetime),
        ):
            shard.update(UpdateOperation.create_field_index(key, kind))
        return shard

    def upsert(self, chunks: Sequence[Chunk]) -> None:
        """Write chunks, replacing those with the same ids."""
        points = [
            Point(chunk.point_id, {DENSE: chunk.vector, SPARSE: _sparse(chunk.sparse_vector)}, chunk.payload)
            for chunk in chunks
        ]
        self._update(UpdateOperation.upsert_points(points))

    def delete(self, chosen: Filter) -> None:
        """Delete the chunks that the filter finds."""
        self._update(UpdateOperation.delete_points_by_filter(chosen))

    def _update(self, operation: UpdateOperation) -> None:
        asked_engine(lambda: self._shard.update(operation))

    def query(self, asked: IndexQuery, limit: int, within: Mapping[str, Filter], corpus: Filter) -> Parts:
        """The best points by each part that has a filter; BM25 weighs a word by the chunks of `corpus`."""
        requests = {
            part: QueryRequest(
                limit=limit,
                query=Query.Nearest(
                    asked.vector if part == DENSE else _sparse(asked.sparse_vector), using=part
                ),
                filter=filter_,
                params=None if part == DENSE else SearchParams(idf=IdfParams(corpus=corpus)),
                with_payload=True,
            )
            for part, filter_ in within.items()
        }
        batch = QueryBatchRequest(list(requests.values()))
        return dict(zip(requests, asked_engine(lambda: self._shard.query_batch(batch)), strict=True))

    def payloads(self, fields: list[str]) -> Iterator[dict[str, Any]]:
        """These fields of every point."""
        offset = None
        while True:
            request = ScrollRequest(offset=offset, limit=_PAGE, with_payload=fields, with_vector=False)
            points, offset = asked_engine(partial(self._shard.scroll, request))
            yield from (point.payload or {} for point in points)
            if offset is None:
                return

    def count(self) -> int:
        """All points."""
        return asked_engine(lambda: self._shard.count(CountRequest()))

    def vectors_in_an_index(self) -> int:
        """Of meaning and of words together; those of meaning are in none before `optimize`."""
        return asked_engine(self._shard.info).indexed_vectors_count

    def optimize(self) -> None:
        """Build the graph that makes searches fast, in a process of its own; nobody may search meanwhile."""
        self.close()
        command = [sys.executable, "-m", __name__, str(self.path)]
        done = subprocess.run(
            command, cwd=Path(__file__).parents[4], capture_output=True, text=True, check=False
        )
        self._shard = self._load()
        if done.returncode:
            raise DiaryUnavailable(f"the diary's index could not be optimized: {done.stderr.strip()[-300:]}")

    def close(self) -> None:
        """Flush to disk and let go of the folder."""
        asked_engine(self._shard.flush)
        asked_engine(self._shard.close)

    def drop(self) -> None:
        """Delete the folder. A search that is on its way ends well: its files are open until it lets go."""
        shutil.rmtree(self.path, ignore_errors=True)


def overlap(first_day: str, last_day: str) -> "list[ConditionType]":
    """A chunk's own days and those asked for, inclusive, have one in common; an empty day asks nothing."""
    conditions: list[ConditionType] = []
    if first_day:
        conditions.append(FieldCondition(key="last_day", range=RangeDateTime(gte=first_day)))
    if last_day:
        conditions.append(FieldCondition(key="first_day", range=RangeDateTime(lte=last_day)))
    return conditions


def is_(key: str, value: str | int) -> FieldCondition:
    """The field has this value."""
    return FieldCondition(key=key, match=MatchValue(value))


def asked_engine(call: Callable[[], Answer]) -> Answer:
    """The engine raises bare Exception for everything, so this is where it gets a name."""
    try:
        return call()
    except Exception as error:
        raise DiaryUnavailable(f"the diary's index failed: {error}") from error


def _sparse(words: SparseVector) -> qdrant_edge.SparseVector:
    return qdrant_edge.SparseVector(words.indices, words.values)


if __name__ == "__main__":
    _shard = EdgeShard.load(sys.argv[1])
    _shard.optimize()
    _shard.flush()
    _shard.close()
