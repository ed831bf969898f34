"""Days that a question names, in a large diary and beside rows without a date; and which day is today.

.venv/bin/python -m pytest tests/diary/recall/test_recall_dates.py
"""

import random
from collections.abc import Iterator
from datetime import UTC, datetime
from datetime import date as Date
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from fake_embedder import DIMENSION, FakeEmbedder

from services.diary.entry import Entry, EntryDraft
from services.diary.index.embedded.index import EdgeIndex
from services.diary.index.indexing import build_chunks
from services.diary.ledger.ledger import Ledger
from services.diary.ledger.paging import EntryFilter
from services.diary.recall.query import RecallQuery
from services.diary.recall.recall import Recall, RecalledEntry
from services.local_time import IN_UTC, LocalTime

TODAY = Date(2026, 11, 27)
OLDER = 3_000
SPRING = "What did you do last spring?"


def days(hits: list[RecalledEntry]) -> list[str]:
    return [hit.entry.day for hit in hits]


class House:
    """A ledger and an index, filled as an import fills them."""

    def __init__(self, folder: Path) -> None:
        self.ledger = Ledger(f"sqlite:///{folder}/ledger.sqlite3")
        self.index = EdgeIndex(folder / "index", "fake", DIMENSION)
        self.recall = Recall(self.ledger, FakeEmbedder(), self.index)

    def take_in(self, *drafts: EntryDraft, local: LocalTime = IN_UTC) -> list[Entry]:
        hers = self.ledger.for_owner("ada", local)
        import_id = hers.begin_import("diary.jsonl")
        for start in range(0, len(drafts), 500):
            hers.add_rows(import_id, drafts[start : start + 500])
        new = [entry for entry in hers.iter_entries(EntryFilter()) if entry.import_id == import_id]
        self.index.upsert(build_chunks(new, FakeEmbedder()))
        return new

    def search(self, question: str, top_k: int = 6, **fields: object) -> list[RecalledEntry]:
        return self.recall.search("ada", RecallQuery(question, top_k, **{"as_of": TODAY, **fields}))

    def close(self) -> None:
        self.index.close()
        self.ledger.close()


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    house = House(tmp_path)
    yield house
    house.close()


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """Three thousand entries of the 1660s that speak of springs, and a few of last spring that don't."""
    house, chance = House(tmp_path_factory.mktemp("large")), random.Random(1)
    words = "king wine supper river coach church dined abroad office last spring did".split()  # noqa: SIM905
    older = [
        EntryDraft(text=" ".join(chance.choices(words, k=25)) + f" {n}.", date=f"166{n % 10}-0{3 + n % 3}-07")
        for n in range(OLDER)
    ]
    newer = [
        EntryDraft(text="Pulled the fence down.", date="2026-03-09"),
        EntryDraft(text="Whitewashed a boat.", date="2026-04-21"),
        EntryDraft(text="Rain at the ferry, Fergal was ill.", date="2026-05-30"),
        EntryDraft(text="Read two chapters.", date="2026-09-01"),
    ]
    house.take_in(*older, *newer)
    yield house
    house.close()


class TestInALargeDiary:
    def test_a_question_of_days_alone_recalls_those_days_first(self, large: House):
        assert sorted(days(large.search(SPRING))[:3]) == ["2026-03-09", "2026-04-21", "2026-05-30"]

    @pytest.mark.parametrize("top_k", [1, 2, 3, 6, 20])
    def test_half_of_the_places_are_for_the_days_that_are_named(self, large: House, top_k: int):
        """The question asks of much that only the older entries speak of."""
        question = (
            "Who dined abroad at supper with wine, lay by the river, or went to church by coach last spring?"
        )
        hits = large.search(question, top_k)
        assert len(hits) == top_k
        of_days = [hit for hit in hits if "2026-03-01" <= hit.entry.day <= "2026-06-07"]
        assert len(of_days) >= min(3, top_k // 2)
        assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)

    def test_days_without_entries_take_no_places(self, large: House):
        assert len(large.search("What did you do in March 1850?")) == 6


class TestRowsWithoutADate:
    def test_they_do_not_answer_what_happened_on_the_day_of_the_import(self, house: House):
        today = datetime.now(UTC).date()
        undated = house.take_in(*(EntryDraft(text=f"Undated {n}.") for n in range(300)))
        assert {(entry.day, entry.date_assumed) for entry in undated} == {(today.isoformat(), True)}
        house.take_in(EntryDraft(text="Bread failed.", date=today.isoformat()))
        best, *rest = house.search("What happened today?", as_of=today, recency=30)
        assert (best.entry.text, best.entry.date_assumed) == ("Bread failed.", False)
        assert all(hit.score_parts["dates"] == hit.score_parts["recency"] == 0 for hit in rest)

    def test_a_date_that_is_given_later_counts(self, house: House):
        (entry,) = house.take_in(EntryDraft(text="Undated."))
        edited = house.ledger.for_owner("ada").edit(entry.id, EntryDraft(text="Dated.", date="2026-11-26"))
        assert not edited.date_assumed
        before, now = reversed(house.ledger.for_owner("ada").history(entry.id))
        assert (before.date_assumed, now.date_assumed) == (True, False)

    def test_an_edit_without_a_date_leaves_it_assumed(self, house: House):
        (entry,) = house.take_in(EntryDraft(text="Undated."))
        assert house.ledger.for_owner("ada").edit(entry.id, EntryDraft(text="Still undated.")).date_assumed

    def test_what_is_written_without_a_date_is_of_the_day_of_writing(self, house: House):
        assert not house.ledger.for_owner("ada").add(EntryDraft(text="Today.")).date_assumed


