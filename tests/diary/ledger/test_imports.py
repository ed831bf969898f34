"""Many entries from one file, on SQLite and PostgreSQL: what is new, what was there, and how it stands.

.venv/bin/python -m pytest tests/diary/ledger/test_imports.py
"""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from services.diary.entry import EntryDraft, IndexState, Source
from services.diary.ledger.imports import ID_EXISTS, TEXT_EXISTS, BatchResult
from services.diary.ledger.ledger import Ledger
from services.diary.ledger.owner_ledger import OwnerLedger
from services.diary.ledger.paging import EntryFilter

ROOT = Path(__file__).parents[3]
ALL = EntryFilter()
numbers = count()
drafts = st.lists(
    st.builds(
        EntryDraft,
        text=st.sampled_from(["a", "b", "\x00c", "é"]),
        date=st.sampled_from([None, "1998", "1998-01-01"]),
        mood=st.sampled_from([None, "calm"]),
        id=st.sampled_from([None, None, "e", "f"]),
    ),
    max_size=12,
)


@pytest.fixture
def ledger_url(either_ledger_url: str) -> str:
    return either_ledger_url


@pytest.fixture
def diary(ledger: Ledger) -> OwnerLedger:
    return ledger.for_owner("ada")


def draft(words: str = "a", **fields: object) -> EntryDraft:
    return EntryDraft.model_validate({"text": words, **fields})


def take_in(diary: OwnerLedger, *rows: EntryDraft) -> BatchResult:
    return diary.add_rows(diary.begin_import("a.jsonl"), rows)


class TestWhatIsTaken:
    def test_rows_become_entries_of_their_import_in_the_files_order(self, diary: OwnerLedger):
        imported = diary.begin_import("a.jsonl")
        rows = [draft(str(number), date="1998", mood="calm", tags=["x"]) for number in range(1000)]
        assert (
            diary.add_rows(imported, rows[:500])
            == diary.add_rows(imported, rows[500:])
            == BatchResult(500, 0, {})
        )
        entries = list(diary.iter_entries(ALL))
        assert [entry.text for entry in entries] == [row.text for row in rows]
        assert {(entry.source, entry.import_id, entry.version) for entry in entries} == {
            (Source.IMPORT, imported, 1)
        }
        assert (entries[0].date, entries[0].mood, entries[0].tags) == ("1998", "calm", ("x",))

    def test_the_same_file_again_adds_nothing(self, diary: OwnerLedger):
        rows = [draft("a", date="1998"), draft("a"), draft("b", id="e"), draft("\x00", date="1998")]
        assert take_in(diary, *rows) == BatchResult(4, 0, {})
        assert take_in(diary, *rows) == BatchResult(0, 4, {})
        assert diary.count(ALL) == 4

    def test_a_row_twice_in_one_file_is_one_entry(self, diary: OwnerLedger):
        assert take_in(diary, draft("a", date="1998"), draft("a", date="1998")) == BatchResult(1, 1, {})
        assert take_in(diary, draft("b", id="e"), draft("b", id="e")) == BatchResult(1, 1, {})

    def test_a_row_without_id_that_was_written_by_hand_is_there_already(self, diary: OwnerLedger):
        """So an export without ids can be imported again."""
        diary.add(draft("a", date="1998", mood="calm"))
        assert take_in(diary, draft("a", date="1998", mood="calm")) == BatchResult(0, 1, {})
        assert take_in(diary, draft("a", date="1999", mood="calm")) == BatchResult(1, 0, {})

    def test_two_ids_are_two_entries_even_of_the_same_words(self, diary: OwnerLedger):
        assert take_in(
            diary, draft("a", date="1998", id="e"), draft("a", date="1998", id="f")
        ) == BatchResult(2, 0, {})

    def test_what_can_not_be_taken_is_told_by_its_place(self, diary: OwnerLedger):
        diary.add(draft("a", date="1998", id="e"))
        rows = [draft("b"), draft("other", id="e"), draft("a", date="1998", mood="low"), draft("c")]
        assert take_in(diary, *rows) == BatchResult(2, 0, {1: ID_EXISTS, 2: TEXT_EXISTS})
        assert diary.get("e").text == "a"

    def test_what_an_entry_said_before_it_was_edited_is_there_already(self, diary: OwnerLedger):
        """An old backup undoes no edit."""
        diary.add(draft("a", date="1998", id="e"))
        edited = diary.edit("e", draft("b"))
        assert take_in(diary, draft("a", date="1998", id="e")) == BatchResult(0, 1, {})
        assert diary.get("e") == edited

    def test_a_backup_brings_back_what_was_removed(self, diary: OwnerLedger):
        rows = [draft("a", date="1998", id="e"), draft("b", date="1998")]
        take_in(diary, *rows)
        diary.remove_where(ALL)
        again = diary.begin_import("again.jsonl")
        assert diary.add_rows(again, rows) == BatchResult(2, 0, {}, restored=2)
        assert [(e.text, e.version, e.import_id) for e in diary.iter_entries(ALL)] == [
            ("a", 3, again),
            ("b", 3, again),
        ]

    def test_another_owners_rows_are_not_there_already(self, ledger: Ledger, diary: OwnerLedger):
        rows = [draft("a", date="1998"), draft("b", id="e")]
        take_in(diary, *rows)
        assert take_in(ledger.for_owner("bríd"), *rows) == BatchResult(2, 0, {})

    @settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)
    @given(drafts)
    def test_every_row_is_accepted_or_there_already_or_refused(self, ledger: Ledger, rows: list[EntryDraft]):
        diary = ledger.for_owner(f"somebody new {next(numbers)}")
        added = take_in(diary, *rows)
        assert added.accepted + added.duplicates + len(added.rejections) == len(rows)
        assert diary.count(ALL) == added.accepted
        again = take_in(diary, *rows)
        assert again.accepted == 0
        assert (
            again.rejections.items() <= added.rejections.items()
        )  # fewer: another row has said it meanwhile
        contents = {(entry.text, entry.mood) for entry in diary.iter_entries(ALL)}
        accepted = [row for position, row in enumerate(rows) if position not in added.rejections]
        assert contents >= {(row.text, row.mood) for row in accepted}


