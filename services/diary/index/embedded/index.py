"""The index in Qdrant's own engine inside this process, for a machine without a server."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from qdrant_edge import Filter, HasIdCondition

from services.diary.index.embedded.directory import IndexDirectory
from services.diary.index.embedded.shard import Shard, is_, overlap
from services.diary.index.owner_search import OwnerChunks, Parts
from services.diary.index.types import (
    DENSE,
    SPARSE,
    Chunk,
    EntryKey,
    IndexedVersion,
    IndexEngine,
    IndexQuery,
    OwnerIndex,
    check_current,
    collection_name,
)
from services.errors import ConfigError

if TYPE_CHECKING:
    from qdrant_edge import ConditionType  # in the stubs alone

_ENTRIES_A_DELETE = 100
_WORTH_A_GRAPH = 20_000  # chunks, through which a search without one takes 2 ms


class EdgeIndex:
    """An `IndexEngine` in the folder that INDEX_PATH/current names."""

    def __init__(self, folder: Path, model: str, dimension: int, replacing: bool = False) -> None:
        """Open the index, or make it.

        Raises DiaryUnavailable when another process has it open, and ConfigError when it was made with
        another embedding model, unless it is opened to be replaced by `promote`.
        """
        self._dimension = dimension
        self._home = IndexDirectory(folder, collection_name(model, dimension))
        try:
            if not replacing:
                check_current(self._home.current(), collection_name(model, dimension), model)
            self.shard = Shard(self._home.own(), dimension)
            if not self._home.current() or (not replacing and self._home.current() != self.path.name):
                self._home.point_at(self.path)  # there is none, or one in an older format
        except BaseException:
            self._home.close()
            raise
        if not replacing:
            self._home.sweep()

    @property
    def path(self) -> Path:
        """The folder that is searched."""
        return self.shard.path

    def for_owner(self, owner: str) -> OwnerIndex:
        """What can be searched for `owner`."""
        return OwnerChunks(EdgeOwner(self, owner))

    def create_if_missing(self) -> None:
        """Nothing is missing: the folder was made when it was opened."""

    def check(self) -> None:
        """Raises DiaryUnavailable when the folder can't be read any more."""
        self.count()

    def count(self) -> int:
        """Chunks of all owners."""
        return self.shard.count()

    def close(self) -> None:
        """Flush to disk and let go of the folder."""
        try:
            self.shard.close()
        finally:
            self._home.close()

    def upsert(self, chunks: Sequence[Chunk]) -> None:
        """Write chunks, replacing those with the same ids."""
        self.shard.upsert(chunks)

    def delete(
        self, entries: Iterable[EntryKey], except_version: Mapping[EntryKey, int] | None = None
    ) -> None:
        """Delete all chunks of these entries, save those of the version named for it."""
        chosen: list[ConditionType] = [
            _chunks_of(entry, (except_version or {}).get(entry)) for entry in entries
        ]
        for start in range(0, len(chosen), _ENTRIES_A_DELETE):
            self.shard.delete(Filter(should=chosen[start : start + _ENTRIES_A_DELETE]))

    def versions(self) -> Iterator[IndexedVersion]:
        """Everything that is indexed, one for each version of an entry, in no order."""
        fields = ["owner", "entry_id", "version"]
        counted = Counter(
            tuple(payload[field] for field in fields) for payload in self.shard.payloads(fields)
        )
        for (owner, entry_id, version), chunks in counted.items():
            yield IndexedVersion(owner, entry_id, version, chunks)

    def optimize(self) -> None:
        """Nothing is done to an index that is searched: it would stand still meanwhile. Its twin settles."""

    def shadow(self) -> "EdgeIndex":
        """A fresh and empty one in a folder beside this one; close it unless it is switched to."""
        return _Twin(self._home, Shard(self._home.fresh(self.shard.path.name), self._dimension))

    def promote(self, twin: IndexEngine) -> None:
        """Search the twin from now on, in this process and in those to come, and delete the old folder."""
        if not isinstance(twin, _Twin):
            raise ConfigError("an index can be switched to its own twin alone")
        self._home.point_at(twin.path)
        self.shard = twin.shard
        self._home.sweep()


class _Twin(EdgeIndex):
    """A folder that is not searched yet, in the house of the index it will replace."""

    def __init__(self, home: IndexDirectory, shard: Shard) -> None:
        self._home = home
        self.shard = shard

    def optimize(self) -> None:
        """Build the graph that makes searches in many chunks fast, in a process of its own."""
        if self.count() >= _WORTH_A_GRAPH:
            self.shard.optimize()

    def close(self) -> None:
        """Delete the folder, unless it was switched to."""
        if self._home.current() != self.path.name:
            self.shard.close()
            self.shard.drop()


class EdgeOwner:
    """One owner's points. The only place where the embedded engine is searched."""

    def __init__(self, index: EdgeIndex, owner: str) -> None:
        self.owner = owner
        self._index = index
        self._corpus = Filter(must=[is_("owner", owner)])

    def best(self, asked: IndexQuery, limit: int, first_day: str, last_day: str) -> Parts:
        """The `limit` best by each part, within the days that are not empty."""
        within = Filter(must=[is_("owner", self.owner), *overlap(first_day, last_day)])
        return self._index.shard.query(asked, limit, {DENSE: within, SPARSE: within}, self._corpus)

    def scored(self, asked: IndexQuery, ids: Mapping[str, set[str]]) -> Parts:
        """Each part's scores of the points that are named for it."""
        within = {
            part: Filter(must=[is_("owner", self.owner), HasIdCondition(set(wanted))])
            for part, wanted in ids.items()
            if wanted
        }
        return self._index.shard.query(asked, max(map(len, ids.values())), within, self._corpus)


def _chunks_of(entry: EntryKey, except_version: int | None) -> Filter:
    others = [] if except_version is None else [is_("version", except_version)]
    return Filter(must=[is_("owner", entry.owner), is_("entry_id", entry.entry_id)], must_not=[*others])
