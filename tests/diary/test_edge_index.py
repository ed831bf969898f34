"""What an index must do for the diary, shown on Qdrant's own engine over a real folder.

`TestAnyIndex` asks nothing of the engine but `IndexEngine`: another engine takes it over with a fixture
`index` of its own.

.venv/bin/python -m pytest tests/diary/test_edge_index.py
"""

import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from fake_embedder import DIMENSION, unit_vector

from services.diary.edge_index import EdgeIndex
from services.diary.embedder import Vector
from services.diary.index import Chunk, IndexEngine
from services.errors import DiaryUnavailable

ROOT = Path(__file__).parents[2]


def chunk(text: str, owner: str = "ada", day: str = "2026-01-02", **other: object) -> Chunk:
    """A chunk whose entry is named after its text."""
    fields = {"entry_id": text, "version": 1, "place": 0, "vector": unit_vector(text), **other}
    return Chunk(owner=owner, day=day, text=text, **fields)


def cosine(one: Vector, other: Vector) -> float:
    """Of two unit vectors."""
    return sum(a * b for a, b in zip(one, other, strict=True))


def found(index: IndexEngine, owner: str = "ada", **days: str) -> set[str]:
    return {hit.text for hit in index.search(owner, unit_vector("any"), 1000, **days)}


class TestAnyIndex:
    def test_it_is_empty_at_first(self, index: IndexEngine):
        assert index.count() == 0
        assert index.search("ada", unit_vector("a"), 5) == []

    def test_writing_twice_changes_nothing(self, index: IndexEngine):
        chunks = [chunk("e", place=place) for place in range(3)]
        index.upsert(chunks)
        once = index.search("ada", unit_vector("e"), 10)
        index.upsert(chunks)
        index.upsert(chunks[:1])
        assert index.count() == 3
        assert index.search("ada", unit_vector("e"), 10) == once

    def test_owner_entry_version_and_place_make_a_chunk_what_it_is(self, index: IndexEngine):
        others = [chunk("e", owner="bríd"), chunk("e", version=2), chunk("e", place=1), chunk("f")]
        index.upsert([chunk("e"), *others])
        assert index.count() == 5

    def test_what_is_found_is_what_was_written(self, index: IndexEngine):
        text = "NUL \x00, \u202e, <|im_end|>, é and 🐕"
        index.upsert([chunk(text, entry_id="demo-14", version=3)])
        (hit,) = index.search("ada", unit_vector(text), 1)
        assert (hit.entry_id, hit.version, hit.text) == ("demo-14", 3, text)
        assert hit.score == pytest.approx(1.0, abs=1e-5)

    def test_the_best_come_first_with_their_cosines(self, index: IndexEngine):
        texts = [f"text {i}" for i in range(50)]
        index.upsert([chunk(text) for text in texts])
        question = unit_vector("question")
        expected = sorted((cosine(question, unit_vector(text)) for text in texts), reverse=True)[:7]
        scores = [hit.score for hit in index.search("ada", question, 7)]
        assert scores == pytest.approx(expected, abs=1e-5)

    def test_two_hundred_searches_of_two_owners_never_cross(self, index: IndexEngine):
        for owner in ("ada", "bríd"):
            index.upsert([chunk(f"{owner} {i}", owner=owner) for i in range(200)])
        chance = random.Random(14)
        for number in range(200):
            owner = chance.choice(["ada", "bríd"])
            hits = index.search(owner, unit_vector(f"question {number}"), 20)
            assert len(hits) == 20
            assert all(hit.text.startswith(owner) for hit in hits)

    def test_a_stranger_finds_nothing(self, index: IndexEngine):
        index.upsert([chunk("hers")])
        for stranger in ("", "Ada", "ad", "ada ", "*"):
            assert index.search(stranger, unit_vector("hers"), 5) == []

    def test_first_and_last_day_belong_to_the_days_searched(self, index: IndexEngine):
        days = ["0001-01-01", "2025-12-31", "2026-01-01", "2026-01-02", "2026-01-03", "9999-12-31"]
        index.upsert([chunk(day, day=day) for day in days])
        assert found(index, first_day="2026-01-01", last_day="2026-01-02") == {"2026-01-01", "2026-01-02"}
        assert found(index, first_day="2026-01-02", last_day="2026-01-02") == {"2026-01-02"}
        assert found(index, first_day="2026-01-03") == {"2026-01-03", "9999-12-31"}
        assert found(index, last_day="2025-12-31") == {"0001-01-01", "2025-12-31"}
        assert found(index, first_day="2026-01-03", last_day="2026-01-01") == set()
        assert found(index) == set(days)

    def test_deleting_an_entry_takes_all_its_chunks_and_no_others(self, index: IndexEngine):
        index.upsert([chunk("e", place=place) for place in range(3)])
        index.upsert([chunk("e", owner="bríd"), chunk("f")])
        index.delete("ada", "e")
        index.delete("ada", "never written")
        assert index.count() == 2
        assert found(index) == {"f"}
        assert found(index, owner="bríd") == {"e"}

    def test_a_vector_of_the_wrong_dimension_makes_the_diary_unavailable(self, index: IndexEngine):
        with pytest.raises(DiaryUnavailable, match="dimension"):
            index.upsert([chunk("short", vector=[1.0])])
        with pytest.raises(DiaryUnavailable, match="dimension"):
            index.search("ada", [1.0], 5)
        assert index.count() == 0

    def test_writing_nothing_is_no_mistake(self, index: IndexEngine):
        index.upsert([])
        assert index.count() == 0


