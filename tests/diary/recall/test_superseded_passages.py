"""What is recalled holds: the newest of what is said twice, nothing superseded, and nothing that only looks
like something else.

.venv/bin/python -m pytest tests/diary/recall/test_superseded_passages.py
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date as Date
from pathlib import Path

import pytest
from fake_embedder import FakeEmbedder

from services.diary.conflicts import OwnerConflicts, Pair, Resolution, Verdict
from services.diary.embedding.embedder import Embedder, SentenceTransformerEmbedder
from services.diary.entry import Entry, EntryDraft
from services.diary.index.chunking import chunks
from services.diary.index.embedded.index import EdgeIndex
from services.diary.index.indexing import build_chunks
from services.diary.ledger.ledger import Ledger
from services.diary.recall.excerpt import LEFT_OUT
from services.diary.recall.query import RecallQuery
from services.diary.recall.recall import Recall

REGRESSIONS = Path(__file__).parents[2] / "regressions"


@contextmanager
def recalling(folder: Path, embedder: Embedder, name: str) -> Iterator[Recall]:
    """A diary with the entries of a regression."""
    lines = (REGRESSIONS / name / "diary.jsonl").read_text(encoding="utf-8").splitlines()
    index = EdgeIndex(folder / "index", embedder.name, embedder.dimension)
    with Ledger(f"sqlite:///{folder}/ledger.sqlite3") as ledger:
        entries = [ledger.for_owner("ada").add(EntryDraft.model_validate_json(line)) for line in lines]
        index.upsert(build_chunks(entries, embedder))
        yield Recall(ledger, embedder, index)
    index.close()


@pytest.mark.parametrize(
    ("question", "days"),
    [
        ("Will you sell the house in Sligo to Fergal?", {"2026-09-01", "2026-08-01"}),
        ("Which old school friends did you have supper with?", {"2026-03-02", "2026-06-14"}),
        ("How many mg of the thyroid pill do you take?", {"2026-09-16", "2026-09-09", "2026-09-02"}),
    ],
)
def test_near_duplicates_are_all_recalled(
    tmp_path: Path, minilm: SentenceTransformerEmbedder, question: str, days: set[str]
):
    """regressions/near_duplicates: entries that differ by "not", a name or a dose."""
    with recalling(tmp_path, minilm, "near_duplicates") as recall:
        hits = recall.search("ada", RecallQuery(question, 6))
    assert days <= {hit.entry.day for hit in hits}
    assert not any(hit.duplicate_ids for hit in hits)


@pytest.mark.parametrize("word", ["may", "could"])
def test_may_is_no_month(tmp_path: Path, minilm: SentenceTransformerEmbedder, word: str):
    """regressions/may_is_no_month: the peanuts come first, not the entries of May."""
    question = f"Is there any food that {word} hurt you?"
    with recalling(tmp_path, minilm, "may_is_no_month") as recall:
        best = recall.search("ada", RecallQuery(question, 3, as_of=Date(2026, 11, 27)))[0]
    assert (best.entry.day, best.score_parts["dates"]) == ("2019-02-03", 0)


@pytest.fixture
def recall(ledger: Ledger, index: EdgeIndex) -> Recall:
    return Recall(ledger, FakeEmbedder(), index)


Keep = Callable[..., Entry]


@pytest.fixture
def keep(ledger: Ledger, index: EdgeIndex) -> Keep:
    def entry_of(text: str, date: str) -> Entry:
        entry = ledger.for_owner("ada").add(EntryDraft(text=text, date=date))
        index.upsert(build_chunks([entry], FakeEmbedder()))
        return entry

    return entry_of


class TestOfWhatIsSaidTwice:
    def test_the_newest_is_shown_and_the_others_are_named(self, recall: Recall, keep: Keep):
        newest = keep("The pill, 50 mg.", "2026-03-01")
        older = [
            keep(text, f"2026-0{n}-01") for n, text in enumerate(["the pill 50 mg", "The PILL: 50 mg!"], 1)
        ]
        (hit,) = recall.search("ada", RecallQuery("pill", 6))
        assert (hit.entry.id, set(hit.duplicate_ids)) == (newest.id, {entry.id for entry in older})

    def test_that_of_a_day_which_the_question_names_goes_before(self, recall: Recall, keep: Keep):
        for month in (1, 2, 3):
            keep("The pill, 50 mg.", f"2026-0{month}-01")
        (hit,) = recall.search("ada", RecallQuery("Did you take the pill on 1 February 2026?", 6))
        assert hit.entry.day == "2026-02-01"


class TestWhatIsSettled:
    """A passage that was settled as superseded is not shown as if it held."""

    @pytest.fixture
    def settle(
        self, ledger: Ledger, index: EdgeIndex
    ) -> Callable[[Entry, str, Entry, str, Resolution], None]:
        def settled(a: Entry, a_passage: str, b: Entry, b_passage: str, how: Resolution) -> None:
            conflicts = OwnerConflicts(ledger, FakeEmbedder(), index, "ada")
            pair = Pair(a, b, a_passage, b_passage)
            conflicts.record_verdict(pair, Verdict.CONTRADICTS)
            conflicts.resolve(pair.id, how)

        return settled

    @pytest.mark.parametrize(
        ("how", "days"),
        [
            (Resolution.A, ["2026-01-01"]),
            (Resolution.B, ["2026-02-01"]),
            (Resolution.BOTH, ["2026-01-01", "2026-02-01"]),
            (Resolution.NEITHER, []),
        ],
    )
    def test_the_entry_that_holds_is_recalled_alone(
        self, recall: Recall, keep: Keep, settle, how: Resolution, days: list[str]
    ):
        a, b = keep("I will sell the house.", "2026-01-01"), keep("I will keep the house.", "2026-02-01")
        settle(a, a.text, b, b.text, how)
        assert sorted(hit.entry.day for hit in recall.search("ada", RecallQuery("house", 6))) == days
        assert (
            sorted(chunk.hit.first_day for chunk in recall.search_chunks("ada", RecallQuery("house", 6)))
            == days
        )

    def test_a_conflict_that_is_not_settled_leaves_both(
        self, recall: Recall, keep: Keep, ledger: Ledger, index: EdgeIndex
    ):
        a, b = keep("I will sell the house.", "2026-01-01"), keep("I will keep the house.", "2026-02-01")
        OwnerConflicts(ledger, FakeEmbedder(), index, "ada").record_verdict(
            Pair(a, b, a.text, b.text), Verdict.CONTRADICTS
        )
        assert len(recall.search("ada", RecallQuery("house", 6))) == 2

    @pytest.mark.parametrize("lines", [3, 60])
    def test_the_rest_of_a_longer_entry_is_shown_without_the_passage(
        self, recall: Recall, keep: Keep, settle, lines: int
    ):
        passage = "I will sell the house."
        others = [f"Line {n} of the house. {'word ' * 20}end." for n in range(lines)]
        a = keep("\n".join([others[0], passage, *others[1:]]), "2026-01-01")
        b = keep("I will keep the house.", "2026-02-01")
        assert passage in chunks(a.text)
        settle(a, passage, b, b.text, Resolution.B)
        by_id = {hit.entry.id: hit for hit in recall.search("ada", RecallQuery("sell the house", 6))}
        assert passage not in by_id[a.id].excerpt
        assert LEFT_OUT in by_id[a.id].excerpt
        assert "Line" in by_id[a.id].excerpt
        assert by_id[a.id].reasons[-1] == "passages left out that were settled as superseded: 1"

    def test_an_edit_brings_it_back(
        self, recall: Recall, keep: Keep, settle, ledger: Ledger, index: EdgeIndex
    ):
        """A verdict is on two versions, and holds until either is edited."""
        a, b = keep("I will sell the house.", "2026-01-01"), keep("I will keep the house.", "2026-02-01")
        settle(a, a.text, b, b.text, Resolution.B)
        ledger.for_owner("ada").edit(b.id, EntryDraft(text="I am in two minds."))
        assert [hit.entry.id for hit in recall.search("ada", RecallQuery("sell house", 6))] == [a.id]
