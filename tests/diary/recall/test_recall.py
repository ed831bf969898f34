"""From a question to diary entries: by meaning with the real MiniLM, and everything around it without.

.venv/bin/python -m pytest tests/diary/recall/test_recall.py
"""

from collections.abc import Iterator
from datetime import date as Date
from pathlib import Path

import pytest
from fake_embedder import FakeEmbedder, unit_vector
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.diary.embedding.embedder import Embedder, SentenceTransformerEmbedder
from services.diary.entry import Entry, EntryDraft
from services.diary.index.embedded.index import EdgeIndex
from services.diary.index.engine import IndexEngine, UnavailableIndex
from services.diary.index.indexing import build_chunks
from services.diary.index.types import Chunk, EntryKey, SparseVector
from services.diary.ledger.ledger import Ledger
from services.diary.recall.candidates import CANDIDATES
from services.diary.recall.excerpt import MAX_ENTRY_CHARACTERS
from services.diary.recall.query import RecallQuery
from services.diary.recall.ranking import DATE_WEIGHT, RECENCY_WEIGHT
from services.diary.recall.recall import BUDGET_CHARACTERS, Recall, RecalledEntry, within_budget
from services.diary.recall.selection import MOOD_WEIGHT
from services.errors import DiaryUnavailable

SAMPLES = Path(__file__).parents[3] / "data" / "samples" / "diary.jsonl"
RAW = {"raw dense", "raw words"}


def write(index: IndexEngine, embedder: Embedder, *entries: Entry) -> None:
    """The entries' chunks into the index, as the worker writes them."""
    index.upsert(build_chunks(entries, embedder))


@pytest.fixture(scope="module")
def her_diary(
    tmp_path_factory: pytest.TempPathFactory, minilm: SentenceTransformerEmbedder
) -> Iterator[Recall]:
    """The twenty sample entries, ready to be searched by meaning."""
    room = tmp_path_factory.mktemp("samples")
    index = EdgeIndex(room / "index", minilm.name, minilm.dimension)
    drafts = map(EntryDraft.model_validate_json, SAMPLES.read_text(encoding="utf-8").splitlines())
    with Ledger(f"sqlite:///{room}/ledger.sqlite3") as ledger:
        write(index, minilm, *(ledger.for_owner("ada").add(draft) for draft in drafts))
        yield Recall(ledger, minilm, index, birthday=(3, 14))
    index.close()


class TestByMeaningAndWords:
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
        assert entry_id in [hit.entry.id for hit in her_diary.search("ada", RecallQuery(question, 3))]

    def test_the_stray_dog_comes_first(self, her_diary: Recall):
        question = "What did you call the stray dog that followed you home along the prom?"
        best = her_diary.search("ada", RecallQuery(question, 6))[0]
        assert best.entry.id == "demo-14"
        assert "Postscript" in best.excerpt

    def test_the_days_searched_are_kept_to(self, her_diary: Recall):
        question = "What did you call the stray dog that followed you home along the prom?"
        days = [
            hit.entry.day
            for hit in her_diary.search("ada", RecallQuery(question, 20, "2026-01-01", "2026-06-07"))
        ]
        assert len(days) == 8
        assert all("2026-01-01" <= day <= "2026-06-07" for day in days)

    def test_another_owner_finds_nothing(self, her_diary: Recall):
        assert her_diary.search("bríd", RecallQuery("stray dog", 6)) == []
        assert her_diary.search_chunks("bríd", RecallQuery("stray dog", 6)) == []

    def test_a_month_in_the_question_brings_its_entries_to_the_front(self, her_diary: Recall):
        hits = her_diary.search("ada", RecallQuery("What did you do in January?", 2, as_of=Date(2026, 6, 7)))
        assert [hit.entry.day[:7] for hit in hits] == ["2026-01"] * len(hits)
        assert hits[0].reasons == ("'in January' is read as 2026-01-01 to 2026-01-31",)

    def test_a_month_without_entries_takes_none_away(self, her_diary: Recall):
        assert len(her_diary.search("ada", RecallQuery("What did you do in March 1850?", 6))) == 6

    @pytest.mark.parametrize("question", ["", "?", "the of and", "\x00", "\ud800", "🐕", "a" * 32_768])
    def test_any_question_finds_something(self, her_diary: Recall, question: str):
        assert len(her_diary.search("ada", RecallQuery(question, 3))) == 3


@pytest.fixture
def embedder() -> FakeEmbedder:
    return FakeEmbedder()


@pytest.fixture
def recall(ledger: Ledger, embedder: FakeEmbedder, index: EdgeIndex) -> Recall:
    return Recall(ledger, embedder, index)


