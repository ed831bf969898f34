"""A worker in a process of its own, to be killed with -9: ledger, index and Worker over one folder.

Not a test: test_killed.py starts it as `python worker_process.py FOLDER VALKEY_SOCKET`.
"""

import math
import random
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from services.diary.embedding.embedder import Vector
from services.diary.index.embedded.index import EdgeIndex
from services.diary.job_queue import queue_connection
from services.diary.ledger.ledger import Ledger, LedgerOptions
from services.worker.reflection import CompletionClient
from services.worker.worker import build_worker

DIMENSION = 16


class FakeEmbedder:
    """The same text has the same unit vector, in every process; each text takes `pause_s`."""

    name = "fake"
    dimension = DIMENSION

    def __init__(self, pause_s: float = 0.0) -> None:
        self.pause_s = pause_s

    def embed_documents(self, texts: Sequence[str]) -> list[Vector]:
        time.sleep(self.pause_s * len(texts))
        return [self.embed_query(text) for text in texts]

    def embed_query(self, text: str) -> Vector:
        chance = random.Random(text)
        numbers = [chance.gauss(0, 1) for _ in range(DIMENSION)]
        return [number / math.hypot(*numbers) for number in numbers]


def open_ledger(folder: Path, options: LedgerOptions | None = None) -> Ledger:
    return Ledger(f"sqlite:///{folder}/ledger.sqlite3", options)


def open_index(folder: Path) -> EdgeIndex:
    return EdgeIndex(folder / "index", FakeEmbedder.name, DIMENSION)


if __name__ == "__main__":
    folder, socket = Path(sys.argv[1]), sys.argv[2]
    queue = queue_connection(f"unix://{socket}")
    embedder = FakeEmbedder(pause_s=0.01)
    build_worker(
        open_ledger(folder), embedder, open_index(folder), queue, CompletionClient("http://127.0.0.1:9")
    ).run()