class TestAsOf:
    """The day that counts as today: nothing later is recalled."""

    @pytest.fixture
    def diary(self, house: House) -> House:
        house.take_in(*(EntryDraft(text="The heron.", date=f"202{n}-03-05") for n in range(3)))
        return house

    def test_nothing_later_is_recalled(self, diary: House):
        hits = diary.search("heron", as_of=Date(2021, 3, 5))
        assert max(day for hit in hits for day in (hit.entry.day,)) == "2021-03-05"
        assert {hit.entry.day for hit in diary.search("heron", as_of=Date(2021, 3, 4))} == {"2020-03-05"}

    def test_the_days_that_a_question_names_are_counted_from_it(self, diary: House):
        (best, *_) = diary.search("What of the heron in March?", as_of=Date(2021, 6, 1))
        assert best.entry.day == "2021-03-05"

    def test_the_earlier_of_it_and_the_last_day_that_is_searched_counts(self, diary: House):
        hits = diary.search("heron", last_day="2020-12-31", as_of=Date(2021, 6, 1))
        assert {hit.entry.day for hit in hits} == {"2020-03-05"}

    def test_without_it_there_is_no_end(self, diary: House):
        assert diary.search("heron", as_of=None)[0].entry.day == "2022-03-05"


class TestTimeZones:
    """regressions/own_timezone: at 18:30 UTC it is the next morning in Auckland."""

    EVENING = datetime(2026, 11, 27, 18, 30, tzinfo=UTC)

    def in_(self, zone: str, moment: datetime = EVENING) -> LocalTime:
        return LocalTime(ZoneInfo(zone), lambda: moment)

    @pytest.mark.parametrize(
        ("zone", "day"),
        [
            ("Pacific/Auckland", "2026-11-28"),
            ("UTC", "2026-11-27"),
            ("America/Los_Angeles", "2026-11-27"),
            ("Pacific/Kiritimati", "2026-11-28"),
            ("Pacific/Pago_Pago", "2026-11-27"),
        ],
    )
    def test_what_is_written_or_imported_without_a_date_gets_the_local_day(
        self, house: House, zone: str, day: str
    ):
        local = self.in_(zone)
        assert house.ledger.for_owner("ada", local).add(EntryDraft(text="Written.")).date == day
        (imported,) = house.take_in(EntryDraft(text="Imported."), local=local)
        assert imported.date == day

    def test_yesterday_is_the_local_one(self, house: House):
        house.take_in(*(EntryDraft(text=f"Number {day}.", date=f"2026-11-{day}") for day in (25, 26, 27, 28)))
        for zone, day in (("Pacific/Auckland", "2026-11-27"), ("UTC", "2026-11-26")):
            hits = house.search("What did you do yesterday?", 1, as_of=None, local=self.in_(zone))
            assert days(hits) == [day]

    @pytest.mark.parametrize(
        ("moment", "zone", "day"),
        [
            ("2019-04-07T18:30:00Z", "Pacific/Auckland", "2019-04-08"),
            ("2019-04-07T18:30:00+00:00", "Pacific/Auckland", "2019-04-08"),
            ("2019-04-07T23:30:00-07:00", "Pacific/Auckland", "2019-04-07"),
            ("2019-04-07T23:30:00", "Pacific/Auckland", "2019-04-07"),
            ("2019-04-07", "Pacific/Auckland", "2019-04-07"),
            ("2019-04-07T02:30:00Z", "America/New_York", "2019-04-06"),
            # the nights on which Berlin's clocks are put forward and back
            ("2026-03-28T23:30:00Z", "Europe/Berlin", "2026-03-29"),
            ("2026-03-29T22:30:00Z", "Europe/Berlin", "2026-03-30"),
            ("2026-10-25T22:30:00Z", "Europe/Berlin", "2026-10-25"),
            ("2026-10-25T23:30:00Z", "Europe/Berlin", "2026-10-26"),
        ],
    )
    def test_a_moment_in_utc_is_of_the_local_day_and_any_other_of_the_day_that_is_written(
        self, house: House, moment: str, zone: str, day: str
    ):
        entry = house.ledger.for_owner("ada", self.in_(zone)).add(EntryDraft(text="A moment.", date=moment))
        assert (entry.date, entry.first_day, entry.last_day) == (moment, day, day)

    @pytest.mark.parametrize("moment", ["1000-01-01T00:30:00Z", "9999-12-31T23:30:00Z"])
    def test_the_ends_of_the_calendar_break_nothing(self, moment: str):
        for zone in ("Pacific/Kiritimati", "Pacific/Pago_Pago"):
            assert self.in_(zone).wall(datetime.fromisoformat(moment)).tzinfo is None