@pytest.fixture
def keep(ledger: Ledger, index: EdgeIndex):
    """Writes an entry into ledger and index."""

    def retained(text: str, **fields: object) -> Entry:
        entry = ledger.for_owner("ada").add(EntryDraft.model_validate({"text": text, **fields}))
        write(index, FakeEmbedder(), entry)
        return entry

    return retained


def ids(hits: list[RecalledEntry]) -> list[str]:
    return [hit.entry.id for hit in hits]


class TestWhatIsFound:
    @pytest.mark.parametrize("top_k", [1, 3, 10, 50])
    def test_no_more_than_top_k_come_best_first(self, recall: Recall, keep, top_k: int):
        for number in range(12):
            keep(f"entry number {number}")
        scores = [hit.score for hit in recall.search("ada", RecallQuery("question", top_k))]
        assert len(scores) == min(top_k, 12)
        assert scores == sorted(scores, reverse=True)

    def test_an_empty_diary_gives_nothing(self, recall: Recall):
        assert recall.search("ada", RecallQuery("question", 6)) == []

    def test_an_entry_is_recalled_once_however_many_pieces_match(self, recall: Recall, keep):
        long, other = keep("question " * 120 * 8), keep("other")
        assert ids(recall.search("ada", RecallQuery("question", 2))) == [long.id, other.id]

    def test_a_long_entry_does_not_crowd_out_the_others(self, recall: Recall, keep, index: EdgeIndex):
        """All its pieces are nearer to the question than anything else, and more than are asked for."""
        long = keep("long")
        near = unit_vector("question")
        pieces = [
            Chunk(
                "ada",
                long.id,
                1,
                ordinal,
                long.first_day,
                long.last_day,
                "a piece",
                near,
                SparseVector([1], [1.0]),
            )
            for ordinal in range(2 * CANDIDATES)
        ]
        index.upsert(pieces)
        others = {keep(f"other {number}").id for number in range(3)}
        first, *rest = ids(recall.search("ada", RecallQuery("question", 4)))
        assert first == long.id
        assert set(rest) == others

    def test_a_word_finds_what_meaning_does_not(self, ledger: Ledger, index: EdgeIndex):
        class OneMeaning(FakeEmbedder):
            def embed_documents(self, texts):
                return [unit_vector("all the same")] * len(texts)

        texts = ["The zephyr came at noon.", *(f"Entry number {number}." for number in range(20))]
        entries = [ledger.for_owner("ada").add(EntryDraft(text=text)) for text in texts]
        write(index, OneMeaning(), *entries)
        assert ids(Recall(ledger, OneMeaning(), index).search("ada", RecallQuery("zephyrs", 1))) == [
            entries[0].id
        ]

    def test_without_an_index_it_says_so(self, ledger: Ledger, embedder: FakeEmbedder):
        without = Recall(ledger, embedder, UnavailableIndex("the index is away"))
        with pytest.raises(DiaryUnavailable, match="the index is away"):
            without.search("ada", RecallQuery("question", 6))
        with pytest.raises(DiaryUnavailable, match="the index is away"):
            without.check()


class TestTheLedgerHasTheLastWord:
    def test_an_entry_that_the_ledger_does_not_have_is_left_out(
        self, recall: Recall, keep, index: EdgeIndex, embedder: FakeEmbedder
    ):
        retained = keep("kept")
        ghost = Entry("ada", "ghost", 1, "ghost", "2026-01-02", "2026-01-02", "2026-01-02", None, (), "")
        write(index, embedder, ghost)
        assert ids(recall.search("ada", RecallQuery("ghost", 2))) == [retained.id]
        assert {hit.hit.entry_id for hit in recall.search_chunks("ada", RecallQuery("ghost", 9))} == {
            retained.id
        }

    def test_an_entry_that_was_removed_is_left_out_before_the_index_knows(
        self, recall: Recall, keep, ledger: Ledger
    ):
        retained, removed = keep("kept"), keep("ghost")
        ledger.for_owner("ada").remove(removed.id)
        assert ids(recall.search("ada", RecallQuery("ghost", 2))) == [retained.id]

    def test_what_an_entry_said_before_it_was_edited_finds_it_no_more(
        self, recall: Recall, keep, ledger: Ledger, index: EdgeIndex, embedder: FakeEmbedder
    ):
        entry = keep("The kite is red.")
        edited = ledger.for_owner("ada").edit(entry.id, EntryDraft(text="The boat is blue."))
        assert recall.search("ada", RecallQuery("kite", 2)) == []
        write(index, embedder, edited)  # the old version's chunks are still there
        (hit,) = recall.search("ada", RecallQuery("kite", 2))
        assert (hit.entry.version, hit.excerpt) == (2, "The boat is blue.")
        index.delete([EntryKey("ada", entry.id)], except_version={EntryKey("ada", entry.id): 2})
        assert ids(recall.search("ada", RecallQuery("boat", 2))) == [entry.id]

    def test_removed_entries_do_not_crowd_out_those_that_are_there(
        self, recall: Recall, keep, ledger: Ledger
    ):
        retained = keep("something else")
        for number in range(CANDIDATES + 20):
            removed = keep(f"question {number}")
            ledger.for_owner("ada").remove(removed.id)
        assert ids(recall.search("ada", RecallQuery("question", 1))) == [retained.id]


