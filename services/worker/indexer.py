"""The indexer: brings the index up to entries of the ledger, a batch at a time.

Writing an entry twice changes nothing. An entry that can't be written keeps no other out of the index.
"""

import logging
from collections.abc import Callable, Sequence

from rq.timeouts import JobTimeoutException

from services.diary.embedding.embedder import Embedder
from services.diary.entry import Entry
from services.diary.index.engine import IndexEngine
from services.diary.index.indexing import build_chunks
from services.diary.index.reindexing import reindex
from services.diary.index.types import EntryKey
from services.diary.ledger.ledger import Ledger

log = logging.getLogger("ada.worker")


class Indexer:
    """Writes entries of the ledger into the index, and records it in the ledger."""

    def __init__(self, ledger: Ledger, embedder: Embedder, index: IndexEngine) -> None:
        self._ledger = ledger
        self._embedder = embedder
        self._index = index

    def write(self, entries: Sequence[Entry]) -> None:
        """Bring the index up to these versions, and mark them as indexed; tombstones are deleted from it.

        When a batch fails, each half is tried by itself, down to the one entry that is at fault, which is
        deferred with its reason. While the index or the ledger is away nothing is deferred: the entries stay
        due. Raises DiaryUnavailable, or ConfigError when the index belongs to another embedding model.
        """
        self._index.check()  # without the index, embedding would be in vain
        try:
            self._update_index(entries)
        except JobTimeoutException:
            raise
        except Exception as error:  # the boundary of an entry: recorded, and shown by its job
            self._index.check()  # that the index went away is no fault of the entries
            self._divide(entries, error)
        else:
            self._ledger.mark_indexed(entries)

    def restore_lost_index(self) -> int:
        """Queue all entries again when the index is new or was lost; returns how many.

        Raises DiaryUnavailable, or ConfigError when the index belongs to another embedding model.
        """
        self._index.create_if_missing()
        return self._ledger.requeue_indexed() if self._index.count() == 0 else 0

    def reindex(self, progress: Callable[[int], None]) -> int:
        """Fill a new index from the ledger and switch to it; returns the number of its entries.

        `progress` is called with that number after every batch. Raises DiaryUnavailable or ConfigError.
        """
        return reindex(self._ledger, self._embedder, self._index, progress)

    def _update_index(self, entries: Sequence[Entry]) -> None:
        living = [entry for entry in entries if not entry.removed]
        if chunks := build_chunks(living, self._embedder):
            self._index.upsert(chunks)
        # A first version replaces none, which spares an import its deletions.
        edited = {_key(entry): entry.version for entry in living if entry.version > 1}
        if edited:
            self._index.delete(edited, except_version=edited)
        if removed := [_key(entry) for entry in entries if entry.removed]:
            self._index.delete(removed)

    def _divide(self, entries: Sequence[Entry], error: Exception) -> None:
        if len(entries) > 1:
            middle = len(entries) // 2
            self.write(entries[:middle])
            self.write(entries[middle:])
            return
        [entry] = entries
        state = self._ledger.defer(entry, f"{type(error).__name__}: {error}")
        log.warning("entry %s version %d is %s: %s", entry.id, entry.version, state, type(error).__name__)


def _key(entry: Entry) -> EntryKey:
    return EntryKey(entry.owner, entry.id)
