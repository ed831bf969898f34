"""The sweep: what the ledger waits for and is in no queue is queued again. The row is the outbox."""

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
SWEEP_EVERY_S = 5.0
LOST_AFTER = timedelta(seconds=5)  # whoever has just written an entry is about to queue it
TIDIED_EVERY_S = 3600.0
AT_ONCE = 500  # entries are looked at in one sweep, the oldest


class OutboxRelay:
    """Looks after the outbox, in a thread of its own."""

    def __init__(self, ledger: Ledger, scribe: Indexer, jobs: Jobs) -> None:
        self._ledger = ledger
        self._scribe = scribe
        self._jobs = jobs
        self._reflections = Reflections(ledger)
        self._tidied_at = -TIDIED_EVERY_S  # on the clock `time.monotonic`
        self._erases_at = 0.0  # on the same

    def run(self, stopping: threading.Event) -> None:
        """Sweep every few seconds until `stopping` is set."""
        waited = timedelta()  # at the start whatever is due was left by somebody else
        said = ""
        while True:
            try:
                if self._scribe.mend():
                    waited = timedelta()
                self.sweep(waited)
                self.tidy()
                self.erase()
            except AdaError as error:
                if str(error) != said:  # an outage is told once
                    said = str(error)
                    log.warning("sweep put off: %s", error)
            except Exception:  # the boundary of the thread: without its sweeps entries would wait for ever
                log.exception("sweep failed")
            else:
                waited, said = LOST_AFTER, ""
            if stopping.wait(SWEEP_EVERY_S):
                return

    def sweep(self, waited: timedelta) -> int:
        """Queue what has been due for so long and is in no queue; returns how many jobs that made.

        Raises DiaryUnavailable.
        """
        waiting = self._jobs.queue.pending_ids()
        queued = self._guarded(lambda: self._outbox(waited, waiting), "entries")
        queued += self._guarded(lambda: self._talks(waiting), "reflections")
        if queued:
            log.info("queued %d jobs that were waiting", queued)
        return queued

    def _guarded(self, queue: Callable[[], int], what: str) -> int:
        """What goes wrong with one kind of job keeps no other kind waiting. Raises AdaError."""
        try:
            return queue()
        except AdaError:
            raise
        except Exception:
            log.exception("%s could not be queued again", what)
            return 0

    def _outbox(self, waited: timedelta, waiting: set[str]) -> int:
        due = self._ledger.due(AT_ONCE, waited)
        return self._entries(due, waiting) + self._imports(due, waiting)

    def tidy(self) -> None:
        """Once an hour forget what is too old to be asked for. Raises DiaryUnavailable."""
        if time.monotonic() - self._tidied_at >= TIDIED_EVERY_S:
            self._tidied_at = time.monotonic()
            self._ledger.delete_old_keys()

    def erase(self) -> None:
        """Rewrite the ledger's file where something was purged; at most a tenth of the time goes into it.

        Raises DiaryUnavailable.
        """
        began = time.monotonic()
        if began < self._erases_at:
            return
        if not self._ledger.finish_erasures():
            log.info("what was purged is still in the ledger's file: it is in use, and is tried again")
        self._erases_at = began + 10 * (time.monotonic() - began)

    def _entries(self, due: Iterable[Entry], waiting: set[str]) -> int:
        lost = [e for e in due if not e.import_id and job_id(e.owner, e.id, e.version) not in waiting]
        for entry in lost:
            self._jobs.submit(entry)
        return len(lost)

    def _imports(self, due: Iterable[Entry], waiting: set[str]) -> int:
        imports = {(entry.owner, entry.import_id) for entry in due if entry.import_id}
        lost = [(owner, one) for owner, one in imports if import_job_id(owner, one) not in waiting]
        for owner, import_id in lost:
            self._jobs.submit_import(owner, import_id)
        return len(lost)

    def _talks(self, waiting: set[str]) -> int:
        due = self._reflections.due(AT_ONCE)
        lost = [one for one in due if reflection_job_id(one.owner, one.id) not in waiting]
        for one in lost:
            self._jobs.submit_reflection(one.owner, one.id)
        return len(lost)
