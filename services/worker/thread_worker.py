"""An RQ worker that neither forks nor owns the process."""

import logging
import sys
import threading
from collections.abc import Callable
from typing import Any

from rq import Queue
from rq.exceptions import StopRequested
from rq.job import Job
from rq.timeouts import TimerDeathPenalty
from rq.worker import SimpleWorker

from services.logs import raised

log = logging.getLogger("ada.worker")


class ThreadWorker(SimpleWorker):
    """For a thread: no fork (the model is loaded once), no signals, timeouts by timer."""

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

    def handle_exception(self, job: Job, *exc_info: Any) -> None:
        """RQ's own line has the whole traceback with what the exception says, which may be a diary's text."""
        log.error("job %s failed", job.id, exc_info=exc_info)

    def handle_job_failure(
        self, job: Job, queue: Queue, started_job_registry: Any = None, exc_string: str = ""
    ) -> None:
        """The same holds for what RQ keeps of it in Redis."""
        told = raised(sys.exc_info()[1]) if sys.exc_info()[1] else exc_string.partition("\n")[0]
        super().handle_job_failure(job, queue, started_job_registry, told)

    def subscribe(self) -> None:
        """No commands are taken from the queue."""

    def procline(self, message: str) -> None:
        """The process has a name of its own already."""

    def _install_signal_handlers(self) -> None:
        """Signals belong to the process, which ends this thread by `Shift.stop`."""
