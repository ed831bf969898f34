"""The office: everyone who works in one process, introduced to each other."""

from collections.abc import Callable

from redis import Redis

from services.diary.embedding.embedder import Embedder
from services.diary.index.types import IndexEngine
from services.diary.jobs import Jobs
from services.diary.ledger.ledger import Ledger
from services.worker.completion_client import Author
from services.worker.handlers import Desk
from services.worker.indexer import Scribe
from services.worker.outbox import Sweep
from services.worker.reflection import Reflecting
from services.worker.tasks import employ
from services.worker.worker import Shift, nothing


def open_office(
    ledger: Ledger,
    embedder: Embedder,
    index: IndexEngine,
    queue: Redis,
    author: Author,
    turned: Callable[[], None] = nothing,
) -> Shift:
    """A shift that is ready to begin. `turned` is called whenever something of the work is done.

    One in a process: RQ finds by path who does its jobs.
    """
    jobs, scribe = Jobs(queue, ledger), Scribe(ledger, embedder, index)
    employ(Desk(ledger, scribe, jobs, Reflecting(ledger, jobs, author), turned))
    return Shift(queue, Sweep(ledger, scribe, jobs), turned)
