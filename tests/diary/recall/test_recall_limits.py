"""attack/chat_dates_156k.json: a question costs no more than it can use, and ends when nobody waits for it.

.venv/bin/python -m pytest tests/diary/recall/test_recall_limits.py
"""

import sys
from collections.abc import Callable

import pytest
from fake_embedder import FakeEmbedder

from services.diary.entry import EntryDraft
from services.diary.index.embedded.index import EdgeIndex
from services.diary.index.indexing import build_chunks
from services.diary.index.types import Hit, IndexQuery
from services.diary.ledger.ledger import Ledger
from services.diary.ledger.paging import EntryFilter
from services.diary.recall.cancellation import Cancellation
from services.diary.recall.query import RecallQuery
from services.diary.recall.recall import Recall
from services.diary.recall.temporal_query import MAX_CHARACTERS, MAX_MENTIONS
from services.diary.reflection.repetition import without_repetition
from services.errors import SearchCancelled

FORMS: list[Callable[[int], str]] = [
    lambda number: "in 2026 " * number,
    lambda number: " ".join(f"in {1000 + n % 2000}" for n in range(number)),
    lambda number: " ".join(f"{1 + n % 28} May {1900 + n % 100}" for n in range(number)),
    lambda number: "the week before " * number,
    lambda number: "may " * number,
    lambda number: " " * 8 * number,
    lambda number: "1" * 8 * number,
    lambda number: "." * 8 * number + "x",
    lambda number: "昨日" * 4 * number,
]


class CountingEmbedder(FakeEmbedder):
    """Notes how much of a question it was given."""

    def __init__(self) -> None:
        self.longest = 0

    def embed_query(self, text: str):
        self.longest = max(self.longest, len(text))
        return super().embed_query(text)


class CountingIndex:
    """Notes how often it is searched, and does what a test wants before each time."""

    def __init__(self, index: EdgeIndex, before: Callable[[], None] = lambda: None) -> None:
        self._index = index
        self._before = before
        self.searches = 0

    def for_owner(self, owner: str) -> "CountingIndex":
        return self

    def search(self, query: IndexQuery, limit: int, first_day: str = "", last_day: str = "") -> list[Hit]:
        self.searches += 1
        self._before()
        return self._index.for_owner("ada").search(query, limit, first_day, last_day)


@pytest.fixture
def filled(ledger: Ledger, index: EdgeIndex) -> EdgeIndex:
    """A hundred entries of 2026."""
    hers = ledger.for_owner("ada")
    drafts = [EntryDraft(text=f"Entry {n}.", date=f"2026-0{1 + n % 9}-1{n % 10}") for n in range(100)]
    hers.add_rows(hers.begin_import("a"), drafts)
    index.upsert(build_chunks(list(ledger.iter_current()), FakeEmbedder()))
    return index


def steps(call: Callable[[], object]) -> int:
    """How many calls of functions, Python's and C's, a call makes."""
    count = 0

    def note(*_: object) -> None:
        nonlocal count
        count += 1

    sys.setprofile(note)
    try:
        call()
    finally:
        sys.setprofile(None)
    return count


@pytest.mark.parametrize("form", FORMS)
def test_a_longer_question_costs_no_more(ledger: Ledger, filled: EdgeIndex, form: Callable[[int], str]):
    def cost(number: int) -> int:
        embedder, index = CountingEmbedder(), CountingIndex(filled)
        recall = Recall(ledger, embedder, index)
        question = form(number)
        steps_made = steps(lambda: recall.search("ada", RecallQuery(question, 6)))
        assert index.searches <= 1 + MAX_MENTIONS
        assert embedder.longest <= MAX_CHARACTERS
        return steps_made

    cost(10)  # what is loaded or compiled at first
    assert cost(20_000) <= 1.2 * cost(2_000) + 500


class TestASearchIsStopped:
    def test_before_it_begins(self, ledger: Ledger, filled: EdgeIndex):
        cancellation, index = Cancellation(), CountingIndex(filled)
        cancellation.cancel()
        with pytest.raises(SearchCancelled):
            Recall(ledger, FakeEmbedder(), index).search("ada", RecallQuery("question", 6), cancellation)
        assert index.searches == 0

    def test_between_the_days_that_are_named(self, ledger: Ledger, filled: EdgeIndex):
        cancellation = Cancellation()
        index = CountingIndex(filled, before=cancellation.cancel)
        question = "in 2020, in 2021, in 2022, in 2023"
        with pytest.raises(SearchCancelled):
            Recall(ledger, FakeEmbedder(), index).search("ada", RecallQuery(question, 6), cancellation)
        assert index.searches == 1

    def test_while_the_ledger_is_asked(self, ledger: Ledger, filled: EdgeIndex):
        """Every entry was removed meanwhile, so more and more candidates are looked at."""
        ledger.for_owner("ada").remove_where(EntryFilter())
        cancellation = Cancellation()
        index = CountingIndex(filled, before=cancellation.cancel)
        with pytest.raises(SearchCancelled):
            Recall(ledger, FakeEmbedder(), index).search("ada", RecallQuery("question", 6), cancellation)
        assert index.searches == 1


@pytest.mark.parametrize("text", ["." * 30_000 + "x", "....x" * 6_000, "x. " * 10_000, "?!" * 10_000])
def test_looking_for_repetition_loses_nothing_of_a_heap_of_marks(text: str):
    assert without_repetition(text, ["something else"]) == text.strip()
