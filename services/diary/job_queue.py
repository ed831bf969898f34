"""The queue in Redis: one list of jobs, each there once, and nothing in it that can't be lost.

One queue, because RQ's crash-safe dequeue works for a worker that listens to exactly one. JSON, because
whoever can write a pickle into Redis can run code. No word of an entry lies in Redis, only ids.
"""

import json
import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from redis import Redis
from redis.backoff import ExponentialBackoff
from redis.exceptions import RedisError
from redis.retry import Retry
from rq import Queue
from rq.exceptions import DuplicateJobError, InvalidJobOperation, NoSuchJobError
from rq.job import Job, JobStatus
from rq.serializers import JSONSerializer

from services.errors import DiaryUnavailable
from services.tracing import carried, carried_id

log = logging.getLogger("ada.diary")
QUEUE_NAME = "diary"
_WAITING = (JobStatus.QUEUED, JobStatus.STARTED)


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


class JobQueue:
    """Puts jobs into the queue and looks after them there. Every call raises DiaryUnavailable when Redis
    can't be reached. Safe to share between threads."""

    def __init__(self, connection: Redis) -> None:
        self._connection = connection

    def submit(
        self, name: str, path: str, arguments: tuple[str | int, ...], timeout_s: int, keep_s: int = 0
    ) -> bool:
        """Queue the function at `path`, unless a job of this name waits or is in work; whether it was queued.

        `keep_s` is for how long it can be read how the job ended.
        """
        for _ in range(2):
            try:
                with _named_failures():
                    diary_queue(self._connection).enqueue(
                        path,
                        *arguments,
                        job_id=name,
                        unique=True,
                        job_timeout=timeout_s,
                        result_ttl=keep_s,
                        failure_ttl=keep_s or 3600,
                        meta=carried(),
                    )
                return True
            except DuplicateJobError:
                if self.is_pending(name):
                    return False
                self.delete([name])  # it has ended, or is the torn rest of a queue that was lost
        return False  # somebody else queued it in this moment

    def status(self, name: str) -> JobStatus | None:
        """How a job stands in Redis; None when it is not there."""
        job = self.job(name)
        try:
            return job.get_status() if job else None
        except InvalidJobOperation:  # gone since it was fetched
            return None

    def job(self, name: str) -> Job | None:
        """A job as RQ has it."""
        with _named_failures():
            try:
                return Job.fetch(name, connection=self._connection, serializer=JSONSerializer)
            except NoSuchJobError:
                return None

    def is_pending(self, name: str) -> bool:
        """Whether a job is in the queue or in work now."""
        return self.status(name) in _WAITING

    def started_ids(self) -> set[str]:
        """The names of the jobs that are in work now; of none when Redis can't say."""
        registry = diary_queue(self._connection).started_job_registry
        try:
            with _named_failures():
                return set(registry.get_job_ids(cleanup=False))
        except DiaryUnavailable:
            return set()

    def pending_ids(self) -> set[str]:
        """The names of all jobs that are in the queue or in work now."""
        queue = diary_queue(self._connection)
        with _named_failures():
            in_hand = queue.intermediate_queue.get_job_ids()
            started = queue.started_job_registry.get_job_ids(cleanup=False)
            return {*queue.job_ids, *in_hand, *started}

    def counts(self) -> dict[str, int]:
        """How many jobs wait, and how many are in work now."""
        queue = diary_queue(self._connection)
        with _named_failures():
            started = queue.started_job_registry.get_job_count(cleanup=False)
            return {"queued": queue.count, "started": started}

    def request_ids(self, names: Iterable[str]) -> list[str]:
        """The ids of the requests that queued these jobs, of those that are still in Redis."""
        with _named_failures(), self._connection.pipeline(transaction=False) as pipeline:
            for name in names:
                pipeline.hget(Job.key_for(name), "meta")
            metas = [json.loads(meta) for meta in pipeline.execute() if meta]
        return sorted({found for meta in metas if (found := carried_id(meta))})

    def delete(self, names: Iterable[str]) -> None:
        """Take jobs out of the queue whose work is done already."""
        queue = diary_queue(self._connection)
        with _named_failures(), self._connection.pipeline() as pipeline:
            for name in names:
                queue.remove(name, pipeline=pipeline)
                pipeline.delete(Job.key_for(name))
            pipeline.execute()

    def requeue_orphans(self) -> list[str]:
        """What a worker before this one had in hand when it was killed goes to the front of the queue.

        Only for the worker when it starts, who is the only one at the queue.
        """
        queue = diary_queue(self._connection)
        with _named_failures():
            started = queue.started_job_registry
            in_hand = {*queue.intermediate_queue.get_job_ids(), *started.get_job_ids(cleanup=False)}
            left = [job for name in sorted(in_hand) if (job := self.job(name))]
            with self._connection.pipeline() as pipeline:
                pipeline.delete(queue.intermediate_queue.key, started.key)
                for job in left:
                    queue.remove(job.id, pipeline=pipeline)
                    job.set_status(JobStatus.QUEUED, pipeline=pipeline)
                    queue.push_job_id(job.id, pipeline=pipeline, at_front=True)
                pipeline.execute()
        return [job.id for job in left]

    def check(self) -> None:
        """Raises DiaryUnavailable when the queue can't be reached."""
        with _named_failures():
            self._connection.ping()


@contextmanager
def _named_failures() -> Iterator[None]:
    try:
        yield
    except RedisError as error:
        log.warning("the diary's queue can't be reached: %s", error)  # it names the queue's address
        raise DiaryUnavailable("the diary's queue can't be reached; the log says more") from error
