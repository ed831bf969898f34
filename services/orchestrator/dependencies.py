"""What the routes work with, put together once and injected."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated, cast

from anyio import CapacityLimiter
from fastapi import Depends, Request

from services.diary.conflicts import OwnerConflicts
from services.diary.embedding.embedder import Embedder
from services.diary.index.types import IndexEngine
from services.diary.jobs import Jobs
from services.diary.ledger.ledger import Ledger
from services.diary.recall.recall import Recall
from services.local_time import LocalTime, read_zone
from services.orchestrator.adapter import Adapter
from services.orchestrator.diary.import_limits import ImportLimits
from services.orchestrator.diary.persona_guard import PersonaGuard
from services.orchestrator.http.api_keys import ApiKeyStore
from services.orchestrator.http.limits import Limits
from services.orchestrator.http.single_flight import SingleFlight
from services.orchestrator.observability.collectors import Collectors
from services.orchestrator.observability.metrics import Metrics
from services.orchestrator.openai.context_window import ContextWindow
from services.orchestrator.vllm.circuit_breaker import OwnerCircuitBreaker
from services.orchestrator.vllm.client import VllmClient
from services.orchestrator.vllm.token_counter import TokenCounter


@dataclass(frozen=True)
class AppState:
    """The orchestrator's parts.

    `adapter` raises ConfigError while there is none; `recall` then knows nothing of the persona.
    """

    adapter: Callable[[], Adapter]
    engine: VllmClient
    tokens: TokenCounter
    context: ContextWindow
    ledger: Ledger
    jobs: Jobs
    embedder: Embedder
    index: IndexEngine
    recall: Callable[[], Recall]
    budget_tokens: int  # for the whole diary block of a prompt
    most_answers: int  # to one request, over all of its prompts
    reflect_after_s: float  # 0: only when she is asked to
    keys: ApiKeyStore
    limits: Limits
    persona_guard: PersonaGuard
    metrics: Metrics
    readings: Collectors
    diary_deadline_s: float  # for looking up the diary; past it she answers without
    imports: ImportLimits
    # Threads for writing into the diary: those that wait for a locked ledger leave others to whoever reads.
    writers: CapacityLimiter
    local: LocalTime  # the deployment's, for owners without a time zone of their own
    keep_alive_s: float  # of silence in a stream, then proxies are sent a comment
    diary_breaker: OwnerCircuitBreaker = field(default_factory=OwnerCircuitBreaker)
    readiness: SingleFlight[dict[str, str]] = field(default_factory=SingleFlight)

    def local_time(self, owner: str, timezone: str | None = None) -> LocalTime:
        """Whose days are meant: those of the zone that a request names, else the owner's, else the
        deployment's."""
        name = timezone or self.keys.timezone(owner)
        return self.local.elsewhere(read_zone(name)) if name else self.local

    def conflicts(self, owner: str) -> OwnerConflicts:
        """One owner's."""
        return OwnerConflicts(self.ledger, self.embedder, self.index, owner)


def _state(request: Request) -> AppState:
    return cast(AppState, request.app.state.ada)


StateDep = Annotated[AppState, Depends(_state)]