class TestWhatIsShown:
    def test_a_short_entry_is_shown_whole_to_the_letter(self, recall: Recall, keep):
        text = ("  Morning.\n\n" + "x" * MAX_ENTRY_CHARACTERS)[:MAX_ENTRY_CHARACTERS]
        keep(text)
        (hit,) = recall.search("ada", RecallQuery("question", 1))
        assert hit.excerpt == text

    def test_of_a_long_entry_the_best_piece_is_shown_among_its_neighbours(self, recall: Recall, keep):
        lines = [f"Line {number} " + "word " * 60 + "end." for number in range(12)]
        keep("\n".join(lines))
        (hit,) = recall.search("ada", RecallQuery(lines[5], 3))
        assert hit.excerpt == "[…] " + "\n".join(lines[4:7]) + " […]"

    def test_no_entry_is_shown_longer_than_the_limit(self, recall: Recall, keep):
        keep("a" * 32 * 1024)
        (hit,) = recall.search("ada", RecallQuery("question", 1))
        assert len(hit.excerpt) == MAX_ENTRY_CHARACTERS + len(" […]")

    def test_entries_that_say_nearly_the_same_are_shown_once_and_counted(self, recall: Recall, keep):
        text = "We walked along the prom in the rain and saw the grey seal again."
        second, first = keep(text.upper(), date="2026-01-03"), keep(text, date="2026-01-02")
        other = keep("Nothing of that.")
        best, rest = recall.search("ada", RecallQuery(text, 3))
        assert (best.entry.id, best.duplicate_ids) == (second.id, (first.id,))
        assert best.reasons == (f"1 left out that say nearly the same: {best.duplicate_ids[0]}",)
        assert (rest.entry.id, rest.duplicate_ids) == (other.id, ())

    def test_what_is_left_out_gives_its_place_to_another(self, recall: Recall, keep):
        for day in range(1, 9):
            keep("question question question", date=f"2026-01-0{day}")
        other = keep("other")
        hits = recall.search("ada", RecallQuery("question", 2))
        assert other.id in ids(hits)
        assert sum(len(hit.duplicate_ids) for hit in hits) == 7


def against(question: str, entry: Entry, by: float = 0.0) -> Chunk:
    """An entry's chunk whose meaning is the opposite of the question's, or not quite."""
    away = zip(unit_vector(question), unit_vector(entry.text), strict=True)
    vector = [by * own - number for number, own in away]
    return Chunk(
        "ada", entry.id, 1, 0, entry.first_day, entry.last_day, entry.text, vector, SparseVector([], [])
    )


