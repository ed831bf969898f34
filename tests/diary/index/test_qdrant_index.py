"""What is Qdrant's server's own; what every index must do stands in test_index_contract.py.

The server is the stand-in of tests/compose/qdrant_standin.py, or a real Qdrant where QDRANT_TEST_URL and
QDRANT_TEST_KEY name one: the diary's collections on it are deleted.

.venv/bin/python -m pytest tests/diary/index/test_qdrant_index.py
"""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from fake_embedder import DIMENSION, index_query
from index_backends import Server, chunk, standin
from qdrant_client import models

from services.diary.index.qdrant.index import QdrantIndex
from services.diary.index.qdrant.server import compatible
from services.diary.index.types import ChunkRef, EntryKey
from services.errors import ConfigError, DiaryUnavailable

FIRST = f"fake-{DIMENSION}-f3~1"
MAY_READ = "may-read"


@pytest.fixture
def server(tmp_path: Path, port: int) -> Iterator[Server]:
    if url := os.environ.get("QDRANT_TEST_URL"):
        Server(url).clear()
        yield Server(url)
        Server(url).clear()
        return
    with standin(tmp_path / "qdrant", port) as url:
        yield Server(url)


@pytest.fixture
def index(server: Server) -> Iterator[QdrantIndex]:
    engine = server.open()
    yield engine
    engine.close()


@pytest.fixture
def reader(server: Server) -> Iterator[QdrantIndex]:
    """The orchestrator's, with the key that may only read."""
    engine = server.open(key=MAY_READ, ensured=False)
    yield engine
    engine.close()


def entry_ids(index: QdrantIndex) -> set[str]:
    return {hit.entry_id for hit in index.for_owner("ada").search(index_query("any"), 1000)}


def test_ensuring_twice_keeps_what_is_there(index: QdrantIndex):
    index.upsert([chunk("e")])
    index.create_if_missing()
    assert index.count() == 1


def test_a_making_that_was_cut_short_is_finished(server: Server):
    index = server.open(ensured=False)
    index.server.create(FIRST, DIMENSION)  # and then the process died, before it was given the alias
    index.create_if_missing()
    index.upsert([chunk("e")])
    assert entry_ids(index) == {"e"}
    index.close()


def test_the_alias_is_named_after_model_dimension_and_format(server: Server):
    index_of_minilm = QdrantIndex(server.url, "may-write", "sentence-transformers/all-MiniLM-L6-v2", 384)
    assert index_of_minilm.alias == "sentence-transformers-all-MiniLM-L6-v2-384-f3"
    index_of_minilm.close()


def test_the_first_collection_stands_behind_the_alias(server: Server, index: QdrantIndex):
    assert server.left() == {FIRST}
    assert index.server.aliases() == {f"fake-{DIMENSION}-f3": FIRST}


def test_the_read_only_key_searches_through_the_alias_and_changes_nothing(
    index: QdrantIndex, reader: QdrantIndex
):
    index.upsert([chunk("hers")])
    reader.check()
    assert reader.count() == 1
    assert entry_ids(reader) == {"hers"}
    assert len(reader.for_owner("ada").fetch([ChunkRef("hers", 1, 0)], index_query("hers"))) == 1
    for change in (
        lambda: reader.upsert([chunk("not hers")]),
        lambda: reader.delete([EntryKey("ada", "hers")]),
        lambda: reader.server.point("another", FIRST),
        reader.shadow,
    ):
        with pytest.raises(DiaryUnavailable, match="403"):
            change()
    assert index.count() == 1


def test_a_reader_follows_the_switch_without_being_told(index: QdrantIndex, reader: QdrantIndex):
    index.upsert([chunk("old")])
    assert entry_ids(reader) == {"old"}
    twin = index.shadow()
    twin.upsert([chunk("new")])
    index.promote(twin)
    assert entry_ids(reader) == {"new"}


def test_a_reader_of_another_model_finds_nothing_rather_than_nonsense(server: Server, index: QdrantIndex):
    """Her orchestrator was started with the old model, and the worker has switched to a new one."""
    index.upsert([chunk("old")])
    other = server.open("other", replacing=True)
    other.promote(other.shadow())
    with pytest.raises(DiaryUnavailable, match="404"):
        entry_ids(index)
    with pytest.raises(ConfigError, match=r"'fake'.*indexed as other-16-f3"):
        index.check()
    other.close()


def test_an_index_in_an_older_format_is_replaced_by_an_empty_one(server: Server):
    """The worker fills it from the ledger, as it does with one that was lost."""
    older = FIRST.replace("-f3", "-f2")
    before = server.open(ensured=False)
    before.server.create(older, DIMENSION)
    before.server.point(older.partition("~")[0], older)
    before.create_if_missing()
    assert before.count() == 0
    assert before.server.collections() == [FIRST]
    before.close()


def test_other_collections_on_the_same_server_are_left_alone(server: Server, index: QdrantIndex):
    index.server.create("somebody-elses", DIMENSION)
    index.server.create("theirs-v2", DIMENSION)
    theirs = index.client
    alias = models.CreateAlias(alias_name="theirs", collection_name="theirs-v2")
    theirs.update_collection_aliases([models.CreateAliasOperation(create_alias=alias)])
    index.promote(index.shadow())
    assert {item.name for item in theirs.get_collections().collections} > {"somebody-elses", "theirs-v2"}
    assert "theirs" in {item.alias_name for item in theirs.get_aliases().aliases}
    for name in ("somebody-elses", "theirs-v2"):
        index.server.delete(name)


def test_a_wrong_key_is_told(server: Server):
    stranger = server.open(key="guessed", ensured=False)
    with pytest.raises(DiaryUnavailable, match="401"):
        stranger.count()
    stranger.close()


def test_an_index_that_was_never_made_is_no_empty_diary(reader: QdrantIndex):
    with pytest.raises(DiaryUnavailable, match="404"):
        entry_ids(reader)
    with pytest.raises(DiaryUnavailable, match="404"):
        reader.check()


def test_a_server_that_is_away_and_comes_back_with_what_it_had(tmp_path: Path, port: int):
    index = Server(f"http://127.0.0.1:{port}").open(ensured=False)
    with pytest.raises(DiaryUnavailable, match="can't be reached") as error_info:
        index.count()
    assert str(port) not in str(error_info.value)  # clients are told it
    with standin(tmp_path / "qdrant", port):
        index.create_if_missing()
        index.upsert([chunk("e")])
    with pytest.raises(DiaryUnavailable, match="can't be reached"):
        entry_ids(index)
    with standin(tmp_path / "qdrant", port):
        assert entry_ids(index) == {"e"}
    index.close()


def test_a_server_of_another_version_is_refused_with_the_image_to_take(tmp_path: Path, port: int):
    with standin(tmp_path / "qdrant", port, version="1.12.4") as url:
        index = Server(url).open(ensured=False)
        for call in (index.create_if_missing, index.check, index.shadow):
            with pytest.raises(DiaryUnavailable, match=r"version 1\.12\.4.*QDRANT_IMAGE"):
                call()
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
