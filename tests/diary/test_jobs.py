"""The job contract, on a real Valkey: what is in Redis, and what is told about it.

.venv/bin/python -m pytest tests/diary/test_jobs.py
"""

import inspect
import json
import re
import zlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis import Redis
from rq.job import JobStatus
from rq.utils import import_attribute

from services.diary.entry import Entry, EntryDraft
from services.diary.job_ids import (
    REINDEX_ID,
    JobKind,
    JobName,
    import_job_id,
    job_id,
    parse_job_id,
    reflection_job_id,
)
from services.diary.job_queue import QUEUE_NAME, JobQueue, diary_queue, queue_connection
from services.diary.jobs import INDEX_ENTRY, INDEX_IMPORT, REFLECT, REINDEX, Jobs
from services.diary.ledger.ledger import Ledger
from services.errors import DiaryUnavailable, EntryConflict, NotFound
from services.worker import tasks

OWNERS = st.text(max_size=20)
IDS = st.from_regex(r"[A-Za-z0-9_-]{1,64}", fullmatch=True)
IDS |= st.sampled_from(["a-v1", "a-v", "-v1", "v1", "1", "import_a", "_import_a", "reindex"])
ENTRY_NAMES = st.builds(lambda *of: (job_id, of), OWNERS, IDS, st.integers(1, 10**6))
OTHER_NAMES = st.builds(
    lambda make, *of: (make, of), st.sampled_from([import_job_id, reflection_job_id]), OWNERS, IDS
)
NAMES = ENTRY_NAMES | OTHER_NAMES


@pytest.fixture
def entry(ledger: Ledger) -> Entry:
    return ledger.for_owner("ada").add(EntryDraft(text="Rain until four.", id="e-v2"))


@pytest.fixture
def jobs(redis: Redis, ledger: Ledger) -> Jobs:
    return Jobs(redis, ledger)


@pytest.fixture
def away(tmp_path: Path) -> Redis:
    """A connection to a Valkey that is down."""
    return queue_connection(f"unix://{tmp_path}/nobody.sock")


def take_in(ledger: Ledger, *texts: str) -> str:
    """An import of these texts."""
    import_id = ledger.for_owner("ada").begin_import("texts.jsonl")
    ledger.for_owner("ada").add_rows(import_id, [EntryDraft(text=text) for text in texts])
    return import_id


class TestTheNames:
    @given(NAMES, NAMES)
    def test_two_jobs_have_one_name_only_when_they_are_one(self, first, other):
        assert (first[0](*first[1]) == other[0](*other[1])) == (first == other)

    @given(NAMES)
    def test_they_are_what_rq_allows(self, name):
        assert re.fullmatch(r"[A-Za-z0-9_-]+", name[0](*name[1]))

    @given(NAMES, OWNERS)
    def test_they_are_read_by_their_owner_and_by_nobody_else(self, name, other: str):
        make, (owner, about, *version) = name
        kinds = {job_id: JobKind.ENTRY, import_job_id: JobKind.IMPORT, reflection_job_id: JobKind.REFLECTION}
        assert parse_job_id(owner, make(*name[1])) == JobName(kinds[make], about, *version)
        if other != owner:
            with pytest.raises(NotFound):
                parse_job_id(other, make(*name[1]))


class TestTheContract:
    @pytest.mark.parametrize(
        ("path", "job", "arguments"),
        [
            (INDEX_ENTRY, tasks.index_entry, ["owner", "entry_id", "version"]),
            (INDEX_IMPORT, tasks.index_import, ["owner", "import_id"]),
            (REFLECT, tasks.reflect, ["owner", "reflection_id"]),
            (REINDEX, tasks.reindex, []),
        ],
    )
    def test_the_paths_lead_to_the_worker(self, path: str, job, arguments: list[str]):
        assert import_attribute(path) is job
        assert list(inspect.signature(job).parameters) == arguments

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
        assert not jobs.is_pending(entry)
        name = jobs.submit(entry)
        assert jobs.is_pending(entry)
        assert diary_queue(redis).job_ids == [name]
        assert redis.lrange(f"rq:queue:{QUEUE_NAME}", 0, -1) == [name.encode()]

    def test_whatever_is_submitted_twice_waits_once(self, jobs: Jobs, redis: Redis, entry: Entry):
        for _ in range(2):
            names = [
                jobs.submit(entry),
                jobs.submit_import("ada", "0a"),
                jobs.submit_reflection("ada", "0b"),
                jobs.submit_reindex(),
            ]
        assert diary_queue(redis).job_ids == names

    def test_a_job_that_has_failed_in_the_queue_may_be_submitted_again(self, jobs: Jobs, redis: Redis):
        name, queue = jobs.submit_reindex(), diary_queue(redis)
        queue.fetch_job(name).set_status(JobStatus.FAILED)
        queue.remove(name)
        jobs.submit_reindex()
        assert queue.job_ids == [name]

    def test_forgotten_jobs_are_gone_without_a_trace(self, jobs: Jobs, redis: Redis, entry: Entry):
        name = jobs.submit(entry)
        JobQueue(redis).delete([name, "never"])
        assert not jobs.is_pending(entry)
        assert redis.keys("rq:job:*") == []


