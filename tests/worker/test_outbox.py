"""The outbox relay: what is due and has no job is queued again.

.venv/bin/python -m pytest tests/worker/test_outbox.py
"""

from datetime import timedelta

import pytest
from rq.job import Job, JobStatus

from services.diary.entry import EntryDraft
from services.diary.job_ids import import_job_id, job_id
from services.diary.job_queue import diary_queue
from services.diary.ledger.ledger import LedgerOptions
from services.errors import DiaryUnavailable

AT_ONCE = timedelta(microseconds=1)  # lost after no time at all


def test_an_entry_whose_job_is_in_the_queue_is_not_lost(harness):
    harness.accept("queued")
    lost = harness.add("lost")
    assert harness.outbox.relay(AT_ONCE) == 1
    assert harness.jobs.is_pending(lost)
    assert harness.outbox.relay(AT_ONCE) == 0


def test_an_entry_that_was_just_added_is_not_lost(harness):
    harness.add("new")
    assert harness.outbox.relay(timedelta(seconds=60)) == 0


def test_a_deferred_entry_waits_for_its_time(harness):
    harness.ledger.defer(harness.add("a"), "ValueError: no")
    assert harness.outbox.relay(timedelta()) == 0


def test_an_entry_that_failed_is_not_tried_for_ever(harness):
    harness.ledger.mark_failed(harness.add("a"), "ValueError: no")
    assert harness.outbox.relay(timedelta()) == 0


def test_an_import_is_one_job_however_many_of_its_entries_are_lost(harness):
    import_id = harness.import_texts([f"number {number}" for number in range(100)])
    harness.add("and one by hand")
    assert harness.outbox.relay(timedelta()) == 2
    assert import_job_id("ada", import_id) in diary_queue(harness.queue).job_ids
    assert harness.outbox.relay(timedelta()) == 0


def test_a_job_that_failed_in_the_queue_alone_is_queued_again(harness):
    entry = harness.accept("a")
    name = job_id("ada", entry.id, 1)
    queue = diary_queue(harness.queue)
    queue.remove(name)
    Job.fetch(name, connection=harness.queue, serializer=queue.serializer).set_status(JobStatus.FAILED)
    assert harness.outbox.relay(timedelta()) == 1
    assert queue.job_ids == [name]


def test_the_incomplete_rest_of_a_lost_queue_blocks_no_job(harness):
    entry = harness.add("a")
    name = job_id("ada", entry.id, 1)
    harness.queue.hset(f"rq:job:{name}", "last_heartbeat", "2026-01-02T00:00:00Z")
    assert harness.outbox.relay(timedelta()) == 1
    assert diary_queue(harness.queue).job_ids == [name]


def test_many_runs_come_to_the_end_of_a_long_outbox(harness):
    harness.build(outbox={"batch_rows": 10})
    for number in range(25):
        harness.add(f"number {number}")
    queued = 0
    while count := harness.outbox.relay(timedelta()):
        queued += count
        harness.handlers.index_entry("ada", harness.ledger.due(1)[0].id, 1)
    assert queued >= 10
    assert harness.all_indexed()


def test_without_a_queue_it_raises(harness, valkey):
    harness.add("lost")
    valkey.terminate()
    with pytest.raises(DiaryUnavailable):
        harness.outbox.relay(timedelta())


def test_old_idempotency_keys_are_deleted_in_passing(harness, until):
    harness.reopen_ledger(LedgerOptions(key_retention=timedelta()))
    diary = harness.ledger.for_owner("ada")
    first = diary.add(EntryDraft(text="a"), "a key")
    with harness.running():
        until(lambda: diary.add(EntryDraft(text="a"), "a key").id != first.id)
