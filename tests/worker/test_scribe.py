"""The scribe: one entry into the index, and what happens when that can't be done.

.venv/bin/python -m pytest tests/worker/test_scribe.py
"""

from collections.abc import Sequence

import pytest
from scribe_process import FakeEmbedder

from services.diary.chunking import chunks
from services.diary.embedder import Vector
from services.diary.entry import IndexState
from services.diary.index import NoIndex
from services.errors import ConfigError, DiaryUnavailable
from services.worker.scribe import index_entry


class BrokenEmbedder(FakeEmbedder):
    def embed_documents(self, texts: Sequence[str]) -> list[Vector]:
        raise ValueError("the model has lost its weights")


class ShortEmbedder(FakeEmbedder):
    """Gives one vector too few."""

    def embed_documents(self, texts: Sequence[str]) -> list[Vector]:
        return super().embed_documents(texts)[1:]


def test_an_entry_is_indexed_in_pieces_with_its_day(house):
    text = "One sentence of six words here. " * 50
    entry = house.note(text, date="2026-01-02T23:00:00+00:00", id="e")
    house.hire()
    index_entry("ada", "e", 1)
    assert house.state(entry) == IndexState.INDEXED
    hits = house.index.search("ada", FakeEmbedder().embed_query("any"), 100, "2026-01-02", "2026-01-02")
    assert sorted(hit.text for hit in hits) == sorted(f"(2026-01-02) {piece}" for piece in chunks(text))
    assert {(hit.entry_id, hit.version) for hit in hits} == {("e", 1)}


def test_doing_a_job_twice_changes_nothing(house):
    house.note("word " * 500, id="e")
    scribe = house.hire()
    scribe.index("ada", "e", 1)
    once = house.ledger.get("ada", "e"), house.index.count()
    scribe.index("ada", "e", 1)
    assert (house.ledger.get("ada", "e"), house.index.count()) == once
    house.ledger.requeue_indexed()
    scribe.index("ada", "e", 1)
    assert (house.ledger.get("ada", "e"), house.index.count()) == once


def test_an_entry_that_is_gone_or_of_another_version_is_left_alone(house):
    entry = house.note("a", id="e")
    scribe = house.hire()
    scribe.index("ada", "never", 1)
    scribe.index("bríd", "e", 1)
    scribe.index("ada", "e", 2)
    assert house.index.count() == 0
    assert house.state(entry) == IndexState.QUEUED


def test_while_the_index_is_unavailable_the_entry_stays_queued(house):
    entry = house.note("a", id="e")
    scribe = house.hire(index=NoIndex("another process has it open"))
    with pytest.raises(DiaryUnavailable, match="another process has it open"):
        scribe.index("ada", "e", 1)
    assert house.ledger.get("ada", "e") == entry


@pytest.mark.parametrize(
    ("embedder", "reason"),
    [
        (BrokenEmbedder(), "ValueError: the model has lost its weights"),
        (ShortEmbedder(), "ValueError: zip()"),
    ],
    ids=["raises", "gives too little"],
)
def test_any_other_mistake_is_written_into_the_ledger(house, embedder: FakeEmbedder, reason: str):
    house.note("word " * 500, id="e")
    scribe = house.hire(embedder)
    with pytest.raises(ValueError, match=r"."):
        scribe.index("ada", "e", 1)
    failed = house.ledger.get("ada", "e")
    assert failed.state == IndexState.FAILED
    assert failed.reason is not None
    assert failed.reason.startswith(reason)
    assert house.index.count() == 0


def test_a_failed_entry_that_succeeds_later_has_no_reason_any_more(house):
    entry = house.note("a", id="e")
    house.ledger.mark(entry, IndexState.FAILED, "ValueError: no")
    house.hire().index("ada", "e", 1)
    indexed = house.ledger.get("ada", "e")
    assert (indexed.state, indexed.reason) == (IndexState.INDEXED, None)


def test_a_process_that_employs_no_scribe_says_so():
    with pytest.raises(ConfigError, match="no scribe is employed"):
        index_entry("ada", "e", 1)
