"""The diary entries for one answer, recalled within a deadline; Ada answers without them if need be."""

import asyncio
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import anyio.to_thread

from services.diary.dates import iso_day
from services.diary.entry import Entry
from services.diary.recall.cancellation import Cancellation
from services.diary.recall.excerpt import excerpt
from services.diary.recall.query import RecallQuery
from services.diary.recall.recall import RecalledEntry, within_budget
from services.errors import AdaError, DiaryUnavailable
from services.orchestrator.adapter import Adapter
from services.orchestrator.dependencies import AppState
from services.orchestrator.http.disclosure import disclosure_for
from services.orchestrator.http.json_body import Json
from services.orchestrator.openai.models import ADA
from services.orchestrator.openai.schemas import AdaOptions
from services.orchestrator.vllm.context_window import TOKENS_PER_TURN, TokenBudget
from services.orchestrator.vllm.token_counter import TokenCounter
from services.persona.neutraliser import neutralise
from services.persona.prompt import RecalledBlock
from services.tracing import span

log = logging.getLogger("ada.orchestrator")
MIN_EXCERPT_CHARACTERS = 60  # a shorter excerpt of an entry says nothing
EXCERPT_ATTEMPTS = 4  # to find the length that fits; each aims at nine tenths of the budget


@dataclass
class DiaryContext:
    """The recalled entries, newest last, and the diary's status: used, off, empty, no_room or unavailable."""

    status: str
    hits: list[RecalledEntry] = field(default_factory=list)
    reason: str = ""
    left_out: int = 0  # hits that did not fit the prompt

    def report(self) -> Json:
        """The `ada.diary` field of the answer, with the best entry first."""
        entries = [
            {"id": hit.entry.id, "date": hit.entry.date, "score": round(hit.score, 4)}
            for hit in _best_first(self.hits)
        ]
        report: Json = {"status": self.status, "entries": entries}
        if self.left_out:
            report["left_out"] = self.left_out
        return {**report, "reason": self.reason} if self.reason else report

    def blocks(self) -> list[RecalledBlock]:
        """The entries as the prompt shows them, newest last."""
        return [RecalledBlock(display_date(hit.entry), hit.excerpt) for hit in self.hits]

    async def fit(self, budget: TokenBudget, header: str, tokens: TokenCounter) -> None:
        """Keep no more entries than the conversation and its answer leave room for in the model's context."""
        free = budget.free - TOKENS_PER_TURN - await tokens.count(f"{header}\n")
        selection = await select_hits(_best_first(self.hits), tokens, free)
        self.hits, self.left_out = selection.hits, self.left_out + selection.left_out
        if not self.hits:
            self.drop(
                f"the conversation ({budget.prompt} tokens) and its answer ({budget.answer}) leave no room "
                f"for the diary in the model's {budget.context} tokens"
            )

    def drop(self, reason: str) -> None:
        """Leave all entries out, for lack of room."""
        self.left_out += len(self.hits)
        self.status, self.hits, self.reason = "no_room", [], reason


async def recall_context(question: str, options: AdaOptions, state: AppState, owner: str) -> DiaryContext:
    """Recall an owner's entries for a question. Never raises AdaError: the status says what went wrong."""
    if not question.strip() or not state.budget_tokens:
        return DiaryContext("empty")
    try:
        if complaint := await state.persona_guard.complaint(state.adapter().persona):
            return DiaryContext("unavailable", reason=complaint)
    except AdaError as error:
        return _unavailable(str(error))
    if pause := state.diary_breaker.pause_s(owner):
        reason = f"{state.diary_breaker.reason(owner)} (retried in {pause:.0f} s)"
        return DiaryContext("unavailable", reason=reason)
    started_at = time.monotonic()
    try:
        with span("recall"):
            async with asyncio.timeout(state.diary_deadline_s):
                context = await _recall(question, options, state, owner)
    except TimeoutError:
        reason = f"the diary did not answer within {state.diary_deadline_s:g} s"
        state.diary_breaker.timed_out(owner, reason)
        return _unavailable(reason)
    except DiaryUnavailable as error:
        state.diary_breaker.failed(str(error))
        return _unavailable(str(error))
    except AdaError as error:  # caused by this question alone
        return _unavailable(str(error))
    finally:
        state.metrics.recall.observe(time.monotonic() - started_at)
    state.diary_breaker.succeeded(owner)
    return context


