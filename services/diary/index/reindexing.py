"""The index made anew from the ledger, while the old one is searched.

A running Ada does it as a job (`make reindex`). For another EMBEDDING_MODEL, with which she refuses to start
over the old index, there is the command; Ada goes on with the old model meanwhile, unless the index is the
embedded one, which takes one process:

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
from services.diary.index.indexing import build_chunks
from services.diary.index.types import EntryKey, IndexEngine
from services.diary.ledger.ledger import Ledger
from services.diary.settings import DiarySettings
from services.errors import AdaError, NotFound

log = logging.getLogger("ada.diary")
BATCH_ENTRIES = 64
WRITE_TIMEOUT_S = 30
_ROUNDS = 10  # of catching up; each lasts as long as a look at everything
Progress = Callable[[int], None]


def reindex(
    ledger: Ledger, embedder: Embedder, index: IndexEngine, progress: Progress = lambda _: None
) -> int:
    """Fill a twin of `index` from the ledger and switch to it; returns how many entries it has.

    `progress` is called with that number after every batch. What is written or removed meanwhile is caught up
    with before the switch, and again after it, because other workers go on writing into the old one. An entry
    that can't be embedded is failed in the ledger and keeps no other out. A twin that could not be filled is
    dropped. Raises DiaryUnavailable or ConfigError.
    """
    twin = index.shadow()
    filling = _Filling(ledger, embedder, twin, progress)
    try:
        filling.add(entry for entry in ledger.iter_current() if _is_indexed(entry))
        filling.catch_up(_is_indexed)
        twin.optimize()
        index.promote(twin)
    except BaseException:
        twin.close()
        raise
    filling.index = index
    # One that is queued now may be on its way into the old index, and be marked as indexed afterwards.
    filling.catch_up(lambda entry: not entry.removed and entry.state != IndexState.FAILED)
    return len(filling.written)


class _Filling:
    """Brings `index` to what the ledger has; `written` are the entries that were."""

    def __init__(self, ledger: Ledger, embedder: Embedder, index: IndexEngine, progress: Progress) -> None:
        self.index = index
        self.written: set[EntryKey] = set()
        self._refused: dict[EntryKey, int] = {}  # versions
        self._ledger = ledger
        self._embedder = embedder
        self._progress = progress

    def add(self, entries: Iterator[Entry]) -> None:
        """Write entries of which nothing is there."""
        while batch := list(islice(entries, BATCH_ENTRIES)):
            self.written.update(_key(entry) for entry in self._write(batch))
            self._progress(len(self.written))

    def catch_up(self, is_wanted: Callable[[Entry], bool]) -> None:
        """Compare the whole index with the whole ledger and mend what differs, until nothing does."""
        for _ in range(_ROUNDS):
            wrong = self._differing(is_wanted)
            if not wrong:
                return
            self.index.delete(wrong)
            self.written.difference_update(wrong)
            self.add(entry for entry in map(self._now, wrong) if entry and self._fits(entry, is_wanted))
        log.warning("the diary changes faster than it is indexed: the last changes come by their own jobs")

    def _fits(self, entry: Entry, is_wanted: Callable[[Entry], bool]) -> bool:
        return is_wanted(entry) and self._refused.get(_key(entry)) != entry.version

    def _differing(self, is_wanted: Callable[[Entry], bool]) -> list[EntryKey]:
        """Entries of which the index has another version than it should, or several, or any for none."""
        held: dict[EntryKey, set[int]] = {}
        for found in self.index.versions():
            held.setdefault(EntryKey(found.owner, found.entry_id), set()).add(found.version)
        wrong = [
            _key(entry)
            for entry in self._ledger.iter_current()
            if held.pop(_key(entry), set()) != ({entry.version} if self._fits(entry, is_wanted) else set())
        ]
        return wrong + list(held)

    def _now(self, key: EntryKey) -> Entry | None:
        try:
            return self._ledger.current(*key)
        except NotFound:
            return None

    def _write(self, entries: list[Entry]) -> list[Entry]:
        """Those of the entries that could be written: of a batch that fails, one by one."""
        try:
            self.index.upsert(build_chunks(entries, self._embedder))
        except JobTimeoutException:
            raise
        except Exception as error:
            self.index.check()  # an index that went away is no fault of the entries
            if len(entries) > 1:
                return [one for entry in entries for one in self._write([entry])]
            log.warning("entry %s can't be indexed: %s", entries[0].id, type(error).__name__)
            self._refused[_key(entries[0])] = entries[0].version
            if entries[0].state == IndexState.INDEXED:  # what is queued has a job of its own that says so
                self._ledger.mark_failed(entries[0], f"{type(error).__name__}: {error}")
            return []
        return entries


def _is_indexed(entry: Entry) -> bool:
    return entry.state == IndexState.INDEXED and not entry.removed


def _key(entry: Entry) -> EntryKey:
    return EntryKey(entry.owner, entry.id)


def main() -> int:
    """Make the index anew with the embedding model of the environment, whichever made the old one."""
    try:
        settings = DiarySettings.load()
        logs.set_up(settings.log_format, settings.log_level, settings.log_errors)
        embedder = open_embedder(settings)
        with closing(_opened(settings, embedder)) as index, Ledger(settings.ledger_url) as ledger:
            done = reindex(ledger, embedder, index, lambda entries: log.info("%d entries", entries))
    except AdaError as error:
        log.error("%s", error)
        return 2
    log.info("all %d entries are indexed with %s", done, embedder.name)
    return 0


def _opened(settings: DiarySettings, embedder: Embedder) -> IndexEngine:
    """The Qdrant server if there is a key for one, else the embedded index."""
    if settings.qdrant_api_key:
        from services.diary.index.qdrant.index import QdrantIndex

        url, key = settings.qdrant_url, settings.qdrant_api_key
        return QdrantIndex(url, key, embedder.name, embedder.dimension, WRITE_TIMEOUT_S)
    from services.diary.index.embedded.index import EdgeIndex

    return EdgeIndex(settings.index_path, embedder.name, embedder.dimension, replacing=True)


if __name__ == "__main__":
    sys.exit(main())
