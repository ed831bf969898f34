"""The worker: an RQ worker over the diary's queue, and the outbox relay in a second thread."""

import logging
import sys
import threading
from collections.abc import Callable
from typing import Any

from redis import Redis
from redis.exceptions import RedisError
from rq import Queue
from rq.exceptions import StopRequested
from rq.job import Job
from rq.serializers import JSONSerializer
from rq.timeouts import TimerDeathPenalty
from rq.worker import SimpleWorker

from services.diary.embedding.embedder import Embedder
from services.diary.index.engine import IndexEngine
from services.diary.job_queue import JobQueue, diary_queue
from services.diary.jobs import Jobs
from services.diary.ledger.ledger import Ledger
from services.errors import DiaryUnavailable
from services.logs import raised
from services.worker.handlers import JobHandlers
from services.worker.indexer import Indexer
from services.worker.outbox import OutboxRelay
from services.worker.reflection import CompletionClient, ReflectionHandler
from services.worker.tasks import register_handlers

log = logging.getLogger("ada.worker")


def noop() -> None:
    """Does nothing: nobody watches the worker's progress."""


def build_worker(
    ledger: Ledger,
    embedder: Embedder,
    index: IndexEngine,
    queue: Redis,
    client: CompletionClient,
    on_progress: Callable[[], None] = noop,
) -> "Worker":
    """The worker of this process, ready to run. `on_progress` is called whenever some work is done.

    A process has one worker: RQ finds the handlers of its jobs by a path.
    """
    jobs, indexer = Jobs(queue, ledger), Indexer(ledger, embedder, index)
    register_handlers(
        JobHandlers(ledger, indexer, jobs, ReflectionHandler(ledger, jobs, client), on_progress)
    )
    return Worker(queue, OutboxRelay(ledger, indexer, jobs), on_progress)


class Worker:
    """Works through the diary's queue until it is stopped. A queue has one worker.

    `on_progress` is called after each turn of the loop in which the queue was reached: about once a second,
    and after each job.
    """

    def __init__(
        self, connection: Redis, outbox: OutboxRelay, on_progress: Callable[[], None] = noop
    ) -> None:
        self._connection = connection
        self._outbox = outbox
        self._on_progress = on_progress
        self._stopping = threading.Event()

    def run(self) -> None:
        """Work until `stop` is called. Continues after the queue was away."""
        relay = threading.Thread(target=self._outbox.run, args=[self._stopping], daemon=True)
        relay.start()
        while not self._stopping.is_set():
            try:
                self._work()
            except (RedisError, DiaryUnavailable) as error:
                log.warning("the queue can't be reached, trying again: %s", error)
            self._stopping.wait(1.0)
        relay.join()

    def stop(self) -> None:
        """Let `run` return after the current job; this takes up to a few seconds."""
        self._stopping.set()

    def _work(self) -> None:
        if orphans := JobQueue(self._connection).requeue_orphans():
            log.info("%d jobs of a worker that ended are queued again", len(orphans))
        worker = ThreadWorker(
            [diary_queue(self._connection)],
            connection=self._connection,
            serializer=JSONSerializer,
            stopping=self._stopping,
            on_progress=self._on_progress,
        )
        worker.work(logging_level="WARNING")


class ThreadWorker(SimpleWorker):
    """An RQ worker for a thread: it does not fork (the embedder is loaded once) and handles no signals."""

    death_penalty_class = TimerDeathPenalty

    max_connection_wait_time = 1.0  # seconds; with RQ's own 180 a queue that is back would wait as long
    dequeue_timeout = 1  # seconds

    def __init__(
        self, *args: Any, stopping: threading.Event, on_progress: Callable[[], None], **options: Any
    ) -> None:
        super().__init__(*args, **options)
        self._stopping = stopping
        self._on_progress = on_progress

    def heartbeat(self, timeout: int | None = None, pipeline: Any = None) -> None:
        """Stop when asked to, and report progress.

        RQ calls this at each turn of its loops, also while it waits for a job or for a lost queue. RQ looks
        at a stop flag of its own only between jobs.
        """
        if pipeline is None and self._stopping.is_set():
            raise StopRequested
        super().heartbeat(timeout, pipeline)
        self._on_progress()

    def handle_exception(self, job: Job, *exc_info: Any) -> None:
        """Log the error. RQ's own line holds the exception's message, which may be a diary's text."""
        log.error("job %s failed", job.id, exc_info=exc_info)

    def handle_job_failure(
        self, job: Job, queue: Queue, started_job_registry: Any = None, exc_string: str = ""
    ) -> None:
        """Store the error in Redis without its message, for the same reason."""
        error = raised(sys.exc_info()[1]) if sys.exc_info()[1] else exc_string.partition("\n")[0]
        super().handle_job_failure(job, queue, started_job_registry, error)

    def subscribe(self) -> None:
        """Accept no commands from the queue."""

    def procline(self, message: str) -> None:
        """Leave the process' name as it is."""

    def _install_signal_handlers(self) -> None:
        """Leave the signals to the process, which ends this thread by `Worker.stop`."""
