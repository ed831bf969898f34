"""Qdrant's own engine over a real folder; what every index must do stands in test_index_contract.py.

.venv/bin/python -m pytest tests/diary/index/test_embedded_index.py
"""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy
import pytest
from fake_embedder import DIMENSION, index_query, plain_words
from index_backends import chunk

from services.diary.index.embedded.index import EdgeIndex
from services.diary.index.types import SPARSE, IndexQuery
from services.errors import DiaryUnavailable

ROOT = Path(__file__).parents[3]
FIRST = f"fake-{DIMENSION}-f3~1"


def entry_ids(index: EdgeIndex, **days: str) -> set[str]:
    return {hit.entry_id for hit in index.for_owner("ada").search(index_query("any"), 1000, **days)}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "index"


@pytest.fixture
def reopened(folder: Path) -> Iterator[EdgeIndex]:
    """The index as the next process finds it. Ask for it by getfixturevalue, when it is time."""
    engine = EdgeIndex(folder, "fake", DIMENSION)
    yield engine
    engine.close()


def test_it_is_named_after_model_dimension_and_format(tmp_path: Path):
    index = EdgeIndex(tmp_path, "sentence-transformers/all-MiniLM-L6-v2", 384)
    assert index.path == tmp_path / "sentence-transformers-all-MiniLM-L6-v2-384-f3~1"
    index.close()


def test_what_was_written_is_there_after_closing(folder: Path):
    first = EdgeIndex(folder, "fake", DIMENSION)
    first.upsert([chunk("kept"), chunk("also kept", day="2026-01-03")])
    first.close()
    second = EdgeIndex(folder, "fake", DIMENSION)
    assert second.count() == 2
    assert entry_ids(second, first_day="2026-01-03") == {"also kept"}
    second.upsert([chunk("new")])
    assert second.count() == 3
    second.close()