class TestWhatIsPreferred:
    def test_the_score_is_explained_part_by_part(self, recall: Recall, keep):
        keep("The kite is red.\nWhere is the boat?\nIt is here.", mood="glad")
        for hit in recall.search("ada", RecallQuery("kite", 1, mood="glad", recency=10)):
            rest = {"dense", "words", "neighbours", "entry", "dates", "recency", "mood"}
            assert set(hit.score_parts) == RAW | rest
            assert hit.score == pytest.approx(sum(hit.score_parts[name] for name in rest))
            assert hit.score_parts["raw words"] > 0
            assert -1 <= hit.score_parts["raw dense"] <= 1

    def test_a_mood_is_preferred_and_nothing_left_out(self, recall: Recall, keep):
        keep("question", mood="sad")
        keep("question once more", mood=None)
        best = keep("question again then", mood="Glad")
        hits = recall.search("ada", RecallQuery("again", 3, mood="glad"))
        assert len(hits) == 3
        assert [hit.score_parts["mood"] for hit in hits] == [MOOD_WEIGHT, 0, 0]
        assert hits[0].entry.id == best.id

    def test_the_newer_of_two_is_preferred_where_recency_is_asked_for(self, recall: Recall, keep):
        keep("one two three", date="2020-01-01")
        keep("three two one", date="2026-01-01")
        new, old = sorted(
            recall.search("ada", RecallQuery("four", 2, recency=30, as_of=Date(2026, 1, 1))),
            key=lambda o: -o.score_parts["recency"],
        )
        assert (new.score_parts["recency"], new.entry.day) == (RECENCY_WEIGHT, "2026-01-01")
        assert old.score_parts["recency"] < 0.001

    def test_days_that_are_named_are_found_wherever_they_are(
        self, recall: Recall, ledger: Ledger, index: EdgeIndex
    ):
        """It shares no word with the question, and more others than are looked at are nearer in meaning."""
        question = "what was two weeks ago?"
        wanted = ledger.for_owner("ada").add(EntryDraft(text="unlike all", date="2026-05-18"))
        index.upsert([against(question, wanted)])
        for number in range(2 * CANDIDATES):
            other = ledger.for_owner("ada").add(EntryDraft(text=f"entry {number}", date="2020-01-01"))
            index.upsert([against(question, other, by=0.2)])
        (hit,) = recall.search("ada", RecallQuery(question, 1, as_of=Date(2026, 6, 1)))
        assert (hit.entry.id, hit.score_parts["dates"]) == (wanted.id, DATE_WEIGHT)

    def test_days_that_are_named_are_counted_from_the_last_day_that_is_searched(self, recall: Recall, keep):
        keep("entry", date="2020-03-05")
        (hit,) = recall.search("ada", RecallQuery("in March", 1, last_day="2020-06-01"))
        assert hit.score_parts["dates"] == DATE_WEIGHT

    def test_days_that_are_named_never_open_days_that_are_not_searched(self, recall: Recall, keep):
        retained = keep("entry", date="2020-03-05")
        keep("question", date="2021-03-05")
        keep("question then", date="2019-03-05")
        question = "question of March 2021, March 2019, and March 2020"
        assert ids(recall.search("ada", RecallQuery(question, 3, "2020-01-01", "2020-12-31"))) == [
            retained.id
        ]

    @given(
        days=st.lists(st.dates(Date(2000, 1, 1), Date(2026, 1, 1)), min_size=2, max_size=2), as_of=st.dates()
    )
    @settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    def test_no_date_in_a_question_empties_what_it_finds(self, filled: Recall, days: list[Date], as_of: Date):
        first, second = days
        question = f"What was between {first} and {second}, {first:%d %B %Y}, last spring or 12 years ago?"
        write_all = [Date(year, 5, 5) for year in range(2010, 2015)]
        hits = filled.search("ada", RecallQuery(question, 6, as_of=as_of))
        assert sorted(hit.entry.day for hit in hits) == [str(day) for day in write_all if day <= as_of]

    @pytest.fixture
    def filled(self, recall: Recall, keep) -> Recall:
        for number in range(5):
            keep(f"entry number {number}", date=f"201{number}-05-05")
        return recall


def recalled(lengths: list[int], days: list[int]) -> list[RecalledEntry]:
    """Entries as they were found, best first."""
    return [
        RecalledEntry(
            Entry("ada", str(i), 1, "", *[f"2026-01-{day:02}"] * 3, None, (), f"{i:04}"),
            "x" * length,
            1.0 - i / 1000,
        )
        for i, (length, day) in enumerate(zip(lengths, days, strict=True))
    ]


MATCHES = st.lists(st.tuples(st.integers(0, MAX_ENTRY_CHARACTERS + 10), st.integers(1, 31)), max_size=30).map(
    lambda pairs: recalled([length for length, _ in pairs], [day for _, day in pairs])
)


class TestTheBudget:
    @given(MATCHES)
    def test_what_is_kept_fits_and_is_in_order_of_days(self, hits: list[RecalledEntry]):
        retained = within_budget(hits)
        assert sum(len(hit.excerpt) for hit in retained) <= BUDGET_CHARACTERS
        days = [(hit.entry.first_day, hit.entry.written_at) for hit in retained]
        assert days == sorted(days)

    @given(MATCHES)
    def test_nothing_is_left_out_for_something_worse(self, hits: list[RecalledEntry]):
        """What is missing did not fit beside the better ones that were kept."""
        retained = within_budget(hits)
        for hit in hits:
            if hit not in retained:
                better = sum(len(other.excerpt) for other in retained if other.score > hit.score)
                assert better + len(hit.excerpt) > BUDGET_CHARACTERS

    def test_the_best_is_always_kept(self):
        lengths = [MAX_ENTRY_CHARACTERS + 8] * 20
        retained = within_budget(recalled(lengths, list(range(20, 0, -1))))
        assert [hit.entry.id for hit in retained] == ["2", "1", "0"]

    def test_it_is_counted_in_whatever_unit_the_budget_has(self):
        retained = within_budget(
            recalled([100, 50, 10], [1, 2, 3]), budget=12, size=lambda text: len(text) // 10
        )
        assert [hit.entry.id for hit in retained] == ["0", "2"]

    def test_nothing_found_is_nothing_kept(self):
        assert within_budget([]) == []
