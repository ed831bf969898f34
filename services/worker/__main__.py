"""The worker as a process of its own, with a Redis and a Qdrant server.

python -m services.worker [--patient]
"""

import signal
import sys
from contextlib import suppress

from services import logs, tracing
from services.diary.embedding.embedder import open_embedder
from services.diary.index.qdrant.index import QdrantIndex
from services.diary.job_queue import queue_connection
from services.diary.ledger.ledger import Ledger
from services.errors import DiaryUnavailable
from services.process.start import WAIT_FLAG, run_until_configured
from services.worker.reflection import CompletionClient
from services.worker.settings import WorkerSettings
from services.worker.worker import Worker, build_worker, noop

WRITE_TIMEOUT_S = 30


def main() -> None:
    """Entry point. On SIGTERM the current job is finished first."""
    worker = run_until_configured("worker", prepare, wait=WAIT_FLAG in sys.argv[1:])
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: worker.stop())
    worker.run()
    tracing.switch_off()


def prepare() -> Worker:
    """Read the settings, open the ledger, load the embedder; queue, index and model server may come later.

    Raises ConfigError or DiaryUnavailable.
    """
    settings = WorkerSettings.load()
    logs.set_up(settings.log_format, settings.log_level, settings.log_errors)
    tracing.switch_on(settings.otlp_endpoint, "ada-worker")
    ledger = Ledger(settings.ledger_url)
    embedder = open_embedder(settings)
    index = QdrantIndex(
        settings.qdrant_url, settings.qdrant_api_key, embedder.name, embedder.dimension, WRITE_TIMEOUT_S
    )
    # The index may come later; an index of another embedding model is an error now.
    with suppress(DiaryUnavailable):
        index.create_if_missing()
    queue = queue_connection(settings.redis_url, settings.redis_password)
    client = CompletionClient(
        settings.model_url, settings.connect_timeout_s, settings.whole_timeout_s, settings.model_api_key
    )
    on_progress = settings.alive_path.touch if settings.alive_path else noop
    return build_worker(ledger, embedder, index, queue, client, on_progress)


if __name__ == "__main__":
    main()
