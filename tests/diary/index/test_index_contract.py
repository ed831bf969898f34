"""What an index must do for the diary, shown on both engines: Qdrant's own in a folder, and Qdrant's REST.

.venv/bin/python -m pytest tests/diary/index/test_index_contract.py
"""

import math
import os
import random
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from fake_embedder import index_query, unit_vector
from index_backends import DAY, Folder, Server, chunk, standin

from services.diary.embedding.embedder import Vector
from services.diary.index.engine import IndexEngine
from services.diary.index.types import (
    DENSE,
    SPARSE,
    Chunk,
    ChunkRef,
    EntryKey,
    Hit,
    IndexedVersion,
    IndexQuery,
    SparseVector,
)
from services.errors import ConfigError, DiaryUnavailable

ALL = 1000
NO_WORDS = SparseVector([], [])


def cosine(item: Vector, other: Vector) -> float:
    """Of two unit vectors."""
    return sum(a * b for a, b in zip(item, other, strict=True))


def entry_ids(index: IndexEngine, owner: str = "ada", question: str = "any", **days: str) -> set[str]:
    return {hit.entry_id for hit in index.for_owner(owner).search(index_query(question), ALL, **days)}


def chunk_ref(item: Chunk | Hit) -> ChunkRef:
    return ChunkRef(item.entry_id, item.version, item.ordinal)


def by_text(hits: list[Hit]) -> dict[str, dict[str, float]]:
    return {hit.entry_id: hit.scores for hit in hits}


def span(text: str, first_day: str, last_day: str) -> Chunk:
    return chunk(text, first_day=first_day, last_day=last_day)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, free_port: int) -> Iterator[str]:
    if url := os.environ.get("QDRANT_TEST_URL"):
        yield url
        return
    with standin(tmp_path_factory.mktemp("qdrant"), free_port) as url:
        yield url


@pytest.fixture(scope="module")
def free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(params=["edge", "server"])
def backend(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Folder | Server]:
    if request.param == "edge":
        yield Folder(tmp_path / "index")
        return
    backend = Server(request.getfixturevalue("server"))
    backend.clear()
    yield backend
    backend.clear()


@pytest.fixture
def index(backend: Folder | Server) -> Iterator[IndexEngine]:
    engine = backend.open()
    yield engine
    engine.close()


class TestWriting:
    def test_it_is_empty_at_first(self, index: IndexEngine):
        assert index.count() == 0
        assert index.for_owner("ada").search(index_query("a"), 5) == []
        assert list(index.versions()) == []
        index.check()

    def test_writing_twice_changes_nothing(self, index: IndexEngine):
        chunks = [chunk("e", ordinal=ordinal) for ordinal in range(3)]
        index.upsert(chunks)
        once = index.for_owner("ada").search(index_query("e"), 10)
        index.upsert(chunks)
        index.upsert(chunks[:1])
        assert index.count() == 3
        assert index.for_owner("ada").search(index_query("e"), 10) == once

    def test_owner_entry_version_and_place_make_a_chunk_what_it_is(self, index: IndexEngine):
        others = [chunk("e", owner="bríd"), chunk("e", version=2), chunk("e", ordinal=1), chunk("f")]
        index.upsert([chunk("e"), *others])
        assert index.count() == 5

    def test_no_owner_and_id_run_together_to_another_chunk(self, index: IndexEngine):
        index.upsert([chunk("t", owner="a", entry_id="b/c"), chunk("t", owner="a/b", entry_id="c")])
        assert index.count() == 2

    def test_what_is_found_is_what_was_written(self, index: IndexEngine):
        text = "NUL \x00, \u202e, <|im_end|>, é and 🐕"
        index.upsert([chunk(text, entry_id="demo-14", version=3, ordinal=2, last_day="2026-02-01")])
        (hit,) = index.for_owner("ada").search(index_query(text), 1)
        assert (hit.entry_id, hit.version, hit.ordinal, hit.ends_in_question) == ("demo-14", 3, 2, False)
        assert (hit.first_day, hit.last_day) == (DAY, "2026-02-01")

    def test_a_chunk_of_stop_words_alone_is_kept(self, index: IndexEngine):
        index.upsert([chunk("to be", sparse_vector=NO_WORDS)])
        (hit,) = index.for_owner("ada").search(index_query("to be"), 1)
        assert hit.scores == {DENSE: pytest.approx(1.0, abs=1e-5), SPARSE: 0.0}

    def test_a_vector_of_the_wrong_dimension_makes_the_diary_unavailable(self, index: IndexEngine):
        with pytest.raises(DiaryUnavailable, match="dimension"):
            index.upsert([chunk("short", vector=[1.0])])
        with pytest.raises(DiaryUnavailable, match="dimension"):
            index.for_owner("ada").search(IndexQuery([1.0], NO_WORDS), 5)
        assert index.count() == 0

    def test_writing_and_forgetting_nothing_is_no_mistake(self, index: IndexEngine):
        index.upsert([chunk("kept")])
        index.upsert([])
        index.delete([])
        assert index.count() == 1


