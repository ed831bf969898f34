"""The queue in Redis: a list of jobs, none twice, and nothing in it that may not be lost.

There is one queue, because RQ's crash-safe dequeue needs a worker that listens to exactly one. Jobs are JSON,
because whoever can write a pickle into Redis can run code. Redis holds ids, and no text of an entry.
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
_PENDING = (JobStatus.QUEUED, JobStatus.STARTED)


def queue_connection(url: str, password: str = "") -> Redis:
    """A connection to the queue that gives up within a tenth of a second.

    Nobody has to wait for the queue: an entry is safe in the ledger before it is queued.
    """
    return Redis.from_url(
        url,
        password=password or None,
        retry=Retry(ExponentialBackoff(cap=0.05, base=0.01), 2),
        socket_connect_timeout=2,  # seconds; a queue that hangs counts as unavailable
        socket_timeout=4,  # more than the second for which a worker waits for its next job
    )


def diary_queue(connection: Redis) -> Queue:
    """The RQ queue, with the serializer that orchestrator and worker share."""
    return Queue(QUEUE_NAME, connection=connection, serializer=JSONSerializer)


class JobQueue:
    """The jobs in Redis. Every method raises DiaryUnavailable when Redis can't be reached.

    Safe to share between threads.
    """

    def __init__(self, connection: Redis) -> None:
        self._connection = connection

    def submit(
        self, name: str, path: str, arguments: tuple[str | int, ...], timeout_s: int, result_s: int = 0
    ) -> bool:
        """Queue a call of the function at `path`, unless a job of this name is pending.

        Returns whether it was queued.

        The job's result is stored for `result_s` seconds.
        """
        for _ in range(2):
            try:
                with translated_errors():
                    diary_queue(self._connection).enqueue(
                        path,
                        *arguments,
                        job_id=name,
                        unique=True,
                        job_timeout=timeout_s,
                        result_ttl=result_s,
                        failure_ttl=result_s or 3600,
                        meta=carried(),
                    )
                return True
            except DuplicateJobError:
                if self.is_pending(name):
                    return False
                self.delete([name])  # it has ended, or is the incomplete rest of a queue that was lost
        return False  # another process queued it in this moment

    def status(self, name: str) -> JobStatus | None:
        """The status of a job in Redis; None when it is not there."""
        job = self.job(name)
        try:
            return job.get_status() if job else None
        except InvalidJobOperation:  # deleted since it was fetched
            return None

    def job(self, name: str) -> Job | None:
        """RQ's job of this name; None when it is not there."""
        with translated_errors():
            try:
                return Job.fetch(name, connection=self._connection, serializer=JSONSerializer)
            except NoSuchJobError:
                return None

    def is_pending(self, name: str) -> bool:
        """Whether a job is in the queue or running now."""
        return self.status(name) in _PENDING

    def started_ids(self) -> set[str]:
        """The names of the jobs that run now; empty when Redis can't be reached."""
        registry = diary_queue(self._connection).started_job_registry
        try:
            with translated_errors():
                return set(registry.get_job_ids(cleanup=False))
        except DiaryUnavailable:
            return set()

    def pending_ids(self) -> set[str]:
        """The names of all jobs that are in the queue or running now."""
        queue = diary_queue(self._connection)
        with translated_errors():
            dequeued = queue.intermediate_queue.get_job_ids()
            started = queue.started_job_registry.get_job_ids(cleanup=False)
            return {*queue.job_ids, *dequeued, *started}

    def counts(self) -> dict[str, int]:
        """The number of jobs in the queue, and of those that run now."""
        queue = diary_queue(self._connection)
        with translated_errors():
            started = queue.started_job_registry.get_job_count(cleanup=False)
            return {"queued": queue.count, "started": started}

    def request_ids(self, names: Iterable[str]) -> list[str]:
        """The ids of the requests that queued these jobs, as far as the jobs are still in Redis."""
        with translated_errors(), self._connection.pipeline(transaction=False) as pipeline:
            for name in names:
                pipeline.hget(Job.key_for(name), "meta")
            metas = [json.loads(meta) for meta in pipeline.execute() if meta]
        return sorted({request_id for meta in metas if (request_id := carried_id(meta))})

    def delete(self, names: Iterable[str]) -> None:
        """Delete jobs whose work is done already."""
        queue = diary_queue(self._connection)
        with translated_errors(), self._connection.pipeline() as pipeline:
            for name in names:
                queue.remove(name, pipeline=pipeline)
                pipeline.delete(Job.key_for(name))
            pipeline.execute()

    def requeue_orphans(self) -> list[str]:
        """Put the jobs of a worker that was killed at the front of the queue; returns their names.

        Only a starting worker may call this: it is the only one at the queue.
        """
        queue = diary_queue(self._connection)
        with translated_errors():
            started = queue.started_job_registry
            names = {*queue.intermediate_queue.get_job_ids(), *started.get_job_ids(cleanup=False)}
            orphans = [job for name in sorted(names) if (job := self.job(name))]
            with self._connection.pipeline() as pipeline:
                pipeline.delete(queue.intermediate_queue.key, started.key)
                for job in orphans:
                    queue.remove(job.id, pipeline=pipeline)
                    job.set_status(JobStatus.QUEUED, pipeline=pipeline)
                    queue.push_job_id(job.id, pipeline=pipeline, at_front=True)
                pipeline.execute()
        return [job.id for job in orphans]

    def check(self) -> None:
        """Raises DiaryUnavailable when the queue can't be reached."""
        with translated_errors():
            self._connection.ping()


@contextmanager
def translated_errors() -> Iterator[None]:
    """Raise DiaryUnavailable for Redis' errors."""
    try:
        yield
    except RedisError as error:
        log.warning("the diary's queue can't be reached: %s", error)  # the message has the queue's address
        raise DiaryUnavailable("the diary's queue can't be reached; the log says more") from error