class TestReports:
    def test_an_import_tells_how_it_stands(self, ledger: Ledger, diary: OwnerLedger):
        imported = diary.begin_import("Pepys \x00.md")
        diary.add_rows(imported, [draft("a"), draft("b"), draft("a"), draft("c")])
        import_ids = diary.import_report(imported)
        assert (import_ids.id, import_ids.name, import_ids.ended_at) == (imported, "Pepys \x00.md", None)
        assert (import_ids.accepted, import_ids.duplicates, import_ids.rejected) == (3, 1, [])
        assert (import_ids.queued, import_ids.indexed, import_ids.failed) == (3, 0, 0)
        first, second, _ = ledger.due_of_import("ada", imported, 10)
        ledger.mark_indexed([first])
        ledger.mark_failed(second, "no")
        diary.end_import(imported, [{"line": 3, "reason": "no date"}])
        ended = diary.import_report(imported)
        assert ended.rejected == [{"line": 3, "reason": "no date"}]
        assert (ended.queued, ended.indexed, ended.failed) == (1, 1, 1)
        assert ended.ended_at is not None
        assert ended.ended_at >= ended.created_at

    def test_edits_and_removals_are_still_of_the_import(self, ledger: Ledger, diary: OwnerLedger):
        imported = diary.begin_import("a.md")
        diary.add_rows(imported, [draft("a", id="e"), draft("b", id="f")])
        ledger.mark_indexed(ledger.due(10))
        diary.edit("e", draft("c"))
        diary.remove("f")
        assert diary.import_report(imported).queued == 2
        assert {entry.id for entry in ledger.due_of_import("ada", imported, 10)} == {"e", "f"}


class TestManyAtOnce:
    def test_the_same_file_taken_in_by_four_at_once_is_there_once(self, diary: OwnerLedger):
        rows = [
            draft(str(number), date="1998", id=f"e{number}" if number % 2 else None) for number in range(200)
        ]

        def take(turn: int) -> BatchResult:
            return take_in(diary, *(rows if turn % 2 else reversed(rows)))

        with ThreadPoolExecutor(4) as pool:
            added = list(pool.map(take, range(4)))
        assert sum(result.accepted for result in added) == 200
        assert sum(result.duplicates for result in added) == 600
        assert sorted(int(entry.text) for entry in diary.iter_entries(ALL)) == list(range(200))

    def test_an_import_that_is_killed_is_there_by_whole_batches_and_can_be_done_again(
        self, ledger: Ledger, ledger_url: str
    ):
        script = (
            "import os, sys\n"
            "from services.diary.entry import EntryDraft\n"
            "from services.diary.ledger.ledger import Ledger\n"
            "ledger = Ledger(sys.argv[1])\n"
            "hers = ledger.for_owner('ada')\n"
            "imported = hers.begin_import('a')\n"
            "rows = [EntryDraft(text=str(n), date='1998') for n in range(200)]\n"
            "hers.add_rows(imported, rows[:100])\n"
            "with ledger.transaction() as connection:\n"
            "    from services.diary.ledger import imports\n"
            "    imports.add(connection, 'ada', imported, rows[100:])\n"
            "    os.kill(os.getpid(), 9)\n"
        )
        done = subprocess.run([sys.executable, "-c", script, ledger_url], cwd=ROOT, check=False)
        assert done.returncode == -9
        diary = ledger.for_owner("ada")
        assert diary.count(ALL) == 100
        assert take_in(diary, *(draft(str(number), date="1998") for number in range(200))) == BatchResult(
            100, 100, {}
        )

    def test_postgresql_has_counted_the_table_after_the_first_rows(self, ledger: Ledger, diary: OwnerLedger):
        """Otherwise it would read all entries for every batch that follows."""
        take_in(diary, *(draft(str(number)) for number in range(100)))
        with ledger.reading() as connection:
            if connection.dialect.name == "postgresql":
                statements = text("SELECT reltuples FROM pg_class WHERE relname = 'entries'")
                assert connection.scalar(statements) == 100
        assert diary.with_state(IndexState.QUEUED, 1).entries
