"""The working loop: an RQ worker that neither forks nor owns the process, and a sweep for lost jobs."""

import logging
import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from redis import Redis
from redis.exceptions import RedisError
from rq.exceptions import StopRequested
from rq.serializers import JSONSerializer
from rq.timeouts import TimerDeathPenalty
from rq.worker import SimpleWorker

from services.diary.jobs import Jobs, diary_queue
from services.errors import DiaryUnavailable
from services.worker.scribe import Scribe

log = logging.getLogger("ada.worker")
SWEEP_EVERY_S = 10.0
LOST_AFTER = timedelta(seconds=10)


class ThreadWorker(SimpleWorker):
    """An RQ worker for a thread: no fork (the model is loaded once), no signals, timeouts by timer."""

    death_penalty_class = TimerDeathPenalty

    max_connection_wait_time = 1.0  # seconds; RQ's own 180 would leave a healed queue unserved
    dequeue_timeout = 1  # seconds

    def __init__(
        self, *args: Any, stopping: threading.Event, turned: Callable[[], None], **options: Any
    ) -> None:
        super().__init__(*args, **options)
        self._stopping = stopping
        self._turned = turned

    def heartbeat(self, timeout: int | None = None, pipeline: Any = None) -> None:
        """RQ calls this at every turn of its loops, those that wait for a job or a lost queue too, and
        only between jobs does it look at a stop flag of its own."""
        if pipeline is None and self._stopping.is_set():
            raise StopRequested
        super().heartbeat(timeout, pipeline)
        self._turned()

    def subscribe(self) -> None:
        """No commands are taken from the queue."""

    def procline(self, message: str) -> None:
        """The process has a name of its own already."""

    def _install_signal_handlers(self) -> None:
        """Signals belong to the process, which ends this thread by `Shift.stop`."""


class Shift:
    """Works through the diary's queue until it is stopped. `turned` is called after every turn of the
    loop in which the queue was reached: about once a second, and after each job."""

    def __init__(self, connection: Redis, scribe: Scribe, turned: Callable[[], None] = lambda: None) -> None:
        self._connection = connection
        self._scribe = scribe
        self._turned = turned
        self._jobs = Jobs(connection, scribe.ledger)
        self._stopping = threading.Event()

    def run(self) -> None:
        """Blocks until `stop`. Survives a queue that goes away and comes back."""
        sweeper = threading.Thread(target=self._sweep, name="sweeper", daemon=True)
        sweeper.start()
        while not self._stopping.is_set():
            try:
                queue = diary_queue(self._connection)
                worker = ThreadWorker(
                    [queue],
                    connection=self._connection,
                    serializer=JSONSerializer,
                    stopping=self._stopping,
                    turned=self._turned,
                )
                worker.work(logging_level="WARNING")
            except RedisError as error:
                log.warning("the queue can't be reached, trying again: %s", error)
                self._stopping.wait(1.0)
        sweeper.join()

    def stop(self) -> None:
        """Finish the job in hand and end; takes up to a few seconds."""
        self._stopping.set()

    def _sweep(self) -> None:
        """The row is the outbox: what should be in the index and is in no queue is queued again."""
        waited = timedelta()  # at the start whatever is unindexed was left by somebody else
        while True:
            try:
                if self._scribe.mend():
                    waited = timedelta()
                self.sweep(waited)
            except DiaryUnavailable as error:
                log.warning("sweep put off: %s", error)
            except Exception:  # the boundary of the thread: without its sweeps entries would wait for ever
                log.exception("sweep failed")
            else:
                waited = LOST_AFTER
            if self._stopping.wait(SWEEP_EVERY_S):
                return

    def sweep(self, waited: timedelta) -> int:
        """Queue entries that have waited so long and are lost; returns how many."""
        lost = [e for e in self._scribe.ledger.unindexed(waited) if not waited or not self._jobs.waits(e)]
        for entry in lost:
            self._jobs.submit(entry)
        if lost:
            log.info("queued %d entries that were waiting for the index", len(lost))
        return len(lost)
