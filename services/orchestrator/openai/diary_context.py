"""What Ada's diary gives to one answer, within a deadline; the diary never stops an answer."""

import asyncio
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import anyio.to_thread

from services.diary.dates import iso_day
from services.diary.recall.cancellation import Cancellation
from services.diary.recall.query import RecallQuery
from services.diary.recall.recall import RecalledEntry
from services.errors import AdaError, DiaryUnavailable
from services.orchestrator.dependencies import AppState
from services.orchestrator.observability.tracing import span
from services.orchestrator.openai.context_window import Room
from services.orchestrator.openai.diary_budget import room_for_entries, select_entries, shown_date
from services.orchestrator.openai.schemas import AdaOptions
from services.orchestrator.vllm.client import Json
from services.orchestrator.vllm.token_counter import TokenCounter
from services.persona.prompt import RecalledBlock

log = logging.getLogger("ada.orchestrator")


@dataclass
class Diary:
    """What the diary gave: used, off, empty, no_room or unavailable."""

    status: str
    recalled: list[RecalledEntry] = field(default_factory=list)
    reason: str = ""
    left_out: int = 0  # entries that were found and not shown, because there was no room for them

    def report(self) -> Json:
        """The `ada.diary` field of the answer, best entry first."""
        entries = [
            {"id": one.entry.id, "date": one.entry.date, "score": round(one.score, 4)}
            for one in _best_first(self.recalled)
        ]
        report: Json = {"status": self.status, "entries": entries}
        if self.left_out:
            report["left_out"] = self.left_out
        return {**report, "reason": self.reason} if self.reason else report

    def shown(self) -> list[RecalledBlock]:
        """As the prompt has it, newest last."""
        return [RecalledBlock(shown_date(one.entry), one.excerpt) for one in self.recalled]

    async def fit(self, room: Room, header: str, tokens: TokenCounter) -> None:
        """Show no more than the conversation and its answer leave free in the model's context."""
        budget = await room_for_entries(room.left, header, tokens)
        selection = await select_entries(_best_first(self.recalled), tokens, budget)
        self.recalled, self.left_out = selection.shown, self.left_out + selection.left_out
        if not self.recalled:
            self.drop(
                f"the conversation ({room.prompt} tokens) and its answer ({room.answer}) leave no room "
                f"for the diary in the model's {room.length} tokens"
            )

    def drop(self, reason: str) -> None:
        """Show nothing, for want of room."""
        self.left_out += len(self.recalled)
        self.status, self.recalled, self.reason = "no_room", [], reason


async def recollect(question: str, options: AdaOptions, state: AppState, owner: str) -> Diary:
    """What an owner's diary has to say to a question."""
    if not question.strip() or not state.budget_tokens:
        return Diary("empty")
    try:
        if complaint := await state.persona_guard.complaint(state.adapter().persona):
            return Diary("unavailable", reason=complaint)
    except AdaError as error:
        return _without(str(error))
    if pause := state.diary_breaker.pause_s(owner):
        reason = f"{state.diary_breaker.reason(owner)} (it is asked again in {pause:.0f} s)"
        return Diary("unavailable", reason=reason)
    began = time.monotonic()
    try:
        with span("recall"):
            async with asyncio.timeout(state.diary_deadline_s):
                found = await _recall(question, options, state, owner)
    except TimeoutError:
        reason = f"the diary did not answer within {state.diary_deadline_s:g} s"
        state.diary_breaker.was_late(owner, reason)
        return _without(reason)
    except DiaryUnavailable as error:
        state.diary_breaker.failed(str(error))
        return _without(str(error))
    except AdaError as error:  # the question's own matter
        return _without(str(error))
    finally:
        state.metrics.recall.observe(time.monotonic() - began)
    state.diary_breaker.succeeded(owner)
    return found


async def _recall(question: str, options: AdaOptions, state: AppState, owner: str) -> Diary:
    local = state.local_time(owner, options.timezone)
    as_of = iso_day(options.as_of, local) if options.as_of else None
    cancellation = Cancellation()

    query = RecallQuery(question, options.top_k, as_of=as_of, local=local)

    def search() -> list[RecalledEntry]:
        return state.recall().search(owner, query, cancellation)

    # A thread can't be ended: past the deadline, and when the client is gone, it ends at its next step.
    try:
        found = await anyio.to_thread.run_sync(search, abandon_on_cancel=True)
    finally:
        cancellation.cancel()
    if not found:
        return Diary("empty")
    selection = await select_entries(found, state.tokens, state.budget_tokens)
    diary = Diary("used", selection.shown, left_out=selection.left_out)
    if not diary.recalled:
        diary.drop(f"no entry fits DIARY_BUDGET_TOKENS={state.budget_tokens}")
    return diary


def _without(reason: str) -> Diary:
    log.warning("answering without the diary: %s", reason)
    return Diary("unavailable", reason=reason)


def _best_first(recalled: Sequence[RecalledEntry]) -> list[RecalledEntry]:
    return sorted(recalled, key=lambda one: -one.score)
