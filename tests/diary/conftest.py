"""Fixtures of the diary's tests: a ledger on disk, the engine on disk, and the real MiniLM."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from fake_embedder import DIMENSION
from postgresql_server import PostgresqlServer

from services.diary.embedding.embedder import SentenceTransformerEmbedder
from services.diary.index.embedded.index import EdgeIndex
from services.diary.ledger.ledger import Ledger


@pytest.fixture(scope="session")
def postgresql() -> Iterator[PostgresqlServer]:
    """A real PostgreSQL, started for the first test that asks for it."""
    with tempfile.TemporaryDirectory(prefix="ada-") as room:
        server = PostgresqlServer(Path(room))
        yield server
        server.stop()


@pytest.fixture(params=["sqlite", "postgresql"])
def either_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty database, in SQLite and in PostgreSQL."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/ledger.sqlite3"
    server: PostgresqlServer = request.getfixturevalue("postgresql")
    return server.empty_url()


@pytest.fixture
def either_ledger_url(either_url: str, tmp_path: Path, migrated_ledger: Path) -> str:
    """The same, but in SQLite the migrations ran before.

    A test file whose `ledger_url` returns it runs over both.
    """
    if either_url.startswith("sqlite"):
        shutil.copy(migrated_ledger, tmp_path / "ledger.sqlite3")
    return either_url


@pytest.fixture
def ledger_url(tmp_path: Path, migrated_ledger: Path) -> str:
    shutil.copy(migrated_ledger, tmp_path / "ledger.sqlite3")
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
