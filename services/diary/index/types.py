"""The index: chunks by meaning and by words, always searched for one owner.

An engine itself has no search. `engine.for_owner(owner)` has one, and it can name no other owner, so that no
caller can forget the filter.
"""

import json
import re
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from services.diary.embedding.embedder import Vector
from services.errors import ConfigError, DiaryUnavailable

DENSE = "dense"  # the names of the two vectors of a chunk, and of the two parts of a hit's score
SPARSE = "words"
# Of what stands in a collection: payload, chunking, words. Raise it when one of them changes its meaning:
# the next start makes a new collection in the place of the older one, and the ledger fills it.
FORMAT = 3
_FORMAT = re.compile(r"-f\d+(~\d+)?$")
_NAMESPACE = uuid.UUID("5d3a7b5e-3c1f-5b6e-9a56-0adad1a12e70")


@dataclass(frozen=True)
class SparseVector:
    """A sparse BM25 vector: one weight for each different word. A text of stop words alone has none."""

    indices: list[int]
    values: list[float]


class EntryKey(NamedTuple):
    """Names one entry among those of all owners."""

    owner: str
    entry_id: str


class IndexedVersion(NamedTuple):
    """What the index holds of one version of an entry."""

    owner: str
    entry_id: str
    version: int
    chunks: int


class ChunkRef(NamedTuple):
    """Names one chunk among those of one owner."""

    entry_id: str
    version: int
    ordinal: int


@dataclass(frozen=True)
class Chunk:
    """One piece of an entry's version, with its vectors; `ordinal` counts from 0, days are YYYY-MM-DD.

    `dated` is false where the days were only assumed.
    """

    owner: str
    entry_id: str
    version: int
    ordinal: int
    first_day: str
    last_day: str
    text: str
    vector: Vector
    sparse_vector: SparseVector
    dated: bool = True

    @property
    def point_id(self) -> str:
        """The same chunk has the same id, so indexing twice changes nothing."""
        return point_id(self.owner, ChunkRef(self.entry_id, self.version, self.ordinal))

    @property
    def payload(self) -> dict[str, object]:
        """What an engine keeps beside the vectors; `Hit.from_payload` reads it.

        Never the text: an engine's files keep what was deleted for as long as they like. Whoever needs it
        has it from the ledger.
        """
        return {
            "owner": self.owner,
            "entry_id": self.entry_id,
            "version": self.version,
            "place": self.ordinal,
            "first_day": self.first_day,
            "last_day": self.last_day,
            "dated": self.dated,
            "asks": ends_in_question(self.text),
        }


def ends_in_question(text: str) -> bool:
    """The last mark that ends a sentence is a question mark; quotes and brackets may follow."""
    return max(".!?…", key=text.rfind) == "?" and "?" in text


def point_id(owner: str, chunk: ChunkRef) -> str:
    """The id of a chunk in an engine. JSON, since owners and ids may hold any separator."""
    return str(uuid.uuid5(_NAMESPACE, json.dumps([owner, *chunk])))


@dataclass(frozen=True)
class IndexQuery:
    """A question as the index takes it."""

    vector: Vector
    sparse_vector: SparseVector


@dataclass(frozen=True)
class Hit:
    """A chunk that was found.

    `scores` holds both parts, whichever of them found it: DENSE is the cosine with the question, WORDS its
    BM25 among the owner's chunks, 0.0 when they share no word.
    """

    entry_id: str
    version: int
    ordinal: int
    ends_in_question: bool
    first_day: str
    last_day: str
    scores: dict[str, float] = field(hash=False)
    dated: bool = True

    @classmethod
    def from_payload(cls, payload: Mapping[str, Any], scores: dict[str, float]) -> "Hit":
        """The hit that an engine found, from a chunk's payload."""
        return cls(
            entry_id=str(payload["entry_id"]),
            version=int(payload["version"]),
            ordinal=int(payload["place"]),
            ends_in_question=bool(payload["asks"]),
            first_day=str(payload["first_day"]),
            last_day=str(payload["last_day"]),
            scores=scores,
            dated=bool(payload["dated"]),
        )


class OwnerIndex(Protocol):
    """One owner's part of the index. Raises DiaryUnavailable when it can't be asked."""

    def search(self, asked: IndexQuery, limit: int, first_day: str = "", last_day: str = "") -> list[Hit]:
        """The `limit` best chunks by meaning and the `limit` best by words, in one list, nearest first.

        Days are inclusive; a chunk is found when its days and those asked for overlap.
        """
        ...

    def fetch(self, places: Iterable[ChunkRef], asked: IndexQuery) -> list[Hit]:
        """The chunks at these places, those that exist, with their scores; in no order."""
        ...


