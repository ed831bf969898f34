"""The reindexing as a job: Ada's diary is searched and written meanwhile, and it says how far it is.

.venv/bin/python -m pytest tests/worker/test_reindex_job.py
"""

import pytest
from fakes import WaitingEmbedder

from services.diary.entry import EntryDraft, IndexState
from services.diary.job_ids import REINDEX_ID
from services.diary.job_queue import diary_queue
from services.errors import DiaryUnavailable
from services.worker import handlers as desk
from services.worker import tasks


def test_a_new_index_has_what_the_old_one_had(house, until):
    house.desk.index_import("ada", house.take_in([f"number {number}" for number in range(100)]))
    before, path = house.indexed(), house.index.path
    house.jobs.submit_reindex()
    with house.at_work():
        until(lambda: house.jobs.report("ada", REINDEX_ID).status == "finished")
    assert house.index.path != path
    assert house.indexed() == before
    assert house.jobs.report("ada", REINDEX_ID).done == 100


def test_what_is_written_and_removed_meanwhile_is_in_the_old_index_and_then_in_the_new(house, until):
    house.desk.index_import("ada", house.take_in([f"number {number}" for number in range(200)]))
    embedder = WaitingEmbedder()
    house.hire(embedder)
    path, mine = house.index.path, house.ledger.for_owner("ada")
    with house.at_work():
        until(lambda: house.sweep.has_swept)
        house.jobs.submit_reindex()
        until(embedder.has_begun.is_set)
        new = house.accept("written meanwhile")
        [gone, edited, *_] = [entry for entry in house.ledger.iter_current() if entry.import_id]
        house.jobs.submit(mine.remove(gone.id))
        house.jobs.submit(mine.edit(edited.id, EntryDraft(text="edited meanwhile")))
        embedder.may_end.set()
        until(lambda: house.now(new).state == IndexState.INDEXED)
        assert house.index.path == path, "it was not searchable before the switch"
        until(lambda: house.jobs.report("ada", REINDEX_ID).status == "finished")
    living = [entry for entry in house.ledger.iter_current() if not entry.removed]
    assert house.indexed() == sorted((entry.id, entry.version) for entry in living)
    assert len(living) == 200


def test_one_that_fails_says_why_leaves_the_old_index_and_can_be_retried(house, until, monkeypatch):
    house.desk.index_entry("ada", house.note("a").id, 1)
    path = house.index.path

    def full() -> None:
        raise DiaryUnavailable("the disk is full")

    house.jobs.submit_reindex()
    with house.at_work():
        with monkeypatch.context() as patch:
            patch.setattr(house.index, "shadow", full)
            until(lambda: house.jobs.report("ada", REINDEX_ID).status == "failed")
        assert house.jobs.report("ada", REINDEX_ID).reason == "the disk is full"
        assert house.index.path == path
        assert house.jobs.retry("ada", REINDEX_ID).status in ("queued", "started", "finished")
        until(lambda: house.jobs.report("ada", REINDEX_ID).status == "finished")
    assert house.index.path != path
    assert len(house.indexed()) == 1


def test_a_queue_that_goes_away_stops_no_reindexing(house, valkey, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(desk, "BATCH_ENTRIES", 10)
    house.desk.index_import("ada", house.take_in([f"number {number}" for number in range(30)]))
    house.jobs.submit_reindex()
    job = diary_queue(house.queue).fetch_job(REINDEX_ID)
    monkeypatch.setattr(tasks, "get_current_job", lambda: job)
    valkey.terminate()
    assert tasks.reindex() == 30
