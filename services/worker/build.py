"""The office: everyone who works in one process, introduced to each other."""

from collections.abc import Callable

from redis import Redis

from services.diary.embedding.embedder import Embedder
from services.diary.index.engine import IndexEngine
from services.diary.jobs import Jobs
from services.diary.ledger.ledger import Ledger
from services.worker.completion_client import CompletionClient
from services.worker.handlers import JobHandlers
from services.worker.indexer import Indexer
from services.worker.outbox import OutboxRelay
from services.worker.reflection import ReflectionHandler
from services.worker.tasks import register_handlers
from services.worker.worker import Worker, noop


def build_worker(
    ledger: Ledger,
    embedder: Embedder,
    index: IndexEngine,
    queue: Redis,
    author: CompletionClient,
    turned: Callable[[], None] = noop,
) -> Worker:
    """A shift that is ready to begin. `turned` is called whenever something of the work is done.

    One in a process: RQ finds by path who does its jobs.
    """
    jobs, scribe = Jobs(queue, ledger), Indexer(ledger, embedder, index)
    register_handlers(JobHandlers(ledger, scribe, jobs, ReflectionHandler(ledger, jobs, author), turned))
    return Worker(queue, OutboxRelay(ledger, scribe, jobs), turned)
