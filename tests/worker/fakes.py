"""Embedders and indexes that make trouble, for tests."""

import threading
from collections.abc import Iterable, Mapping, Sequence

from worker_process import FakeEmbedder

from services.diary.embedding.embedder import Vector
from services.diary.index.engine import IndexEngine
from services.diary.index.types import Chunk, EntryKey
from services.errors import DiaryUnavailable


class PickyEmbedder(FakeEmbedder):
    """Can't read one word; counts the texts that it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.read = 0

    def embed_documents(self, texts: Sequence[str]) -> list[Vector]:
        self.read += len(texts)
        if any("illegible" in text for text in texts):
            raise ValueError("what is this?")
        return super().embed_documents(texts)


class WaitingEmbedder(FakeEmbedder):
    """Holds every job until it is let go; remembers how many texts each batch had."""

    def __init__(self) -> None:
        super().__init__()
        self.batches: list[int] = []
        self.has_begun = threading.Event()
        self.may_end = threading.Event()

    def embed_documents(self, texts: Sequence[str]) -> list[Vector]:
        self.batches.append(len(texts))
        self.has_begun.set()
        self.may_end.wait(10)
        return super().embed_documents(texts)


class UnsteadyIndex:
    """Passes on to another index, or is away, or refuses what is written."""

    def __init__(self, index: IndexEngine, away: bool = False) -> None:
        self._index = index
        self.away = away
        self.refuses = False
        self.leaves_at_upsert = False
        self.failed_checks = 0

    def check(self) -> None:
        if self.away:
            self.failed_checks += 1
            raise DiaryUnavailable("the index is away")
        self._index.check()

    def create_if_missing(self) -> None:
        self.check()

    def count(self) -> int:
        self.check()
        return self._index.count()

    def upsert(self, chunks: Sequence[Chunk]) -> None:
        self.away = self.away or self.leaves_at_upsert
        self.check()
        if self.refuses:
            raise DiaryUnavailable("the index is full")
        self._index.upsert(chunks)

    def delete(
        self, entries: Iterable[EntryKey], except_version: Mapping[EntryKey, int] | None = None
    ) -> None:
        self.check()
        self._index.delete(entries, except_version)
