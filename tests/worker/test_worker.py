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
from services.diary.ledger import ledger
from services.diary.reflection.reflections import Reflections
from services.worker import handlers as desk
from services.worker import outbox as sweep
from services.worker import tasks

AT_ONCE = timedelta(microseconds=1)


@pytest.fixture
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything that is waited for comes at once."""
    monkeypatch.setattr(sweep, "SWEEP_EVERY_S", 0.2)
    monkeypatch.setattr(sweep, "LOST_AFTER", AT_ONCE)
    monkeypatch.setattr(tasks, "REST_S", 0.1)
    monkeypatch.setattr(ledger, "BACKOFF_S", (0,) * 5)


def test_what_is_queued_is_worked_through(house, until):
    early = [house.accept(f"early {number}") for number in range(10)]
    with house.at_work():
        late = [house.accept(f"late {number}") for number in range(10)]
        until(house.all_indexed)
    assert house.index.count() == len(early + late)


def test_what_was_never_queued_is_found_at_the_start(house, until):
    for number in range(5):
        house.note(f"lost {number}")
    with house.at_work():
        until(house.all_indexed)
    assert house.index.count() == 5


def test_nothing_is_left_in_the_queue_of_what_is_done(house, until):
    entry = house.accept("a")
    with house.at_work():
        until(house.all_indexed)
        until(lambda: not house.jobs.is_pending(entry))
    assert diary_queue(house.queue).is_empty()
    assert house.queue.keys(f"*{entry.id}*") == []
    assert house.jobs.report("ada", house.jobs.submit(entry)).status == "finished"


def test_an_idle_shift_ends_within_seconds(house):
    with house.at_work():
        time.sleep(0.3)
        began = time.monotonic()
    assert time.monotonic() - began < 5


@pytest.mark.parametrize("after_s", [0.0, 0.005, 0.02])
def test_a_shift_that_is_stopped_at_once_ends(house, after_s: float):
    with house.at_work():
        time.sleep(after_s)


def test_a_shift_ends_within_seconds_while_the_queue_is_away(house, valkey):
    with house.at_work():
        time.sleep(0.3)
        valkey.terminate()
        time.sleep(0.3)


def test_the_job_in_hand_is_finished_before_the_end(house, until):
    embedder = WaitingEmbedder()
    house.hire(embedder)
    with house.at_work():
        until(lambda: house.sweep.has_swept)
        first = house.accept("first")
        until(embedder.has_begun.is_set)
        second = house.accept("second")
        threading.Timer(0.5, embedder.may_end.set).start()
    assert house.now(first).state == IndexState.INDEXED
    assert house.now(second).state == IndexState.QUEUED


def test_a_job_in_hand_counts_as_waiting_and_is_told_as_started(house, until):
    embedder = WaitingEmbedder()
    house.hire(embedder)
    with house.at_work():
        until(lambda: house.sweep.has_swept)
        entry = house.accept("a")
        name = job_id("ada", entry.id, 1)
        until(embedder.has_begun.is_set)
        assert house.jobs.is_pending(entry)
        assert house.sweep.sweep(AT_ONCE) == 0
        assert house.jobs.report("ada", name).status == "started"
        embedder.may_end.set()
        until(lambda: house.jobs.report("ada", name).status == "finished")


def test_a_mistake_fails_its_own_entry_and_no_other(house, until, eager: None):
    house.hire(PickyEmbedder())
    with house.at_work():
        entries = [house.accept(text) for text in ("before", "illegible", "after")]
        until(lambda: IndexState.QUEUED not in [house.now(entry).state for entry in entries])
    assert [house.now(entry).state for entry in entries] == ["indexed", "failed", "indexed"]
    assert house.now(entries[1]).reason == "ValueError: what is this?"


def test_entries_wait_while_the_index_is_away_and_are_indexed_when_it_heals(house, until, eager: None):
    index = UnsteadyIndex(house.index, away=True)
    house.hire(index=index)
    with house.at_work():
        entries = [house.accept(f"number {number}") for number in range(20)]
        until(lambda: index.asked_in_vain >= 5 and diary_queue(house.queue).is_empty())
        assert [house.now(entry) for entry in entries] == entries
        index.away = False
        until(house.all_indexed)
    assert house.index.count() == 20


def test_an_import_lets_todays_entry_through(house, until, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(desk, "TURN_S", 0.0)
    embedder = WaitingEmbedder()
    house.hire(embedder)
    import_id = house.take_in([f"number {number}" for number in range(200)])
    with house.at_work():
        until(embedder.has_begun.is_set)
        entry = house.accept("today")
        embedder.may_end.set()
        until(lambda: house.now(entry).state == IndexState.INDEXED)
        until(house.all_indexed)
    written_in = embedder.batches.index(desk.BATCH_ENTRIES, 1)
    assert written_in == 1, "today's entry waited for more than one turn of the import"
    assert house.ledger.for_owner("ada").import_report(import_id).indexed == 200


class TestAfterAWorkerWasKilled:
    def test_what_it_had_in_hand_goes_on_at_once(self, house, until, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(house.sweep, "sweep", lambda waited: 0)
        entry, import_id = house.accept("a"), house.take_in(["b", "c"])
        house.jobs.submit_import("ada", import_id)
        queue = diary_queue(house.queue)
        _taken_and_left(house, queue)
        assert queue.is_empty()
        with house.at_work():
            until(house.all_indexed)
        assert not house.jobs.is_pending(entry)

    def test_it_is_in_the_queue_once_and_first(self, house):
        entries = [house.accept(f"number {number}") for number in range(3)]
        names = [job_id("ada", entry.id, 1) for entry in entries]
        queue = diary_queue(house.queue)
        house.queue.lmove(queue.key, queue.intermediate_queue.key, "LEFT", "RIGHT")
        jobs = JobQueue(house.queue)
        assert jobs.pending_ids() == set(names)
        assert jobs.requeue_orphans() == names[:1]
        assert queue.job_ids == names
        assert jobs.requeue_orphans() == []

    def test_nothing_is_made_of_a_job_that_is_gone(self, house):
        house.queue.rpush(diary_queue(house.queue).intermediate_queue.key, "long-gone")
        assert JobQueue(house.queue).requeue_orphans() == []
        assert diary_queue(house.queue).is_empty()


def _taken_and_left(house, queue) -> None:
    """One job is taken from the list, one is begun; then their worker is no more."""
    house.queue.lmove(queue.key, queue.intermediate_queue.key, "LEFT", "RIGHT")
    begun = house.queue.lpop(queue.key).decode()
    queue.fetch_job(begun).set_status("started")
    house.queue.zadd(queue.started_job_registry.key, {f"{begun}:execution": time.time() + 1000})


def test_an_index_that_was_lost_is_filled_again(house, until, eager: None):
    entries = [house.accept(f"number {number}") for number in range(10)]
    with house.at_work():
        until(house.all_indexed)
        house.index.delete([EntryKey(entry.owner, entry.id) for entry in entries])
        until(lambda: house.index.count() == 10)
        until(house.all_indexed)


def test_a_sweep_that_fails_is_not_the_last(house, until, eager: None, caplog, monkeypatch):
    failures = iter([RuntimeError("what is this?")])

    def mend() -> int:
        for failure in failures:
            raise failure
        return 0

    monkeypatch.setattr(house.scribe, "mend", mend)
    with house.at_work():
        until(lambda: "sweep failed" in caplog.text)
        entry = house.note("never queued")
        until(lambda: house.now(entry).state == IndexState.INDEXED)


def test_a_valkey_that_ends_and_starts_again_loses_no_entry(house, valkey, until, eager: None):
    house.hire(FakeEmbedder(pause_s=0.02))
    with house.at_work():
        for number in range(30):
            house.accept(f"before {number}")
        until(lambda: house.index.count() >= 3)
        valkey.terminate()
        for number in range(10):
            house.accept(f"meanwhile {number}")
        time.sleep(1)
        valkey.start()
        for number in range(10):
            house.accept(f"after {number}")
        until(house.all_indexed)
    assert house.index.count() == 50


def test_a_valkey_that_ends_in_the_middle_of_a_job_leaves_no_thread_behind(house, valkey, until):
    threads = set(threading.enumerate())
    embedder = WaitingEmbedder()
    house.hire(embedder)
    with house.at_work():
        entry = house.accept("a")
        until(embedder.has_begun.is_set)
        valkey.terminate()
        embedder.may_end.set()
        until(lambda: house.now(entry).state == IndexState.INDEXED)
        time.sleep(0.5)  # long enough for the worker to give up its connection
        valkey.start()
        late = house.accept("b")
        until(lambda: house.now(late).state == IndexState.INDEXED)
    assert {thread for thread in threading.enumerate() if thread.is_alive()} <= threads


def test_edits_and_removals_reach_the_index_through_the_queue(house, until):
    for number in range(3):
        house.accept(f"number {number}", id=f"e{number}")
    mine = house.ledger.for_owner("ada")
    with house.at_work():
        until(house.all_indexed)
        house.jobs.submit(mine.edit("e0", EntryDraft(text="another word")))
        house.jobs.submit(mine.remove("e1"))
        until(house.all_indexed)
    assert house.indexed() == [("e0", 2), ("e2", 1)]


class TestDamagedRows:
    """A row of the ledger that can't be read fails by itself; everybody else's entries are indexed."""

    def test_entries_of_others_are_indexed(self, house, until, eager: None):
        bad, good = house.note("damaged"), house.note("whole")
        import_id = house.take_in(["imported"])
        damage(house, bad.id)
        with house.at_work():
            until(lambda: house.now(good).state == IndexState.INDEXED)
            until(lambda: house.ledger.for_owner("ada").import_report(import_id).indexed == 1)
        with house.ledger.reading() as connection:
            query = text("SELECT state, reason FROM entries WHERE id = :id")
            state, reason = connection.execute(query, {"id": bad.id}).one()
        assert state == "failed"
        assert "damaged" in reason

    def test_what_goes_wrong_with_entries_keeps_no_reflection_waiting(self, house, monkeypatch):
        def raising(*_: object) -> None:
            raise KeyError("what is this?")

        monkeypatch.setattr(house.ledger, "due", raising)
        turns = [{"role": "user", "content": "It rained."}]
        Reflections(house.ledger).add("ada", turns, 1, {"model": "ada"}, "2026-01-01")
        assert house.sweep.sweep(AT_ONCE) == 1


def damage(house, entry_id: str) -> None:
    with house.ledger.transaction() as connection:
        connection.execute(text("UPDATE entries SET tags = '[' WHERE id = :id"), {"id": entry_id})
