"""Pairs of entries that may disagree: which are looked at, and how long a verdict holds.

The judge is tested in tests/orchestrator/diary/test_conflict_routes.py.

    .venv/bin/python -m pytest tests/diary/test_conflicts.py
"""

import pytest
from fake_embedder import FakeEmbedder

from services.diary.conflicts import OwnerConflicts, Pair, Resolution, Verdict
from services.diary.entry import Entry, EntryDraft
from services.diary.index.embedded.index import EdgeIndex
from services.diary.index.indexing import build_chunks
from services.diary.ledger.ledger import Ledger
from services.errors import NotFound

OWNER = "drew"


class SameSubject(FakeEmbedder):
    """Two texts are alike when they begin with the same word."""

    def embed_documents(self, texts):
        return super().embed_documents([text.split()[0] for text in texts])


@pytest.fixture
def diary(ledger: Ledger, index: EdgeIndex):
    return Diary(ledger, index)


class Diary:
    def __init__(self, ledger: Ledger, index: EdgeIndex) -> None:
        self.ledger, self.index, self.embedder = ledger, index, SameSubject()
        self.conflicts = OwnerConflicts(ledger, self.embedder, index, OWNER)

    def write(self, text: str, date: str, owner: str = OWNER, **fields: object) -> Entry:
        entry = self.ledger.for_owner(owner).add(EntryDraft(text=text, date=date, **fields))
        self.index.upsert(build_chunks([entry], self.embedder))
        return entry

    def pairs(self, entry: Entry) -> list[tuple[str, str]]:
        return [(pair.a.id, pair.b.id) for pair in self.conflicts.candidates(entry)]


class TestCandidates:
    def test_they_are_alike_and_of_other_days_and_the_earlier_stands_first(self, diary: Diary):
        late = diary.write("Born in Galway.", "2023-05-08", id="late")
        early = diary.write("Born in Sligo.", "2021-01-01", id="early")
        diary.write("Garlic was planted.", "2022-01-01", id="other")
        assert diary.pairs(late) == diary.pairs(early) == [("early", "late")]
        (pair,) = diary.conflicts.candidates(late)
        assert (pair.a_passage, pair.b_passage) == ("Born in Sligo.", "Born in Galway.")
        assert pair.id == "early.1~late.1"

    def test_entries_of_one_day_are_no_pair(self, diary: Diary):
        entry = diary.write("Born in Galway.", "2023-05-08")
        diary.write("Born in Sligo.", "2023-05-08T21:00:00")
        assert diary.pairs(entry) == []

    def test_nobody_elses_entries_are_looked_at(self, diary: Diary):
        entry = diary.write("Born in Galway.", "2023-05-08")
        diary.write("Born in Sligo.", "2021-01-01", owner="somebody else")
        assert diary.pairs(entry) == []

    def test_what_was_removed_or_edited_since_is_passed_over(self, diary: Diary):
        entry = diary.write("Born in Galway.", "2023-05-08")
        removed, edited = (
            diary.write("Born in Sligo.", "2021-01-01"),
            diary.write("Born in Cork.", "2021-01-02"),
        )
        diary.ledger.for_owner(OWNER).remove(removed.id)
        diary.ledger.for_owner(OWNER).edit(edited.id, EntryDraft(text="Mended a psalter."))
        assert diary.pairs(entry) == []

    def test_a_pair_that_was_judged_is_none_any_more_until_it_is_edited(self, diary: Diary):
        late = diary.write("Born in Galway.", "2023-05-08", id="late")
        diary.write("Born in Sligo.", "2021-01-01", id="early")
        (pair,) = diary.conflicts.candidates(late)
        diary.conflicts.record_verdict(pair, Verdict.AGREES)
        assert diary.pairs(late) == []
        edited = diary.ledger.for_owner(OWNER).edit("late", EntryDraft(text="Born in Kerry."))
        diary.index.upsert(build_chunks([edited], diary.embedder))
        assert [pair.id for pair in diary.conflicts.candidates(edited)] == ["early.1~late.2"]


class TestExamining:
    def test_every_entry_is_examined_once_newest_first_and_again_when_it_is_edited(self, diary: Diary):
        for name, date in (("a", "2021-01-01"), ("b", "2023-01-01"), ("c", "2022-01-01")):
            diary.write("x", date, id=name)
        assert [entry.id for entry in diary.conflicts.unexamined(10)] == ["b", "c", "a"]
        for entry in diary.conflicts.unexamined(2):
            diary.conflicts.mark_examined(entry)
        assert [entry.id for entry in diary.conflicts.unexamined(10)] == ["a"]
        diary.ledger.for_owner(OWNER).edit("b", EntryDraft(text="y"))
        diary.ledger.for_owner(OWNER).remove("a")
        assert [entry.id for entry in diary.conflicts.unexamined(10)] == ["b"]
        assert diary.conflicts.count_unexamined() == 1
        assert OwnerConflicts(diary.ledger, diary.embedder, diary.index, "other").count_unexamined() == 0


