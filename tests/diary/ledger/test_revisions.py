"""How an entry changes, on SQLite and PostgreSQL: replays, conflicts, edits, removal.

.venv/bin/python -m pytest tests/diary/ledger/test_revisions.py
"""

from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import select

from services.diary.entry import Entry, EntryDraft, IndexState
from services.diary.ledger.ledger import Ledger
from services.diary.ledger.owner_ledger import OwnerLedger
from services.diary.ledger.paging import EntryFilter
from services.diary.ledger.tables import conflicts, metadata, reflections, utc_timestamp
from services.errors import EntryConflict, EntryRejected, NotFound

ALL = EntryFilter()


@pytest.fixture
def ledger_url(either_ledger_url: str) -> str:
    return either_ledger_url


@pytest.fixture
def diary(ledger: Ledger) -> OwnerLedger:
    return ledger.for_owner("ada")


def draft(text: str = "a", **fields: object) -> EntryDraft:
    return EntryDraft.model_validate({"text": text, **fields})


def conflict(call: Callable[[], object]) -> str | None:
    with pytest.raises(EntryConflict) as raised:
        call()
    return raised.value.param


def texts(entries: list[Entry]) -> list[str]:
    return [entry.text for entry in entries]


class TestReplaysAndConflicts:
    @pytest.mark.parametrize("key", [None, "key"])
    def test_the_same_id_with_the_same_draft_is_the_same_entry(self, diary: OwnerLedger, key: str | None):
        first = diary.add(draft(id="e"), key)
        assert diary.add(draft(id="e"), key) == first

    def test_the_same_key_with_the_same_draft_is_the_same_entry(self, diary: OwnerLedger):
        first = diary.add(draft(), "key")
        assert diary.add(draft(), "key") == first
        assert diary.count(ALL) == 1

    def test_the_same_id_with_the_same_draft_is_the_same_entry_under_another_key_too(
        self, diary: OwnerLedger
    ):
        first = diary.add(draft(id="e"))
        assert diary.add(draft(id="e"), "key") == first
        assert diary.add(draft(id="e"), "key") == first

    def test_the_same_id_with_another_draft_is_a_conflict_over_the_id(self, diary: OwnerLedger):
        diary.add(draft("a", id="e"))
        assert conflict(lambda: diary.add(draft("b", id="e"))) == "id"
        assert conflict(lambda: diary.add(draft("a", id="e", mood="low"))) == "id"
        assert conflict(lambda: diary.add(draft("a", id="e", tags=["x"]))) == "id"
        assert conflict(lambda: diary.add(draft("a", id="e", date="1998"))) == "id"
        assert conflict(lambda: diary.add(draft("b", id="e"), "new key")) == "id"
        assert diary.get("e").text == "a"

    def test_a_key_whose_request_was_refused_is_free_again(self, diary: OwnerLedger):
        diary.add(draft("a", id="e"))
        assert conflict(lambda: diary.add(draft("b", id="e"), "key")) == "id"
        assert diary.add(draft("b", id="f"), "key").id == "f"

    def test_the_same_key_with_another_draft_is_a_conflict_over_the_key(self, diary: OwnerLedger):
        diary.add(draft("a"), "key")
        assert conflict(lambda: diary.add(draft("b"), "key")) == "Idempotency-Key"
        assert texts(diary.page(ALL, 10).entries) == ["a"]

    def test_a_new_id_with_an_old_key_is_a_conflict_over_the_key(self, diary: OwnerLedger):
        diary.add(draft(id="e"), "key")
        assert conflict(lambda: diary.add(draft(id="f"), "key")) == "Idempotency-Key"
        with pytest.raises(NotFound):
            diary.get("f")

    def test_an_empty_key_is_no_key(self, diary: OwnerLedger):
        """A header that a client sends without a value."""
        diary.add(draft("a"), "")
        diary.add(draft("b"), "")
        assert diary.count(ALL) == 2

    def test_a_key_answers_as_it_did_however_the_entry_has_changed_since(self, diary: OwnerLedger):
        first = diary.add(draft("a"), "key")
        diary.edit(first.id, draft("b"))
        diary.remove(first.id)
        replayed = diary.add(draft("a"), "key")
        assert (replayed.id, replayed.version, replayed.text) == (first.id, 1, "a")
        assert diary.count(ALL) == 0

    def test_a_request_that_is_sent_again_late_does_not_undo_an_edit(self, diary: OwnerLedger):
        diary.add(draft("a", id="e"))
        edited = diary.edit("e", draft("b"))
        assert diary.add(draft("a", id="e")) == edited


