"""Pages, filters and tags of one owner's diary, on SQLite and PostgreSQL.

.venv/bin/python -m pytest tests/diary/ledger/test_paging.py
"""

from itertools import count
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from sqlalchemy import event

from services.diary.entry import Entry, EntryDraft, IndexState, Source
from services.diary.ledger.ledger import Ledger
from services.diary.ledger.owner_ledger import OwnerLedger
from services.diary.ledger.paging import EntryFilter
from services.errors import FieldError

ALL = EntryFilter()
numbers = count()
# The ledger is one object for all examples of a property: they only add to it.
shared = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)


@pytest.fixture
def ledger_url(either_ledger_url: str) -> str:
    return either_ledger_url


@pytest.fixture
def diary(ledger: Ledger) -> OwnerLedger:
    return ledger.for_owner("ada")


def draft(text: str = "a", **fields: object) -> EntryDraft:
    return EntryDraft.model_validate({"text": text, **fields})


def texts(entries: list[Entry]) -> list[str]:
    return [entry.text for entry in entries]


class TestPages:
    def test_the_newest_day_comes_first_and_within_it_the_latest_hour(self, diary: OwnerLedger):
        for date in (
            "2026-01-02",
            "2026-01-03T20:00",
            "2026-01-03T08:00:00+00:00",
            "spring 2026",
            "2026-01-03",
        ):
            diary.add(draft(date, date=date))
        order = ["spring 2026", "2026-01-03T20:00", "2026-01-03T08:00:00+00:00", "2026-01-03", "2026-01-02"]
        assert texts(diary.page(ALL, 10).entries) == order
        assert texts(list(diary.iter_entries(ALL))) == order[::-1]

    @pytest.mark.parametrize("limit", [1, 2, 3, 7, 8, 100])
    def test_pages_join_to_the_whole(self, diary: OwnerLedger, limit: int):
        for number in range(7):
            diary.add(draft(str(number), date=("1998", "1998-01-01", "1997-12-31T10:00")[number % 3]))
        whole = diary.page(ALL, 100)
        assert whole.next_cursor is None
        entries, cursor = [], None
        while True:
            page = diary.page(ALL, limit, cursor)
            assert 0 < len(page.entries) <= limit
            entries += page.entries
            if (cursor := page.next_cursor) is None:
                break
        assert entries == whole.entries == [*diary.iter_entries(ALL)][::-1]

    def test_what_is_added_removed_and_edited_meanwhile_moves_no_page(self, diary: OwnerLedger):
        for number in range(10):
            diary.add(draft(str(number), date="1998", id=str(number)))
        first = diary.page(ALL, 4)
        diary.add(draft("newer", date="1999"))
        diary.add(draft("of the same day", date="1998"))
        diary.add(draft("older", date="1997"))
        diary.remove(first.entries[-1].id)
        diary.edit("2", draft("two"))
        second = diary.page(ALL, 100, first.next_cursor)
        assert texts(first.entries) == ["9", "8", "7", "6"]
        assert texts(second.entries) == ["5", "4", "3", "two", "1", "0", "older"]

    @pytest.mark.parametrize(
        "cursor",
        [
            "",
            "?",
            "AAAA",
            "bm8",
            "W10",
            "WzEsMiwzXQ",
            "eyJhIjoxfQ",
            "WyJcdWQ4MDAiLCJhIiwiYiJd",
            "é",
            "W" * 9999,
        ],
    )
    def test_a_cursor_that_is_none_is_refused_by_name(self, diary: OwnerLedger, cursor: str):
        with pytest.raises(FieldError, match="is no cursor: take next_cursor of the page before") as raised:
            diary.page(ALL, 10, cursor)
        assert raised.value.param == "cursor"

    def test_a_cursor_with_a_nul_in_it_breaks_nothing(self, diary: OwnerLedger):
        diary.add(draft())
        assert len(diary.page(ALL, 10, "WyJ-XHUwMDAwIiwiYSIsImIiXQ").entries) == 1  # ["~\0", "a", "b"]

    def test_a_cursor_of_another_owner_shows_nothing_of_theirs(self, ledger: Ledger):
        for _ in range(4):
            ledger.for_owner("ada").add(draft("hers", date="1998"))
            ledger.for_owner("bríd").add(draft("not hers", date="1998"))
        cursor = ledger.for_owner("bríd").page(ALL, 1).next_cursor
        assert set(texts(ledger.for_owner("ada").page(ALL, 10, cursor).entries)) <= {"hers"}

    def test_what_stands_in_a_state_is_paged_too(self, ledger: Ledger):
        diary = ledger.for_owner("ada")
        added = [diary.add(draft(str(number))) for number in range(5)]
        ledger.mark_failed(added[3], "no")
        removed = diary.remove(added[0].id)
        first = diary.with_state(IndexState.QUEUED, 2)
        rest = diary.with_state(IndexState.QUEUED, 10, first.next_cursor)
        assert first.entries == [removed, added[4]]
        assert (rest.entries, rest.next_cursor) == ([added[2], added[1]], None)

    def test_sqlite_pages_by_its_index_however_many_entries_there_are(self, tmp_path: Path):
        """So the hundredth page costs what the first does. PostgreSQL chooses by what it has counted."""
        searched: list[tuple[str, tuple[object, ...]]] = []
        with Ledger(f"sqlite:///{tmp_path}/l.sqlite3") as ledger:
            for number in range(3):
                ledger.for_owner("ada").add(draft(str(number)))
            cursor = ledger.for_owner("ada").page(ALL, 1).next_cursor
            with ledger.reading() as connection:
                event.listen(
                    connection.engine, "before_cursor_execute", lambda *of: searched.append((of[2], of[3]))
                )
            ledger.for_owner("ada").page(ALL, 1, cursor)
            statement, values = searched[-1]
            with ledger.reading() as connection:
                plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", values).all()
        index = "entries_by_moment (owner=? AND removed=? AND (moment,created_at,id)<(?,?,?))"
        assert [row.detail for row in plan] == [f"SEARCH entries USING INDEX {index}"]


