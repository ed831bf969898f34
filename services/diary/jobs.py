"""The job contract: all that the orchestrator and the worker know of each other.

A job says that there is work; the ledger says what, how often it was tried, and why it failed. So a queue
may be lost at any time: `services/worker/outbox.py` queues again what the ledger still waits for.
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

from redis import Redis
from rq.job import JobStatus

from services.diary.entry import Entry, IndexState
from services.diary.job_ids import (
    REINDEX_ID,
    JobKind,
    JobName,
    import_job_id,
    job_not_found,
    parse_job_id,
    reflection_job_id,
)
from services.diary.job_ids import job_id as job_id
from services.diary.job_queue import JobQueue
from services.diary.job_queue import queue_connection as queue_connection
from services.diary.ledger.ledger import ImportReport, Ledger
from services.diary.reflection.reflections import ACCEPTED, DONE, FAILED, QUEUED, Reflection, Reflections
from services.errors import DiaryUnavailable, EntryConflict, NotFound

INDEX_ENTRY = "services.worker.tasks.index_entry"  # (owner, entry_id, version)
INDEX_IMPORT = "services.worker.tasks.index_import"  # (owner, import_id)
REFLECT = "services.worker.tasks.reflect"  # (owner, reflection_id)
REINDEX = "services.worker.tasks.reindex"  # ()
JOB_TIMEOUT_S = 120  # of a batch of entries; an import takes turns that are shorter than this
REFLECTION_TIMEOUT_S = 900  # a model on a CPU is slow
REINDEX_TIMEOUT_S = 24 * 3600
REINDEX_KEPT_S = 24 * 3600  # for so long it can be asked how the last one ended
ListedStatus = Literal["queued", "finished", "failed"]
# How an entry, and how a reflection may stand in the ledger whose job is listed so.
_STATES = {
    "queued": (IndexState.QUEUED, (ACCEPTED, QUEUED)),
    "finished": (IndexState.INDEXED, (DONE,)),
    "failed": (IndexState.FAILED, (FAILED,)),
}


@dataclass(frozen=True)
class JobReport:
    """How a job stands: queued, started, finished or failed.

    One that is queued and has a reason was tried `attempts` times and put off. `done` and `total` count
    the entries of an import or of a reindexing.
    """

    id: str
    kind: JobKind
    status: str
    reason: str | None = None
    entry_id: str | None = None
    version: int | None = None
    attempts: int = 0
    done: int | None = None
    total: int | None = None


@dataclass(frozen=True)
class JobPage:
    """Some of the jobs with one status, and the cursor of the next page."""

    jobs: list[JobReport]
    next_cursor: str | None


class Jobs:
    """Hands work to the worker and tells how it stands. Safe to share between threads."""

    def __init__(self, connection: Redis, ledger: Ledger) -> None:
        self.queue = JobQueue(connection)
        self._ledger = ledger
        self._reflections = Reflections(ledger)

    # --- handing in. Twice is once; DiaryUnavailable means that the worker's sweep will do it ----------

    def submit(self, entry: Entry) -> str:
        """Queue an entry, or its tombstone, for the index; returns the job's id. Raises DiaryUnavailable."""
        name = job_id(entry.owner, entry.id, entry.version)
        self.queue.submit(name, INDEX_ENTRY, (entry.owner, entry.id, entry.version), JOB_TIMEOUT_S)
        return name

    def submit_import(self, owner: str, import_id: str) -> str:
        """Queue the entries of an import, as many as the ledger has by then. Raises DiaryUnavailable."""
        name = import_job_id(owner, import_id)
        self.queue.submit(name, INDEX_IMPORT, (owner, import_id), JOB_TIMEOUT_S)
        return name

    def submit_reflection(self, owner: str, reflection_id: str) -> str:
        """Queue a conversation for Ada to write about. Raises DiaryUnavailable."""
        name = reflection_job_id(owner, reflection_id)
        self.queue.submit(name, REFLECT, (owner, reflection_id), REFLECTION_TIMEOUT_S)
        return name

    def submit_reindex(self) -> str:
        """Queue the filling of a new index and the switch to it. Raises DiaryUnavailable."""
        self.queue.submit(REINDEX_ID, REINDEX, (), REINDEX_TIMEOUT_S, REINDEX_KEPT_S)
        return REINDEX_ID

    # --- asking -----------------------------------------------------------------------------------------

    def is_pending(self, entry: Entry) -> bool:
        """Whether the entry's job is in the queue or in work now. Raises DiaryUnavailable."""
        return self.queue.is_pending(job_id(entry.owner, entry.id, entry.version))

    def check(self) -> None:
        """Raises DiaryUnavailable when the queue can't be reached."""
        self.queue.check()

    def report(self, owner: str, name: str) -> JobReport:
        """How a job of this owner's stands. Raises NotFound."""
        job, started = parse_job_id(owner, name), self.queue.started_ids()
        try:
            if job.kind == JobKind.ENTRY:
                return self._of_entry(self._entry(owner, name, job), started)
            if job.kind == JobKind.IMPORT:
                return self._of_import(name, self._ledger.for_owner(owner).import_report(job.about), started)
            if job.kind == JobKind.REFLECTION:
                return self._of_reflection(self._reflections.get(owner, job.about), started)
        except NotFound:
            raise job_not_found(name) from None
        return self._of_reindex()

    def list(self, owner: str, status: ListedStatus, limit: int = 50, cursor: str | None = None) -> JobPage:
        """The owner's entries with this status as jobs, and all such reflections on the first page.

        "failed" lists the dead letters; "queued" lists those that are in work, too.
        """
        state, reflected = _STATES[status]
        page = self._ledger.for_owner(owner).with_state(state, limit, cursor)
        reflections = [] if cursor else self._reflections.with_state(owner, *reflected)
        started = self.queue.started_ids()
        jobs = [self._of_reflection(one, started) for one in reflections]
        jobs += [self._of_entry(entry, started) for entry in page.entries]
        return JobPage(jobs, page.next_cursor)

    def retry(self, owner: str, name: str) -> JobReport:
        """Queue a failed job again, its attempts forgotten. Of an import, all entries that failed.

        Raises NotFound, or EntryConflict when there is nothing that failed.
        """
        before, job = self.report(owner, name), parse_job_id(owner, name)
        if before.status != "failed":
            raise EntryConflict(f"job {name!r} is {before.status}, not failed: nothing to retry", "id")
        try:
            self._again(owner, job)
        except DiaryUnavailable:
            if job.kind == JobKind.REINDEX:
                raise  # it stands in no ledger
        return self.report(owner, name)

    def _again(self, owner: str, job: JobName) -> None:
        if job.kind == JobKind.ENTRY:
            self.submit(self._ledger.for_owner(owner).retry(job.about, job.version))
        elif job.kind == JobKind.IMPORT:
            self._queue_failed_of(owner, job.about)
            self.submit_import(owner, job.about)
        elif job.kind == JobKind.REFLECTION:
            if self._reflections.retry(owner, job.about).state == QUEUED:
                self.submit_reflection(owner, job.about)
        else:
            self.submit_reindex()

    def _queue_failed_of(self, owner: str, import_id: str) -> None:
        ledger, cursor = self._ledger.for_owner(owner), None
        while True:
            page = ledger.with_state(IndexState.FAILED, 500, cursor)
            for entry in page.entries:
                if entry.import_id == import_id:
                    ledger.retry(entry.id, entry.version)
            if (cursor := page.next_cursor) is None:
                return

    def _entry(self, owner: str, name: str, job: JobName) -> Entry:
        entry = self._ledger.current(owner, job.about)
        if job.version > entry.version:
            raise job_not_found(name)
        return entry

    # --- telling ----------------------------------------------------------------------------------------

    def _of_entry(self, entry: Entry, started: Collection[str]) -> JobReport:
        name = job_id(entry.owner, entry.id, entry.version)
        ended = {IndexState.INDEXED: "finished", IndexState.FAILED: "failed"}.get(entry.state)
        status = ended or _under_way(name, started)
        return JobReport(name, JobKind.ENTRY, status, entry.reason, entry.id, entry.version, entry.attempts)

    def _of_import(self, name: str, report: ImportReport, started: Collection[str]) -> JobReport:
        """An import has failed when nothing of it is queued any more and some entry has failed."""
        ended = "failed" if report.failed else "finished"
        status = _under_way(name, started) if report.queued else ended
        reason = f"{report.failed} of its entries failed" if report.failed else None
        total = report.indexed + report.failed + report.queued
        return JobReport(name, JobKind.IMPORT, status, reason, done=report.indexed, total=total)

    def _of_reflection(self, reflection: Reflection, started: Collection[str]) -> JobReport:
        name = reflection_job_id(reflection.owner, reflection.id)
        ended = {"done": "finished", "failed": "failed"}.get(reflection.state)
        status = ended or _under_way(name, started)
        reason, entry_id, attempts = reflection.reason, reflection.entry_id, reflection.attempts
        return JobReport(name, JobKind.REFLECTION, status, reason, entry_id, attempts=attempts)

    def _of_reindex(self) -> JobReport:
        """What the queue remembers: the only job that stands in no ledger."""
        job = self.queue.job(REINDEX_ID)
        if job is None:
            raise job_not_found(REINDEX_ID)
        known = {JobStatus.FINISHED: "finished", JobStatus.FAILED: "failed", JobStatus.STARTED: "started"}
        status = known.get(job.get_status(refresh=False), "queued")
        meta = job.get_meta(refresh=False)
        return JobReport(
            REINDEX_ID,
            JobKind.REINDEX,
            status,
            meta.get("reason"),
            done=meta.get("done"),
            total=meta.get("total"),
        )


def _under_way(name: str, started: Collection[str]) -> str:
    return "started" if name in started else "queued"
