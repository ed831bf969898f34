"""From a question to diary entries: by meaning with the real MiniLM, and everything around it without.

.venv/bin/python -m pytest tests/diary/test_recall.py
"""

from collections.abc import Iterator
from pathlib import Path

import pytest
from fake_embedder import FakeEmbedder, unit_vector
from hypothesis import given
from hypothesis import strategies as st

from services.diary.chunking import chunks
from services.diary.edge_index import EdgeIndex
from services.diary.embedder import Embedder, SentenceTransformerEmbedder
from services.diary.entry import Entry, EntryDraft, IndexState
from services.diary.index import Chunk, IndexEngine
from services.diary.ledger import Ledger
from services.diary.recall import (
    BUDGET_CHARACTERS,
    CHUNKS_AN_ENTRY,
    MAX_ENTRY_CHARACTERS,
    Recall,
    Recalled,
    within_budget,
)

SAMPLES = Path(__file__).parents[2] / "data" / "samples" / "diary.jsonl"


def write(index: IndexEngine, embedder: Embedder, *entries: Entry) -> None:
    """The entries' chunks into the index, as the worker writes them."""
    places = [
        (entry, place, f"({entry.day}) {text}")
        for entry in entries
        for place, text in enumerate(chunks(entry.text))
    ]
    vectors = embedder.embed_documents([text for _, _, text in places])
    index.upsert(
        [
            Chunk(entry.owner, entry.id, entry.version, place, entry.day, text, vector)
            for (entry, place, text), vector in zip(places, vectors, strict=True)
        ]
    )


@pytest.fixture(scope="module")
def her_diary(
    tmp_path_factory: pytest.TempPathFactory, minilm: SentenceTransformerEmbedder
) -> Iterator[Recall]:
    """The twenty sample entries, ready to be searched by meaning."""
    room = tmp_path_factory.mktemp("samples")
    ledger = Ledger(f"sqlite:///{room}/ledger.sqlite3")
    index = EdgeIndex(room / "index", minilm.name, minilm.dimension)
    drafts = map(EntryDraft.model_validate_json, SAMPLES.read_text(encoding="utf-8").splitlines())
    write(index, minilm, *(ledger.add("ada", draft) for draft in drafts))
    assert index.count() == 20
    yield Recall(ledger, minilm, index)
    index.close()
    ledger.close()


class TestByMeaning:
    @pytest.mark.parametrize(
        ("question", "entry_id"),
        [
            ("What happened to your bike outside the tea room?", "demo-12"),
            ("What became of the singers when the electricity failed?", "demo-04"),
            ("Which animal took a bite out of your friend the vet?", "demo-09"),
            ("How did rain get into the workshop and soak the old volumes?", "demo-07"),
            ("Who is going to have a hip operation?", "demo-20"),
            ("What did you bake for Colm's birthday?", "demo-10"),
            ("What pressed flower turned up between the old pages?", "demo-01"),
            ("What did you ruin by cutting too much off a customer's recipe book?", "demo-17"),
            ("How did the hives hear about the wedding?", "demo-18"),
            ("How did your cat get over the dentistry?", "demo-02"),
            ("How cold was the water on the first bathe in January?", "demo-06"),
            ("Who went with you to hear piano music in the capital?", "demo-15"),
        ],
    )
    def test_a_question_in_other_words_finds_its_entry_among_the_first_three(
        self, her_diary: Recall, question: str, entry_id: str
    ):
        assert entry_id in [one.entry.id for one in her_diary.search("ada", question, 3)]

    def test_the_stray_dog_comes_first(self, her_diary: Recall):
        question = "What did you call the stray dog that followed you home along the prom?"
        best = her_diary.search("ada", question, 6)[0]
        assert best.entry.id == "demo-14"
        assert "Postscript" in best.shown

    def test_the_days_searched_are_kept_to(self, her_diary: Recall):
        question = "What did you call the stray dog that followed you home along the prom?"
        days = [one.entry.day for one in her_diary.search("ada", question, 20, "2026-01-01", "2026-06-07")]
        assert len(days) == 8
        assert all("2026-01-01" <= day <= "2026-06-07" for day in days)

    def test_another_owner_finds_nothing(self, her_diary: Recall):
        assert her_diary.search("bríd", "stray dog", 6) == []


