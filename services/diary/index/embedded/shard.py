"""A directory of points in Qdrant's embedded engine (qdrant-edge): created, opened, optimized, deleted.

The engine allows one process and many threads. Its write-ahead log survives a killed process.

Measured at 100,000 chunks of 384 numbers on two cores (docs/measurements/diary.md): the engine's own
`optimize` takes 39 s and lets no other thread of the process run meanwhile. So it runs in a process of its
own, on a directory that nobody searches:

    python -m services.diary.index.embedded.shard DIRECTORY
"""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from qdrant_edge import (
    Distance,
    EdgeConfig,
    EdgeShard,
    EdgeSparseVectorParams,
    EdgeVectorParams,
    KeywordIndexParams,
    Modifier,
    PayloadSchemaType,
    UpdateOperation,
)

from services.diary.index.types import DENSE, SPARSE
from services.errors import DiaryUnavailable

_COMPLETE = "edge_config.json"  # the engine writes it last


class Shard:
    """A directory of points; `engine` reads and writes them. Every method raises DiaryUnavailable."""

    def __init__(self, path: Path, dimension: int) -> None:
        """Open `path`, or create it."""
        self.path = path
        self._config = EdgeConfig(
            vectors={DENSE: EdgeVectorParams(size=dimension, distance=Distance.Cosine)},
            sparse_vectors={SPARSE: EdgeSparseVectorParams(modifier=Modifier.Idf)},
        )
        with translated_errors():
            self.engine = self._load() if (path / _COMPLETE).exists() else self._create()

    def _load(self) -> EdgeShard:
        return EdgeShard.load(str(self.path), self._config)

    def _create(self) -> EdgeShard:
        shutil.rmtree(self.path, ignore_errors=True)  # left by a process that died while it created it
        self.path.mkdir(parents=True)
        engine = EdgeShard.create(str(self.path), self._config)
        for key, schema in (
            ("owner", KeywordIndexParams(is_tenant=True)),
            ("entry_id", PayloadSchemaType.Keyword),
            ("first_day", PayloadSchemaType.Datetime),
            ("last_day", PayloadSchemaType.Datetime),
        ):
            engine.update(UpdateOperation.create_field_index(key, schema))
        return engine

    def indexed_vectors(self) -> int:
        """How many vectors are in a search index; dense ones are in none before `optimize`."""
        with translated_errors():
            return self.engine.info().indexed_vectors_count

    def optimize(self) -> None:
        """Build the graph that makes searches fast, in a process of its own; nobody may search meanwhile."""
        self.close()
        command = [sys.executable, "-m", __name__, str(self.path)]
        process = subprocess.run(
            command, cwd=Path(__file__).parents[4], capture_output=True, text=True, check=False
        )
        with translated_errors():
            self.engine = self._load()
        if process.returncode:
            raise DiaryUnavailable(
                f"the diary's index could not be optimized: {process.stderr.strip()[-300:]}"
            )

    def close(self) -> None:
        """Flush to disk and release the directory."""
        with translated_errors():
            self.engine.flush()
            self.engine.close()

    def drop(self) -> None:
        """Delete the directory. A search in progress still succeeds: its files are open until it ends."""
        shutil.rmtree(self.path, ignore_errors=True)


@contextmanager
def translated_errors() -> Iterator[None]:
    """Raises DiaryUnavailable for whatever the engine raises, which is a bare Exception."""
    try:
        yield
    except Exception as error:
        raise DiaryUnavailable(f"the diary's index failed: {error}") from error


if __name__ == "__main__":
    _engine = EdgeShard.load(sys.argv[1])
    _engine.optimize()
    _engine.flush()
    _engine.close()
