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
def ledger_url(either_url: str) -> str:
    return either_url


@pytest.fixture
def hers(ledger: Ledger) -> OwnerLedger:
    return ledger.for_owner("ada")


def draft(text: str = "a", **fields: object) -> EntryDraft:
    return EntryDraft.model_validate({"text": text, **fields})


def conflict(call: Callable[[], object]) -> str | None:
    with pytest.raises(EntryConflict) as raised:
        call()
    return raised.value.param


def texts(told: list[Entry]) -> list[str]:
    return [entry.text for entry in told]


class TestReplaysAndConflicts:
    @pytest.mark.parametrize("key", [None, "key"])
    def test_the_same_id_with_the_same_draft_is_the_same_entry(self, hers: OwnerLedger, key: str | None):
        first = hers.add(draft(id="e"), key)
        assert hers.add(draft(id="e"), key) == first

    def test_the_same_key_with_the_same_draft_is_the_same_entry(self, hers: OwnerLedger):
        first = hers.add(draft(), "key")
        assert hers.add(draft(), "key") == first
        assert hers.count(ALL) == 1

    def test_the_same_id_with_the_same_draft_is_the_same_entry_under_another_key_too(self, hers: OwnerLedger):
        first = hers.add(draft(id="e"))
        assert hers.add(draft(id="e"), "key") == first
        assert hers.add(draft(id="e"), "key") == first

    def test_the_same_id_with_another_draft_is_a_conflict_over_the_id(self, hers: OwnerLedger):
        hers.add(draft("a", id="e"))
        assert conflict(lambda: hers.add(draft("b", id="e"))) == "id"
        assert conflict(lambda: hers.add(draft("a", id="e", mood="low"))) == "id"
        assert conflict(lambda: hers.add(draft("a", id="e", tags=["x"]))) == "id"
        assert conflict(lambda: hers.add(draft("a", id="e", date="1998"))) == "id"
        assert conflict(lambda: hers.add(draft("b", id="e"), "new key")) == "id"
        assert hers.get("e").text == "a"

    def test_a_key_whose_request_was_refused_is_free_again(self, hers: OwnerLedger):
        hers.add(draft("a", id="e"))
        assert conflict(lambda: hers.add(draft("b", id="e"), "key")) == "id"
        assert hers.add(draft("b", id="f"), "key").id == "f"

    def test_the_same_key_with_another_draft_is_a_conflict_over_the_key(self, hers: OwnerLedger):
        hers.add(draft("a"), "key")
        assert conflict(lambda: hers.add(draft("b"), "key")) == "Idempotency-Key"
        assert texts(hers.page(ALL, 10).entries) == ["a"]

    def test_a_new_id_with_an_old_key_is_a_conflict_over_the_key(self, hers: OwnerLedger):
        hers.add(draft(id="e"), "key")
        assert conflict(lambda: hers.add(draft(id="f"), "key")) == "Idempotency-Key"
        with pytest.raises(NotFound):
            hers.get("f")

    def test_an_empty_key_is_no_key(self, hers: OwnerLedger):
        """A header that a client sends without a value."""
        hers.add(draft("a"), "")
        hers.add(draft("b"), "")
        assert hers.count(ALL) == 2

    def test_a_key_answers_as_it_did_however_the_entry_has_changed_since(self, hers: OwnerLedger):
        first = hers.add(draft("a"), "key")
        hers.edit(first.id, draft("b"))
        hers.remove(first.id)
        replayed = hers.add(draft("a"), "key")
        assert (replayed.id, replayed.version, replayed.text) == (first.id, 1, "a")
        assert hers.count(ALL) == 0

    def test_a_request_that_is_sent_again_late_does_not_undo_an_edit(self, hers: OwnerLedger):
        hers.add(draft("a", id="e"))
        edited = hers.edit("e", draft("b"))
        assert hers.add(draft("a", id="e")) == edited


