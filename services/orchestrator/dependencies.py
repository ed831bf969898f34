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
from services.orchestrator.adapter import Adapter, Published
from services.orchestrator.http.api_keys import ApiKeyStore, Caller, KeyHistory
from services.orchestrator.http.auth import caller_of
from services.orchestrator.http.limits import Limits
from services.orchestrator.http.single_flight import SingleFlight
from services.orchestrator.http.uploads import ImportLimits, ImportSlots, UploadLimits
from services.orchestrator.observability.collectors import Collectors
from services.orchestrator.observability.metrics import Metrics
from services.orchestrator.persona_guard import PersonaGuard
from services.orchestrator.settings import OrchestratorSettings
from services.orchestrator.vllm.circuit_breaker import OwnerCircuitBreaker
from services.orchestrator.vllm.client import VllmClient
from services.orchestrator.vllm.concurrency import ConcurrencyLimiter
from services.orchestrator.vllm.context_window import ContextWindow
from services.orchestrator.vllm.token_counter import TokenCounter
from services.persona.persona import Persona

WRITING_THREADS = 16
_DATE = re.compile(r"\d{4}-(\d\d)-(\d\d)", re.ASCII)


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


async def _caller(request: Request) -> Caller:
    return caller_of(request)


CallerDep = Annotated[Caller, Depends(_caller)]


async def count_request(caller: CallerDep, state: StateDep, response: Response) -> Caller:
    """Count the request against its key's limit, and tell how much is left. Raises TooMuch."""
    response.headers.update(state.limits.count(caller))
    return caller


async def _owner(caller: Annotated[Caller, Depends(count_request)]) -> str:
    return caller.owner


# What every route of the diary asks for: the owner, whose request is counted with that.
OwnerDep = Annotated[str, Depends(_owner)]


async def _may_write(state: StateDep) -> None:
    try:
        persona = state.adapter().persona
    except ConfigError:  # no adapter yet: what is written now is taken for the first persona's
        return
    if complaint := await state.persona_guard.complaint(persona):
        raise EntryConflict(complaint)


# For routes that bring something new into the diary.
may_write = Depends(_may_write)


def build_state(
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
        recall=recall_factory(adapter, ledger, embedder, index),
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


def build_concurrency_limiter(settings: OrchestratorSettings) -> ConcurrencyLimiter:
    """The gate in front of vLLM."""
    return ConcurrencyLimiter(settings.max_running, settings.max_waiting, settings.queue_timeout_s)


def recall_factory(
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