class TestFilters:
    def test_days_pick_all_that_touches_them(self, diary: OwnerLedger):
        for date in ("1997-12-31", "1998", "spring 1998", "1998-04-01T23:00", "1998-04-02", "1999-01-01"):
            diary.add(draft(date, date=date))

        def on(first: str, last: str) -> list[str]:
            picked = EntryFilter(first_day=first, last_day=last)
            assert diary.count(picked) == len(diary.page(picked, 10).entries)
            return texts(list(diary.iter_entries(picked)))

        assert on("1998-04-01", "1998-04-01") == ["1998", "spring 1998", "1998-04-01T23:00"]
        assert on("1998-06-01", "1998-12-31") == ["1998"]
        assert on("1998-04-02", "") == ["1998", "spring 1998", "1998-04-02", "1999-01-01"]
        assert on("", "1998-02-28") == ["1997-12-31", "1998"]
        assert on("2000-01-01", "1997-01-01") == []

    @pytest.mark.parametrize(
        ("text", "phrase"),
        [
            ("The DOG in the rain", "dog IN"),
            ("Straße", "STRASSE"),
            ("Ötzi", "o\u0308tzi"),
            ("a\x00b", "\x00B"),
            ("a\x1ab", "\x1aB"),
            ("100 % of_it", "% OF_"),
            ("a\\b", "\\"),
            ("ΣΊΣΥΦΟΣ", "σίσυφος"),
        ],
    )
    def test_a_phrase_is_found_whatever_its_case_and_spelling(
        self, diary: OwnerLedger, text: str, phrase: str
    ):
        entry = diary.add(draft(text))
        diary.add(draft("another dog"))
        assert diary.page(EntryFilter(text=phrase), 10).entries == [entry]

    @pytest.mark.parametrize("phrase", ["%", "_", "dog.*", "rain dog", "'", "\x00", "\x1a", "0"])
    def test_a_phrase_is_nothing_but_letters(self, diary: OwnerLedger, phrase: str):
        diary.add(draft("dog and rain"))
        assert diary.count(EntryFilter(text=phrase)) == 0

    @shared
    @given(
        tags=st.lists(st.text(min_size=1, max_size=8), max_size=4),
        searched=st.text('",[]\\ \nab', min_size=1, max_size=5),
    )
    @example(tags=["a", "b"], searched=", ")
    @example(tags=['a"b'], searched="b")
    @example(tags=["a\n", '"b"'], searched='"')
    @example(tags=["A"], searched="a")
    def test_a_tag_picks_those_that_carry_it_to_the_letter(
        self, ledger: Ledger, tags: list[str], searched: str
    ):
        diary = ledger.for_owner(f"owner {next(numbers)}")
        entry = diary.add(draft(id="e", tags=tags))
        for tag in [*tags, searched]:
            assert (diary.page(EntryFilter(tag=tag), 10).entries == [entry]) is (tag in tags)

    def test_what_is_picked_is_picked_by_all_that_is_asked(self, diary: OwnerLedger):
        wanted = diary.add(draft("a dog", date="1998", tags=["x"]))
        diary.add(draft("a dog", date="1998"))
        diary.add(draft("a dog", date="1999", tags=["x"]))
        diary.add(draft("a cat", date="1998", tags=["x"]))
        picked = EntryFilter("1998-01-01", "1998-12-31", "dog", "x", Source.WRITTEN)
        assert diary.page(picked, 10).entries == [wanted]

    def test_tags_are_counted_and_in_order(self, diary: OwnerLedger):
        for tags in (["b", "a"], ["b"], [], ["é", "\x00"]):
            diary.add(draft(tags=tags))
        diary.edit(diary.add(draft(tags=["gone"], id="e")).id, draft(tags=["a"]))
        assert list(diary.tags().items()) == [("\x00", 1), ("a", 2), ("b", 2), ("é", 1)]