class TestTheReport:
    def test_a_new_job_is_queued(self, jobs: Jobs, entry: Entry):
        report = jobs.report("ada", jobs.submit(entry))
        assert (report.kind, report.status, report.entry_id, report.version) == ("entry", "queued", "e-v2", 1)
        assert report.reason is None
        assert report.id == job_id("ada", "e-v2", 1)

    def test_a_job_that_is_deleted_while_it_is_looked_at_waits_no_more(
        self, jobs: Jobs, redis: Redis, entry: Entry
    ):
        name = jobs.submit(entry)
        redis.hdel(f"rq:job:{name}", "status")  # what is left of it between RQ's two questions
        assert not jobs.is_pending(entry)
        assert jobs.report("ada", name).status == "queued"

    def test_an_indexed_entry_is_a_finished_job(self, jobs: Jobs, ledger: Ledger, entry: Entry):
        name = jobs.submit(entry)
        ledger.mark_indexed([entry])
        assert jobs.report("ada", name).status == "finished"

    def test_a_failed_job_tells_its_reason(self, jobs: Jobs, ledger: Ledger, entry: Entry):
        name = jobs.submit(entry)
        ledger.mark_failed(entry, "ValueError: no")
        report = jobs.report("ada", name)
        assert (report.status, report.reason) == ("failed", "ValueError: no")

    def test_a_job_that_was_put_off_tells_why_and_how_often(self, jobs: Jobs, ledger: Ledger, entry: Entry):
        ledger.defer(entry, "ValueError: no")
        report = jobs.report("ada", job_id("ada", "e-v2", 1))
        assert (report.status, report.reason, report.attempts) == ("queued", "ValueError: no", 1)

    def test_the_job_of_a_removal_can_be_asked_for(self, jobs: Jobs, ledger: Ledger, entry: Entry):
        tombstone = ledger.for_owner("ada").remove(entry.id)
        report = jobs.report("ada", jobs.submit(tombstone))
        assert (report.status, report.version) == ("queued", 2)
        ledger.mark_indexed([tombstone])
        assert jobs.report("ada", report.id).status == "finished"

    def test_a_job_that_was_never_queued_is_told_as_queued(self, jobs: Jobs, entry: Entry):
        assert jobs.report("ada", job_id("ada", "e-v2", 1)).status == "queued"

    def test_an_import_tells_how_far_it_is(self, jobs: Jobs, ledger: Ledger):
        import_id = take_in(ledger, "a", "b", "c")
        name = jobs.submit_import("ada", import_id)
        first, second, third = ledger.due_of_import("ada", import_id, 9)
        report = jobs.report("ada", name)
        assert (report.kind, report.status, report.done, report.total) == ("import", "queued", 0, 3)
        ledger.mark_indexed([first])
        ledger.mark_failed(second, "ValueError: no")
        assert jobs.report("ada", name).status == "queued"
        ledger.mark_indexed([third])
        report = jobs.report("ada", name)
        assert (report.status, report.done, report.reason) == ("failed", 2, "1 of its entries failed")

    def test_a_reindexing_tells_how_it_stands_as_long_as_the_queue_knows(self, jobs: Jobs, redis: Redis):
        with pytest.raises(NotFound):
            jobs.report("ada", REINDEX_ID)
        job = diary_queue(redis).fetch_job(jobs.submit_reindex())
        assert jobs.report("ada", REINDEX_ID).status == "queued"
        job.meta = {"done": 3, "total": 9, "reason": "the disk is full"}
        job.save_meta()
        job.set_status(JobStatus.FAILED)
        report = jobs.report("ada", REINDEX_ID)
        assert (report.status, report.done, report.total) == ("failed", 3, 9)
        assert report.reason == "the disk is full"

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
            job_id("ada", "e-v2", 1) + "\n",
            job_id("ada", "e-v2", 1).replace("-v1", "-v01"),
            job_id("ada", "e-v2", 1).replace("-v1", "-v١"),
            job_id("ada", "e-v2", 1) + "1" * 5000,
            import_job_id("ada", "never"),
            reflection_job_id("ada", "never"),
            import_job_id("ada", "never").replace("import", "export"),
        ],
        ids=lambda name: name[:30],
    )
    def test_an_unknown_job_is_not_found(self, jobs: Jobs, entry: Entry, name: str):
        for call in (jobs.report, jobs.retry):
            with pytest.raises(NotFound) as raised:
                call("ada", name)
            assert raised.value.param == "id"

    def test_another_owners_job_is_not_found(self, jobs: Jobs, ledger: Ledger, entry: Entry):
        ledger.for_owner("bríd").add(EntryDraft(text="b", id="e-v2"))
        for name in (jobs.submit(entry), jobs.submit_import("ada", take_in(ledger, "a"))):
            with pytest.raises(NotFound):
                jobs.report("bríd", name)


