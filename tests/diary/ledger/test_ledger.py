"""The ledger as the worker sees it, on SQLite and PostgreSQL: what waits for the index, and its disk.

.venv/bin/python -m pytest tests/diary/ledger/test_ledger.py
"""

import subprocess
import sys
import time
import tracemalloc
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import select, update

from services.diary.entry import Entry, EntryDraft, IndexState, Source
from services.diary.ledger.ledger import Ledger, LedgerOptions
from services.diary.ledger.paging import EntryFilter
from services.diary.ledger.tables import conversations, entries, idempotency_keys, utc_timestamp
from services.errors import ConfigError, NotFound

ROOT = Path(__file__).parents[3]


@pytest.fixture
def ledger_url(either_ledger_url: str) -> str:
    return either_ledger_url


def draft(text: str = "a", **fields: object) -> EntryDraft:
    return EntryDraft.model_validate({"text": text, **fields})


def make_due(ledger: Ledger, entry: Entry) -> Entry:
    """Let the time pass until an entry that was put off may be tried again."""
    with ledger.transaction() as connection:
        connection.execute(update(entries).where(entries.c.id == entry.id).values(retry_at=utc_timestamp()))
    return ledger.current(entry.owner, entry.id)


class TestWhatWaitsForTheIndex:
    def test_entries_wait_oldest_first_until_they_are_indexed_or_have_failed(self, ledger: Ledger):
        first, second, third = (ledger.for_owner(owner).add(draft()) for owner in ("ada", "bríd", "ada"))
        assert ledger.due(10) == [first, second, third]
        assert ledger.due(2) == [first, second]
        ledger.mark_indexed([second])
        ledger.mark_failed(third, "ValueError: no")
        assert ledger.due(10) == [first]
        failed = ledger.for_owner("ada").get(third.id)
        assert (failed.state, failed.reason, failed.attempts) == (IndexState.FAILED, "ValueError: no", 1)

    def test_an_edited_entry_waits_again_at_the_end_and_a_tombstone_too(self, ledger: Ledger):
        first, second = ledger.for_owner("ada").add(draft("a")), ledger.for_owner("ada").add(draft("b"))
        ledger.mark_indexed([first])
        edited = ledger.for_owner("ada").edit(first.id, draft("c"))
        assert ledger.due(10) == [second, edited]
        removed = ledger.for_owner("ada").remove(second.id)
        assert ledger.due(10) == [edited, removed]
        assert removed.removed
        ledger.mark_indexed([edited, removed])
        assert ledger.due(10) == []
        assert ledger.current("ada", second.id).state == IndexState.INDEXED

    def test_an_entry_has_waited_only_as_long_as_it_has(self, ledger: Ledger):
        ledger.for_owner("ada").add(draft())
        assert ledger.due(10, timedelta(seconds=30)) == []
        time.sleep(0.06)
        assert len(ledger.due(10, timedelta(milliseconds=50))) == 1

    def test_the_rows_of_an_import_are_due_by_themselves(self, ledger: Ledger):
        diary = ledger.for_owner("ada")
        diary.add(draft("by hand"))
        imported = diary.begin_import("a.jsonl")
        diary.add_rows(imported, [draft("one"), draft("two"), draft("three")])
        assert [entry.text for entry in ledger.due_of_import("ada", imported, 2)] == ["one", "two"]
        assert ledger.due_of_import("bríd", imported, 2) == []
        ledger.mark_indexed(ledger.due_of_import("ada", imported, 2))
        assert [entry.text for entry in ledger.due_of_import("ada", imported, 2)] == ["three"]
        assert [entry.text for entry in ledger.due(10)] == ["by hand", "three"]

    def test_what_is_not_the_current_version_is_not_marked(self, ledger: Ledger):
        old = ledger.for_owner("ada").add(draft("a"))
        new = ledger.for_owner("ada").edit(old.id, draft("b"))
        ledger.mark_indexed([old])
        ledger.mark_failed(old, "ValueError: no")
        assert ledger.defer(old, "ValueError: no") == IndexState.QUEUED
        assert ledger.due(10) == [new]
        assert ledger.current("ada", old.id) == new

    def test_marking_one_owners_entry_leaves_the_others(self, ledger: Ledger):
        diary = ledger.for_owner("ada").add(draft(id="e"))
        not_hers = ledger.for_owner("bríd").add(draft(id="e"))
        ledger.mark_indexed([diary])
        ledger.defer(diary, "later")
        ledger.mark_failed(diary, "never")
        assert ledger.for_owner("bríd").get("e") == not_hers

    def test_when_the_index_is_lost_what_was_in_it_waits_again(self, ledger: Ledger):
        indexed, failed, queued, removed = (ledger.for_owner("ada").add(draft(str(n))) for n in range(4))
        ledger.mark_failed(failed, "ValueError: no")
        ledger.mark_indexed([indexed, ledger.for_owner("ada").remove(removed.id)])
        assert ledger.requeue_indexed() == 1
        assert ledger.due(10) == [queued, indexed]
        assert ledger.due(10, timedelta(seconds=30)) == []
        assert ledger.current("ada", failed.id).state == IndexState.FAILED
        assert ledger.current("ada", removed.id).state == IndexState.INDEXED

    def test_every_current_version_of_all_owners_is_told_once(self, ledger: Ledger):
        expected = []
        for owner in ("ada", "bríd", "z"):
            rows = [draft(f"{owner} {number}") for number in range(700)]
            ledger.for_owner(owner).add_rows(ledger.for_owner(owner).begin_import("a.jsonl"), rows)
            removed_entry = ledger.for_owner(owner).add(draft(id="gone"))
            edited = ledger.for_owner(owner).add(draft(id="edited"))
            expected += [
                ledger.for_owner(owner).remove(removed_entry.id),
                ledger.for_owner(owner).edit(edited.id, draft("b")),
            ]
        entries = list(ledger.iter_current())
        assert len(entries) == len({(entry.owner, entry.id) for entry in entries}) == 3 * 702
        assert [entry for entry in entries if not entry.import_id] == sorted(
            expected, key=lambda entry: (entry.owner.encode(), entry.id)
        )