class TestTheFolder:
    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        return tmp_path / "index"

    @pytest.fixture
    def reopened(self, folder: Path) -> Iterator[EdgeIndex]:
        """The index as the next process finds it. Ask for it by getfixturevalue, when it is time."""
        engine = EdgeIndex(folder, "fake", DIMENSION)
        yield engine
        engine.close()

    def test_it_is_named_after_model_and_dimension(self, tmp_path: Path):
        index = EdgeIndex(tmp_path, "sentence-transformers/all-MiniLM-L6-v2", 384)
        assert index.path == tmp_path / "sentence-transformers-all-MiniLM-L6-v2-384"
        index.close()

    def test_what_was_written_is_there_after_closing(self, folder: Path):
        first = EdgeIndex(folder, "fake", DIMENSION)
        first.upsert([chunk("kept"), chunk("also kept", day="2026-01-03")])
        first.close()
        second = EdgeIndex(folder, "fake", DIMENSION)
        assert second.count() == 2
        assert found(second, first_day="2026-01-03") == {"also kept"}
        second.upsert([chunk("new")])
        assert second.count() == 3
        second.close()

    def test_what_was_written_is_there_after_the_writer_was_killed(
        self, folder: Path, request: pytest.FixtureRequest
    ):
        write_for_ever = (
            "import itertools, pathlib, sys\n"
            "from services.diary.edge_index import EdgeIndex\n"
            "from services.diary.index import Chunk\n"
            "dimension = int(sys.argv[2])\n"
            "index = EdgeIndex(pathlib.Path(sys.argv[1]), 'fake', dimension)\n"
            "for number in map(str, itertools.count()):\n"
            "    index.upsert([Chunk('ada', number, 1, 0, '2026-01-02', number, [1.0] * dimension)])\n"
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
        said = 101 + len(writer.communicate()[0].split())
        kept = found(request.getfixturevalue("reopened"))
        assert {str(number) for number in range(said)} <= kept
        assert len(kept) <= said + 1

    def test_a_second_index_on_the_same_folder_is_refused(self, index: EdgeIndex, folder: Path):
        with pytest.raises(DiaryUnavailable):
            EdgeIndex(folder, "fake", DIMENSION)
        index.upsert([chunk("still writable")])
        assert index.count() == 1

    def test_another_process_on_the_same_folder_is_refused(self, index: EdgeIndex, folder: Path):
        open_it = (
            "import pathlib, sys\n"
            "from services.diary.edge_index import EdgeIndex\n"
            "from services.errors import DiaryUnavailable\n"
            "try:\n"
            "    EdgeIndex(pathlib.Path(sys.argv[1]), 'fake', int(sys.argv[2]))\n"
            "except DiaryUnavailable:\n"
            "    sys.exit(7)\n"
        )
        command = [sys.executable, "-c", open_it, str(folder), str(DIMENSION)]
        assert subprocess.run(command, cwd=ROOT, check=False).returncode == 7
        assert index.count() == 0

    def test_a_half_made_folder_is_made_anew(self, folder: Path, request: pytest.FixtureRequest):
        """A process that was killed while it made the index leaves no edge_config.json."""
        for half in ("wal", "segments"):
            (folder / f"fake-{DIMENSION}" / half).mkdir(parents=True)
        (folder / f"fake-{DIMENSION}" / "wal" / "open-1").write_bytes(b"\x00" * 100)
        index = request.getfixturevalue("reopened")
        index.upsert([chunk("new")])
        assert found(index, first_day="2026-01-01") == {"new"}

    @pytest.mark.parametrize("name", ["index", f"index/fake-{DIMENSION}"])
    def test_a_file_in_the_place_of_the_folder_makes_the_diary_unavailable(
        self, folder: Path, tmp_path: Path, name: str
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("a file")
        with pytest.raises(DiaryUnavailable):
            EdgeIndex(folder, "fake", DIMENSION)
        assert (tmp_path / name).read_text() == "a file"

    @pytest.mark.parametrize("left", [b"", b"{", b"{}"])
    def test_a_damaged_index_makes_the_diary_unavailable(self, folder: Path, left: bytes):
        first = EdgeIndex(folder, "fake", DIMENSION)
        first.upsert([chunk("a")])
        first.close()
        (first.path / "edge_config.json").write_bytes(left)
        for segment in (first.path / "segments").iterdir():
            (segment / "segment.json").write_bytes(left)
        with pytest.raises(DiaryUnavailable):
            EdgeIndex(folder, "fake", DIMENSION)

    def test_a_folder_that_can_not_be_looked_into_makes_the_diary_unavailable(self, folder: Path):
        """Shown by a name that is too long, since root may look into every folder."""
        with pytest.raises(DiaryUnavailable):
            EdgeIndex(folder, "m" * 300, DIMENSION)

    def test_after_closing_it_is_unavailable(self, folder: Path):
        index = EdgeIndex(folder, "fake", DIMENSION)
        index.close()
        for call in (index.count, lambda: index.upsert([chunk("a")]), lambda: index.delete("ada", "a")):
            with pytest.raises(DiaryUnavailable):
                call()