class TestDeadLetters:
    @pytest.fixture
    def dead(self, ledger: Ledger) -> list[Entry]:
        entries = [ledger.for_owner("ada").add(EntryDraft(text=f"number {number}")) for number in range(5)]
        for entry in entries[:3]:
            ledger.mark_failed(entry, "ValueError: no")
        return entries[:3]

    def test_they_are_listed_with_their_reasons_page_by_page(self, jobs: Jobs, dead: list[Entry]):
        page = jobs.list("ada", "failed", 2)
        rest = jobs.list("ada", "failed", 2, page.next_cursor)
        assert [len(page.jobs), len(rest.jobs), rest.next_cursor] == [2, 1, None]
        listed = [*page.jobs, *rest.jobs]
        assert {job.id for job in listed} == {job_id("ada", entry.id, 1) for entry in dead}
        assert {(job.status, job.reason) for job in listed} == {("failed", "ValueError: no")}

    def test_what_is_queued_or_finished_is_listed_apart(self, jobs: Jobs, ledger: Ledger, dead: list[Entry]):
        assert len(jobs.list("ada", "queued").jobs) == 2
        ledger.mark_indexed(ledger.due(1))
        assert len(jobs.list("ada", "finished").jobs) == len(jobs.list("ada", "queued").jobs) == 1
        assert jobs.list("bríd", "failed").jobs == []

    def test_one_that_is_retried_is_queued_and_its_attempts_are_forgotten(
        self, jobs: Jobs, redis: Redis, dead: list[Entry]
    ):
        name = job_id("ada", dead[0].id, 1)
        report = jobs.retry("ada", name)
        assert (report.status, report.reason, report.attempts) == ("queued", None, 0)
        assert diary_queue(redis).job_ids == [name]
        assert len(jobs.list("ada", "failed").jobs) == 2

    def test_of_an_import_all_that_failed_are_queued_again(
        self, jobs: Jobs, ledger: Ledger, redis: Redis, dead: list[Entry]
    ):
        import_id = take_in(ledger, "a", "b", "c")
        first, second, third = ledger.due_of_import("ada", import_id, 9)
        ledger.mark_indexed([first])
        for entry in (second, third):
            ledger.mark_failed(entry, "ValueError: no")
        name = import_job_id("ada", import_id)
        assert jobs.retry("ada", name).status == "queued"
        assert {first.id for first in ledger.due_of_import("ada", import_id, 9)} == {second.id, third.id}
        assert diary_queue(redis).job_ids == [name]
        assert len(jobs.list("ada", "failed").jobs) == len(dead)

    def test_what_has_not_failed_is_not_retried(self, jobs: Jobs, entry: Entry):
        with pytest.raises(EntryConflict, match="queued, not failed"):
            jobs.retry("ada", jobs.submit(entry))

    def test_without_a_queue_a_retry_waits_in_the_ledger(
        self, away: Redis, ledger: Ledger, dead: list[Entry]
    ):
        report = Jobs(away, ledger).retry("ada", job_id("ada", dead[0].id, 1))
        assert report.status == "queued"
        assert dead[0].id in [entry.id for entry in ledger.due(9)]


class TestWithoutAQueue:
    def test_nothing_can_be_submitted_and_an_error_says_so(self, away: Redis, ledger: Ledger, entry: Entry):
        jobs = Jobs(away, ledger)
        for call in (lambda: jobs.submit(entry), jobs.check, jobs.submit_reindex):
            with pytest.raises(DiaryUnavailable, match="queue can't be reached") as error:
                call()
            assert not re.search(r"\d", str(error.value))  # no address of the deployment's own

    def test_nobody_can_say_whether_a_job_waits(self, away: Redis, ledger: Ledger, entry: Entry):
        with pytest.raises(DiaryUnavailable):
            Jobs(away, ledger).is_pending(entry)

    def test_the_ledger_still_tells_how_a_job_stands(self, away: Redis, ledger: Ledger, entry: Entry):
        name, jobs = job_id("ada", "e-v2", 1), Jobs(away, ledger)
        assert jobs.report("ada", name).status == "queued"
        ledger.mark_indexed([entry])
        assert jobs.report("ada", name).status == "finished"
        assert [job.id for job in jobs.list("ada", "finished").jobs] == [name]

    def test_a_queue_that_answers_is_no_trouble(self, jobs: Jobs):
        jobs.check()
