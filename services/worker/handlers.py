"""The job handlers: what each kind of job does, and which entries are indexed together.

A job says that there is work. Whatever else is due in the ledger is indexed in the same batch, because an
embedder reads 64 entries in a fraction of the time of 64 single ones.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress

from services.diary.entry import Entry, IndexState
from services.diary.job_ids import job_id
from services.diary.jobs import Jobs
from services.diary.ledger.ledger import Ledger
from services.errors import DiaryUnavailable, NotFound
from services.worker.indexer import Indexer
from services.worker.reflection import ReflectionHandler

log = logging.getLogger("ada.worker")
BATCH_ENTRIES = 64
BATCH_CHARACTERS = 300_000  # some 60,000 words: ten seconds of embedding, far below a job's timeout
IMPORT_TURN_S = 20.0  # then an import goes to the end of the queue, behind what was written meanwhile
PAUSE_S = 5.0  # without jobs, after the index or the ledger was away
HEARTBEAT_S = 5.0  # a health check calls a worker dead that shows no progress for 60


class JobHandlers:
    """Runs the jobs of one worker. `on_progress` is called whenever part of a job is done."""

    def __init__(
        self,
        ledger: Ledger,
        indexer: Indexer,
        jobs: Jobs,
        reflection: ReflectionHandler,
        on_progress: Callable[[], None],
        *,
        batch_entries: int = BATCH_ENTRIES,
        import_turn_s: float = IMPORT_TURN_S,
        pause_s: float = PAUSE_S,
        heartbeat_s: float = HEARTBEAT_S,
    ) -> None:
        self._ledger = ledger
        self._indexer = indexer
        self._jobs = jobs
        self._reflection = reflection
        self._on_progress = on_progress
        self._batch_entries = batch_entries
        self._import_turn_s = import_turn_s
        self._pause_s = pause_s
        self._heartbeat_s = heartbeat_s
        self._current_batch: Sequence[Entry] = ()
        self.paused_until = 0.0  # on the clock `time.monotonic`

    def index_entry(self, owner: str, entry_id: str, version: int) -> None:
        """Bring the index up to one version of an entry, and to what else is due. Raises DiaryUnavailable."""
        try:
            entry = self._ledger.current(owner, entry_id)
        except NotFound:
            log.info("there is no entry %s, nothing to index", entry_id)
            return
        if entry.version == version and entry.state == IndexState.QUEUED:
            self._index([entry, *self._ledger.due(self._batch_entries)])

    def index_import(self, owner: str, import_id: str) -> bool:
        """Bring the index up to the entries of an import, for one turn; whether there is more.

        Raises DiaryUnavailable.
        """
        end = time.monotonic() + self._import_turn_s
        while due := self._ledger.due_of_import(owner, import_id, self._batch_entries):
            self._index(due)
            if time.monotonic() > end:
                return True
        return False

    def reflect(self, owner: str, reflection_id: str) -> None:
        """Let Ada write an entry from a conversation, once. Raises DiaryUnavailable."""
        self._current_batch = ()
        with heartbeat(self._on_progress, self._heartbeat_s):  # a model on a CPU may take minutes
            self._reflection.reflect(owner, reflection_id)

    def reindex(self, report: Callable[[int], None]) -> int:
        """Fill a new index and switch to it; returns the number of its entries.

        `report` is called with that number after every batch. Entries that become due meanwhile are written
        into the old index after each batch; the new one catches up before the switch. Raises
        DiaryUnavailable or ConfigError.
        """

        def progress(done: int) -> None:
            report(done)
            self._on_progress()
            if due := self._ledger.due(self._batch_entries):
                self._index(due)

        return self._indexer.reindex(progress)

    def defer(self, reason: str) -> None:
        """Count a failed attempt at each entry of the current batch; each is tried alone next time."""
        batch, self._current_batch = self._current_batch, ()
        for entry in batch:
            self._ledger.defer(entry, reason)

    def pause(self) -> None:
        """Run no job for some seconds: the index or the ledger is away."""
        self.paused_until = time.monotonic() + self._pause_s

    def is_paused(self) -> bool:
        """Whether a job would be tried in vain."""
        return time.monotonic() < self.paused_until

    def _index(self, due: Sequence[Entry]) -> None:
        batch = first_batch(due, self._batch_entries)
        self._current_batch = batch
        self._indexer.write(batch)
        self._current_batch = ()
        self._on_progress()
        request_ids = self._delete_jobs([job_id(e.owner, e.id, e.version) for e in batch[1:]])
        also = f", also for {', '.join(request_ids)}" if request_ids else ""
        log.info("indexed %d entries%s", len(batch), also)

    def _delete_jobs(self, names: Sequence[str]) -> Sequence[str]:
        """Delete jobs that are done already; returns the ids of the requests that queued them."""
        queue = self._jobs.queue
        with suppress(DiaryUnavailable):  # then they run once more, which costs little
            request_ids = queue.request_ids(names)
            queue.delete(names)
            return request_ids
        return []


def first_batch(due: Sequence[Entry], max_entries: int = BATCH_ENTRIES) -> list[Entry]:
    """The entries that are indexed in one batch: the first, and those after it that fit.

    An entry that was tried before has a batch of its own, so that it delays no other again.
    """
    batch, free_characters = [due[0]], BATCH_CHARACTERS - len(due[0].text)
    for entry in due[1:]:
        if len(batch) == max_entries or len(entry.text) > free_characters or due[0].attempts:
            break
        if not entry.attempts and (entry.owner, entry.id) != (due[0].owner, due[0].id):
            batch.append(entry)
            free_characters -= len(entry.text)
    return batch


@contextmanager
def heartbeat(on_progress: Callable[[], None], interval_s: float = HEARTBEAT_S) -> Iterator[None]:
    """Call `on_progress` every `interval_s` seconds, in a thread, while the block runs.

    Use it only around calls that have a timeout: a worker that hangs in the block looks alive.
    """
    ended = threading.Event()

    def beat() -> None:
        while not ended.wait(interval_s):
            on_progress()

    thread = threading.Thread(target=beat, name="heartbeat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