class IndexEngine(Protocol):
    """What a vector store must do for the diary. Raises DiaryUnavailable when it can't."""

    def for_owner(self, owner: str) -> OwnerIndex:
        """What can be searched for `owner`."""
        ...

    def create_if_missing(self) -> None:
        """Make what is missing, so that chunks can be written.

        Raises ConfigError when the diary was indexed with another embedding model.
        """
        ...

    def check(self) -> None:
        """See that it can be searched. Raises ConfigError as `create_if_missing` does."""
        ...

    def count(self) -> int:
        """Chunks of all owners."""
        ...

    def close(self) -> None:
        """Let go of folder or connections."""
        ...

    # What follows is the worker's, over all owners.

    def upsert(self, chunks: Sequence[Chunk]) -> None:
        """Write chunks, replacing those of the same owner, entry, version and place."""
        ...

    def delete(
        self, entries: Iterable[EntryKey], except_version: Mapping[EntryKey, int] | None = None
    ) -> None:
        """Delete all chunks of these entries, save those of the version named for it."""
        ...

    def versions(self) -> Iterator[IndexedVersion]:
        """Everything that is indexed, one for each version of an entry, in no order."""
        ...

    def optimize(self) -> None:
        """Bring what was written in bulk into its fastest form; may take a minute for 100,000 chunks."""
        ...

    def shadow(self) -> "IndexEngine":
        """A fresh and empty one beside this one, that nobody searches yet."""
        ...

    def promote(self, twin: "IndexEngine") -> None:
        """From now on the twin is what is searched and written, and this one is dropped.

        Atomic: a search finds the old one or the twin. `self` goes on as the twin; close only `self`.
        """
        ...


def collection_name(model: str, dimension: int) -> str:
    """What vectors of one embedding model are kept under: those of another never get among them."""
    return f"{re.sub(r'[^A-Za-z0-9.]+', '-', model)}-{dimension}-f{FORMAT}"


def numbered_collection(name: str, after: str = "") -> str:
    """The collection that holds what is kept under `name`, one number higher than that of `after`."""
    number = re.search(r"~(\d+)$", after)
    return f"{name}~{int(number[1]) + 1 if number else 1}"


def check_current(current: str, name: str, model: str) -> None:
    """Raises ConfigError when the collection that is searched, if any, is another model's than `name`.

    One of the same model in an older format is replaced.
    """
    if current and _FORMAT.sub("", current) != _FORMAT.sub("", name):
        raise ConfigError(
            f"EMBEDDING_MODEL {model!r} would search {name}, but the diary is indexed as "
            f"{current.split('~')[0]}: set EMBEDDING_MODEL back, or make the index anew by "
            "`python -m services.diary.index.reindexing`"
        )


class UnavailableIndex:
    """Stands for an index that could not be opened, so that Ada can answer without her diary."""

    def __init__(self, reason: str) -> None:
        self._reason = reason

    def for_owner(self, owner: str) -> OwnerIndex:
        return self

    def search(self, asked: IndexQuery, limit: int, first_day: str = "", last_day: str = "") -> list[Hit]:
        raise DiaryUnavailable(self._reason)

    def fetch(self, places: Iterable[ChunkRef], asked: IndexQuery) -> list[Hit]:
        raise DiaryUnavailable(self._reason)

    def create_if_missing(self) -> None:
        raise DiaryUnavailable(self._reason)

    def check(self) -> None:
        raise DiaryUnavailable(self._reason)

    def count(self) -> int:
        raise DiaryUnavailable(self._reason)

    def close(self) -> None:
        """There is nothing to let go of."""

    def upsert(self, chunks: Sequence[Chunk]) -> None:
        raise DiaryUnavailable(self._reason)

    def delete(
        self, entries: Iterable[EntryKey], except_version: Mapping[EntryKey, int] | None = None
    ) -> None:
        raise DiaryUnavailable(self._reason)

    def versions(self) -> Iterator[IndexedVersion]:
        raise DiaryUnavailable(self._reason)

    def optimize(self) -> None:
        raise DiaryUnavailable(self._reason)

    def shadow(self) -> IndexEngine:
        raise DiaryUnavailable(self._reason)

    def promote(self, twin: IndexEngine) -> None:
        raise DiaryUnavailable(self._reason)
