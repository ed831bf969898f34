"""The sweep: what is due and in no queue is queued again.

.venv/bin/python -m pytest tests/worker/test_outbox.py
"""

from datetime import timedelta

import pytest
from rq.job import Job, JobStatus

from services.diary.entry import EntryDraft
from services.diary.job_ids import import_job_id, job_id
from services.diary.job_queue import diary_queue
from services.diary.ledger import ledger
from services.errors import DiaryUnavailable
from services.worker import outbox as sweep

AT_ONCE = timedelta(microseconds=1)  # lost after no time at all


def test_what_waits_in_the_queue_is_not_lost(house):
    house.accept("queued")
    lost = house.note("lost")
    assert house.sweep.sweep(AT_ONCE) == 1
    assert house.jobs.is_pending(lost)
    assert house.sweep.sweep(AT_ONCE) == 0


def test_what_came_in_just_now_is_left_alone(house):
    house.note("new")
    assert house.sweep.sweep(timedelta(seconds=60)) == 0


def test_what_was_put_off_waits_for_its_time(house, monkeypatch: pytest.MonkeyPatch):
    house.ledger.defer(house.note("a"), "ValueError: no")
    assert house.sweep.sweep(timedelta()) == 0


def test_what_failed_is_not_tried_for_ever(house):
    house.ledger.mark_failed(house.note("a"), "ValueError: no")
    assert house.sweep.sweep(timedelta()) == 0


def test_an_import_is_one_job_however_many_of_its_entries_are_lost(house):
    import_id = house.take_in([f"number {number}" for number in range(100)])
    house.note("and one by hand")
    assert house.sweep.sweep(timedelta()) == 2
    assert import_job_id("ada", import_id) in diary_queue(house.queue).job_ids
    assert house.sweep.sweep(timedelta()) == 0


def test_a_job_that_ended_in_a_way_of_its_own_is_queued_anew(house):
    entry = house.accept("a")
    name = job_id("ada", entry.id, 1)
    queue = diary_queue(house.queue)
    queue.remove(name)
    Job.fetch(name, connection=house.queue, serializer=queue.serializer).set_status(JobStatus.FAILED)
    assert house.sweep.sweep(timedelta()) == 1
    assert queue.job_ids == [name]


def test_the_torn_rest_of_a_lost_queue_keeps_nothing_out(house):
    entry = house.note("a")
    name = job_id("ada", entry.id, 1)
    house.queue.hset(f"rq:job:{name}", "last_heartbeat", "2026-01-02T00:00:00Z")
    assert house.sweep.sweep(timedelta()) == 1
    assert diary_queue(house.queue).job_ids == [name]


def test_many_sweeps_come_to_the_end_of_a_long_outbox(house, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sweep, "AT_ONCE", 10)
    for number in range(25):
        house.note(f"number {number}")
    swept = []
    while found := house.sweep.sweep(timedelta()):
        swept.append(found)
        house.desk.index_entry("ada", house.ledger.due(1)[0].id, 1)
    assert sum(swept) >= 10
    assert house.all_indexed()


def test_without_a_queue_it_is_put_off(house, valkey):
    house.note("lost")
    valkey.terminate()
    with pytest.raises(DiaryUnavailable):
        house.sweep.sweep(timedelta())


def test_old_idempotency_keys_are_forgotten_on_the_way(house, until, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(ledger, "KEYS_KEPT", timedelta())
    mine = house.ledger.for_owner("ada")
    first = mine.add(EntryDraft(text="a"), "a key")
    with house.at_work():
        until(lambda: mine.add(EntryDraft(text="a"), "a key").id != first.id)