class TestEdits:
    def test_an_edit_is_the_next_version_and_the_past_stays(self, diary: OwnerLedger):
        first = diary.add(draft("a", date="spring 1998", mood="calm", tags=["x"], id="e"))
        second = diary.edit("e", draft("b", date="1999-02-03", tags=["y"]))
        assert (second.version, second.text, second.date) == (2, "b", "1999-02-03")
        assert (second.first_day, second.mood, second.tags) == ("1999-02-03", None, ("y",))
        assert second.state == IndexState.QUEUED
        assert diary.get("e") == second
        assert diary.history("e") == [second, first]
        assert diary.page(EntryFilter(text="a"), 10).entries == []
        assert diary.page(EntryFilter(tag="x"), 10).entries == []
        assert diary.page(EntryFilter(last_day="1998-12-31"), 10).entries == []

    def test_an_edit_without_a_date_leaves_it(self, diary: OwnerLedger):
        diary.add(draft("a", date="spring 1998", id="e"))
        edited = diary.edit("e", draft("b"))
        assert (edited.date, edited.first_day, edited.last_day) == ("spring 1998", "1998-03-01", "1998-05-31")

    @pytest.mark.parametrize("date", [None, "1998"])
    def test_an_edit_that_changes_nothing_is_no_version(self, diary: OwnerLedger, date: str | None):
        entry = diary.add(draft("a", date="1998", mood="calm", tags=["x"], id="e"))
        assert diary.edit("e", draft("a", date=date, mood="calm", tags=["x"], id="e")) == entry
        assert diary.history("e") == [entry]

    def test_an_edit_of_another_version_is_a_conflict(self, diary: OwnerLedger):
        diary.add(draft("a", id="e"))
        diary.edit("e", draft("b"), if_version=1)
        assert conflict(lambda: diary.edit("e", draft("c"), if_version=1)) == "if_version"
        assert conflict(lambda: diary.edit("e", draft("b"), if_version=3)) == "if_version"
        assert diary.get("e").text == "b"

    def test_an_entry_keeps_its_id(self, diary: OwnerLedger):
        diary.add(draft("a", id="e"))
        with pytest.raises(EntryRejected) as raised:
            diary.edit("e", draft("b", id="f"))
        assert raised.value.param == "id"
        assert diary.edit("e", draft("b", id="e")).version == 2

    def test_a_removed_entry_cannot_be_edited(self, diary: OwnerLedger):
        diary.add(draft("a", id="e"))
        diary.remove("e")
        with pytest.raises(NotFound):
            diary.edit("e", draft("b"))