class TestAttempts:
    def test_an_entry_is_put_off_five_times_ever_longer_and_has_failed_the_sixth(self, ledger: Ledger):
        entry = ledger.for_owner("ada").add(draft())
        for attempt, seconds in enumerate(LedgerOptions().index_backoff_s, 1):
            began = datetime.now(UTC)
            assert ledger.defer(entry, f"ValueError: {attempt}") == IndexState.QUEUED
            assert ledger.due(10) == []
            now = ledger.current("ada", entry.id)
            assert (now.attempts, now.reason) == (attempt, f"ValueError: {attempt}")
            with ledger.reading() as connection:
                retry_at = datetime.fromisoformat(connection.execute(select(entries.c.retry_at)).scalar_one())
            waits = timedelta(seconds=seconds)
            assert began + waits <= retry_at <= datetime.now(UTC) + waits
            again = make_due(ledger, entry)
            assert ledger.due(10) == [again]
        assert ledger.defer(entry, "ValueError: enough") == IndexState.FAILED
        dead = ledger.current("ada", entry.id)
        assert (dead.state, dead.reason, dead.attempts) == (IndexState.FAILED, "ValueError: enough", 6)
        assert ledger.due(10) == []

    def test_a_failed_one_is_listed_and_can_be_retried(self, ledger: Ledger):
        diary = ledger.for_owner("ada")
        entry = diary.add(draft())
        ledger.mark_failed(entry, "ValueError: no")
        assert [dead.id for dead in diary.with_state(IndexState.FAILED, 10).entries] == [entry.id]
        assert ledger.for_owner("bríd").with_state(IndexState.FAILED, 10).entries == []
        assert diary.retry(entry.id, 1) == entry
        assert ledger.due(10) == [entry]
        assert diary.with_state(IndexState.FAILED, 10).entries == []

    def test_success_forgets_the_attempts(self, ledger: Ledger):
        entry = ledger.for_owner("ada").add(draft())
        ledger.defer(entry, "ValueError: no")
        ledger.mark_indexed([entry])
        assert ledger.current("ada", entry.id) == replace(entry, state=IndexState.INDEXED)

    def test_an_edited_entry_begins_anew(self, ledger: Ledger):
        entry = ledger.for_owner("ada").add(draft("a"))
        ledger.defer(entry, "ValueError: no")
        edited = ledger.for_owner("ada").edit(entry.id, draft("b"))
        assert (edited.attempts, edited.reason) == (0, None)
        assert ledger.due(10) == [edited]

    @pytest.mark.parametrize("reason", ["half a \ud800 pair", "NUL \x00", "é" * 100_000])
    def test_any_reason_can_be_noted(self, ledger: Ledger, reason: str):
        entry = ledger.for_owner("ada").add(draft())
        ledger.defer(entry, reason)
        ledger.mark_failed(entry, reason)
        stored_reason = ledger.current("ada", entry.id).reason
        assert stored_reason is not None
        assert stored_reason.startswith(reason[:5].encode("utf-8", "backslashreplace").decode())
        assert len(stored_reason) <= 2010


class TestTransactions:
    def test_other_tables_are_written_as_a_whole_or_not_at_all(self, ledger: Ledger):
        row = {
            "owner": "ada",
            "messages": [{"role": "user", "content": "\x00\ud800"}],
            "changed_at": utc_timestamp(),
        }
        with ledger.transaction() as connection:
            connection.execute(conversations.insert().values(**row, id="kept", reflected=False))
        with pytest.raises(ZeroDivisionError), ledger.transaction() as connection:  # noqa: PT012
            connection.execute(conversations.insert().values(**row, id="lost", reflected=False))
            _ = 1 / 0
        with ledger.reading() as connection:
            (stored,) = connection.execute(select(conversations)).all()
        assert (stored.id, stored.messages, stored.reflected) == ("kept", row["messages"], False)

    def test_a_reading_transaction_sees_one_moment(self, ledger: Ledger):
        entry = ledger.for_owner("ada").add(draft("a", id="e"))
        texts = select(entries.c.text)
        with ledger.reading() as connection:
            before = connection.execute(texts).scalars().all()
            ledger.for_owner("ada").edit(entry.id, draft("b"))
            assert connection.execute(texts).scalars().all() == before == ["a"]
        assert ledger.for_owner("ada").get("e").text == "b"