class TestTheRest:
    @pytest.fixture
    def embedder(self) -> FakeEmbedder:
        return FakeEmbedder()

    @pytest.fixture
    def recall(self, ledger: Ledger, embedder: FakeEmbedder, index: EdgeIndex) -> Recall:
        return Recall(ledger, embedder, index)

    def keep(self, ledger: Ledger, index: EdgeIndex, text: str, **fields: object) -> Entry:
        draft = EntryDraft.model_validate({"text": text, **fields})
        entry = ledger.add("ada", draft)
        write(index, FakeEmbedder(), entry)
        return entry

    @pytest.mark.parametrize("top_k", [1, 3, 10, 50])
    def test_no_more_than_top_k_come_best_first(
        self, recall: Recall, ledger: Ledger, index: EdgeIndex, top_k: int
    ):
        for number in range(12):
            self.keep(ledger, index, f"entry {number}")
        scores = [one.score for one in recall.search("ada", "question", top_k)]
        assert len(scores) == min(top_k, 12)
        assert scores == sorted(scores, reverse=True)

    def test_an_entry_that_the_ledger_does_not_have_is_left_out(
        self, recall: Recall, ledger: Ledger, index: EdgeIndex
    ):
        kept = self.keep(ledger, index, "kept")
        ghost = Entry("ada", "ghost", 1, "ghost", "2026-01-02", None, (), "", IndexState.INDEXED, None)
        write(index, FakeEmbedder(), ghost)
        assert [one.entry.id for one in recall.search("ada", "ghost", 2)] == [kept.id]

    def test_an_entry_is_recalled_once_however_many_pieces_match(
        self, recall: Recall, ledger: Ledger, index: EdgeIndex
    ):
        long = self.keep(ledger, index, "word " * 120 * CHUNKS_AN_ENTRY)
        other = self.keep(ledger, index, "other")
        recalled = recall.search("ada", "question", 2)
        assert sorted(one.entry.id for one in recalled) == sorted([long.id, other.id])

    def test_a_long_entry_does_not_crowd_out_the_others(
        self, recall: Recall, ledger: Ledger, index: EdgeIndex
    ):
        """All its pieces are nearer to the question than anything else is."""
        long = self.keep(ledger, index, "long")
        near = unit_vector("question")
        index.upsert([Chunk("ada", long.id, 1, place, long.day, "a piece", near) for place in range(50)])
        others = {self.keep(ledger, index, f"other {number}").id for number in range(3)}
        first, *rest = (one.entry.id for one in recall.search("ada", "question", 4))
        assert first == long.id
        assert set(rest) == others

    def test_a_short_entry_is_shown_whole_to_the_letter(
        self, recall: Recall, ledger: Ledger, index: EdgeIndex
    ):
        text = ("  Morning.\n\n" + "x" * MAX_ENTRY_CHARACTERS)[:MAX_ENTRY_CHARACTERS]
        self.keep(ledger, index, text)
        (one,) = recall.search("ada", "question", 1)
        assert one.shown == text

    def test_of_a_long_entry_the_best_piece_is_shown_with_its_score(
        self, recall: Recall, ledger: Ledger, index: EdgeIndex
    ):
        sentences = [f"Sentence {number} " + "word " * 100 + "end." for number in range(8)]
        self.keep(ledger, index, " ".join(sentences), date="2026-01-02")
        best = f"(2026-01-02) {sentences[5]}"
        (one,) = recall.search("ada", best, 3)
        assert one.shown == f"[…] {best} […]"
        assert one.score == pytest.approx(1.0, abs=1e-5)

    def test_no_entry_is_shown_longer_than_the_limit(self, recall: Recall, ledger: Ledger, index: EdgeIndex):
        self.keep(ledger, index, "a" * 32 * 1024)
        (one,) = recall.search("ada", "question", 1)
        assert len(one.shown) == MAX_ENTRY_CHARACTERS + len("[…]  […]")


def recalled(lengths: list[int], days: list[int]) -> list[Recalled]:
    """Entries as they were found, best first."""
    return [
        Recalled(
            Entry("ada", str(i), 1, "", f"2026-01-{day:02}", None, (), f"{i:04}", IndexState.INDEXED, None),
            "x" * length,
            1.0 - i / 1000,
        )
        for i, (length, day) in enumerate(zip(lengths, days, strict=True))
    ]


FOUND = st.lists(st.tuples(st.integers(0, MAX_ENTRY_CHARACTERS + 10), st.integers(1, 31)), max_size=30).map(
    lambda pairs: recalled([length for length, _ in pairs], [day for _, day in pairs])
)


class TestTheBudget:
    @given(FOUND)
    def test_what_is_kept_fits_and_is_in_order_of_dates(self, found: list[Recalled]):
        kept = within_budget(found)
        assert sum(len(one.shown) for one in kept) <= BUDGET_CHARACTERS
        dates = [(one.entry.date, one.entry.written_at) for one in kept]
        assert dates == sorted(dates)

    @given(FOUND)
    def test_nothing_is_left_out_for_something_worse(self, found: list[Recalled]):
        """What is missing did not fit beside the better ones that were kept."""
        kept = within_budget(found)
        for one in found:
            if one not in kept:
                better = sum(len(other.shown) for other in kept if other.score > one.score)
                assert better + len(one.shown) > BUDGET_CHARACTERS

    def test_the_best_is_always_kept(self):
        lengths = [MAX_ENTRY_CHARACTERS + 8] * 20
        kept = within_budget(recalled(lengths, list(range(20, 0, -1))))
        assert [one.entry.id for one in kept] == ["2", "1", "0"]

    def test_nothing_found_is_nothing_kept(self):
        assert within_budget([]) == []
