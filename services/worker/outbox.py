"""The outbox relay: whatever waits in the ledger and has no job in the queue is queued again.

An entry's row is its outbox: it is `queued` until the index has the entry, whatever became of the job.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterable
from datetime import timedelta

from services.diary.entry import Entry
from services.diary.job_ids import import_job_id, job_id, reflection_job_id
from services.diary.jobs import Jobs
from services.diary.ledger.ledger import Ledger
from services.diary.reflection.reflections import Reflections
from services.errors import AdaError
from services.worker.indexer import Indexer

log = logging.getLogger("ada.worker")
INTERVAL_S = 5.0
LOST_AFTER = timedelta(seconds=5)  # a request that has just written an entry is about to queue its job
CLEANUP_INTERVAL_S = 3600.0
BATCH_ROWS = 500  # the oldest, which are looked at in one run


class OutboxRelay:
    """Queues lost jobs again, and cleans up the ledger, in a thread of its own."""

    def __init__(
        self,
        ledger: Ledger,
        indexer: Indexer,
        jobs: Jobs,
        *,
        interval_s: float = INTERVAL_S,
        lost_after: timedelta = LOST_AFTER,
        batch_rows: int = BATCH_ROWS,
    ) -> None:
        self._ledger = ledger
        self._indexer = indexer
        self._jobs = jobs
        self._interval_s = interval_s
        self._lost_after = lost_after
        self._batch_rows = batch_rows
        self._reflections = Reflections(ledger)
        self._next_cleanup_at = 0.0  # on the clock `time.monotonic`
        self._next_erasure_at = 0.0  # on the same clock

    def run(self, stopping: threading.Event) -> None:
        """Relay every few seconds until `stopping` is set."""
        lost_after = timedelta()  # at the start, everything that is due was left by a process before this one
        last_error = ""
        while True:
            try:
                if self._indexer.restore_lost_index():
                    lost_after = timedelta()
                self.relay(lost_after)
                self.clean_up()
                self.erase()
            except AdaError as error:
                if str(error) != last_error:  # an outage is logged once
                    last_error = str(error)
                    log.warning("the outbox relay waits: %s", error)
            except Exception:  # the boundary of the thread: without it lost entries would wait for ever
                log.exception("the outbox relay failed")
            else:
                lost_after, last_error = self._lost_after, ""
            if stopping.wait(self._interval_s):
                return

    def relay(self, lost_after: timedelta) -> int:
        """Queue what has been due for at least `lost_after` and has no job; returns the number of jobs.

        Raises DiaryUnavailable.
        """
        pending = self._jobs.queue.pending_ids()
        queued = self._guarded(lambda: self._relay_entries(lost_after, pending), "entries")
        queued += self._guarded(lambda: self._relay_reflections(pending), "reflections")
        if queued:
            log.info("queued %d jobs that were lost", queued)
        return queued

    def clean_up(self) -> None:
        """Once an hour delete old Idempotency-Keys. Raises DiaryUnavailable."""
        if time.monotonic() >= self._next_cleanup_at:
            self._next_cleanup_at = time.monotonic() + CLEANUP_INTERVAL_S
            self._ledger.delete_old_keys()

    def erase(self) -> None:
        """Rewrite the ledger's file after a purge; this takes at most a tenth of the time.

        Raises DiaryUnavailable.
        """
        start = time.monotonic()
        if start < self._next_erasure_at:
            return
        if not self._ledger.finish_erasures():
            log.info("purged text is still in the ledger's file, which is in use: it is rewritten later")
        self._next_erasure_at = start + 10 * (time.monotonic() - start)

    def _guarded(self, relay: Callable[[], int], what: str) -> int:
        """An error with one kind of job keeps no other kind waiting. Raises AdaError."""
        try:
            return relay()
        except AdaError:
            raise
        except Exception:
            log.exception("%s could not be queued again", what)
            return 0

    def _relay_entries(self, lost_after: timedelta, pending: set[str]) -> int:
        due = self._ledger.due(self._batch_rows, lost_after)
        return self._submit_entries(due, pending) + self._submit_imports(due, pending)

    def _submit_entries(self, due: Iterable[Entry], pending: set[str]) -> int:
        lost = [e for e in due if not e.import_id and job_id(e.owner, e.id, e.version) not in pending]
        for entry in lost:
            self._jobs.submit(entry)
        return len(lost)

    def _submit_imports(self, due: Iterable[Entry], pending: set[str]) -> int:
        imports = {(entry.owner, entry.import_id) for entry in due if entry.import_id}
        lost = [key for key in imports if import_job_id(*key) not in pending]
        for owner, import_id in lost:
            self._jobs.submit_import(owner, import_id)
        return len(lost)

    def _relay_reflections(self, pending: set[str]) -> int:
        due = self._reflections.due(self._batch_rows)
        lost = [row for row in due if reflection_job_id(row.owner, row.id) not in pending]
        for row in lost:
            self._jobs.submit_reflection(row.owner, row.id)
        return len(lost)
