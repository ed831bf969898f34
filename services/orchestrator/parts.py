"""Puts the orchestrator's parts together from what it is given."""

from redis import Redis

from services.diary.embedder import Embedder
from services.diary.index import IndexEngine
from services.diary.jobs import Jobs
from services.diary.ledger import Ledger
from services.diary.recall import Recall
from services.orchestrator.engine import Engine
from services.orchestrator.settings import OrchestratorSettings
from services.orchestrator.state import State
from services.persona.manifest import PERSONA_NAME, TEMPLATE_NAME, read_manifest
from services.persona.persona import load_persona


def assemble(
    settings: OrchestratorSettings,
    engine: Engine,
    ledger: Ledger,
    queue: Redis,
    embedder: Embedder,
    index: IndexEngine,
) -> State:
    """The orchestrator's state, for the adapter that is published now. Raises ConfigError."""
    adapter = settings.adapter.resolve()
    return State(
        persona=load_persona(adapter / PERSONA_NAME),
        manifest=read_manifest(adapter),
        template=(adapter / TEMPLATE_NAME).read_text(encoding="utf-8"),
        engine=engine,
        ledger=ledger,
        jobs=Jobs(queue, ledger),
        recall=Recall(ledger, embedder, index),
    )