class TestRemoval:
    def test_a_removed_entry_is_gone_and_its_tombstone_waits_for_the_index(self, ledger: Ledger):
        diary = ledger.for_owner("ada")
        first = diary.add(draft("a", tags=["x"], id="e"))
        ledger.mark_indexed([first])
        tombstone = diary.remove("e")
        assert (tombstone.version, tombstone.removed, tombstone.text) == (2, True, "")
        assert ledger.due(10) == [tombstone]
        with pytest.raises(NotFound):
            diary.get("e")
        assert diary.get_many(["e"]) == {}
        assert diary.page(ALL, 10).entries == list(diary.iter_entries(ALL)) == []
        assert (diary.count(ALL), diary.tags()) == (0, {})
        now, past = diary.history("e")
        assert (now, past.text, past.tags) == (tombstone, "a", ("x",))

    @pytest.mark.parametrize("purge", [True, False])
    def test_removing_twice_is_removing_once(self, diary: OwnerLedger, purge: bool):
        diary.add(draft(id="e"))
        assert diary.remove("e", purge) == diary.remove("e", purge)
        assert len(diary.history("e")) == 1 + (not purge)

    def test_a_purged_entry_has_left_nothing_in_any_table(self, ledger: Ledger):
        diary = ledger.for_owner("ada")
        secret = "Lighthouse"
        diary.add(draft(secret, date="1998", mood=secret, tags=[secret], id="e"), origin={"turns": secret})
        diary.edit("e", draft(secret + "!", mood=secret))
        note_of_it(ledger, "ada", secret)
        note_of_it(ledger, "bríd", "hers")
        tombstone = diary.remove("e", purge=True)
        assert diary.history("e") == [tombstone]
        assert tombstone.date == tombstone.written_at[:10]
        with ledger.reading() as connection:
            entries = [
                str(row) for table in metadata.sorted_tables for row in connection.execute(select(table))
            ]
        assert not [row for row in entries if secret.casefold() in row.casefold() or "1998" in row]
        assert sum("hers" in row for row in entries) == 2

    def test_what_was_removed_can_be_purged_later(self, diary: OwnerLedger):
        diary.add(draft("a", id="e"))
        diary.remove("e")
        purged = diary.remove("e", purge=True)
        assert purged.version == 2
        assert diary.history("e") == [purged]

    def test_the_same_id_brings_a_removed_entry_back(self, diary: OwnerLedger):
        diary.add(draft("a", id="e"))
        diary.remove("e")
        back = diary.add(draft("b", id="e"), "key")
        assert (back.version, back.text, back.removed, back.state) == (3, "b", False, IndexState.QUEUED)
        assert diary.add(draft("b", id="e"), "key") == back
        assert [entry.removed for entry in diary.history("e")] == [False, True, False]

    def test_all_that_a_filter_picks_is_removed_and_nothing_else(self, ledger: Ledger):
        diary, others = ledger.for_owner("ada"), ledger.for_owner("bríd")
        imported = diary.begin_import("a.jsonl")
        diary.add_rows(imported, [draft(str(number), tags=["old"]) for number in range(1203)])
        unrelated, not_hers = diary.add(draft("kept")), others.add(draft("kept", tags=["old"]))
        assert diary.remove_where(EntryFilter(tag="old")) == 1203
        assert diary.remove_where(EntryFilter(tag="old")) == 0
        assert list(diary.iter_entries(ALL)) == [unrelated]
        assert list(others.iter_entries(ALL)) == [not_hers]
        tombstones = [entry for entry in ledger.iter_current() if entry.removed]
        assert len(tombstones) == 1203
        assert {(entry.version, entry.text, entry.state) for entry in tombstones} == {
            (2, "", IndexState.QUEUED)
        }
        assert {diary.history(entry.id)[1].tags for entry in tombstones[:3]} == {("old",)}

    def test_nothing_of_what_was_purged_is_left_in_sqlites_files(self, tmp_path: Path):
        with Ledger(f"sqlite:///{tmp_path}/l.sqlite3") as ledger:
            ledger.for_owner("ada").add(draft("Lighthouse " * 2000, id="e"))
            assert any(b"Lighthouse" in file.read_bytes() for file in tmp_path.iterdir())
            ledger.for_owner("ada").edit("e", draft("Lighthouse keeper"))
            ledger.for_owner("ada").remove("e", purge=True)
            assert not any(b"ighthouse" in file.read_bytes() for file in tmp_path.iterdir())


def note_of_it(ledger: Ledger, owner: str, text: str) -> None:
    """What other parts of the diary keep about the entry `e`."""
    pair = {
        "owner": owner,
        "a_version": 1,
        "b_version": 1,
        "verdict": "contradicts",
        "judged_at": utc_timestamp(),
    }
    reflection = {"owner": owner, "id": "r", "entry_id": "e", "date": "2026-01-02", "state": "done"}
    reflection |= {
        "attempts": 0,
        "retry_at": "",
        "created_at": utc_timestamp(),
        "request": [text],
        "turns": [text],
    }
    with ledger.transaction() as connection:
        connection.execute(conflicts.insert().values(**pair, a_id="e", b_id="f", why=text))
        connection.execute(reflections.insert().values(reflection))
