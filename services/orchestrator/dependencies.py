"""The application's state: built once, and injected into the routes."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from typing import Annotated, cast

from anyio import CapacityLimiter
from fastapi import Depends, Request, Response
from redis import Redis

from services.diary.conflicts import OwnerConflicts
from services.diary.embedding.embedder import Embedder
from services.diary.index.engine import IndexEngine
from services.diary.jobs import Jobs
from services.diary.ledger.ledger import Ledger
from services.diary.recall.recall import Recall
from services.errors import ConfigError, EntryConflict
from services.local_time import LocalTime, read_zone
from services.orchestrator.adapter import Adapter, AdapterLoader
from services.orchestrator.http.auth import ApiKeyStore, KeyHistory, caller_of
from services.orchestrator.http.limits import RateLimits
from services.orchestrator.http.single_flight import SingleFlight
from services.orchestrator.http.uploads import ImportLimits, ImportSlots, UploadLimits
from services.orchestrator.observability.metrics import Collectors, Metrics
from services.orchestrator.persona_guard import PersonaGuard
from services.orchestrator.settings import OrchestratorSettings
from services.orchestrator.vllm.circuit_breaker import OwnerCircuitBreaker
from services.orchestrator.vllm.client import VllmClient
from services.orchestrator.vllm.concurrency import ConcurrencyLimiter
from services.orchestrator.vllm.context_window import ContextWindow
from services.orchestrator.vllm.token_counter import TokenCounter
from services.persona.persona import Persona

WRITER_THREADS = 16  # for writes into the ledger
_DATE = re.compile(r"\d{4}-(\d\d)-(\d\d)", re.ASCII)


@dataclass(frozen=True)
class AppState:
    """Everything that a route may use.

    `adapter` raises ConfigError while no adapter is published; until then `recall` knows no persona.
    """

    adapter: Callable[[], Adapter]
    vllm: VllmClient
    token_counter: TokenCounter
    context_window: ContextWindow
    ledger: Ledger
    jobs: Jobs
    embedder: Embedder
    index: IndexEngine
    recall: Callable[[], Recall]
    budget_tokens: int  # for the whole diary block of a prompt
    max_answers: int  # to one request, over all of its prompts
    reflect_after_s: float  # 0: only on request
    api_keys: ApiKeyStore
    rate_limits: RateLimits
    persona_guard: PersonaGuard
    metrics: Metrics
    collectors: Collectors
    diary_deadline_s: float  # for the diary's lookup; past it the answer is given without the diary
    import_limits: ImportLimits
    # Writers have threads of their own: while they wait for a locked ledger, readers still find one.
    write_limiter: CapacityLimiter
    default_local_time: LocalTime  # for owners without a time zone of their own
    keep_alive_s: float  # of silence in a stream, until a comment is sent for proxies
    diary_breaker: OwnerCircuitBreaker = field(default_factory=OwnerCircuitBreaker)
    readiness: SingleFlight[dict[str, str]] = field(default_factory=SingleFlight)

    def local_time(self, owner: str, timezone: str | None = None) -> LocalTime:
        """The time zone of a request: the one that it names, else the owner's, else the deployment's."""
        name = timezone or self.api_keys.timezone(owner)
        return self.default_local_time.elsewhere(read_zone(name)) if name else self.default_local_time

    def conflicts(self, owner: str) -> OwnerConflicts:
        """The conflicts in one owner's diary."""
        return OwnerConflicts(self.ledger, self.embedder, self.index, owner)


# --- injected into routes --------------------------------------------------------------------------


def _state(request: Request) -> AppState:
    return cast(AppState, request.app.state.ada)


StateDep = Annotated[AppState, Depends(_state)]


async def count_request(request: Request, state: StateDep, response: Response) -> str:
    """Count the request against its key's limit and write what is left into its headers.

    Returns the owner. Raises RateLimited.
    """
    caller = caller_of(request)
    response.headers.update(state.rate_limits.count(caller))
    return caller.owner


