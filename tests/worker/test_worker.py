"""The working loop on a real Valkey, which goes away and comes back.

.venv/bin/python -m pytest tests/worker/test_worker.py
"""

import threading
import time
from datetime import timedelta

import pytest
from fakes import PickyEmbedder, UnsteadyIndex, WaitingEmbedder
from sqlalchemy import text
from worker_process import FakeEmbedder

from services.diary.entry import EntryDraft, IndexState
from services.diary.index.types import EntryKey
from services.diary.job_ids import job_id
from services.diary.job_queue import JobQueue, diary_queue
from services.diary.reflection.reflections import Reflections
from services.worker.handlers import BATCH_ENTRIES

AT_ONCE = timedelta(microseconds=1)


def test_queued_entries_are_indexed(harness, until):
    early = [harness.accept(f"early {number}") for number in range(10)]
    with harness.running():
        late = [harness.accept(f"late {number}") for number in range(10)]
        until(harness.all_indexed)
    assert harness.index.count() == len(early + late)


def test_entries_that_were_never_queued_are_found_at_the_start(harness, until):
    for number in range(5):
        harness.add(f"lost {number}")
    with harness.running():
        until(harness.all_indexed)
    assert harness.index.count() == 5


def test_nothing_of_a_finished_job_is_left_in_the_queue(harness, until):
    entry = harness.accept("a")
    with harness.running():
        until(harness.all_indexed)
        until(lambda: not harness.jobs.is_pending(entry))
    assert diary_queue(harness.queue).is_empty()
    assert harness.queue.keys(f"*{entry.id}*") == []
    assert harness.jobs.report("ada", harness.jobs.submit(entry)).status == "finished"


def test_an_idle_worker_ends_when_it_is_stopped(harness):
    with harness.running():
        time.sleep(0.3)


@pytest.mark.parametrize("after_s", [0.0, 0.005, 0.02])
def test_a_worker_that_is_stopped_at_once_ends(harness, after_s: float):
    with harness.running():
        time.sleep(after_s)


def test_a_worker_ends_while_the_queue_is_away(harness, valkey):
    with harness.running():
        time.sleep(0.3)
        valkey.terminate()
        time.sleep(0.3)


def test_the_current_job_is_finished_before_the_end(harness, until):
    embedder = WaitingEmbedder()
    harness.build(embedder)
    with harness.running():
        until(lambda: harness.outbox.has_relayed)
        first = harness.accept("first")
        until(embedder.has_begun.is_set)
        second = harness.accept("second")
        threading.Timer(0.5, embedder.may_end.set).start()
    assert harness.current(first).state == IndexState.INDEXED
    assert harness.current(second).state == IndexState.QUEUED


def test_the_current_job_is_pending_and_reported_as_started(harness, until):
    embedder = WaitingEmbedder()
    harness.build(embedder)
    with harness.running():
        until(lambda: harness.outbox.has_relayed)
        entry = harness.accept("a")
        name = job_id("ada", entry.id, 1)
        until(embedder.has_begun.is_set)
        assert harness.jobs.is_pending(entry)
        assert harness.outbox.relay(AT_ONCE) == 0
        assert harness.jobs.report("ada", name).status == "started"
        embedder.may_end.set()
        until(lambda: harness.jobs.report("ada", name).status == "finished")


def test_an_entry_that_cannot_be_embedded_fails_alone(harness, until, eager: None):
    harness.build(PickyEmbedder())
    with harness.running():
        entries = [harness.accept(text) for text in ("before", "illegible", "after")]
        until(lambda: IndexState.QUEUED not in [harness.current(entry).state for entry in entries])
    assert [harness.current(entry).state for entry in entries] == ["indexed", "failed", "indexed"]
    assert harness.current(entries[1]).reason == "ValueError: what is this?"


def test_entries_wait_while_the_index_is_away_and_are_indexed_when_it_heals(harness, until, eager: None):
    index = UnsteadyIndex(harness.index, away=True)
    harness.build(index=index)
    with harness.running():
        entries = [harness.accept(f"number {number}") for number in range(20)]
        until(lambda: index.failed_checks >= 5 and diary_queue(harness.queue).is_empty())
        assert [harness.current(entry) for entry in entries] == entries
        index.away = False
        until(harness.all_indexed)
    assert harness.index.count() == 20


def test_an_import_lets_todays_entry_through(harness, until):
    embedder = WaitingEmbedder()
    harness.build(embedder, handlers={"import_turn_s": 0.0})
    import_id = harness.import_texts([f"number {number}" for number in range(200)])
    with harness.running():
        until(embedder.has_begun.is_set)
        entry = harness.accept("today")
        embedder.may_end.set()
        until(lambda: harness.current(entry).state == IndexState.INDEXED)
        until(harness.all_indexed)
    written_in = embedder.batches.index(BATCH_ENTRIES, 1)
    assert written_in == 1, "today's entry waited for more than one turn of the import"
    assert harness.ledger.for_owner("ada").import_report(import_id).indexed == 200


