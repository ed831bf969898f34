"""What an index must do for the diary, shown on a Qdrant server's REST over TCP.

The server is the stand-in of tests/compose/qdrant_standin.py, or a real Qdrant where QDRANT_TEST_URL and
QDRANT_TEST_KEY name one: its collections are made and deleted.

.venv/bin/python -m pytest tests/diary/test_qdrant_index.py
"""

import importlib.util
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import pytest
import uvicorn
from fake_embedder import DIMENSION, unit_vector
from test_edge_index import TestAnyIndex, chunk  # noqa: F401 (the contract, run again here)

from services.diary.qdrant_index import QdrantIndex, compatible
from services.errors import DiaryUnavailable

STANDIN = Path(__file__).parents[1] / "compose" / "qdrant_standin.py"
KEYS = {"api_key": "may-write", "read_only_api_key": "may-read"}


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


@pytest.fixture
def server(tmp_path: Path, port: int) -> Iterator[str]:
    if url := os.environ.get("QDRANT_TEST_URL"):
        yield url
        return
    with standin(tmp_path / "qdrant", port) as url:
        yield url


def opened(url: str, key: str = "may-write", model: str = "fake") -> QdrantIndex:
    key = os.environ.get("QDRANT_TEST_KEY", key) if key == "may-write" else key
    return QdrantIndex(url, key, model, DIMENSION, timeout_s=5)


@pytest.fixture
def index(server: str) -> Iterator[QdrantIndex]:
    engine = opened(server, model=f"fake-{uuid4().hex[:8]}")
    engine.ensure()
    yield engine
    engine._client.delete_collection(engine.collection)
    engine.close()


def test_ensuring_twice_keeps_what_is_there(index: QdrantIndex):
    index.upsert([chunk("e")])
    index.ensure()
    assert index.count() == 1


def test_the_collection_is_named_after_model_and_dimension(server: str):
    named = QdrantIndex(server, "may-write", "sentence-transformers/all-MiniLM-L6-v2", 384)
    assert named.collection == "sentence-transformers-all-MiniLM-L6-v2-384"
    named.close()


def test_the_read_only_key_finds_and_counts_and_changes_nothing(server: str, index: QdrantIndex):
    index.upsert([chunk("hers")])
    reader = QdrantIndex(server, "may-read", "fake", DIMENSION)
    reader.collection = index.collection
    assert reader.count() == 1
    assert [hit.text for hit in reader.search("ada", unit_vector("hers"), 1)] == ["hers"]
    for change in (
        lambda: reader.upsert([chunk("not hers")]),
        lambda: reader.delete("ada", "hers"),
        lambda: opened(server, "may-read", "another").ensure(),
    ):
        with pytest.raises(DiaryUnavailable, match="403"):
            change()
    assert index.count() == 1
    reader.close()


def test_a_wrong_key_is_told(server: str):
    stranger = opened(server, "guessed")
    with pytest.raises(DiaryUnavailable, match="401"):
        stranger.count()
    stranger.close()


def test_a_collection_that_was_never_made_is_no_empty_diary(server: str):
    unmade = opened(server, model="never")
    with pytest.raises(DiaryUnavailable, match="404"):
        unmade.search("ada", unit_vector("a"), 1)
    unmade.close()


def test_a_server_that_is_away_and_comes_back_with_what_it_had(tmp_path: Path, port: int):
    index = opened(f"http://127.0.0.1:{port}")
    with pytest.raises(DiaryUnavailable, match="can't be reached"):
        index.count()
    with standin(tmp_path / "qdrant", port):
        index.ensure()
        index.upsert([chunk("e")])
    with pytest.raises(DiaryUnavailable, match="can't be reached"):
        index.search("ada", unit_vector("e"), 1)
    with standin(tmp_path / "qdrant", port):
        assert index.count() == 1
    index.close()


def test_a_server_of_another_version_is_refused_with_the_image_to_take(tmp_path: Path, port: int):
    with standin(tmp_path / "qdrant", port, version="1.12.4") as url:
        index = opened(url)
        with pytest.raises(DiaryUnavailable, match=r"version 1\.12\.4.*QDRANT_IMAGE"):
            index.ensure()
        index.close()


@pytest.mark.parametrize(
    ("server", "client", "fits"),
    [
        ("1.20.3", "1.20.0", True),
        ("1.19.9", "1.20.0", True),
        ("v1.21.0", "1.20.0", True),
        ("1.18.0", "1.20.0", False),
        ("2.20.0", "1.20.0", False),
        ("", "1.20.0", False),
        ("nightly", "1.20.0", False),
    ],
)
def test_versions_one_minor_apart_understand_each_other(server: str, client: str, fits: bool):
    assert compatible(server, client) is fits
