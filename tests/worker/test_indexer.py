"""The scribe: many entries at a time into the index, and what happens when that can't be done.

.venv/bin/python -m pytest tests/worker/test_indexer.py
"""

import pytest
from fakes import PickyEmbedder, UnsteadyIndex
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from worker_process import FakeEmbedder

from services.diary.entry import EntryDraft, IndexState
from services.diary.index.engine import UnavailableIndex
from services.diary.index.types import EntryKey
from services.diary.ledger import ledger
from services.errors import DiaryUnavailable


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is put off may be tried again at once."""
    monkeypatch.setattr(ledger, "BACKOFF_S", (0,) * 5)


def test_a_batch_is_indexed_in_pieces_and_every_entry_says_so(house):
    entries = [
        house.note(f"Number {n}. " + "A sentence of six words. " * 60 * n, id=f"e{n}") for n in range(3)
    ]
    house.scribe.write(entries)
    assert [house.now(entry).state for entry in entries] == [IndexState.INDEXED] * 3
    assert house.indexed() == [("e0", 1), ("e1", 1), ("e2", 1)]
    pieces = {one.entry_id: one.chunks for one in house.index.versions()}
    assert pieces["e0"] == 1 < pieces["e1"] < pieces["e2"]


def test_writing_twice_changes_nothing(house):
    entries = [house.note("word " * 500, id="e"), house.note("b", id="f")]
    house.scribe.write(entries)
    once = [*map(house.now, entries)], house.index.count()
    house.scribe.write(entries)
    assert ([*map(house.now, entries)], house.index.count()) == once


def test_an_edit_leaves_its_new_version_alone_in_the_index(house):
    house.scribe.write([house.note("word " * 500, id="e"), house.note("b", id="f")])
    house.scribe.write([house.ledger.for_owner("ada").edit("e", EntryDraft(text="short"))])
    assert house.indexed() == [("e", 2), ("f", 1)]
    assert house.index.count() == 2


def test_a_tombstone_leaves_nothing_of_its_entry_in_the_index(house):
    house.scribe.write([house.note("word " * 500, id="e"), house.note("b", id="f")])
    tombstone = house.ledger.for_owner("ada").remove("e")
    house.scribe.write([tombstone])
    assert house.indexed() == [("f", 1)]
    assert house.now(tombstone).state == IndexState.INDEXED


def test_an_edit_that_came_during_the_writing_stays_due(house):
    old = house.note("a", id="e")
    house.ledger.for_owner("ada").edit("e", EntryDraft(text="b"))
    house.scribe.write([old])
    assert [(entry.id, entry.version) for entry in house.ledger.due(9)] == [("e", 2)]


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(illegible=st.sets(st.integers(0, 15), max_size=16))
def test_an_entry_that_cannot_be_read_keeps_no_other_out(house, illegible: set[int]):
    texts = [f"{'illegible' if n in illegible else 'clear'} {n}" for n in range(16)]
    entries = [house.note(text) for text in texts]
    house.hire(PickyEmbedder())
    house.scribe.write(entries)
    for number, entry in enumerate(map(house.now, entries)):
        told = (entry.state, entry.attempts, entry.reason)
        bad = number in illegible
        assert told == ((IndexState.QUEUED, 1, "ValueError: what is this?") if bad else ("indexed", 0, None))


def test_finding_the_one_at_fault_costs_no_second_reading_of_the_others(house):
    embedder = PickyEmbedder()
    house.hire(embedder)
    house.scribe.write([house.note(f"illegible {n}" if n == 13 else f"clear {n}") for n in range(64)])
    assert embedder.read <= 2 * 64 + 64


def test_a_dead_letter_after_six_attempts_and_alive_again_when_it_succeeds(house, impatient: None):
    house.hire(PickyEmbedder())
    entry = house.note("illegible")
    for _ in range(5):
        house.scribe.write([house.now(entry)])
        assert house.now(entry).state == IndexState.QUEUED
    house.scribe.write([house.now(entry)])
    failed = house.now(entry)
    assert (failed.state, failed.attempts) == (IndexState.FAILED, 6)
    assert failed.reason == "ValueError: what is this?"
    house.hire(FakeEmbedder())
    house.scribe.write([house.ledger.for_owner("ada").retry(entry.id, 1)])
    healed = house.now(entry)
    assert (healed.state, healed.attempts, healed.reason) == (IndexState.INDEXED, 0, None)


def test_an_index_that_refuses_is_the_entrys_trouble(house):
    index = UnsteadyIndex(house.index)
    index.refuses = True
    house.hire(index=index)
    entries = [house.note("a"), house.note("b")]
    house.scribe.write(entries)
    assert [house.now(entry).attempts for entry in entries] == [1, 1]
    assert house.now(entries[0]).reason == "DiaryUnavailable: the index is full"


class TestWhileTheIndexIsAway:
    def test_nothing_is_put_off_and_nothing_read_for_nothing(self, house):
        embedder = PickyEmbedder()
        house.hire(embedder, UnavailableIndex("another process has it open"))
        entries = [house.note("a"), house.note("illegible")]
        with pytest.raises(DiaryUnavailable, match="another process has it open"):
            house.scribe.write(entries)
        assert [house.now(entry) for entry in entries] == entries
        assert embedder.read == 0

    def test_nor_when_it_goes_away_in_the_middle(self, house):
        index = UnsteadyIndex(house.index)
        index.leaves_at_upsert = True
        house.hire(index=index)
        entries = [house.note("a"), house.note("b")]
        with pytest.raises(DiaryUnavailable, match="the index is away"):
            house.scribe.write(entries)
        assert [house.now(entry) for entry in entries] == entries


class TestMending:
    def test_an_index_that_was_lost_is_given_everything_again(self, house):
        entries = [house.note("a", id="a"), house.note("b", id="b")]
        house.scribe.write(entries)
        assert house.scribe.mend() == 0
        house.index.delete([EntryKey("ada", "a"), EntryKey("ada", "b")])
        assert house.scribe.mend() == 2
        assert len(house.ledger.due(9)) == 2

    def test_a_diary_of_which_everything_was_removed_needs_no_mending(self, house):
        house.scribe.write([house.note("a", id="a")])
        house.scribe.write([house.ledger.for_owner("ada").remove("a")])
        assert house.index.count() == 0
        assert house.scribe.mend() == 0
