"""Builds the index again from the ledger, while the old one is searched.

A running Ada does it as a job (`make reindex`). For another EMBEDDING_MODEL, with which Ada refuses to start
on the old index, there is a command. Ada keeps running with the old model meanwhile, unless the index is the
embedded one, which only one process can open:

    EMBEDDING_MODEL=… python -m services.diary.index.reindexing
"""

import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import islice

from rq.timeouts import JobTimeoutException

from services import logs
from services.diary.embedding.embedder import Embedder, open_embedder
from services.diary.entry import Entry, IndexState
from services.diary.index.engine import IndexEngine
from services.diary.index.indexing import build_chunks
from services.diary.index.types import EntryKey
from services.diary.ledger.ledger import Ledger
from services.diary.settings import DiarySettings
from services.errors import AdaError, NotFound

log = logging.getLogger("ada.diary")
BATCH_ENTRIES = 64
WRITE_TIMEOUT_S = 30
_MAX_ROUNDS = 10  # of catching up; each reads the whole index and the whole ledger
Progress = Callable[[int], None]


def reindex(
    ledger: Ledger,
    embedder: Embedder,
    index: IndexEngine,
    progress: Progress = lambda _: None,
    batch_entries: int = BATCH_ENTRIES,
) -> int:
    """Fill a shadow of `index` from the ledger and promote it; returns its number of entries.

    `progress` is called with that number after every batch. What changes meanwhile is caught up with before
    the shadow is promoted, and again afterwards, because other workers keep writing into the old index. An
    entry that can't be embedded is marked as failed in the ledger and stops no other. A shadow that could not
    be filled is deleted. Raises DiaryUnavailable or ConfigError.
    """
    shadow = index.shadow()
    filler = _Filler(ledger, embedder, shadow, progress, batch_entries)
    try:
        filler.add(entry for entry in ledger.iter_current() if _is_indexed(entry))
        filler.catch_up(_is_indexed)
        shadow.optimize()
        index.promote(shadow)
    except BaseException:
        shadow.close()
        raise
    filler.index = index
    # A queued entry may be on its way into the old index, and be marked as indexed afterwards.
    filler.catch_up(lambda entry: not entry.removed and entry.state != IndexState.FAILED)
    return len(filler.indexed)


class _Filler:
    """Brings `index` to the state of the ledger; `indexed` are the entries that it wrote."""

    def __init__(
        self, ledger: Ledger, embedder: Embedder, index: IndexEngine, progress: Progress, batch_entries: int
    ) -> None:
        self.index = index
        self.indexed: set[EntryKey] = set()
        self._failed_versions: dict[EntryKey, int] = {}
        self._ledger = ledger
        self._embedder = embedder
        self._progress = progress
        self._batch_entries = batch_entries

    def add(self, entries: Iterator[Entry]) -> None:
        """Write entries of which the index has nothing."""
        while batch := list(islice(entries, self._batch_entries)):
            self.indexed.update(_key(entry) for entry in self._write(batch))
            self._progress(len(self.indexed))

    def catch_up(self, is_wanted: Callable[[Entry], bool]) -> None:
        """Compare the whole index with the whole ledger and repair what differs, until nothing does."""
        for _ in range(_MAX_ROUNDS):
            different = self._differences(is_wanted)
            if not different:
                return
            self.index.delete(different)
            self.indexed.difference_update(different)
            entries = filter(None, map(self._current, different))
            self.add(entry for entry in entries if self._belongs(entry, is_wanted))
        log.warning("the diary changes faster than it is indexed: the last changes come by their own jobs")

    def _belongs(self, entry: Entry, is_wanted: Callable[[Entry], bool]) -> bool:
        return is_wanted(entry) and self._failed_versions.get(_key(entry)) != entry.version

    def _differences(self, is_wanted: Callable[[Entry], bool]) -> list[EntryKey]:
        """Entries whose versions in the index are not exactly the wanted one, or none."""
        versions: dict[EntryKey, set[int]] = {}
        for version in self.index.versions():
            versions.setdefault(EntryKey(version.owner, version.entry_id), set()).add(version.version)
        different = []
        for entry in self._ledger.iter_current():
            wanted = {entry.version} if self._belongs(entry, is_wanted) else set()
            if versions.pop(_key(entry), set()) != wanted:
                different.append(_key(entry))
        return different + list(versions)

    def _current(self, key: EntryKey) -> Entry | None:
        try:
            return self._ledger.current(*key)
        except NotFound:
            return None

    def _write(self, entries: list[Entry]) -> list[Entry]:
        """Write the entries, one by one if the batch fails; returns those that succeeded."""
        try:
            self.index.upsert(build_chunks(entries, self._embedder))
        except JobTimeoutException:
            raise
        except Exception as error:
            self.index.check()  # an index that is unavailable is no fault of the entries
            if len(entries) > 1:
                return [indexed for entry in entries for indexed in self._write([entry])]
            log.warning("entry %s can't be indexed: %s", entries[0].id, type(error).__name__)
            self._failed_versions[_key(entries[0])] = entries[0].version
            if entries[0].state == IndexState.INDEXED:  # a queued entry is marked by its own job
                self._ledger.mark_failed(entries[0], f"{type(error).__name__}: {error}")
            return []
        return entries


def _is_indexed(entry: Entry) -> bool:
    return entry.state == IndexState.INDEXED and not entry.removed


def _key(entry: Entry) -> EntryKey:
    return EntryKey(entry.owner, entry.id)


def main() -> int:
    """Build the index again with the environment's embedding model, whichever built the old one."""
    try:
        settings = DiarySettings.load()
        logs.set_up(settings.log_format, settings.log_level, settings.log_errors)
        embedder = open_embedder(settings)
        with closing(_open_index(settings, embedder)) as index, Ledger(settings.ledger_url) as ledger:
            number = reindex(ledger, embedder, index, lambda entries: log.info("%d entries", entries))
    except AdaError as error:
        log.error("%s", error)
        return 2
    log.info("all %d entries are indexed with %s", number, embedder.name)
    return 0


def _open_index(settings: DiarySettings, embedder: Embedder) -> IndexEngine:
    """The index on the Qdrant server if there is a key for one, else the embedded index."""
    if settings.qdrant_api_key:
        from services.diary.index.qdrant.index import QdrantIndex

        url, key = settings.qdrant_url, settings.qdrant_api_key
        return QdrantIndex(url, key, embedder.name, embedder.dimension, WRITE_TIMEOUT_S)
    from services.diary.index.embedded.index import EdgeIndex

    return EdgeIndex(settings.index_path, embedder.name, embedder.dimension, replacing=True)


if __name__ == "__main__":
    sys.exit(main())
