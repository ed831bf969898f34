"""The job contract: everything that the orchestrator and the worker know of each other.

A job says that there is work; the ledger says what to do, how often it was tried, and why it failed. So the
queue may be lost at any time: `services/worker/outbox.py` queues again what the ledger still waits for.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Literal, NamedTuple

from redis import Redis
from rq.job import JobStatus

from services.diary.entry import Entry, IndexState
from services.diary.job_ids import (
    REINDEX_ID,
    JobKind,
    JobName,
    import_job_id,
    job_id,
    job_not_found,
    parse_job_id,
    reflection_job_id,
)
from services.diary.job_queue import JobQueue
from services.diary.ledger.imports import ImportReport
from services.diary.ledger.ledger import Ledger
from services.diary.reflection.reflections import ACCEPTED, DONE, FAILED, QUEUED, Reflection, Reflections
from services.errors import DiaryUnavailable, EntryConflict, NotFound

INDEX_ENTRY = "services.worker.tasks.index_entry"  # (owner, entry_id, version)
INDEX_IMPORT = "services.worker.tasks.index_import"  # (owner, import_id)
REFLECT = "services.worker.tasks.reflect"  # (owner, reflection_id)
REINDEX = "services.worker.tasks.reindex"  # ()
JOB_TIMEOUT_S = 120  # for a batch of entries; the turns of an import are shorter than this
REFLECTION_TIMEOUT_S = 900  # a model on a CPU is slow
REINDEX_TIMEOUT_S = 24 * 3600
REINDEX_RESULT_S = 24 * 3600  # the result of the last reindexing is stored for so long
_RETRY_BATCH = 500  # failed entries of an import
ListedStatus = Literal["queued", "finished", "failed"]
# The ledger's states of the entries, and of the reflections, that are listed under a status.
_STATES = {
    "queued": (IndexState.QUEUED, (ACCEPTED, QUEUED)),
    "finished": (IndexState.INDEXED, (DONE,)),
    "failed": (IndexState.FAILED, (FAILED,)),
}
_REINDEX_STATUS = {
    JobStatus.FINISHED: "finished",
    JobStatus.FAILED: "failed",
    JobStatus.STARTED: "started",
}


@dataclass(frozen=True)
class JobReport:
    """The state of a job: queued, started, finished or failed.

    A queued job with a reason was tried `attempts` times and deferred. `done` and `total` count the entries
    of an import or of a reindexing.
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


class _Operations(NamedTuple):
    """What differs between the kinds of jobs: how one is reported, and how one that failed is queued again.

    Both get the job's owner and its parsed name.
    """

    report: Callable[[str, JobName], JobReport]
    retry: Callable[[str, JobName], None]