async def _recall(question: str, options: AdaOptions, state: AppState, owner: str) -> DiaryContext:
    local = state.local_time(owner, options.timezone)
    as_of = iso_day(options.as_of, local) if options.as_of else None
    cancellation = Cancellation()

    query = RecallQuery(question, options.top_k, as_of=as_of, local=local)

    def search() -> list[RecalledEntry]:
        return state.recall().search(owner, query, cancellation)

    # A thread can't be killed: after the deadline, or when the client has disconnected, it ends at its next
    # step.
    try:
        hits = await anyio.to_thread.run_sync(search, abandon_on_cancel=True)
    finally:
        cancellation.cancel()
    if not hits:
        return DiaryContext("empty")
    selection = await select_hits(hits, state.token_counter, state.budget_tokens)
    context = DiaryContext("used", selection.hits, left_out=selection.left_out)
    if not context.hits:
        context.drop(f"no entry fits DIARY_BUDGET_TOKENS={state.budget_tokens}")
    return context


def _unavailable(reason: str) -> DiaryContext:
    log.warning("answering without the diary: %s", reason)
    return DiaryContext("unavailable", reason=reason)


def _best_first(hits: Sequence[RecalledEntry]) -> list[RecalledEntry]:
    return sorted(hits, key=lambda hit: -hit.score)


@dataclass(frozen=True)
class Selection:
    """The hits that fit the prompt, newest last, and the number of those that do not."""

    hits: list[RecalledEntry]
    left_out: int


async def select_hits(hits: Sequence[RecalledEntry], tokens: TokenCounter, budget: int) -> Selection:
    """The best of `hits`, which come best first, that take at most `budget` tokens together.

    Of the best hit an excerpt is selected when the whole entry does not fit.
    """
    if not hits:
        return Selection([], 0)
    lines = {hit.excerpt: entry_line(hit) for hit in hits}
    counts = dict(zip(lines, await tokens.counts(list(lines.values())), strict=True))
    candidates = list(hits)
    if counts[hits[0].excerpt] > budget and (shortened := await _shorten(hits[0], tokens, budget)):
        candidates[0] = shortened
        counts[shortened.excerpt] = await tokens.count(entry_line(shortened))
    selected = within_budget(candidates, budget, counts.__getitem__)
    return Selection(selected, len(hits) - len(selected))


async def _shorten(hit: RecalledEntry, tokens: TokenCounter, budget: int) -> RecalledEntry | None:
    """The hit with an excerpt around its matches that fits; None when the budget is too small for one."""
    text = hit.excerpt
    for _ in range(EXCERPT_ATTEMPTS):
        count = await tokens.count(entry_line(hit, text))
        if count <= budget:
            return replace(hit, excerpt=text)
        characters = len(text) * max(budget, 0) * 9 // (count * 10)
        if characters < MIN_EXCERPT_CHARACTERS:
            return None
        text = excerpt(hit.entry.text, hit.chunk_ordinals, hit.hidden_ordinals, characters)
    return None


def entry_line(hit: RecalledEntry, text: str | None = None) -> str:
    """An entry as a line of the prompt's diary block."""
    return neutralise(f"[{display_date(hit.entry)}] {hit.excerpt if text is None else text}\n")


def display_date(entry: Entry) -> str:
    """A day as an ISO date, any other date as the owner wrote it; "" for a date that was only assumed."""
    if entry.date_assumed:
        return ""
    return entry.first_day if entry.first_day == entry.last_day else entry.date


def ada_report(
    model: str, adapter: Adapter, diary: DiaryContext, ignored: Sequence[str] = (), neutralized: int = 0
) -> Json:
    """The `ada` field of an answer: diary, adapter, disclosure, and what was changed in the request."""
    report: Json = {
        "diary": diary.report(),
        "adapter": adapter.manifest.run_id if model == ADA else None,
        "disclosure": disclosure_for(adapter.persona.assistant_name).sentence,
    }
    if ignored:
        report["ignored"] = list(ignored)
    if neutralized:
        report["neutralized"] = neutralized
    return report
