"""The desk: what is done next, and what is done together.

A job says that there is work. What lies due in the ledger beside it is written in the same batch, because
an embedder reads 64 entries in a fraction of the time of 64 times one.
"""

import logging
import time
from collections.abc import Callable, Sequence
from contextlib import suppress

from services.diary.entry import Entry, IndexState
from services.diary.job_ids import job_id
from services.diary.jobs import Jobs
from services.diary.ledger.ledger import Ledger
from services.errors import DiaryUnavailable, NotFound
from services.worker.heartbeat import heartbeat
from services.worker.indexer import Indexer
from services.worker.reflection import ReflectionHandler

log = logging.getLogger("ada.worker")
BATCH_ENTRIES = 64
BATCH_CHARACTERS = 300_000  # some 60,000 words: ten seconds of embedding, far below a job's timeout
TURN_S = 20.0  # then an import stands at the end of the queue again, behind what was written meanwhile


class JobHandlers:
    """Does the jobs of one worker. `after_batch` is called whenever some of a job is done."""

    def __init__(
        self,
        ledger: Ledger,
        scribe: Indexer,
        jobs: Jobs,
        reflecting: ReflectionHandler,
        after_batch: Callable[[], None],
    ) -> None:
        self._ledger = ledger
        self._scribe = scribe
        self._jobs = jobs
        self._reflecting = reflecting
        self._after_batch = after_batch
        self._in_hand: Sequence[Entry] = ()
        self.rests_until = 0.0  # on the clock `time.monotonic`

    def index_entry(self, owner: str, entry_id: str, version: int) -> None:
        """Bring the index to one version of an entry, and to what else is due. Raises DiaryUnavailable."""
        try:
            own = self._ledger.current(owner, entry_id)
        except NotFound:
            log.info("entry %s is gone, nothing to index", entry_id)
            return
        if own.version == version and own.state == IndexState.QUEUED:
            self._write(first_batch([own, *self._ledger.due(BATCH_ENTRIES)]))

    def index_import(self, owner: str, import_id: str) -> bool:
        """Bring the index to the entries of an import, for one turn; whether there is more.

        Raises DiaryUnavailable.
        """
        ends = time.monotonic() + TURN_S
        while due := self._ledger.due_of_import(owner, import_id, BATCH_ENTRIES):
            self._write(first_batch(due))
            if time.monotonic() > ends:
                return True
        return False

    def defer(self, reason: str) -> None:
        """Put off what is in hand. Next time each of these entries has a batch of its own."""
        in_hand, self._in_hand = self._in_hand, ()
        for entry in in_hand:
            self._ledger.defer(entry, reason)

    def reflect(self, owner: str, reflection_id: str) -> None:
        """Let Ada write an entry from a conversation, once. Raises DiaryUnavailable."""
        self._in_hand = ()
        with heartbeat(self._after_batch):  # a model on a CPU may take minutes
            self._reflecting.reflect(owner, reflection_id)

    def reindex(self, note: Callable[[int], None]) -> int:
        """Fill a new index and switch to it; returns how many entries it has. What is written meanwhile goes
        into the old one after each batch, and is caught up with before the switch.

        `note` is called with the number of entries so far. Raises DiaryUnavailable or ConfigError.
        """

        def progress(done: int) -> None:
            note(done)
            self._after_batch()
            if due := self._ledger.due(BATCH_ENTRIES):
                self._write(first_batch(due))

        return self._scribe.reindex(progress)

    def _write(self, entries: Sequence[Entry]) -> None:
        self._in_hand = entries
        self._scribe.write(entries)
        self._in_hand = ()
        self._after_batch()
        asked_by = self._forget([job_id(e.owner, e.id, e.version) for e in entries[1:]])
        also = f", also for {', '.join(asked_by)}" if asked_by else ""
        log.info("indexed %d entries%s", len(entries), also)

    def _forget(self, jobs: Sequence[str]) -> Sequence[str]:
        """Take jobs out of the queue that are done; returns the ids of the requests that queued them."""
        queue = self._jobs.queue
        with suppress(DiaryUnavailable):  # then they are done for nothing, which costs little
            asked_by = queue.request_ids(jobs)
            queue.delete(jobs)
            return asked_by
        return []


def first_batch(due: Sequence[Entry]) -> list[Entry]:
    """What of these entries is written in one batch: the first, and as many others as are good for it.

    An entry that was put off before goes alone, so that it delays no other again.
    """
    batch, room = [due[0]], BATCH_CHARACTERS - len(due[0].text)
    for entry in due[1:]:
        if len(batch) == BATCH_ENTRIES or len(entry.text) > room or due[0].attempts:
            break
        if not entry.attempts and (entry.owner, entry.id) != (due[0].owner, due[0].id):
            batch.append(entry)
            room -= len(entry.text)
    return batch
