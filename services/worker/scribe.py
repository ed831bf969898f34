"""The scribe writes one entry into the index: chunks, vectors, points.

Doing a job twice changes nothing. RQ calls `index_entry` by its path, so a process employs one scribe
before it starts to work.
"""

import logging

from services.diary.chunking import chunks
from services.diary.embedder import Embedder
from services.diary.entry import Entry, IndexState
from services.diary.index import Chunk, IndexEngine
from services.diary.ledger import Ledger
from services.errors import ConfigError, DiaryUnavailable, NotFound

log = logging.getLogger("ada.worker")


class Scribe:
    """Knows the ledger, the embedder and the index."""

    def __init__(self, ledger: Ledger, embedder: Embedder, index: IndexEngine) -> None:
        self.ledger = ledger
        self._embedder = embedder
        self._index = index

    def index(self, owner: str, entry_id: str, version: int) -> None:
        """Put one version of an entry into the index, and say so in the ledger.

        When the diary is unavailable the entry stays queued, and is queued again later.
        """
        try:
            entry = self.ledger.get(owner, entry_id)
        except NotFound:
            log.info("entry %s is gone, nothing to index", entry_id)
            return
        if entry.version != version or entry.state == IndexState.INDEXED:
            return
        try:
            self._index.upsert(self._chunks(entry))
        except DiaryUnavailable:
            raise
        except Exception as error:  # the boundary of the job: recorded, and readable by job id
            self.ledger.mark(entry, IndexState.FAILED, f"{type(error).__name__}: {error}")
            raise
        self.ledger.mark(entry, IndexState.INDEXED)
        log.info("indexed entry %s version %d", entry_id, version)

    def mend(self) -> int:
        """Give an index that is new or was lost all that the ledger has; returns how many entries that is.

        Raises DiaryUnavailable.
        """
        self._index.ensure()
        return self.ledger.requeue_indexed() if self._index.count() == 0 else 0

    def _chunks(self, entry: Entry) -> list[Chunk]:
        # The date stands in the embedded text: it lifts recall by three points (measured on LoCoMo).
        texts = [f"({entry.day}) {text}" for text in chunks(entry.text)]
        vectors = self._embedder.embed_documents(texts)
        return [
            Chunk(entry.owner, entry.id, entry.version, place, entry.day, text, vector)
            for place, (text, vector) in enumerate(zip(texts, vectors, strict=True))
        ]


_employed: list[Scribe] = []


def employ(scribe: Scribe) -> None:
    """Make `scribe` the one who does this process' jobs."""
    _employed[:] = [scribe]


def index_entry(owner: str, entry_id: str, version: int) -> None:
    """The job, as RQ calls it by the path in services/diary/jobs.py."""
    if not _employed:
        raise ConfigError("no scribe is employed in this process: start services.worker")
    _employed[0].index(owner, entry_id, version)