class TestEdits:
    def test_an_edit_is_the_next_version_and_the_past_stays(self, hers: OwnerLedger):
        first = hers.add(draft("a", date="spring 1998", mood="calm", tags=["x"], id="e"))
        second = hers.edit("e", draft("b", date="1999-02-03", tags=["y"]))
        assert (second.version, second.text, second.date) == (2, "b", "1999-02-03")
        assert (second.first_day, second.mood, second.tags) == ("1999-02-03", None, ("y",))
        assert second.state == IndexState.QUEUED
        assert hers.get("e") == second
        assert hers.history("e") == [second, first]
        assert hers.page(EntryFilter(text="a"), 10).entries == []
        assert hers.page(EntryFilter(tag="x"), 10).entries == []
        assert hers.page(EntryFilter(last_day="1998-12-31"), 10).entries == []

    def test_an_edit_without_a_date_leaves_it(self, hers: OwnerLedger):
        hers.add(draft("a", date="spring 1998", id="e"))
        edited = hers.edit("e", draft("b"))
        assert (edited.date, edited.first_day, edited.last_day) == ("spring 1998", "1998-03-01", "1998-05-31")

    @pytest.mark.parametrize("date", [None, "1998"])
    def test_an_edit_that_changes_nothing_is_no_version(self, hers: OwnerLedger, date: str | None):
        entry = hers.add(draft("a", date="1998", mood="calm", tags=["x"], id="e"))
        assert hers.edit("e", draft("a", date=date, mood="calm", tags=["x"], id="e")) == entry
        assert hers.history("e") == [entry]

    def test_an_edit_of_another_version_is_a_conflict(self, hers: OwnerLedger):
        hers.add(draft("a", id="e"))
        hers.edit("e", draft("b"), if_version=1)
        assert conflict(lambda: hers.edit("e", draft("c"), if_version=1)) == "if_version"
        assert conflict(lambda: hers.edit("e", draft("b"), if_version=3)) == "if_version"
        assert hers.get("e").text == "b"

    def test_an_entry_keeps_its_id(self, hers: OwnerLedger):
        hers.add(draft("a", id="e"))
        with pytest.raises(EntryRejected) as raised:
            hers.edit("e", draft("b", id="f"))
        assert raised.value.param == "id"
        assert hers.edit("e", draft("b", id="e")).version == 2

    def test_a_removed_entry_cannot_be_edited(self, hers: OwnerLedger):
        hers.add(draft("a", id="e"))
        hers.remove("e")
        with pytest.raises(NotFound):
            hers.edit("e", draft("b"))


class TestRemoval:
    def test_a_removed_entry_is_gone_and_its_tombstone_waits_for_the_index(self, ledger: Ledger):
        hers = ledger.for_owner("ada")
        first = hers.add(draft("a", tags=["x"], id="e"))
        ledger.mark_indexed([first])
        tombstone = hers.remove("e")
        assert (tombstone.version, tombstone.removed, tombstone.text) == (2, True, "")
        assert ledger.due(10) == [tombstone]
        with pytest.raises(NotFound):
            hers.get("e")
        assert hers.get_many(["e"]) == {}
        assert hers.page(ALL, 10).entries == list(hers.iter_entries(ALL)) == []
        assert (hers.count(ALL), hers.tags()) == (0, {})
        now, past = hers.history("e")
        assert (now, past.text, past.tags) == (tombstone, "a", ("x",))

    @pytest.mark.parametrize("purge", [True, False])
    def test_removing_twice_is_removing_once(self, hers: OwnerLedger, purge: bool):
        hers.add(draft(id="e"))
        assert hers.remove("e", purge) == hers.remove("e", purge)
        assert len(hers.history("e")) == 1 + (not purge)

    def test_a_purged_entry_has_left_nothing_in_any_table(self, ledger: Ledger):
        hers = ledger.for_owner("ada")
        secret = "Lighthouse"
        hers.add(draft(secret, date="1998", mood=secret, tags=[secret], id="e"), origin={"turns": secret})
        hers.edit("e", draft(secret + "!", mood=secret))
        note_of_it(ledger, "ada", secret)
        note_of_it(ledger, "bríd", "hers")
        tombstone = hers.remove("e", purge=True)
        assert hers.history("e") == [tombstone]
        assert tombstone.date == tombstone.written_at[:10]
        with ledger.reading() as connection:
            told = [str(row) for table in metadata.sorted_tables for row in connection.execute(select(table))]
        assert not [row for row in told if secret.casefold() in row.casefold() or "1998" in row]
        assert sum("hers" in row for row in told) == 2

    def test_what_was_removed_can_be_purged_later(self, hers: OwnerLedger):
        hers.add(draft("a", id="e"))
        hers.remove("e")
        purged = hers.remove("e", purge=True)
        assert purged.version == 2
        assert hers.history("e") == [purged]

    def test_the_same_id_brings_a_removed_entry_back(self, hers: OwnerLedger):
        hers.add(draft("a", id="e"))
        hers.remove("e")
        back = hers.add(draft("b", id="e"), "key")
        assert (back.version, back.text, back.removed, back.state) == (3, "b", False, IndexState.QUEUED)
        assert hers.add(draft("b", id="e"), "key") == back
        assert [entry.removed for entry in hers.history("e")] == [False, True, False]

    def test_all_that_a_filter_picks_is_removed_and_nothing_else(self, ledger: Ledger):
        hers, others = ledger.for_owner("ada"), ledger.for_owner("bríd")
        imported = hers.begin_import("a.jsonl")
        hers.add_rows(imported, [draft(str(number), tags=["old"]) for number in range(1203)])
        kept, not_hers = hers.add(draft("kept")), others.add(draft("kept", tags=["old"]))
        assert hers.remove_where(EntryFilter(tag="old")) == 1203
        assert hers.remove_where(EntryFilter(tag="old")) == 0
        assert list(hers.iter_entries(ALL)) == [kept]
        assert list(others.iter_entries(ALL)) == [not_hers]
        tombstones = [entry for entry in ledger.iter_current() if entry.removed]
        assert len(tombstones) == 1203
        assert {(entry.version, entry.text, entry.state) for entry in tombstones} == {
            (2, "", IndexState.QUEUED)
        }
        assert {hers.history(entry.id)[1].tags for entry in tombstones[:3]} == {("old",)}

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
