"""Puts the orchestrator's parts together from what it is given."""

from redis import Redis

from services.diary.embedder import Embedder
from services.diary.index import IndexEngine
from services.diary.jobs import Jobs
from services.diary.ledger import Ledger
from services.diary.recall import Recall
from services.orchestrator.adapter import Published
from services.orchestrator.engine import Engine
from services.orchestrator.settings import OrchestratorSettings
from services.orchestrator.state import State


def assemble(
    settings: OrchestratorSettings,
    engine: Engine,
    ledger: Ledger,
    queue: Redis,
    embedder: Embedder,
    index: IndexEngine,
) -> State:
    """The orchestrator's state."""
    return State(
        adapter=Published(settings.adapter).adapter,
        engine=engine,
        ledger=ledger,
        jobs=Jobs(queue, ledger),
        recall=Recall(ledger, embedder, index),
    )
