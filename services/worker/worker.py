"""The working loop: an RQ worker over the diary's queue, and the sweep beside it."""

import logging
import threading
from collections.abc import Callable

from redis import Redis
from redis.exceptions import RedisError
from rq.serializers import JSONSerializer

from services.diary.job_queue import JobQueue, diary_queue
from services.errors import DiaryUnavailable
from services.worker.outbox import OutboxRelay
from services.worker.thread_worker import ThreadWorker

log = logging.getLogger("ada.worker")


def noop() -> None:
    """Nobody looks after the loop."""


class Worker:
    """Works through the diary's queue until it is stopped, alone: one worker a queue.

    `turned` is called after every turn of the loop in which the queue was reached: about once a second,
    and after each job.
    """

    def __init__(self, connection: Redis, sweep: OutboxRelay, turned: Callable[[], None] = noop) -> None:
        self._connection = connection
        self._sweep = sweep
        self._turned = turned
        self._stopping = threading.Event()

    def run(self) -> None:
        """Blocks until `stop`. Survives a queue that goes away and comes back."""
        sweeper = threading.Thread(target=self._sweep.run, args=[self._stopping], daemon=True)
        sweeper.start()
        while not self._stopping.is_set():
            try:
                self._work()
            except (RedisError, DiaryUnavailable) as error:
                log.warning("the queue can't be reached, trying again: %s", error)
            self._stopping.wait(1.0)
        sweeper.join()

    def stop(self) -> None:
        """Finish the job in hand and end; takes up to a few seconds."""
        self._stopping.set()

    def _work(self) -> None:
        if left := JobQueue(self._connection).requeue_orphans():
            log.info("%d jobs were left in somebody's hands and are queued again", len(left))
        worker = ThreadWorker(
            [diary_queue(self._connection)],
            connection=self._connection,
            serializer=JSONSerializer,
            stopping=self._stopping,
            turned=self._turned,
        )
        worker.work(logging_level="WARNING")