class Jobs:
    """Submits jobs to the worker, and reports on them. Safe to share between threads."""

    def __init__(self, connection: Redis, ledger: Ledger) -> None:
        self.queue = JobQueue(connection)
        self._ledger = ledger
        self._reflections = Reflections(ledger)
        self._operations = {
            JobKind.ENTRY: _Operations(self._report_entry, self._retry_entry),
            JobKind.IMPORT: _Operations(self._report_import, self._retry_import),
            JobKind.REFLECTION: _Operations(self._report_reflection, self._retry_reflection),
            JobKind.REINDEX: _Operations(self._report_reindex, self._retry_reindex),
        }

    # --- Submitting. A job that is in the queue is not queued twice. After DiaryUnavailable the worker's
    # --- outbox relay queues the job.

    def submit(self, entry: Entry) -> str:
        """Queue an entry, or its tombstone, for the index; returns the job's id. Raises DiaryUnavailable."""
        name = job_id(entry.owner, entry.id, entry.version)
        self.queue.submit(name, INDEX_ENTRY, (entry.owner, entry.id, entry.version), JOB_TIMEOUT_S)
        return name

    def submit_import(self, owner: str, import_id: str) -> str:
        """Queue the entries of an import; returns the job's id. Raises DiaryUnavailable.

        The job indexes all entries that the ledger has when it runs.
        """
        name = import_job_id(owner, import_id)
        self.queue.submit(name, INDEX_IMPORT, (owner, import_id), JOB_TIMEOUT_S)
        return name

    def submit_reflection(self, owner: str, reflection_id: str) -> str:
        """Queue a conversation that Ada is to write about; returns the job's id. Raises DiaryUnavailable."""
        name = reflection_job_id(owner, reflection_id)
        self.queue.submit(name, REFLECT, (owner, reflection_id), REFLECTION_TIMEOUT_S)
        return name

    def submit_reindex(self) -> str:
        """Queue the filling of a new index, and the switch to it. Raises DiaryUnavailable."""
        self.queue.submit(REINDEX_ID, REINDEX, (), REINDEX_TIMEOUT_S, REINDEX_RESULT_S)
        return REINDEX_ID

    # --- Reporting --------------------------------------------------------------------------------------

    def is_pending(self, entry: Entry) -> bool:
        """Whether the entry's job is in the queue or running now. Raises DiaryUnavailable."""
        return self.queue.is_pending(job_id(entry.owner, entry.id, entry.version))

    def check(self) -> None:
        """Raises DiaryUnavailable when the queue can't be reached."""
        self.queue.check()

    def report(self, owner: str, name: str) -> JobReport:
        """The state of one of the owner's jobs. Raises NotFound."""
        job = parse_job_id(owner, name)
        try:
            return self._operations[job.kind].report(owner, job)
        except NotFound:
            raise job_not_found(name) from None

    def list(self, owner: str, status: ListedStatus, limit: int = 50, cursor: str | None = None) -> JobPage:
        """The owner's entries with this status as jobs; the first page has all such reflections, too.

        "failed" lists the dead letters. "queued" also lists the jobs that are running.
        """
        state, reflection_states = _STATES[status]
        page = self._ledger.for_owner(owner).with_state(state, limit, cursor)
        reflections = [] if cursor else self._reflections.with_state(owner, *reflection_states)
        started = self.queue.started_ids()
        jobs = [_reflection_report(reflection, started) for reflection in reflections]
        jobs += [_entry_report(entry, started) for entry in page.entries]
        return JobPage(jobs, page.next_cursor)

    def _report_entry(self, owner: str, job: JobName) -> JobReport:
        entry = self._ledger.current(owner, job.subject)
        if job.version > entry.version:
            raise NotFound(f"the entry has no version {job.version}", "id")
        return _entry_report(entry, self.queue.started_ids())

    def _report_import(self, owner: str, job: JobName) -> JobReport:
        report = self._ledger.for_owner(owner).import_report(job.subject)
        return _import_report(owner, report, self.queue.started_ids())

    def _report_reflection(self, owner: str, job: JobName) -> JobReport:
        return _reflection_report(self._reflections.get(owner, job.subject), self.queue.started_ids())

    def _report_reindex(self, _owner: str, _job: JobName) -> JobReport:
        """From the queue: a reindexing is the only job that has no row in the ledger."""
        job = self.queue.job(REINDEX_ID)
        if job is None:
            raise job_not_found(REINDEX_ID)
        meta = job.get_meta(refresh=False)
        return JobReport(
            REINDEX_ID,
            JobKind.REINDEX,
            _REINDEX_STATUS.get(job.get_status(refresh=False), "queued"),
            meta.get("reason"),
            done=meta.get("done"),
            total=meta.get("total"),
        )

    # --- Retrying ---------------------------------------------------------------------------------------

    def retry(self, owner: str, name: str) -> JobReport:
        """Queue a failed job again, its attempts reset. For an import, all entries that failed.

        Raises NotFound, or EntryConflict when nothing has failed.
        """
        before, job = self.report(owner, name), parse_job_id(owner, name)
        if before.status != "failed":
            raise EntryConflict(f"job {name!r} is {before.status}, not failed: nothing to retry", "id")
        try:
            self._operations[job.kind].retry(owner, job)
        except DiaryUnavailable:
            if job.kind == JobKind.REINDEX:
                raise  # no row in the ledger waits for it
        return self.report(owner, name)

    def _retry_entry(self, owner: str, job: JobName) -> None:
        self.submit(self._ledger.for_owner(owner).retry(job.subject, job.version))

    def _retry_import(self, owner: str, job: JobName) -> None:
        ledger, cursor = self._ledger.for_owner(owner), None
        while True:
            page = ledger.with_state(IndexState.FAILED, _RETRY_BATCH, cursor)
            for entry in page.entries:
                if entry.import_id == job.subject:
                    ledger.retry(entry.id, entry.version)
            if (cursor := page.next_cursor) is None:
                break
        self.submit_import(owner, job.subject)

    def _retry_reflection(self, owner: str, job: JobName) -> None:
        if self._reflections.retry(owner, job.subject).state == QUEUED:
            self.submit_reflection(owner, job.subject)

    def _retry_reindex(self, _owner: str, _job: JobName) -> None:
        self.submit_reindex()


def _entry_report(entry: Entry, started: Collection[str]) -> JobReport:
    name = job_id(entry.owner, entry.id, entry.version)
    status = {IndexState.INDEXED: "finished", IndexState.FAILED: "failed"}.get(entry.state)
    return JobReport(
        name,
        JobKind.ENTRY,
        status or _pending_status(name, started),
        entry.reason,
        entry.id,
        entry.version,
        entry.attempts,
    )


def _import_report(owner: str, report: ImportReport, started: Collection[str]) -> JobReport:
    """An import has failed when none of its entries is queued any more and some have failed."""
    name = import_job_id(owner, report.id)
    status = "failed" if report.failed else "finished"
    return JobReport(
        name,
        JobKind.IMPORT,
        _pending_status(name, started) if report.queued else status,
        f"{report.failed} of its entries failed" if report.failed else None,
        done=report.indexed,
        total=report.indexed + report.failed + report.queued,
    )


def _reflection_report(reflection: Reflection, started: Collection[str]) -> JobReport:
    name = reflection_job_id(reflection.owner, reflection.id)
    status = {DONE: "finished", FAILED: "failed"}.get(reflection.state)
    return JobReport(
        name,
        JobKind.REFLECTION,
        status or _pending_status(name, started),
        reflection.reason,
        reflection.entry_id,
        attempts=reflection.attempts,
    )


def _pending_status(name: str, started: Collection[str]) -> str:
    return "started" if name in started else "queued"