class TestSearching:
    def test_the_nearest_come_first_with_their_cosines(self, index: IndexEngine):
        texts = [f"text{i}" for i in range(50)]
        index.upsert([chunk(text) for text in texts])
        expected = sorted((cosine(unit_vector("question"), unit_vector(t)) for t in texts), reverse=True)
        hits = index.for_owner("ada").search(index_query("question"), 7)
        assert [hit.scores[DENSE] for hit in hits] == pytest.approx(expected[:7], abs=1e-5)

    def test_the_words_score_is_bm25s_idf_among_the_owners_chunks(self, index: IndexEngine):
        index.upsert([chunk(text) for text in ("fog", "fog harbour", "fog harbour dog", "cat")])
        index.upsert([chunk(f"fog {i}", owner="bríd") for i in range(20)])
        rarity = {df: math.log(1 + (4 - df + 0.5) / (df + 0.5)) for df in (1, 2, 3)}
        scores = by_text(index.for_owner("ada").search(index_query("harbour dog"), ALL))
        assert scores["fog harbour dog"][SPARSE] == pytest.approx(rarity[2] + rarity[1], rel=1e-4)
        assert scores["fog harbour"][SPARSE] == pytest.approx(rarity[2], rel=1e-4)
        assert scores["cat"][SPARSE] == 0.0

    def test_another_owners_words_change_no_score(self, index: IndexEngine):
        index.upsert([chunk("fog"), chunk("cat")])
        alone = index.for_owner("ada").search(index_query("fog"), 5)
        index.upsert([chunk(f"fog {i}", owner="bríd") for i in range(30)])
        assert by_text(index.for_owner("ada").search(index_query("fog"), 5)) == {
            text: pytest.approx(scores, rel=1e-4) for text, scores in by_text(alone).items()
        }

    def test_each_part_brings_its_best(self, index: IndexEngine):
        question = IndexQuery(unit_vector("far away"), index_query("harbour").sparse_vector)
        index.upsert([chunk(f"text{i}") for i in range(30)])
        index.upsert([chunk("far away"), chunk("the harbour", vector=[-x for x in unit_vector("far away")])])
        hits = index.for_owner("ada").search(question, 1)
        assert [hit.entry_id for hit in hits] == ["far away", "the harbour"]

    def test_a_hit_has_both_scores_whichever_part_found_it(self, index: IndexEngine):
        index.upsert([chunk(f"{word} {i}") for i in range(40) for word in ("fog", "dog")])
        question = index_query("fog 3")
        everything = by_text(index.for_owner("ada").search(question, ALL))
        few = by_text(index.for_owner("ada").search(question, 5))
        assert 5 < len(few) <= 10
        assert few == {text: pytest.approx(everything[text], abs=1e-5) for text in few}

    def test_a_question_of_stop_words_alone_is_asked_by_meaning(self, index: IndexEngine):
        index.upsert([chunk("fog"), chunk("dog")])
        hits = index.for_owner("ada").search(IndexQuery(unit_vector("fog"), NO_WORDS), 1)
        assert [hit.entry_id for hit in hits] == ["fog"]

    def test_every_chunk_is_found_once(self, index: IndexEngine):
        index.upsert([chunk("fog", ordinal=ordinal) for ordinal in range(5)])
        assert [hit.ordinal for hit in index.for_owner("ada").search(index_query("fog"), ALL)] == [
            0,
            1,
            2,
            3,
            4,
        ]

    def test_days_that_overlap_are_found(self, index: IndexEngine):
        index.upsert(
            [
                span("spring", "1998-03-01", "1998-05-31"),
                span("may", "1998-05-01", "1998-05-31"),
                span("the year", "1998-01-01", "1998-12-31"),
                span("winter", "1998-12-01", "1999-02-28"),
            ]
        )
        assert entry_ids(index, first_day="1998-03-05", last_day="1998-03-06") == {"spring", "the year"}
        assert entry_ids(index, first_day="1998-05-31", last_day="1998-06-30") == {
            "spring",
            "may",
            "the year",
        }
        assert entry_ids(index, first_day="1999-02-28") == {"winter"}
        assert entry_ids(index, last_day="1998-01-01") == {"the year"}

    def test_first_and_last_day_belong_to_the_days_searched(self, index: IndexEngine):
        days = ["1000-01-01", "1660-01-01", "2026-01-01", "2026-01-02", "2026-01-03", "9999-12-31"]
        index.upsert([chunk(day, day=day) for day in days])
        assert entry_ids(index, first_day="2026-01-01", last_day="2026-01-02") == {"2026-01-01", "2026-01-02"}
        assert entry_ids(index, first_day="2026-01-02", last_day="2026-01-02") == {"2026-01-02"}
        assert entry_ids(index, first_day="2026-01-03") == {"2026-01-03", "9999-12-31"}
        assert entry_ids(index, last_day="1660-01-01") == {"1000-01-01", "1660-01-01"}
        assert entry_ids(index, first_day="2026-01-03", last_day="2026-01-01") == set()
        assert entry_ids(index) == set(days)

    def test_days_bind_both_parts_and_leave_the_scores_as_they_are(self, index: IndexEngine):
        index.upsert([chunk(f"fog {day}", day=day) for day in ("2025-01-01", "2026-01-01", "2026-01-05")])
        everything = by_text(index.for_owner("ada").search(index_query("fog"), ALL))
        within = by_text(index.for_owner("ada").search(index_query("fog"), ALL, first_day="2026-01-01"))
        assert set(within) == {"fog 2026-01-01", "fog 2026-01-05"}
        assert within == {text: pytest.approx(everything[text], abs=1e-5) for text in within}

    def test_neighbours_are_fetched_by_their_places(self, index: IndexEngine):
        index.upsert([chunk(f"fog {ordinal}", entry_id="e", ordinal=ordinal) for ordinal in range(4)])
        index.upsert([chunk("fog 1", owner="bríd", entry_id="hers", ordinal=1)])
        wanted = [
            ChunkRef("e", 1, 1),
            ChunkRef("e", 1, 2),
            ChunkRef("e", 1, 9),
            ChunkRef("e", 2, 1),
            ChunkRef("hers", 1, 1),
        ]
        hits = index.for_owner("ada").fetch(wanted, index_query("fog 2"))
        assert sorted(hit.ordinal for hit in hits) == [1, 2]
        everything = by_text(index.for_owner("ada").search(index_query("fog 2"), ALL))
        assert by_text(hits) == {
            hit.entry_id: pytest.approx(everything[hit.entry_id], abs=1e-5) for hit in hits
        }
        assert index.for_owner("ada").fetch([], index_query("fog")) == []