class TestKnown:
    @pytest.fixture
    def pair(self, diary: Diary) -> Pair:
        diary.write("Born in Sligo.", "2021-01-01", id="early")
        (pair,) = diary.conflicts.candidates(diary.write("Born in Galway.", "2023-05-08", id="late"))
        return pair

    @pytest.mark.parametrize(("verdict", "number"), [(v, int(v == "contradicts")) for v in Verdict])
    def test_only_contradictions_are_conflicts(self, diary: Diary, pair: Pair, verdict: Verdict, number: int):
        diary.conflicts.record_verdict(pair, verdict)
        assert len(diary.conflicts.newest(10)) == number

    def test_the_first_verdict_stands(self, diary: Diary, pair: Pair):
        diary.conflicts.record_verdict(pair, Verdict.CONTRADICTS)
        diary.conflicts.record_verdict(pair, Verdict.UNRELATED)
        (conflict,) = diary.conflicts.newest(10)
        assert conflict.pair == pair
        assert conflict.resolution is None

    def test_one_that_is_settled_is_listed_apart(self, diary: Diary, pair: Pair):
        diary.conflicts.record_verdict(pair, Verdict.CONTRADICTS)
        assert diary.conflicts.resolve(pair.id, Resolution.B).resolution is Resolution.B
        assert diary.conflicts.newest(10) == []
        (conflict,) = diary.conflicts.newest(10, resolved=True)
        assert (conflict.pair, conflict.resolution) == (pair, Resolution.B)
        assert diary.conflicts.resolve(pair.id, Resolution.BOTH).resolution is Resolution.BOTH

    def test_it_is_none_any_more_when_either_entry_is_edited_or_removed(self, diary: Diary, pair: Pair):
        diary.conflicts.record_verdict(pair, Verdict.CONTRADICTS)
        diary.ledger.for_owner(OWNER).edit("late", EntryDraft(text="Born in Sligo, too."))
        assert diary.conflicts.newest(10) == []
        with pytest.raises(NotFound):
            diary.conflicts.resolve(pair.id, Resolution.A)

    def test_what_was_purged_is_in_no_verdict(self, diary: Diary, pair: Pair):
        diary.conflicts.record_verdict(pair, Verdict.CONTRADICTS)
        diary.ledger.for_owner(OWNER).remove("early", purge=True)
        assert diary.conflicts.newest(10) == []

    @pytest.mark.parametrize(
        "name", ["", "x", "early.1~none.1", "early.1~late", "early.0~late.1", "a.1~b.1'--"]
    )
    def test_what_names_no_conflict_is_not_found(self, diary: Diary, pair: Pair, name: str):
        diary.conflicts.record_verdict(pair, Verdict.CONTRADICTS)
        with pytest.raises(NotFound):
            diary.conflicts.resolve(name, Resolution.A)

    def test_nor_is_that_of_another_owner(self, diary: Diary, pair: Pair):
        diary.conflicts.record_verdict(pair, Verdict.CONTRADICTS)
        others = OwnerConflicts(diary.ledger, diary.embedder, diary.index, "somebody else")
        assert others.newest(10) == []
        with pytest.raises(NotFound):
            others.resolve(pair.id, Resolution.A)


class TestBothDatabases:
    @pytest.fixture
    def ledger_url(self, either_ledger_url: str) -> str:
        return either_ledger_url

    def test_the_queries_hold_in_postgresql_as_in_sqlite(self, diary: Diary):
        diary.write("Born in Sligo.", "2021-01-01", id="early")
        late = diary.write("Born in Galway.", "2023-05-08", id="late")
        (pair,) = diary.conflicts.candidates(late)
        diary.conflicts.record_verdict(pair, Verdict.CONTRADICTS)
        diary.conflicts.mark_examined(late)
        assert [conflict.pair for conflict in diary.conflicts.newest(10)] == [pair]
        assert [entry.id for entry in diary.conflicts.unexamined(10)] == ["early"]
        assert diary.conflicts.resolve(pair.id, Resolution.A).resolution is Resolution.A