class TestAfterAWorkerWasKilled:
    def test_its_current_job_is_queued_again_at_once(self, harness, until, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(harness.outbox, "relay", lambda lost_after: 0)
        entry, import_id = harness.accept("a"), harness.import_texts(["b", "c"])
        harness.jobs.submit_import("ada", import_id)
        queue = diary_queue(harness.queue)
        _dequeue_and_abandon(harness, queue)
        assert queue.is_empty()
        with harness.running():
            until(harness.all_indexed)
        assert not harness.jobs.is_pending(entry)

    def test_it_is_in_the_queue_once_and_first(self, harness):
        entries = [harness.accept(f"number {number}") for number in range(3)]
        names = [job_id("ada", entry.id, 1) for entry in entries]
        queue = diary_queue(harness.queue)
        harness.queue.lmove(queue.key, queue.intermediate_queue.key, "LEFT", "RIGHT")
        jobs = JobQueue(harness.queue)
        assert jobs.pending_ids() == set(names)
        assert jobs.requeue_orphans() == names[:1]
        assert queue.job_ids == names
        assert jobs.requeue_orphans() == []

    def test_nothing_is_made_of_a_job_that_is_gone(self, harness):
        harness.queue.rpush(diary_queue(harness.queue).intermediate_queue.key, "long-gone")
        assert JobQueue(harness.queue).requeue_orphans() == []
        assert diary_queue(harness.queue).is_empty()


def _dequeue_and_abandon(harness, queue) -> None:
    """One job is taken from the list, one is begun; then their worker is no more."""
    harness.queue.lmove(queue.key, queue.intermediate_queue.key, "LEFT", "RIGHT")
    started = harness.queue.lpop(queue.key).decode()
    queue.fetch_job(started).set_status("started")
    harness.queue.zadd(queue.started_job_registry.key, {f"{started}:execution": time.time() + 1000})


def test_an_index_that_was_lost_is_filled_again(harness, until, eager: None):
    entries = [harness.accept(f"number {number}") for number in range(10)]
    with harness.running():
        until(harness.all_indexed)
        harness.index.delete([EntryKey(entry.owner, entry.id) for entry in entries])
        until(lambda: harness.index.count() == 10)
        until(harness.all_indexed)


def test_a_relay_run_that_fails_is_not_the_last(harness, until, eager: None, caplog, monkeypatch):
    failures = iter([RuntimeError("what is this?")])

    def restore_lost_index() -> int:
        for failure in failures:
            raise failure
        return 0

    monkeypatch.setattr(harness.indexer, "restore_lost_index", restore_lost_index)
    with harness.running():
        until(lambda: "the outbox relay failed" in caplog.text)
        entry = harness.add("never queued")
        until(lambda: harness.current(entry).state == IndexState.INDEXED)


def test_a_valkey_that_ends_and_starts_again_loses_no_entry(harness, valkey, until, eager: None):
    harness.build(FakeEmbedder(pause_s=0.02))
    with harness.running():
        for number in range(30):
            harness.accept(f"before {number}")
        until(lambda: harness.index.count() >= 3)
        valkey.terminate()
        for number in range(10):
            harness.accept(f"meanwhile {number}")
        time.sleep(1)
        valkey.start()
        for number in range(10):
            harness.accept(f"after {number}")
        until(harness.all_indexed)
    assert harness.index.count() == 50


def test_a_valkey_that_ends_in_the_middle_of_a_job_leaves_no_thread_behind(harness, valkey, until):
    threads = set(threading.enumerate())
    embedder = WaitingEmbedder()
    harness.build(embedder)
    with harness.running():
        entry = harness.accept("a")
        until(embedder.has_begun.is_set)
        valkey.terminate()
        embedder.may_end.set()
        until(lambda: harness.current(entry).state == IndexState.INDEXED)
        time.sleep(0.5)  # long enough for the worker to give up its connection
        valkey.start()
        late = harness.accept("b")
        until(lambda: harness.current(late).state == IndexState.INDEXED)
    assert {thread for thread in threading.enumerate() if thread.is_alive()} <= threads


def test_edits_and_removals_reach_the_index_through_the_queue(harness, until):
    for number in range(3):
        harness.accept(f"number {number}", id=f"e{number}")
    diary = harness.ledger.for_owner("ada")
    with harness.running():
        until(harness.all_indexed)
        harness.jobs.submit(diary.edit("e0", EntryDraft(text="another word")))
        harness.jobs.submit(diary.remove("e1"))
        until(harness.all_indexed)
    assert harness.indexed() == [("e0", 2), ("e2", 1)]


class TestDamagedRows:
    """A row of the ledger that can't be read fails by itself; everybody else's entries are indexed."""

    def test_entries_of_others_are_indexed(self, harness, until, eager: None):
        bad, good = harness.add("damaged"), harness.add("whole")
        import_id = harness.import_texts(["imported"])
        damage(harness, bad.id)
        with harness.running():
            until(lambda: harness.current(good).state == IndexState.INDEXED)
            until(lambda: harness.ledger.for_owner("ada").import_report(import_id).indexed == 1)
        with harness.ledger.reading() as connection:
            query = text("SELECT state, reason FROM entries WHERE id = :id")
            state, reason = connection.execute(query, {"id": bad.id}).one()
        assert state == "failed"
        assert "damaged" in reason

    def test_what_goes_wrong_with_entries_keeps_no_reflection_waiting(self, harness, monkeypatch):
        def raising(*_: object) -> None:
            raise KeyError("what is this?")

        monkeypatch.setattr(harness.ledger, "due", raising)
        turns = [{"role": "user", "content": "It rained."}]
        Reflections(harness.ledger).add("ada", turns, 1, {"model": "ada"}, "2026-01-01")
        assert harness.outbox.relay(AT_ONCE) == 1


def damage(harness, entry_id: str) -> None:
    with harness.ledger.transaction() as connection:
        connection.execute(text("UPDATE entries SET tags = '[' WHERE id = :id"), {"id": entry_id})