class TestOwners:
    def test_an_engine_has_no_search_of_its_own(self, index: IndexEngine):
        """Nobody can forget the owner where there is nothing to ask without one."""
        assert [name for name in dir(index) if "search" in name or "quer" in name] == []

    def test_a_stranger_finds_nothing(self, index: IndexEngine):
        index.upsert([chunk("hers")])
        for stranger in ("", "Ada", "ad", "ada ", "*"):
            assert index.for_owner(stranger).search(index_query("hers"), 5) == []
            assert index.for_owner(stranger).fetch([ChunkRef("hers", 1, 0)], index_query("hers")) == []

    def test_a_thousand_searches_edits_and_deletes_of_each_of_two_owners_never_cross(
        self, index: IndexEngine
    ):
        """Both write under the same ids; after every search the hits are what a plain dict says."""
        chance = random.Random(14)
        diaries: dict[str, dict[str, list[Chunk]]] = {"ada": {}, "bríd": {}}
        for number in range(2_000):
            owner, entry_id = ("ada", "bríd")[number % 2], f"e{chance.randrange(12)}"
            diary = diaries[owner]
            match chance.choice(["search", "search", "edit", "delete"]):
                case "edit":
                    version = number + 1
                    diary[entry_id] = [
                        chunk(
                            f"{owner} fog {number} {ordinal}",
                            owner=owner,
                            entry_id=entry_id,
                            version=version,
                            ordinal=ordinal,
                            day=f"2026-01-{chance.randrange(1, 29):02}",
                        )
                        for ordinal in range(chance.randrange(1, 4))
                    ]
                    index.upsert(diary[entry_id])
                    key = EntryKey(owner, entry_id)
                    index.delete([key], except_version={key: version})
                case "delete":
                    diary.pop(entry_id, None)
                    index.delete([EntryKey(owner, entry_id)])
                case "search":
                    first_day = f"2026-01-{chance.randrange(1, 29):02}"
                    expected = {chunk_ref(c) for cs in diary.values() for c in cs if c.last_day >= first_day}
                    hits = index.for_owner(owner).search(index_query(f"fog {number}"), ALL, first_day)
                    assert {chunk_ref(hit) for hit in hits} == expected
                    few = index.for_owner(owner).search(index_query("fog"), 3)
                    assert all((hit.version - 1) % 2 == number % 2 for hit in few)
        versions = {(i.owner, i.entry_id, i.version, i.chunks) for i in index.versions()}
        assert versions == {
            (owner, entry_id, chunks[0].version, len(chunks))
            for owner, diary in diaries.items()
            for entry_id, chunks in diary.items()
        }


