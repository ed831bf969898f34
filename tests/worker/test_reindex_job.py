"""The reindexing as a job: Ada's diary is searched and written meanwhile, and it says how far it is.

.venv/bin/python -m pytest tests/worker/test_reindex_job.py
"""

import pytest
from fakes import WaitingEmbedder

from services.diary.entry import EntryDraft, IndexState
from services.diary.job_ids import REINDEX_ID
from services.diary.job_queue import diary_queue
from services.errors import DiaryUnavailable
from services.worker import tasks


def test_a_new_index_has_what_the_old_one_had(harness, until):
    harness.handlers.index_import("ada", harness.import_texts([f"number {number}" for number in range(100)]))
    before, path = harness.indexed(), harness.index.path
    harness.jobs.submit_reindex()
    with harness.running():
        until(lambda: harness.jobs.report("ada", REINDEX_ID).status == "finished")
    assert harness.index.path != path
    assert harness.indexed() == before
    assert harness.jobs.report("ada", REINDEX_ID).done == 100


def test_what_is_written_and_removed_meanwhile_is_in_the_old_index_and_then_in_the_new(harness, until):
    harness.handlers.index_import("ada", harness.import_texts([f"number {number}" for number in range(200)]))
    embedder = WaitingEmbedder()
    harness.build(embedder)
    path, diary = harness.index.path, harness.ledger.for_owner("ada")
    with harness.running():
        until(lambda: harness.outbox.has_relayed)
        harness.jobs.submit_reindex()
        until(embedder.has_begun.is_set)
        new = harness.accept("written meanwhile")
        [removed, edited, *_] = [entry for entry in harness.ledger.iter_current() if entry.import_id]
        harness.jobs.submit(diary.remove(removed.id))
        harness.jobs.submit(diary.edit(edited.id, EntryDraft(text="edited meanwhile")))
        embedder.may_end.set()
        until(lambda: harness.current(new).state == IndexState.INDEXED)
        assert harness.index.path == path, "it was not searchable before the switch"
        until(lambda: harness.jobs.report("ada", REINDEX_ID).status == "finished")
    living = [entry for entry in harness.ledger.iter_current() if not entry.removed]
    assert harness.indexed() == sorted((entry.id, entry.version) for entry in living)
    assert len(living) == 200


def test_one_that_fails_says_why_leaves_the_old_index_and_can_be_retried(harness, until, monkeypatch):
    harness.handlers.index_entry("ada", harness.add("a").id, 1)
    path = harness.index.path

    def full() -> None:
        raise DiaryUnavailable("the disk is full")

    harness.jobs.submit_reindex()
    with harness.running():
        with monkeypatch.context() as patch:
            patch.setattr(harness.index, "shadow", full)
            until(lambda: harness.jobs.report("ada", REINDEX_ID).status == "failed")
        assert harness.jobs.report("ada", REINDEX_ID).reason == "the disk is full"
        assert harness.index.path == path
        assert harness.jobs.retry("ada", REINDEX_ID).status in ("queued", "started", "finished")
        until(lambda: harness.jobs.report("ada", REINDEX_ID).status == "finished")
    assert harness.index.path != path
    assert len(harness.indexed()) == 1


def test_a_queue_that_goes_away_stops_no_reindexing(harness, valkey, monkeypatch: pytest.MonkeyPatch):
    harness.build(handlers={"batch_entries": 10})
    harness.handlers.index_import("ada", harness.import_texts([f"number {number}" for number in range(30)]))
    harness.jobs.submit_reindex()
    job = diary_queue(harness.queue).fetch_job(REINDEX_ID)
    monkeypatch.setattr(tasks, "get_current_job", lambda: job)
    valkey.terminate()
    assert tasks.reindex() == 30
