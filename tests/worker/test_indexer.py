"""The indexer: batches of entries into the index, and what happens when one can't be written.

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
from services.errors import DiaryUnavailable


def test_a_batch_is_indexed_in_pieces_and_every_entry_says_so(harness):
    entries = [
        harness.add(f"Number {n}. " + "A sentence of six words. " * 60 * n, id=f"e{n}") for n in range(3)
    ]
    harness.indexer.write(entries)
    assert [harness.current(entry).state for entry in entries] == [IndexState.INDEXED] * 3
    assert harness.indexed() == [("e0", 1), ("e1", 1), ("e2", 1)]
    pieces = {version.entry_id: version.chunks for version in harness.index.versions()}
    assert pieces["e0"] == 1 < pieces["e1"] < pieces["e2"]


def test_writing_twice_changes_nothing(harness):
    entries = [harness.add("word " * 500, id="e"), harness.add("b", id="f")]
    harness.indexer.write(entries)
    once = [*map(harness.current, entries)], harness.index.count()
    harness.indexer.write(entries)
    assert ([*map(harness.current, entries)], harness.index.count()) == once


def test_an_edit_leaves_its_new_version_alone_in_the_index(harness):
    harness.indexer.write([harness.add("word " * 500, id="e"), harness.add("b", id="f")])
    harness.indexer.write([harness.ledger.for_owner("ada").edit("e", EntryDraft(text="short"))])
    assert harness.indexed() == [("e", 2), ("f", 1)]
    assert harness.index.count() == 2


def test_a_tombstone_leaves_nothing_of_its_entry_in_the_index(harness):
    harness.indexer.write([harness.add("word " * 500, id="e"), harness.add("b", id="f")])
    tombstone = harness.ledger.for_owner("ada").remove("e")
    harness.indexer.write([tombstone])
    assert harness.indexed() == [("f", 1)]
    assert harness.current(tombstone).state == IndexState.INDEXED


def test_an_edit_that_came_during_the_writing_stays_due(harness):
    old = harness.add("a", id="e")
    harness.ledger.for_owner("ada").edit("e", EntryDraft(text="b"))
    harness.indexer.write([old])
    assert [(entry.id, entry.version) for entry in harness.ledger.due(9)] == [("e", 2)]


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(illegible=st.sets(st.integers(0, 15), max_size=16))
def test_an_entry_that_cannot_be_read_keeps_no_other_out(harness, illegible: set[int]):
    texts = [f"{'illegible' if n in illegible else 'clear'} {n}" for n in range(16)]
    entries = [harness.add(text) for text in texts]
    harness.build(PickyEmbedder())
    harness.indexer.write(entries)
    for number, entry in enumerate(map(harness.current, entries)):
        outcome = (entry.state, entry.attempts, entry.reason)
        bad = number in illegible
        assert outcome == (
            (IndexState.QUEUED, 1, "ValueError: what is this?") if bad else ("indexed", 0, None)
        )


def test_finding_the_one_at_fault_costs_no_second_reading_of_the_others(harness):
    embedder = PickyEmbedder()
    harness.build(embedder)
    harness.indexer.write([harness.add(f"illegible {n}" if n == 13 else f"clear {n}") for n in range(64)])
    assert embedder.read <= 2 * 64 + 64


def test_a_dead_letter_after_six_attempts_and_alive_again_when_it_succeeds(harness, no_backoff: None):
    harness.build(PickyEmbedder())
    entry = harness.add("illegible")
    for _ in range(5):
        harness.indexer.write([harness.current(entry)])
        assert harness.current(entry).state == IndexState.QUEUED
    harness.indexer.write([harness.current(entry)])
    failed = harness.current(entry)
    assert (failed.state, failed.attempts) == (IndexState.FAILED, 6)
    assert failed.reason == "ValueError: what is this?"
    harness.build(FakeEmbedder())
    harness.indexer.write([harness.ledger.for_owner("ada").retry(entry.id, 1)])
    healed = harness.current(entry)
    assert (healed.state, healed.attempts, healed.reason) == (IndexState.INDEXED, 0, None)


def test_an_index_that_refuses_is_the_entrys_trouble(harness):
    index = UnsteadyIndex(harness.index)
    index.refuses = True
    harness.build(index=index)
    entries = [harness.add("a"), harness.add("b")]
    harness.indexer.write(entries)
    assert [harness.current(entry).attempts for entry in entries] == [1, 1]
    assert harness.current(entries[0]).reason == "DiaryUnavailable: the index is full"


class TestWhileTheIndexIsAway:
    def test_nothing_is_put_off_and_nothing_read_for_nothing(self, harness):
        embedder = PickyEmbedder()
        harness.build(embedder, UnavailableIndex("another process has it open"))
        entries = [harness.add("a"), harness.add("illegible")]
        with pytest.raises(DiaryUnavailable, match="another process has it open"):
            harness.indexer.write(entries)
        assert [harness.current(entry) for entry in entries] == entries
        assert embedder.read == 0

    def test_nor_when_it_goes_away_in_the_middle(self, harness):
        index = UnsteadyIndex(harness.index)
        index.leaves_at_upsert = True
        harness.build(index=index)
        entries = [harness.add("a"), harness.add("b")]
        with pytest.raises(DiaryUnavailable, match="the index is away"):
            harness.indexer.write(entries)
        assert [harness.current(entry) for entry in entries] == entries


class TestMending:
    def test_an_index_that_was_lost_is_given_everything_again(self, harness):
        entries = [harness.add("a", id="a"), harness.add("b", id="b")]
        harness.indexer.write(entries)
        assert harness.indexer.restore_lost_index() == 0
        harness.index.delete([EntryKey("ada", "a"), EntryKey("ada", "b")])
        assert harness.indexer.restore_lost_index() == 2
        assert len(harness.ledger.due(9)) == 2

    def test_a_diary_of_which_everything_was_removed_needs_no_mending(self, harness):
        harness.indexer.write([harness.add("a", id="a")])
        harness.indexer.write([harness.ledger.for_owner("ada").remove("a")])
        assert harness.index.count() == 0
        assert harness.indexer.restore_lost_index() == 0
