"""The job contract: all that the orchestrator and the worker know of each other.

One queue, because RQ's crash-safe dequeue works for a worker that listens to exactly one. JSON, because
whoever can write a pickle into Redis can run code.
"""

import re
import uuid
from dataclasses import dataclass

from redis import Redis
from redis.backoff import ExponentialBackoff
from redis.exceptions import RedisError
from redis.retry import Retry
from rq import Queue
from rq.exceptions import InvalidJobOperation, NoSuchJobError
from rq.job import Job, JobStatus
from rq.serializers import JSONSerializer

from services.diary.entry import Entry, IndexState
from services.diary.ledger import Ledger
from services.errors import DiaryUnavailable, NotFound

QUEUE_NAME = "diary"
INDEX_ENTRY = "services.worker.scribe.index_entry"  # (owner, entry_id, version)
JOB_TIMEOUT_S = 120
_SEPARATOR = "-v"


@dataclass(frozen=True)
class JobReport:
    """How the indexing of one entry version stands: queued, started, finished or failed."""

    id: str
    status: str
    entry_id: str
    version: int
    reason: str | None


def job_id(owner: str, entry_id: str, version: int) -> str:
    """One job an entry version. RQ allows letters, digits, `_` and `-`; the owner is hashed in."""
    return f"{uuid.uuid5(uuid.NAMESPACE_OID, owner).hex[:12]}-{entry_id}{_SEPARATOR}{version}"


def queue_connection(url: str, password: str = "") -> Redis:
    """A connection to the queue. It gives up within a tenth of a second, because nobody has to wait for
    the queue: an entry is safe in the ledger before it is queued."""
    return Redis.from_url(
        url,
        password=password or None,
        retry=Retry(ExponentialBackoff(cap=0.05, base=0.01), 2),
        socket_connect_timeout=2,  # seconds: a queue that hangs is a queue that is away
        socket_timeout=4,  # above the second that a worker waits for its next job
    )


def diary_queue(connection: Redis) -> Queue:
    """The queue, with the serializer that both ends use."""
    return Queue(QUEUE_NAME, connection=connection, serializer=JSONSerializer)


class Jobs:
    """Hands entries to the worker and tells how they stand. The ledger outlives any queue."""

    def __init__(self, connection: Redis, ledger: Ledger) -> None:
        self._connection = connection
        self._ledger = ledger

    def submit(self, entry: Entry) -> str:
        """Queue an entry for indexing; returns the job's id. Raises DiaryUnavailable."""
        name = job_id(entry.owner, entry.id, entry.version)
        try:
            diary_queue(self._connection).enqueue(
                INDEX_ENTRY,
                entry.owner,
                entry.id,
                entry.version,
                job_id=name,
                job_timeout=JOB_TIMEOUT_S,
                result_ttl=0,  # the ledger keeps the result
                failure_ttl=3600,
            )
        except RedisError as error:
            raise DiaryUnavailable(f"the diary's queue can't be reached: {error}") from error
        return name

    def waits(self, entry: Entry) -> bool:
        """Whether the entry's job is in the queue or in work now. Raises DiaryUnavailable."""
        name = job_id(entry.owner, entry.id, entry.version)
        return self._status(name) in (JobStatus.QUEUED, JobStatus.STARTED)

    def check(self) -> None:
        """Raises DiaryUnavailable when the queue can't be reached."""
        try:
            self._connection.ping()
        except RedisError as error:
            raise DiaryUnavailable(f"the diary's queue can't be reached: {error}") from error

    def report(self, owner: str, name: str) -> JobReport:
        """How a job of this owner stands. Raises NotFound."""
        entry = self._entry(owner, name)
        status = {IndexState.INDEXED: "finished", IndexState.FAILED: "failed"}.get(entry.state)
        if status is None:
            status = "started" if self._is_started(name) else "queued"
        return JobReport(name, status, entry.id, entry.version, entry.reason)

    def _is_started(self, name: str) -> bool:
        try:
            return self._status(name) == JobStatus.STARTED
        except DiaryUnavailable:
            return False  # the entry is safe in the ledger and will be queued again

    def _entry(self, owner: str, name: str) -> Entry:
        entry_id, _, version = name.partition("-")[2].rpartition(_SEPARATOR)
        if (
            not entry_id
            or not re.fullmatch("[1-9][0-9]{0,8}", version)
            or job_id(owner, entry_id, int(version)) != name
        ):
            raise NotFound(f"there is no job {name!r}", "id")
        try:
            entry = self._ledger.get(owner, entry_id)
        except NotFound:
            raise NotFound(f"there is no job {name!r}", "id") from None
        if int(version) > entry.version:
            raise NotFound(f"there is no job {name!r}", "id")
        return entry

    def _status(self, name: str) -> JobStatus | None:
        try:
            job = Job.fetch(name, connection=self._connection, serializer=JSONSerializer)
            return job.get_status()
        except (NoSuchJobError, InvalidJobOperation):  # done and gone, the second: since it was fetched
            return None
        except RedisError as error:
            raise DiaryUnavailable(f"the diary's queue can't be reached: {error}") from error
