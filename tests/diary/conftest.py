"""Fixtures of the diary's tests: a ledger on disk, the engine on disk, and the real MiniLM."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from fake_embedder import DIMENSION

from services.diary.edge_index import EdgeIndex
from services.diary.embedder import SentenceTransformerEmbedder
from services.diary.ledger import Ledger


@pytest.fixture
def ledger_url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/ledger.sqlite3"


@pytest.fixture
def ledger(ledger_url: str) -> Iterator[Ledger]:
    with Ledger(ledger_url) as ledger:
        yield ledger


@pytest.fixture
def index(tmp_path: Path) -> Iterator[EdgeIndex]:
    """An empty index for vectors of the FakeEmbedder."""
    engine = EdgeIndex(tmp_path / "index", "fake", DIMENSION)
    yield engine
    engine.close()


@pytest.fixture(scope="session")
def minilm() -> SentenceTransformerEmbedder:
    """The real all-MiniLM-L6-v2, from its package."""
    return SentenceTransformerEmbedder()
