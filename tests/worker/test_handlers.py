"""The job handlers: which entries a job indexes, and the turns of an import.

.venv/bin/python -m pytest tests/worker/test_handlers.py
"""

import pytest
from fakes import UnsteadyIndex, WaitingEmbedder
from hypothesis import given
from hypothesis import strategies as st
from rq import Retry
from rq.timeouts import JobTimeoutException
from worker_process import FakeEmbedder

from services.diary.entry import Entry, EntryDraft, IndexState
from services.diary.job_queue import diary_queue
from services.errors import ConfigError
from services.worker import tasks
from services.worker.handlers import BATCH_CHARACTERS, BATCH_ENTRIES, first_batch

ENTRIES = st.lists(
    st.builds(
        lambda number, length, attempts: Entry(
            owner="ada",
            id=str(number),
            version=1,
            text="x" * length,
            date="2026-01-02",
            first_day="2026-01-02",
            last_day="2026-01-02",
            mood=None,
            tags=(),
            written_at="2026-01-02T00:00:00+00:00",
            attempts=attempts,
        ),
        st.integers(0, 200),
        st.sampled_from([1, 100, 30_000, BATCH_CHARACTERS * 2]),
        st.sampled_from([0, 0, 0, 1, 5]),
    ),
    min_size=1,
    max_size=120,
    unique_by=lambda entry: entry.id,
)


class SlowIndex(UnsteadyIndex):
    """Runs out of time."""

    def upsert(self, chunks) -> None:
        raise JobTimeoutException("Task exceeded maximum timeout value (120 seconds)")


class TestABatch:
    @given(ENTRIES)
    def test_it_begins_with_the_first_and_is_never_too_much(self, due: list[Entry]):
        batch = first_batch(due)
        assert batch[0] == due[0]
        assert len(batch) <= BATCH_ENTRIES
        assert sum(len(entry.text) for entry in batch[1:]) + len(batch[0].text) <= max(
            BATCH_CHARACTERS, len(due[0].text)
        )

    @given(ENTRIES)
    def test_what_was_put_off_before_is_always_alone(self, due: list[Entry]):
        batch = first_batch(due)
        assert len(batch) == 1 or not any(entry.attempts for entry in batch)

    @given(ENTRIES)
    def test_no_entry_is_in_it_twice(self, due: list[Entry]):
        ids = [entry.id for entry in first_batch([due[0], *due])]
        assert len(ids) == len(set(ids))


class TestAnEntrysJob:
    def test_takes_along_what_is_due_and_takes_its_jobs_out_of_the_queue(self, harness):
        entries = [harness.accept(f"number {number}") for number in range(10)]
        harness.handlers.index_entry("ada", entries[4].id, 1)
        assert harness.all_indexed()
        assert diary_queue(harness.queue).job_ids == [harness.jobs.submit(entries[4])]
        assert harness.progress_calls == 1

    def test_of_an_old_version_or_of_nothing_does_nothing(self, harness):
        entry = harness.add("a", id="e")
        for owner, entry_id, version in [("ada", "never", 1), ("bríd", "e", 1), ("ada", "e", 2)]:
            harness.handlers.index_entry(owner, entry_id, version)
        assert harness.index.count() == 0
        assert harness.current(entry) == entry

    def test_of_what_is_indexed_reads_nothing_again(self, harness):
        entry = harness.add("a")
        harness.handlers.index_entry("ada", entry.id, 1)
        embedder = WaitingEmbedder()
        harness.build(embedder)
        harness.handlers.index_entry("ada", entry.id, 1)
        assert embedder.batches == []

    def test_of_a_tombstone_forgets_the_entry(self, harness):
        harness.handlers.index_entry("ada", harness.add("a", id="e").id, 1)
        harness.handlers.index_entry("ada", "e", harness.ledger.for_owner("ada").remove("e").version)
        assert harness.index.count() == 0
        assert harness.all_indexed()


class TestAnImportsJob:
    def test_goes_through_in_batches(self, harness):
        import_id = harness.import_texts([f"number {number}" for number in range(150)])
        assert tasks.index_import("ada", import_id) is None
        assert harness.all_indexed()
        assert harness.progress_calls == 3
        assert harness.index.count() == 150

    def test_takes_turns_with_the_others(self, harness):
        harness.build(handlers={"import_turn_s": 0.0})
        import_id = harness.import_texts([f"number {number}" for number in range(150)])
        assert isinstance(tasks.index_import("ada", import_id), Retry)
        assert harness.index.count() == BATCH_ENTRIES
        assert harness.ledger.for_owner("ada").import_report(import_id).indexed == BATCH_ENTRIES

    def test_continues_where_it_was_interrupted(self, harness):
        harness.build(handlers={"import_turn_s": 0.0})
        import_id = harness.import_texts([f"number {number}" for number in range(100)])
        harness.handlers.index_import("ada", import_id)
        embedder = WaitingEmbedder()
        embedder.may_end.set()
        harness.build(embedder)
        harness.handlers.index_import("ada", import_id)
        assert sum(embedder.batches) == 100 - BATCH_ENTRIES
        assert harness.all_indexed()

    def test_leaves_the_imports_of_others_alone(self, harness):
        own_import = harness.import_texts(["mine"])
        other_import = harness.ledger.for_owner("bríd").begin_import("theirs")
        harness.ledger.for_owner("bríd").add_rows(other_import, [EntryDraft(text="theirs")])
        harness.handlers.index_import("ada", own_import)
        assert [version.owner for version in harness.index.versions()] == ["ada"]


class TestTrouble:
    def test_a_batch_that_takes_too_long_is_put_off_and_then_taken_apart(self, harness):
        harness.build(index=SlowIndex(harness.index))
        entries = [harness.accept("a"), harness.accept("b")]
        tasks.index_entry("ada", entries[0].id, 1)
        for entry in map(harness.current, entries):
            assert (entry.state, entry.attempts) == (IndexState.QUEUED, 1)
            assert "120 seconds" in entry.reason
            assert first_batch([entry, *entries]) == [entry]

    def test_after_the_index_was_away_jobs_are_paused(self, harness):
        index = UnsteadyIndex(harness.index, away=True)
        harness.build(index=index)
        entries = [harness.accept(f"number {number}") for number in range(5)]
        for entry in entries:
            tasks.index_entry("ada", entry.id, 1)
        assert index.failed_checks == 1
        assert [harness.current(entry) for entry in entries] == entries
        index.away = False
        harness.handlers.paused_until = 0.0
        tasks.index_entry("ada", entries[0].id, 1)
        assert harness.all_indexed()

    def test_a_process_without_handlers_says_so(self):
        with pytest.raises(ConfigError, match="has no job handlers"):
            tasks.index_entry("ada", "e", 1)

    def test_a_queue_that_is_away_keeps_nothing_from_being_written(self, harness, valkey):
        entry = harness.accept("a")
        valkey.terminate()
        harness.build(FakeEmbedder())
        harness.handlers.index_entry("ada", entry.id, 1)
        assert harness.all_indexed()