class TestForgetting:
    def test_it_takes_all_chunks_of_the_entries_named_and_no_others(self, index: IndexEngine):
        index.upsert([chunk("e", ordinal=ordinal) for ordinal in range(3)])
        index.upsert([chunk("e", owner="bríd"), chunk("f"), chunk("g")])
        index.delete([EntryKey("ada", "e"), EntryKey("ada", "g"), EntryKey("ada", "never written")])
        assert entry_ids(index) == {"f"}
        assert entry_ids(index, owner="bríd") == {"e"}

    def test_a_version_can_be_spared(self, index: IndexEngine):
        for version in (1, 2, 3):
            index.upsert([chunk(f"{entry} {version}", entry_id=entry, version=version) for entry in "ef"])
        index.delete([EntryKey("ada", "e"), EntryKey("ada", "f")], except_version={EntryKey("ada", "e"): 3})
        assert {
            (hit.entry_id, hit.version) for hit in index.for_owner("ada").search(index_query("any"), ALL)
        } == {("e", 3)}

    def test_hundreds_of_entries_go_at_once(self, index: IndexEngine):
        index.upsert([chunk(f"e{i}") for i in range(250)])
        index.delete(EntryKey("ada", f"e{i}") for i in range(250) if i != 207)
        assert entry_ids(index) == {"e207"}

    def test_versions_tell_what_is_held_page_after_page(self, index: IndexEngine):
        index.upsert([chunk(f"e{i}", entry_id=f"e{i % 700}", ordinal=i // 700) for i in range(1_400)])
        index.upsert([chunk("e0", owner="bríd", version=2)])
        versions = list(index.versions())
        assert len(versions) == 701
        assert IndexedVersion("bríd", "e0", 2, 1) in versions
        assert IndexedVersion("ada", "e699", 1, 2) in versions


class TestSwitching:
    def test_a_twin_is_not_searched_before_the_switch_and_alone_after_it(
        self, index: IndexEngine, backend: Folder | Server
    ):
        index.upsert([chunk("old")])
        twin = index.shadow()
        twin.upsert([chunk("new")])
        twin.optimize()
        assert (entry_ids(index), entry_ids(twin)) == ({"old"}, {"new"})
        index.promote(twin)
        assert entry_ids(index) == {"new"}
        index.upsert([chunk("newer")])
        assert entry_ids(index) == {"new", "newer"}
        assert len(backend.left()) == 1

    def test_the_next_process_finds_what_was_switched_to(self, backend: Folder | Server):
        index = backend.open()
        for text in ("second", "third"):
            twin = index.shadow()
            twin.upsert([chunk(text)])
            index.promote(twin)
        index.close()
        following = backend.open()
        assert entry_ids(following) == {"third"}
        following.close()

    def test_a_twin_that_is_closed_leaves_nothing(self, index: IndexEngine, backend: Folder | Server):
        index.upsert([chunk("old")])
        twin = index.shadow()
        twin.upsert([chunk("new")])
        twin.close()
        assert entry_ids(index) == {"old"}
        assert len(backend.left()) == 1

    def test_a_twin_that_was_switched_to_is_not_dropped_by_closing_it(self, index: IndexEngine):
        twin = index.shadow()
        twin.upsert([chunk("new")])
        index.promote(twin)
        twin.close()
        assert entry_ids(index) == {"new"}

    def test_a_twin_that_was_left_behind_does_not_come_back(self, index: IndexEngine):
        index.shadow().upsert([chunk("half done")])
        twin = index.shadow()
        assert twin.count() == 0
        index.promote(twin)
        assert entry_ids(index) == set()

    def test_an_index_is_not_switched_to_a_stranger(self, index: IndexEngine):
        with pytest.raises(ConfigError, match="shadow"):
            index.promote(index)

    def test_searches_go_on_while_it_is_switched(self, index: IndexEngine):
        index.upsert([chunk(f"fog {i}") for i in range(20)])
        results: list[set[str]] = []
        failed: list[Exception] = []
        done = threading.Event()

        def search() -> None:
            while not done.is_set():
                try:
                    results.append(entry_ids(index, question="fog"))
                except DiaryUnavailable as error:
                    failed.append(error)
                time.sleep(0.002)

        searcher = threading.Thread(target=search)
        searcher.start()
        for _ in range(3):
            twin = index.shadow()
            twin.upsert([chunk(f"fog {i}") for i in range(20)])
            index.promote(twin)
        done.set()
        searcher.join()
        assert failed == []
        assert {len(texts) for texts in results} == {20}


def write_one_entry(backend: Folder | Server) -> None:
    """An index of the model "fake" with one entry."""
    index = backend.open()
    index.upsert([chunk("old")])
    index.close()


class TestAnotherModel:
    def test_it_is_refused_by_name(self, backend: Folder | Server):
        write_one_entry(backend)
        with pytest.raises(ConfigError, match=r"intfloat/e5-small-v2.*indexed as fake-16-f3.*reindexing"):
            backend.open("intfloat/e5-small-v2")
        again = backend.open()
        assert entry_ids(again) == {"old"}
        again.close()

    def test_it_takes_over_by_a_switch(self, backend: Folder | Server):
        write_one_entry(backend)
        other = backend.open("other", replacing=True)
        twin = other.shadow()
        twin.upsert([chunk("new")])
        other.promote(twin)
        assert entry_ids(other) == {"new"}
        other.close()
        assert len(backend.left()) == 1
        with pytest.raises(ConfigError, match=r"'fake'.*indexed as other-16-f3"):
            backend.open()

    def test_what_was_opened_to_be_replaced_changes_nothing_before_the_switch(self, backend: Folder | Server):
        write_one_entry(backend)
        other = backend.open("other", replacing=True)
        other.shadow().close()
        other.close()
        again = backend.open()
        assert entry_ids(again) == {"old"}
        again.close()