def test_what_was_written_is_there_after_the_writer_was_killed(folder: Path, request: pytest.FixtureRequest):
    write_for_ever = (
        "import itertools, pathlib, sys\n"
        "from services.diary.index.embedded.index import EdgeIndex\n"
        "from services.diary.index.types import Chunk, SparseVector\n"
        "dimension = int(sys.argv[2])\n"
        "index = EdgeIndex(pathlib.Path(sys.argv[1]), 'fake', dimension)\n"
        "for number in map(str, itertools.count()):\n"
        "    what = '2026-01-02', '2026-01-02', number, [1.0] * dimension, SparseVector([1], [1.0])\n"
        "    index.upsert([Chunk('ada', number, 1, 0, *what)])\n"
        "    print(number, flush=True)\n"
    )
    writer = subprocess.Popen(
        [sys.executable, "-c", write_for_ever, str(folder), str(DIMENSION)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert writer.stdout
    while int(writer.stdout.readline()) < 100:
        pass
    writer.kill()
    number_written = 101 + len(writer.communicate()[0].split())
    retained = entry_ids(request.getfixturevalue("reopened"))
    assert {str(number) for number in range(number_written)} <= retained
    assert len(retained) <= number_written + 1


def test_a_second_index_on_the_same_folder_is_refused(index: EdgeIndex, folder: Path):
    with pytest.raises(DiaryUnavailable):
        EdgeIndex(folder, "fake", DIMENSION)
    index.upsert([chunk("still writable")])
    assert index.count() == 1


def test_another_process_on_the_same_folder_is_refused(index: EdgeIndex, folder: Path):
    open_it = (
        "import pathlib, sys\n"
        "from services.diary.index.embedded.index import EdgeIndex\n"
        "from services.errors import DiaryUnavailable\n"
        "try:\n"
        "    EdgeIndex(pathlib.Path(sys.argv[1]), 'fake', int(sys.argv[2]))\n"
        "except DiaryUnavailable:\n"
        "    sys.exit(7)\n"
    )
    command = [sys.executable, "-c", open_it, str(folder), str(DIMENSION)]
    assert subprocess.run(command, cwd=ROOT, check=False).returncode == 7
    assert index.count() == 0


def test_a_half_made_folder_is_made_anew(folder: Path, request: pytest.FixtureRequest):
    """A process that was killed while it made the index leaves no edge_config.json."""
    for half in ("wal", "segments"):
        (folder / FIRST / half).mkdir(parents=True)
    (folder / FIRST / "wal" / "open-1").write_bytes(b"\x00" * 100)
    index = request.getfixturevalue("reopened")
    index.upsert([chunk("new")])
    assert entry_ids(index, first_day="2026-01-01") == {"new"}


@pytest.mark.parametrize("name", ["index", f"index/{FIRST}"])
def test_a_file_in_the_place_of_the_folder_makes_the_diary_unavailable(
    folder: Path, tmp_path: Path, name: str
):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("a file")
    with pytest.raises(DiaryUnavailable):
        EdgeIndex(folder, "fake", DIMENSION)
    assert (tmp_path / name).read_text() == "a file"


@pytest.mark.parametrize("content", [b"", b"{", b"{}"])
def test_a_damaged_index_makes_the_diary_unavailable(folder: Path, content: bytes):
    first = EdgeIndex(folder, "fake", DIMENSION)
    first.upsert([chunk("a")])
    first.close()
    (first.path / "edge_config.json").write_bytes(content)
    for segment in (first.path / "segments").iterdir():
        (segment / "segment.json").write_bytes(content)
    with pytest.raises(DiaryUnavailable):
        EdgeIndex(folder, "fake", DIMENSION)


def test_a_folder_that_can_not_be_looked_into_makes_the_diary_unavailable(folder: Path):
    """Shown by a name that is too long, since root may look into every folder."""
    with pytest.raises(DiaryUnavailable):
        EdgeIndex(folder, "m" * 300, DIMENSION)


def test_after_closing_it_is_unavailable(folder: Path):
    index = EdgeIndex(folder, "fake", DIMENSION)
    index.close()
    for call in (index.count, lambda: index.upsert([chunk("a")]), lambda: entry_ids(index)):
        with pytest.raises(DiaryUnavailable):
            call()


class TestWhatIsLeftBehind:
    """A process can be killed at any moment of a reindexing; the next start tidies up."""

    def test_a_twin_is_swept_away(self, folder: Path):
        first = EdgeIndex(folder, "fake", DIMENSION)
        first.upsert([chunk("old")])
        shadow = first.shadow()
        shadow.upsert([chunk("new")])
        first.close()
        second = EdgeIndex(folder, "fake", DIMENSION)
        assert entry_ids(second) == {"old"}
        assert not shadow.path.exists()
        second.close()

    def test_what_was_named_before_the_end_is_what_is_searched(self, folder: Path):
        """`current` is replaced first, and the old folder deleted afterwards."""
        first = EdgeIndex(folder, "fake", DIMENSION)
        first.upsert([chunk("old")])
        twin = first.shadow()
        twin.upsert([chunk("new")])
        (folder / "current").write_text(twin.path.name)
        twin.shard.close()
        first.close()
        second = EdgeIndex(folder, "fake", DIMENSION)
        assert entry_ids(second) == {"new"}
        assert not first.path.exists()
        second.close()

    def test_a_folder_that_current_names_and_that_is_gone_is_made_anew(self, folder: Path):
        (folder).mkdir()
        (folder / "current").write_text(f"fake-{DIMENSION}-f3~7")
        index = EdgeIndex(folder, "fake", DIMENSION)
        assert (index.count(), index.path.name) == (0, f"fake-{DIMENSION}-f3~7")
        index.close()

    def test_the_first_format_and_nobody_elses_files_are_swept_away(self, folder: Path):
        for name in (f"fake-{DIMENSION}", "somebody's"):
            (folder / name).mkdir(parents=True)
            (folder / name / "edge_config.json").write_text("{}")
        index = EdgeIndex(folder, "fake", DIMENSION)
        assert sorted(path.name for path in folder.iterdir() if path.is_dir()) == [FIRST, "somebody's"]
        index.close()


def test_optimizing_builds_a_graph_that_finds_the_same(folder: Path):
    index = EdgeIndex(folder, "fake", 384, graph_from_chunks=8_000)
    twin = index.shadow()
    chance = numpy.random.default_rng(3)
    vectors = chance.normal(size=(8_000, 12)) @ chance.normal(size=(12, 384))  # text fills few dimensions
    twin.upsert([chunk(f"fog {i}", vector=vector.tolist()) for i, vector in enumerate(vectors)])
    question = IndexQuery(vectors[5_000].tolist(), plain_words("77"))
    before = twin.for_owner("ada").search(question, 10)
    ungraphed = twin.shard.indexed_vectors()
    twin.optimize()
    assert (ungraphed, twin.shard.indexed_vectors()) == (8_000, 16_000)  # words alone, then both
    after = twin.for_owner("ada").search(question, 10)
    assert len({hit.entry_id for hit in after} & {hit.entry_id for hit in before}) >= 10
    assert max(after, key=lambda hit: hit.scores[SPARSE]).entry_id == "fog 77"
    index.close()


def test_an_index_in_an_older_format_is_replaced_by_an_empty_one(folder: Path):
    """The worker fills it from the ledger, as it does with one that was lost."""
    index = EdgeIndex(folder, "fake", DIMENSION)
    index.upsert([chunk("a")])
    index.close()
    (folder / FIRST).rename(folder / FIRST.replace("-f3", "-f2"))
    (folder / "current").write_text(FIRST.replace("-f3", "-f2"))
    for _ in range(2):
        index = EdgeIndex(folder, "fake", DIMENSION)
        assert (index.count(), index.path.name, (folder / "current").read_text()) == (0, FIRST, FIRST)
        index.close()
    assert not (folder / FIRST.replace("-f3", "-f2")).exists()