class TestTheDatabase:
    def test_it_can_be_opened_again(self, ledger: Ledger, ledger_url: str):
        diary = ledger.for_owner("ada").add(
            draft(id="e"), source=Source.REFLECTION, origin={"turns": ["é\x00"]}
        )
        with Ledger(ledger_url) as again:
            assert again.for_owner("ada").get("e") == diary
        assert diary.origin == {"turns": ["é\x00"]}

    def test_an_accepted_entry_survives_a_killed_process(self, ledger_url: str):
        accept = (
            "import os, sys\n"
            "from services.diary.entry import EntryDraft\n"
            "from services.diary.ledger.ledger import Ledger\n"
            "entry = Ledger(sys.argv[1]).for_owner('ada').add(EntryDraft(text='Just in time.'), 'key')\n"
            "print(entry.id, flush=True)\n"
            "os.kill(os.getpid(), 9)\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", accept, ledger_url],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
            check=False,
        )
        assert done.returncode == -9
        with Ledger(ledger_url) as reopened:
            diary = reopened.for_owner("ada")
            assert diary.get(done.stdout.strip()).text == "Just in time."
            assert diary.add(draft("Just in time."), "key").id == done.stdout.strip()
            assert len(reopened.due(10)) == 1

    def test_an_entry_nobody_has_is_not_found(self, ledger: Ledger):
        for entry_id in ("never", "", "\x00", "é" * 5000):
            with pytest.raises(NotFound):
                ledger.current("ada", entry_id)


def test_a_nearly_full_disk_is_refused_before_anything_is_accepted(tmp_path: Path):
    with pytest.raises(ConfigError, match=f"{tmp_path} has less than .* free"):
        Ledger(f"sqlite:///{tmp_path}/ledger.sqlite3", LedgerOptions(min_free_bytes=2**60))
    assert not list(tmp_path.iterdir())


def test_a_long_diary_is_told_in_the_memory_of_a_few_pages(ledger: Ledger):
    """50 MB, as 100,000 entries of five hundred letters would have."""
    diary, letters = ledger.for_owner("ada"), "x" * 10_000
    imported = diary.begin_import("a.jsonl")
    for start in range(0, 5000, 250):
        diary.add_rows(imported, [draft(f"{start + n} {letters}") for n in range(250)])
    tracemalloc.start()
    try:
        assert sum(len(entry.text) for entry in diary.iter_entries(EntryFilter())) > 50_000_000
        assert sum(len(entry.text) for entry in ledger.iter_current()) > 50_000_000
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 20_000_000


def test_an_idempotency_key_is_forgotten_after_thirty_days(ledger: Ledger):
    diary = ledger.for_owner("ada")
    old, new = diary.add(draft("old"), "old"), diary.add(draft("new"), "new")
    long_ago = utc_timestamp(datetime.now(UTC) - timedelta(days=30, seconds=1))
    with ledger.transaction() as connection:
        aged = update(idempotency_keys).where(idempotency_keys.c.key == "old")
        connection.execute(aged.values(created_at=long_ago))
    assert ledger.delete_old_keys() == 1
    assert diary.add(draft("new"), "new") == new
    assert diary.add(draft("another"), "old").id != old.id
    assert diary.get(old.id) == old


class TestAClockThatWasSetBack:
    """What was written by the clock of before has moments that are yet to come: nobody waits for them."""

    def test_an_entry_that_was_queued_tomorrow_is_due(self, ledger: Ledger):
        tomorrow = (datetime.now(UTC) + timedelta(days=1)).isoformat(timespec="microseconds")
        entry = ledger.for_owner("ada").add(draft())
        with ledger.transaction() as connection:
            connection.execute(update(entries).values(queued_at=tomorrow))
        assert [due.id for due in ledger.due(10, timedelta(seconds=5))] == [entry.id]

    def test_one_that_was_put_off_until_tomorrow_may_be_tried(self, ledger: Ledger):
        tomorrow = (datetime.now(UTC) + timedelta(days=1)).isoformat(timespec="microseconds")
        entry = ledger.for_owner("ada").add(draft())
        with ledger.transaction() as connection:
            connection.execute(update(entries).values(retry_at=tomorrow))
        assert [due.id for due in ledger.due(10)] == [entry.id]

    def test_one_that_was_put_off_just_now_still_waits(self, ledger: Ledger):
        entry = ledger.for_owner("ada").add(draft())
        for _ in range(5):
            ledger.defer(entry, "no")
            assert ledger.due(10) == []
