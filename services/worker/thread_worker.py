"""An RQ worker that neither forks nor owns the process."""

import threading
from collections.abc import Callable
from typing import Any

from rq.exceptions import StopRequested
from rq.timeouts import TimerDeathPenalty
from rq.worker import SimpleWorker


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

    def subscribe(self) -> None:
        """No commands are taken from the queue."""

    def procline(self, message: str) -> None:
        """The process has a name of its own already."""

    def _install_signal_handlers(self) -> None:
        """Signals belong to the process, which ends this thread by `Shift.stop`."""
