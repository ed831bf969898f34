"""Where an index can lie in a test: a folder for the embedded engine, or a Qdrant server.

The server is the stand-in of tests/compose/qdrant_standin.py, or a real Qdrant where QDRANT_TEST_URL and
QDRANT_TEST_KEY name one: the diary's collections on it are deleted.
"""

import importlib.util
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import uvicorn
from fake_embedder import DIMENSION, plain_words, unit_vector

from services.diary.index.embedded.index import EdgeIndex
from services.diary.index.qdrant.index import QdrantIndex
from services.diary.index.types import Chunk

STANDIN = Path(__file__).parents[1] / "compose" / "qdrant_standin.py"
KEYS = {"api_key": "may-write", "read_only_api_key": "may-read"}
DAY = "2026-01-02"


def chunk(text: str, owner: str = "ada", day: str = DAY, **other: object) -> Chunk:
    """A chunk whose entry is named after its text."""
    fields = {
        "entry_id": text,
        "version": 1,
        "ordinal": 0,
        "first_day": day,
        "last_day": day,
        "vector": unit_vector(text),
        "sparse_vector": plain_words(text),
        **other,
    }
    return Chunk(owner=owner, text=text, **fields)


class Folder:
    """The embedded engine's place."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def open(self, model: str = "fake", replacing: bool = False) -> EdgeIndex:
        return EdgeIndex(self.path, model, DIMENSION, replacing)

    def left(self) -> set[str]:
        """What lies there, searched or not."""
        return {path.parent.name for path in self.path.glob("*/edge_config.json")}


class Server:
    """A Qdrant server, by its URL."""

    def __init__(self, url: str) -> None:
        self.url = url

    def open(
        self, model: str = "fake", replacing: bool = False, key: str = KEYS["api_key"], ensured: bool = True
    ) -> QdrantIndex:
        key = os.environ.get("QDRANT_TEST_KEY", key) if key == KEYS["api_key"] else key
        index = QdrantIndex(self.url, key, model, DIMENSION, timeout_s=5)
        if ensured and not replacing:
            index.create_if_missing()
        return index

    def left(self) -> set[str]:
        """What lies there, searched or not."""
        index = self.open(ensured=False)
        names = {collection.name for collection in index.client.get_collections().collections}
        index.close()
        return {name for name in names if "-f" in name}

    def clear(self) -> None:
        index = self.open(ensured=False)
        for name in self.left():
            index.client.delete_collection(name)
        index.close()


@contextmanager
def standin(folder: Path, port: int, version: str = "1.20.0") -> Iterator[str]:
    """A stand-in for Qdrant on a port of this machine."""
    spec = importlib.util.spec_from_file_location("qdrant_standin", STANDIN)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    app = module.create_app(folder, KEYS, version)
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=port, log_level="warning"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield f"http://127.0.0.1:{port}"
    server.should_exit = True
    thread.join(timeout=10)
    app.state.engine.close()
