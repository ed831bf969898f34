"""Runs the API as a process of its own, next to a worker, a Redis and a Qdrant.

python -m services.orchestrator [--patient]
"""

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from services import logs, tracing
from services.diary.embedding.embedder import open_embedder
from services.diary.index.qdrant.index import QdrantIndex
from services.diary.job_queue import queue_connection
from services.diary.ledger.ledger import Ledger
from services.orchestrator.app import Opener, serve
from services.orchestrator.dependencies import AppState, build_concurrency_limiter, build_state, check_keys
from services.orchestrator.observability.metrics import Metrics
from services.orchestrator.settings import OrchestratorSettings
from services.orchestrator.vllm.client import open_vllm_client
from services.process.start import WAIT_FLAG, run_until_configured


def main() -> None:
    """Entry point."""
    serve(*run_until_configured("orchestrator", prepare, wait=WAIT_FLAG in sys.argv[1:]))


def prepare() -> tuple[OrchestratorSettings, Opener]:
    """Read the settings and open what the start needs; adapter, queue and index may become available later.

    Raises ConfigError or DiaryUnavailable.
    """
    settings = OrchestratorSettings.load()
    logs.set_up(settings.log_format, settings.log_level, settings.log_errors)
    tracing.switch_on(settings.otlp_endpoint, "ada-orchestrator")
    settings.check_reach()
    ledger = Ledger(settings.ledger_url)
    check_keys(settings, ledger)
    embedder = open_embedder(settings)
    queue = queue_connection(settings.redis_url, settings.redis_password)
    index = QdrantIndex(settings.qdrant_url, settings.qdrant_api_key, embedder.name, embedder.dimension)

    @asynccontextmanager
    async def opened() -> AsyncIterator[AppState]:
        metrics, limiter = Metrics(), build_concurrency_limiter(settings)
        async with open_vllm_client(
            settings.model_url, settings.deadlines, limiter, metrics, api_key=settings.model_api_key
        ) as vllm:
            yield build_state(settings, vllm, ledger, queue, embedder, index, metrics)
        index.close()
        ledger.close()
        tracing.switch_off()

    return settings, opened


if __name__ == "__main__":
    main()
