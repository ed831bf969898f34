"""The data that goes into the index and comes out of it: chunks, queries and hits."""

import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from services.diary.embedding.embedder import Vector

# The names of a chunk's two vectors on disk, and of the two parts of a hit's score in the API.
DENSE = "dense"
SPARSE = "words"
_NAMESPACE = uuid.UUID("5d3a7b5e-3c1f-5b6e-9a56-0adad1a12e70")


@dataclass(frozen=True)
class SparseVector:
    """A sparse BM25 vector: one weight per distinct term. A text of stop words alone is empty."""

    indices: list[int]
    values: list[float]


class EntryKey(NamedTuple):
    """Identifies an entry among those of all owners."""

    owner: str
    entry_id: str


class IndexedVersion(NamedTuple):
    """A version of an entry in the index, with its number of chunks."""

    owner: str
    entry_id: str
    version: int
    chunks: int


class ChunkRef(NamedTuple):
    """Identifies a chunk among those of one owner; `ordinal` counts from 0 within its entry."""

    entry_id: str
    version: int
    ordinal: int


@dataclass(frozen=True)
class Chunk:
    """A piece of an entry's version with its vectors.

    `ordinal` counts from 0, days are YYYY-MM-DD, `vector` has L2 norm 1. `dated` is false where the days were
    only assumed.
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
        """The same chunk always has the same id, so indexing is idempotent."""
        return point_id(self.owner, ChunkRef(self.entry_id, self.version, self.ordinal))

    @property
    def payload(self) -> dict[str, object]:
        """What an engine stores with the vectors; `Hit.from_payload` reads it.

        Never the text: an engine's files may keep deleted data indefinitely. The text comes from the ledger.
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
    """Whether the last mark that ends a sentence is a question mark; quotes and brackets may follow."""
    return max(".!?…", key=text.rfind) == "?" and "?" in text


def point_id(owner: str, chunk: ChunkRef) -> str:
    """The id of a chunk in an engine: a UUID of JSON, because owners and ids may contain any separator."""
    return str(uuid.uuid5(_NAMESPACE, json.dumps([owner, *chunk])))


@dataclass(frozen=True)
class IndexQuery:
    """A question as the index searches it: float32, (dimension,), L2 norm 1, and its BM25 terms."""

    vector: Vector
    sparse_vector: SparseVector


@dataclass(frozen=True)
class Hit:
    """A chunk that matches a query.

    `scores` has both parts, whichever of them matched: DENSE is the cosine with the question, SPARSE its BM25
    score among the owner's chunks, 0.0 when they share no term.
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
        """The hit for a point that an engine returned, from the payload of its chunk."""
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
