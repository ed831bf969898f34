"""Puts the orchestrator's parts together from what it is given."""

import re
from collections.abc import Callable
from functools import cache

from anyio import CapacityLimiter
from redis import Redis

from services.diary.embedding.embedder import Embedder
from services.diary.index.types import IndexEngine
from services.diary.jobs import Jobs
from services.diary.ledger.ledger import Ledger
from services.diary.recall.recall import Recall
from services.errors import ConfigError
from services.orchestrator.adapter import Adapter, Published
from services.orchestrator.dependencies import AppState
from services.orchestrator.diary.import_limits import ImportLimits, ImportSlots
from services.orchestrator.diary.persona_guard import PersonaGuard
from services.orchestrator.diary.uploads import UploadLimits
from services.orchestrator.http.api_keys import ApiKeyStore, KeyHistory
from services.orchestrator.http.limits import Limits
from services.orchestrator.observability.collectors import Collectors
from services.orchestrator.observability.metrics import Metrics
from services.orchestrator.openai.context_window import ContextWindow
from services.orchestrator.settings import OrchestratorSettings
from services.orchestrator.vllm.client import VllmClient
from services.orchestrator.vllm.concurrency import ConcurrencyLimiter
from services.orchestrator.vllm.token_counter import TokenCounter
from services.persona.persona import Persona

WRITING_THREADS = 16
_DATE = re.compile(r"\d{4}-(\d\d)-(\d\d)", re.ASCII)


def assemble(
    settings: OrchestratorSettings,
    engine: VllmClient,
    ledger: Ledger,
    queue: Redis,
    embedder: Embedder,
    index: IndexEngine,
    metrics: Metrics,
) -> AppState:
    """The orchestrator's state."""
    adapter, jobs = Published(settings.adapter).adapter, Jobs(queue, ledger)
    return AppState(
        keys=_key_ring(settings, ledger),
        limits=Limits(settings.key_requests_a_minute, settings.key_tokens_a_minute),
        adapter=adapter,
        persona_guard=PersonaGuard(ledger, settings.diary_of_another_persona),
        engine=engine,
        tokens=TokenCounter(engine),
        context=ContextWindow(engine),
        ledger=ledger,
        jobs=jobs,
        embedder=embedder,
        index=index,
        recall=recall_of(adapter, ledger, embedder, index),
        budget_tokens=settings.budget_tokens,
        most_answers=settings.most_answers,
        reflect_after_s=settings.reflect_after_s,
        metrics=metrics,
        readings=Collectors(metrics, ledger, jobs),
        diary_deadline_s=settings.diary_deadline_s,
        imports=ImportLimits(
            ImportSlots(settings.imports_at_once, settings.imports_an_owner),
            UploadLimits(settings.import_max_bytes, settings.import_timeout_s),
        ),
        writers=CapacityLimiter(WRITING_THREADS),
        local=settings.local_time,
        keep_alive_s=settings.keep_alive_s,
    )


def check_keys(settings: OrchestratorSettings, ledger: Ledger) -> None:
    """Raises ConfigError when others could ask without a key, or keys were lost."""
    settings.check_reach(had_keys=KeyHistory(ledger).had_keys())


def _key_ring(settings: OrchestratorSettings, ledger: Ledger) -> ApiKeyStore:
    """Closed to all without a key where there were keys, though their file may have gone just now."""
    history = KeyHistory(ledger)
    is_open = settings.is_on_loopback and (settings.without_keys or not history.had_keys())
    return ApiKeyStore(settings.keys_file, open_without_keys=is_open, history=history)


def gate_of(settings: OrchestratorSettings) -> ConcurrencyLimiter:
    """The gate in front of vLLM."""
    return ConcurrencyLimiter(settings.max_running, settings.max_waiting, settings.queue_timeout_s)


def recall_of(
    adapter: Callable[[], Adapter], ledger: Ledger, embedder: Embedder, index: IndexEngine
) -> Callable[[], Recall]:
    """Gives the Recall that knows the persona's birthday as soon as there is an adapter."""

    @cache
    def made(birthday: tuple[int, int] | None) -> Recall:
        return Recall(ledger, embedder, index, birthday)

    def recall() -> Recall:
        try:
            return made(birthday(adapter().persona))
        except ConfigError:
            return made(None)

    return recall


def birthday(persona: Persona) -> tuple[int, int] | None:
    """Month and day of the persona's birth, if a fact of the topic `birth` has a whole date."""
    for fact in persona.facts:
        if fact.topic == "birth" and (date := _DATE.fullmatch(fact.date)):
            return int(date[1]), int(date[2])
    return None
