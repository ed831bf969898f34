"""What a vector store must do for the diary: `SearchIndex` for whoever searches, `IndexEngine` for the
worker.

An index itself has no search method. `index.for_owner(owner)` has one, and it can name no other owner, so
that no caller can forget the filter.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NoReturn, Protocol

from services.diary.index.types import Chunk, ChunkRef, EntryKey, Hit, IndexedVersion, IndexQuery
from services.errors import DiaryUnavailable


class OwnerIndex(Protocol):
    """One owner's part of the index. Every method raises DiaryUnavailable when the index can't be reached."""

    def search(self, query: IndexQuery, limit: int, first_day: str = "", last_day: str = "") -> list[Hit]:
        """The `limit` best chunks by cosine and the `limit` best by BM25, in one list, highest cosine first.

        Days are inclusive; a chunk matches when its days and the requested ones overlap.
        """
        ...

    def fetch(self, chunks: Iterable[ChunkRef], query: IndexQuery) -> list[Hit]:
        """Those of these chunks that exist, with their scores, in no order."""
        ...


class SearchIndex(Protocol):
    """An index that can be searched. Every method raises DiaryUnavailable when it can't be reached."""

    def for_owner(self, owner: str) -> OwnerIndex:
        """The chunks of `owner`."""
        ...

    def check(self) -> None:
        """Raises DiaryUnavailable when it can't be searched, ConfigError as `create_if_missing` does."""
        ...

    def count(self) -> int:
        """The number of chunks of all owners."""
        ...

    def versions(self) -> Iterator[IndexedVersion]:
        """Every indexed version of every entry, in no order."""
        ...


class IndexEngine(SearchIndex, Protocol):
    """An index that can be written, too: the worker's, over all owners."""

    def create_if_missing(self) -> None:
        """Create what is missing, so that chunks can be written.

        Raises ConfigError when the diary was indexed with another embedding model.
        """
        ...

    def close(self) -> None:
        """Release the directory or the connections."""
        ...

    def upsert(self, chunks: Sequence[Chunk]) -> None:
        """Write chunks, replacing those of the same owner, entry, version and ordinal."""
        ...

    def delete(
        self, entries: Iterable[EntryKey], except_version: Mapping[EntryKey, int] | None = None
    ) -> None:
        """Delete all chunks of these entries, except those of the version given for an entry."""
        ...

    def optimize(self) -> None:
        """Build what makes searches fast after a bulk write; may take a minute for 100,000 chunks."""
        ...

    def shadow(self) -> "IndexEngine":
        """A new, empty index next to this one, which nobody searches yet."""
        ...

    def promote(self, shadow: "IndexEngine") -> None:
        """Replace this index with its shadow, which is searched and written from now on.

        Atomic: a search sees either the old index or the new one. Continue with `self`, and close only
        `self`.
        """
        ...


class UnavailableIndex:
    """Stands for an index that could not be opened, so that Ada can answer without her diary.

    It is an IndexEngine, because the all-in-one server hands it to its worker too, which then defers its
    jobs.
    """

    def __init__(self, reason: str) -> None:
        self._reason = reason

    def for_owner(self, owner: str) -> OwnerIndex:
        """Itself: no owner can be searched."""
        return self

    def close(self) -> None:
        """Does nothing."""

    def _fail(self, *_: object, **__: object) -> NoReturn:
        """Raises DiaryUnavailable."""
        raise DiaryUnavailable(self._reason)

    search = fetch = check = count = versions = _fail
    create_if_missing = upsert = delete = optimize = shadow = promote = _fail
