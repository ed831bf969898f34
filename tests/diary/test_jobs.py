"""The job contract, on a real Valkey: what is in Redis, and what is told about it.

.venv/bin/python -m pytest tests/diary/test_jobs.py
"""

import inspect
import json
import re
import time
import zlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis import Redis
from rq.utils import import_attribute

from services.diary.entry import Entry, EntryDraft, IndexState
from services.diary.jobs import INDEX_ENTRY, QUEUE_NAME, Jobs, diary_queue, job_id, queue_connection
from services.diary.ledger import Ledger
from services.errors import DiaryUnavailable, NotFound
from services.worker.scribe import index_entry

IDS = st.from_regex(r"[A-Za-z0-9_-]{1,64}", fullmatch=True)
IDS |= st.sampled_from(["a-v1", "a-v", "-v1", "v1", "1"])
NAMES = st.tuples(st.text(max_size=20), IDS, st.integers(1, 10**6))


@pytest.fixture
def entry(ledger: Ledger) -> Entry:
    return ledger.add("ada", EntryDraft(text="Rain until four.", id="e-v2"))


@pytest.fixture
def jobs(redis: Redis, ledger: Ledger) -> Jobs:
    return Jobs(redis, ledger)


@pytest.fixture
def away(tmp_path: Path) -> Redis:
    """A connection to a Valkey that is down."""
    return queue_connection(f"unix://{tmp_path}/nobody.sock")


class TestTheContract:
    @given(NAMES, NAMES)
    def test_owner_entry_and_version_make_the_id(
        self, one: tuple[str, str, int], other: tuple[str, str, int]
    ):
        assert (job_id(*one) == job_id(*other)) == (one == other)

    @given(NAMES)
    def test_ids_are_what_rq_allows(self, name: tuple[str, str, int]):
        assert re.fullmatch(r"[A-Za-z0-9_-]+", job_id(*name))

    def test_the_path_of_the_job_leads_to_the_scribe(self):
        assert import_attribute(INDEX_ENTRY) is index_entry
        assert list(inspect.signature(index_entry).parameters) == ["owner", "entry_id", "version"]

    def test_what_lies_in_redis_is_json_and_no_pickle(self, jobs: Jobs, redis: Redis, entry: Entry):
        name = jobs.submit(entry)
        job = {key.decode(): value for key, value in redis.hgetall(f"rq:job:{name}").items()}
        assert json.loads(zlib.decompress(job["data"])) == [INDEX_ENTRY, None, ["ada", "e-v2", 1], {}]
        assert json.loads(job["meta"]) == {} if "meta" in job else True
        assert not any(value.startswith(b"\x80") for value in job.values())

    def test_no_word_of_the_entry_lies_in_redis(self, jobs: Jobs, redis: Redis, entry: Entry):
        job = redis.hgetall(f"rq:job:{jobs.submit(entry)}")
        job[b"data"] = zlib.decompress(job[b"data"])
        assert not any(b"Rain" in value for value in job.values())

    def test_a_submitted_job_waits_in_the_diarys_queue(self, jobs: Jobs, redis: Redis, entry: Entry):
        assert not jobs.waits(entry)
        name = jobs.submit(entry)
        assert jobs.waits(entry)
        assert diary_queue(redis).job_ids == [name]
        assert redis.lrange(f"rq:queue:{QUEUE_NAME}", 0, -1) == [name.encode()]


class TestTheReport:
    def test_a_new_job_is_queued(self, jobs: Jobs, entry: Entry):
        report = jobs.report("ada", jobs.submit(entry))
        assert (report.status, report.entry_id, report.version) == ("queued", "e-v2", 1)
        assert report.reason is None
        assert report.id == job_id("ada", "e-v2", 1)

    def test_a_job_that_is_deleted_while_it_is_looked_at_waits_no_more(
        self, jobs: Jobs, redis: Redis, entry: Entry
    ):
        name = jobs.submit(entry)
        redis.hdel(f"rq:job:{name}", "status")  # what is left of it between RQ's two questions
        assert not jobs.waits(entry)
        assert jobs.report("ada", name).status == "queued"

    def test_an_indexed_entry_is_a_finished_job(self, jobs: Jobs, ledger: Ledger, entry: Entry):
        name = jobs.submit(entry)
        ledger.mark(entry, IndexState.INDEXED)
        assert jobs.report("ada", name).status == "finished"

    def test_a_failed_job_tells_its_reason(self, jobs: Jobs, ledger: Ledger, entry: Entry):
        name = jobs.submit(entry)
        ledger.mark(entry, IndexState.FAILED, "ValueError: no")
        report = jobs.report("ada", name)
        assert (report.status, report.reason) == ("failed", "ValueError: no")

    def test_a_job_that_was_never_queued_is_told_as_queued(self, jobs: Jobs, entry: Entry):
        assert jobs.report("ada", job_id("ada", "e-v2", 1)).status == "queued"

    @pytest.mark.parametrize(
        "name",
        [
            "",
            "-",
            "never",
            "-v1",
            "e-v2-v1",
            "000000000000-e-v2-v1",
            job_id("ada", "never", 1),
            job_id("ada", "e-v2", 2),
            job_id("ada", "e-v2", 0),
            job_id("ada", "e-v2", 1) + " ",
            job_id("ada", "e-v2", 1).replace("-v1", "-v01"),
            job_id("ada", "e-v2", 1).replace("-v1", "-v١"),
            job_id("ada", "e-v2", 1) + "1" * 5000,
        ],
        ids=lambda name: name[:30],
    )
    def test_an_unknown_job_is_not_found(self, jobs: Jobs, entry: Entry, name: str):
        with pytest.raises(NotFound) as raised:
            jobs.report("ada", name)
        assert raised.value.param == "id"

    def test_another_owners_job_is_not_found(self, jobs: Jobs, ledger: Ledger, entry: Entry):
        ledger.add("bríd", EntryDraft(text="b", id="e-v2"))
        with pytest.raises(NotFound):
            jobs.report("bríd", jobs.submit(entry))


class TestWithoutAQueue:
    def test_nothing_can_be_submitted_and_it_is_said_at_once(self, away: Redis, ledger: Ledger, entry: Entry):
        began = time.monotonic()
        for call in (lambda: Jobs(away, ledger).submit(entry), Jobs(away, ledger).check):
            with pytest.raises(DiaryUnavailable, match="queue can't be reached"):
                call()
        assert time.monotonic() - began < 1

    def test_nobody_can_say_whether_a_job_waits(self, away: Redis, ledger: Ledger, entry: Entry):
        with pytest.raises(DiaryUnavailable):
            Jobs(away, ledger).waits(entry)

    def test_the_ledger_still_tells_how_a_job_stands(self, away: Redis, ledger: Ledger, entry: Entry):
        name = job_id("ada", "e-v2", 1)
        assert Jobs(away, ledger).report("ada", name).status == "queued"
        ledger.mark(entry, IndexState.INDEXED)
        assert Jobs(away, ledger).report("ada", name).status == "finished"

    def test_a_queue_that_answers_is_no_trouble(self, jobs: Jobs):
        jobs.check()
