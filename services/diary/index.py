"""The index: vectors of chunks, always searched for one owner."""

import re
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from services.diary.embedder import Vector
from services.errors import DiaryUnavailable

_NAMESPACE = uuid.UUID("5d3a7b5e-3c1f-5b6e-9a56-0adad1a12e70")


@dataclass(frozen=True)
class Chunk:
    """One piece of an entry's version, with its vector; `place` counts from 0."""

    owner: str
    entry_id: str
    version: int
    place: int
    day: str
    text: str
    vector: Vector

    @property
    def point_id(self) -> str:
        """The same chunk has the same id, so indexing twice changes nothing."""
        name = f"{self.owner}/{self.entry_id}/{self.version}/{self.place}"
        return str(uuid.uuid5(_NAMESPACE, name))

    @property
    def payload(self) -> dict[str, object]:
        """What an engine keeps beside the vector; `Hit.of` reads it."""
        return {
            "owner": self.owner,
            "entry_id": self.entry_id,
            "version": self.version,
            "day": self.day,
            "text": self.text,
        }


@dataclass(frozen=True)
class Hit:
    """A chunk that was found, and its cosine similarity to the question."""

    entry_id: str
    version: int
    text: str
    score: float

    @classmethod
    def of(cls, payload: dict[str, Any], score: float) -> "Hit":
        """The hit that an engine found, from a chunk's payload."""
        return cls(str(payload["entry_id"]), int(payload["version"]), str(payload["text"]), float(score))


class IndexEngine(Protocol):
    """What a vector store must do for the diary. Raises DiaryUnavailable when it can't."""

    def ensure(self) -> None:
        """Make what is missing, so that chunks can be written."""
        ...

    def check(self) -> None:
        """See that it can be searched."""
        ...

    def upsert(self, chunks: Sequence[Chunk]) -> None: ...

    def search(
        self, owner: str, vector: Vector, limit: int, first_day: str = "", last_day: str = ""
    ) -> list[Hit]:
        """The owner's nearest chunks, best first, dated within the days given (inclusive)."""
        ...

    def delete(self, owner: str, entry_id: str) -> None: ...

    def count(self) -> int: ...


def collection_name(model: str, dimension: int) -> str:
    """Where vectors of one embedding model lie: those of another never get among them."""
    return f"{re.sub(r'[^A-Za-z0-9.]+', '-', model)}-{dimension}"


class NoIndex:
    """Stands for an index that could not be opened, so that Ada can answer without her diary."""

    def __init__(self, reason: str) -> None:
        self._reason = reason

    def ensure(self) -> None:
        raise DiaryUnavailable(self._reason)

    def check(self) -> None:
        raise DiaryUnavailable(self._reason)

    def upsert(self, chunks: Sequence[Chunk]) -> None:
        raise DiaryUnavailable(self._reason)

    def search(
        self, owner: str, vector: Vector, limit: int, first_day: str = "", last_day: str = ""
    ) -> list[Hit]:
        raise DiaryUnavailable(self._reason)

    def delete(self, owner: str, entry_id: str) -> None:
        raise DiaryUnavailable(self._reason)

    def count(self) -> int:
        raise DiaryUnavailable(self._reason)
