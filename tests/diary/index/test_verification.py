"""Ledger and index held against each other: every kind of difference, and none where there is none.

.venv/bin/python -m pytest tests/diary/index/test_verification.py
"""

from collections.abc import Iterator
from pathlib import Path

from fake_embedder import DIMENSION, FakeEmbedder
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from index_backends import chunk

from services.diary.entry import Entry, EntryDraft
from services.diary.index.embedded.index import EdgeIndex
from services.diary.index.indexing import build_chunks
from services.diary.index.types import EntryKey, IndexedVersion
from services.diary.index.verification import Difference, verify
from services.diary.ledger.ledger import Ledger

TWO_LINES = "The first line.\nAnd the second."


def write(ledger: Ledger, index: EdgeIndex, name: str, text: str = TWO_LINES, owner: str = "ada") -> Entry:
    """An entry that is in both."""
    entry = ledger.for_owner(owner).add(EntryDraft(text=text, id=name))
    brought(ledger, index, entry)
    return entry


def brought(ledger: Ledger, index: EdgeIndex, entry: Entry) -> None:
    key = EntryKey(entry.owner, entry.id)
    index.upsert(build_chunks([entry], FakeEmbedder()))
    index.delete([key], except_version={key: entry.version})
    ledger.mark_indexed([entry])


def kinds(ledger: Ledger, index: EdgeIndex) -> list[tuple[str, str, str]]:
    return [(difference.owner, difference.entry_id, difference.kind) for difference in verify(ledger, index)]


def test_two_that_are_equal_do_not_differ(ledger: Ledger, index: EdgeIndex):
    assert verify(ledger, index) == []
    for owner in ("ada", "bríd"):
        write(ledger, index, "a", owner=owner)
        write(ledger, index, "b", "one line", owner=owner)
    edited = ledger.for_owner("ada").edit("a", EntryDraft(text="edited"))
    brought(ledger, index, edited)
    removed = ledger.for_owner("ada").remove("b")
    brought(ledger, index, removed)
    index.delete([EntryKey("ada", "b")])
    assert verify(ledger, index) == []


def test_an_entry_that_is_not_there_is_missing(ledger: Ledger, index: EdgeIndex):
    write(ledger, index, "a")
    index.delete([EntryKey("ada", "a")])
    assert verify(ledger, index) == [Difference("ada", "a", "missing", "version 1 has none of its 2 chunks")]


def test_an_entry_of_which_a_part_is_there_is_torn(ledger: Ledger, index: EdgeIndex):
    entry = write(ledger, index, "a")
    index.delete([EntryKey("ada", "a")])
    index.upsert(build_chunks([entry], FakeEmbedder())[:1])
    assert verify(ledger, index) == [Difference("ada", "a", "torn", "version 1 has 1 of its 2 chunks")]


def test_an_older_version_beside_the_current_one_is_stale(ledger: Ledger, index: EdgeIndex):
    first = write(ledger, index, "a")
    second = ledger.for_owner("ada").edit("a", EntryDraft(text="edited"))
    brought(ledger, index, second)
    index.upsert(build_chunks([first], FakeEmbedder()))
    assert kinds(ledger, index) == [("ada", "a", "stale")]


def test_what_was_removed_or_never_was_is_surplus(ledger: Ledger, index: EdgeIndex):
    entry = write(ledger, index, "a")
    tombstone = ledger.for_owner("ada").remove("a")
    brought(ledger, index, tombstone)
    index.delete([EntryKey("ada", "a")])
    index.upsert(build_chunks([entry], FakeEmbedder()))
    index.upsert([chunk("never was", owner="bríd")])
    assert kinds(ledger, index) == [("ada", "a", "surplus"), ("bríd", "never was", "surplus")]


def test_what_waits_and_what_failed_is_named_with_its_reason(ledger: Ledger, index: EdgeIndex):
    ledger.for_owner("ada").add(EntryDraft(text="a", id="waits"))
    failed = ledger.for_owner("ada").add(EntryDraft(text="b", id="fails"))
    ledger.mark_failed(failed, "the model can't read it")
    assert verify(ledger, index) == [
        Difference("ada", "fails", "failed", "the model can't read it"),
        Difference("ada", "waits", "queued", "version 1 is not in the index yet"),
    ]


class Busy(EdgeIndex):
    """Something is written after it was asked what it has, and before the ledger is."""

    def versions(self) -> Iterator[IndexedVersion]:
        yield from list(super().versions())
        self.writes.pop()()


def test_what_is_written_while_it_looks_is_no_difference(ledger: Ledger, tmp_path: Path):
    index = Busy(tmp_path / "busy", "fake", DIMENSION)
    write(ledger, index, "a")
    write(ledger, index, "b")

    def edit() -> None:
        brought(ledger, index, ledger.for_owner("ada").edit("a", EntryDraft(text="edited")))
        write(ledger, index, "c")

    def remove() -> None:
        brought(ledger, index, ledger.for_owner("ada").remove("b"))
        index.delete([EntryKey("ada", "b")])

    index.writes = [remove, edit]
    assert verify(ledger, index) == []
    assert index.writes == [], "it did not look twice"
    index.close()


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(lost=st.sets(st.integers(0, 5)), stray=st.sets(st.integers(6, 9)))
def test_exactly_what_differs_is_named(ledger: Ledger, index: EdgeIndex, lost: set[int], stray: set[int]):
    mine = ledger.for_owner("ada")
    for number in range(6):
        entry = mine.add(EntryDraft(text="same", id=str(number)), idempotency_key=str(number))
        brought(ledger, index, entry)
    index.delete([EntryKey("ada", str(number)) for number in range(6, 10)])
    index.delete([EntryKey("ada", str(number)) for number in lost])
    index.upsert([chunk(str(number)) for number in stray])
    actual = {(entry_id, kind) for _, entry_id, kind in kinds(ledger, index)}
    assert actual == {(str(n), "missing") for n in lost} | {(str(n), "surplus") for n in stray}
