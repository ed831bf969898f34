"""The scribe writes entries into the index, many at a time: pieces, vectors, points.

Doing it twice changes nothing. One entry that can't be written never keeps the others out.
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
    """Knows the ledger, the embedder and the index."""

    def __init__(self, ledger: Ledger, embedder: Embedder, index: IndexEngine) -> None:
        self._ledger = ledger
        self._embedder = embedder
        self._index = index

    def write(self, entries: Sequence[Entry]) -> None:
        """Bring the index to these versions of entries, and say so in the ledger; tombstones leave it.

        Of a batch that fails each half is tried by itself, down to the one entry that is at fault, which is
        put off with its reason. While the index or the ledger is away nothing is put off: the entries stay
        due. Raises DiaryUnavailable, or ConfigError when the index is another model's.
        """
        self._index.check()  # to embed would be for nothing
        try:
            self._bring_to(entries)
        except JobTimeoutException:
            raise
        except Exception as error:  # the boundary of an entry: recorded, and readable by its job's id
            self._index.check()  # an index that went away is no fault of the entries
            self._divide(entries, error)
        else:
            self._ledger.mark_indexed(entries)

    def mend(self) -> int:
        """Give an index that is new or was lost all that the ledger has; returns how many entries that is.

        Raises DiaryUnavailable, or ConfigError when the index is another model's.
        """
        self._index.create_if_missing()
        return self._ledger.requeue_indexed() if self._index.count() == 0 else 0

    def reindex(self, progress: Callable[[int], None]) -> int:
        """Fill a new index from the ledger and switch to it; returns how many entries it has.

        `progress` is called with that number after every batch. Raises DiaryUnavailable or ConfigError.
        """
        return reindex(self._ledger, self._embedder, self._index, progress)

    def _bring_to(self, entries: Sequence[Entry]) -> None:
        kept = [entry for entry in entries if not entry.removed]
        if chunks := build_chunks(kept, self._embedder):
            self._index.upsert(chunks)
        # A first version has none before it, which spares an import its deletions.
        edited = {_key(entry): entry.version for entry in kept if entry.version > 1}
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