# The owner whose diary a request is about; asking for it counts the request.
OwnerDep = Annotated[str, Depends(count_request)]


async def _check_persona(state: StateDep) -> None:
    try:
        persona = state.adapter().persona
    except ConfigError:  # no adapter yet: the first persona that is served gets what is written now
        return
    if complaint := await state.persona_guard.complaint(persona):
        raise EntryConflict(complaint)


# For routes that write new text into the diary.
may_write = Depends(_check_persona)


# --- built once ------------------------------------------------------------------------------------


def build_state(
    settings: OrchestratorSettings,
    vllm: VllmClient,
    ledger: Ledger,
    queue: Redis,
    embedder: Embedder,
    index: IndexEngine,
    metrics: Metrics,
) -> AppState:
    """The state of an application with these settings, over these clients and stores."""
    adapter, jobs = AdapterLoader(settings.adapter).adapter, Jobs(queue, ledger)
    return AppState(
        adapter=adapter,
        vllm=vllm,
        token_counter=TokenCounter(vllm),
        context_window=ContextWindow(vllm),
        ledger=ledger,
        jobs=jobs,
        embedder=embedder,
        index=index,
        recall=recall_factory(adapter, ledger, embedder, index),
        budget_tokens=settings.budget_tokens,
        max_answers=settings.max_answers,
        reflect_after_s=settings.reflect_after_s,
        api_keys=_api_key_store(settings, ledger),
        rate_limits=RateLimits(settings.key_requests_a_minute, settings.key_tokens_a_minute),
        persona_guard=PersonaGuard(ledger, settings.diary_of_another_persona),
        metrics=metrics,
        collectors=Collectors(metrics, ledger.counts, jobs.queue.counts),
        diary_deadline_s=settings.diary_deadline_s,
        import_limits=ImportLimits(
            ImportSlots(settings.imports_at_once, settings.imports_an_owner),
            UploadLimits(settings.import_max_bytes, settings.import_timeout_s),
        ),
        write_limiter=CapacityLimiter(WRITER_THREADS),
        default_local_time=settings.local_time,
        keep_alive_s=settings.keep_alive_s,
    )


def build_concurrency_limiter(settings: OrchestratorSettings) -> ConcurrencyLimiter:
    """The limiter in front of vLLM."""
    return ConcurrencyLimiter(settings.max_running, settings.max_waiting, settings.queue_timeout_s)


def check_keys(settings: OrchestratorSettings, ledger: Ledger) -> None:
    """Raises ConfigError when other machines could send requests without a key, or when keys were lost."""
    settings.check_reach(had_keys=KeyHistory(ledger).had_keys())


def _api_key_store(settings: OrchestratorSettings, ledger: Ledger) -> ApiKeyStore:
    """Refuses requests without a key where keys ever existed, even if their file has vanished since."""
    history = KeyHistory(ledger)
    is_open = settings.is_on_loopback and (settings.without_keys or not history.had_keys())
    return ApiKeyStore(settings.keys_file, open_without_keys=is_open, history=history)


def recall_factory(
    adapter: Callable[[], Adapter], ledger: Ledger, embedder: Embedder, index: IndexEngine
) -> Callable[[], Recall]:
    """Returns a function for the current Recall: it knows the persona's birthday once there is an adapter."""

    @cache
    def recall_with(birthday: tuple[int, int] | None) -> Recall:
        return Recall(ledger, embedder, index, birthday)

    def recall() -> Recall:
        try:
            return recall_with(birthday(adapter().persona))
        except ConfigError:
            return recall_with(None)

    return recall


def birthday(persona: Persona) -> tuple[int, int] | None:
    """Month and day of the persona's birth, if a fact of the topic `birth` has a whole date."""
    for fact in persona.facts:
        if fact.topic == "birth" and (date := _DATE.fullmatch(fact.date)):
            return int(date[1]), int(date[2])
    return None
