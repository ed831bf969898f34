"""What Ada's diary gives to one answer, within a deadline; the diary never stops an answer."""

import asyncio
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

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
from services.orchestrator.http.disclosure import disclosure_about
from services.orchestrator.openai.models import ADA
from services.orchestrator.openai.schemas import AdaOptions
from services.orchestrator.vllm.client import Json
from services.orchestrator.vllm.context_window import TOKENS_A_TURN, Room
from services.orchestrator.vllm.token_counter import TokenCounter
from services.persona.neutraliser import neutralise
from services.persona.prompt import RecalledBlock
from services.tracing import span

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


LEAST_CHARACTERS = 60  # of a shortened entry: less tells nothing
CUTS = 4  # to find the length that fits; each cut aims at nine tenths of the room


@dataclass(frozen=True)
class Selection:
    """The entries that are shown, newest last, and how many of those found are not."""

    shown: list[RecalledEntry]
    left_out: int


async def select_entries(found: Sequence[RecalledEntry], tokens: TokenCounter, budget: int) -> Selection:
    """The best entries, best first in `found`, that take at most `budget` tokens together.

    The best one is shown in part where the whole of it does not fit.
    """
    if not found:
        return Selection([], 0)
    lines = {one.excerpt: shown_line(one) for one in found}
    numbers = dict(zip(lines, await tokens.counts(list(lines.values())), strict=True))
    candidates = list(found)
    if numbers[found[0].excerpt] > budget and (short := await _shortened(found[0], tokens, budget)):
        candidates[0] = short
        numbers[short.excerpt] = await tokens.count(shown_line(short))
    shown = within_budget(candidates, budget, numbers.__getitem__)
    return Selection(shown, len(found) - len(shown))


async def room_for_entries(room: int, header: str, tokens: TokenCounter) -> int:
    """Tokens that are left for entries when the block's own turn and first line have had theirs."""
    return room - TOKENS_A_TURN - await tokens.count(f"{header}\n")


async def _shortened(one: RecalledEntry, tokens: TokenCounter, budget: int) -> RecalledEntry | None:
    """The entry with as much of what was found in it as fits."""
    text = one.excerpt
    for _ in range(CUTS):
        number = await tokens.count(shown_line(one, text))
        if number <= budget:
            return replace(one, excerpt=text)
        characters = len(text) * max(budget, 0) * 9 // (number * 10)
        if characters < LEAST_CHARACTERS:
            return None
        text = excerpt(one.entry.text, one.chunk_ordinals, one.hidden_ordinals, characters)
    return None


def shown_line(one: RecalledEntry, text: str | None = None) -> str:
    """An entry as a line of the prompt's diary block."""
    return neutralise(f"[{shown_date(one.entry)}] {one.excerpt if text is None else text}\n")


def shown_date(entry: Entry) -> str:
    """A day as the calendar has it, anything wider as it was given; "" where it was only assumed."""
    if entry.date_assumed:
        return ""
    return entry.first_day if entry.first_day == entry.last_day else entry.date


def report(
    model: str, adapter: Adapter, diary: Diary, ignored: Sequence[str] = (), neutralized: int = 0
) -> dict[str, Any]:
    """What the diary gave, which adapter answered, the disclosure, and what of the request was changed."""
    told: dict[str, Any] = {
        "diary": diary.report(),
        "adapter": adapter.manifest.run_id if model == ADA else None,
        "disclosure": disclosure_about(adapter.persona.assistant_name).sentence,
    }
    if ignored:
        told["ignored"] = list(ignored)
    if neutralized:
        told["neutralized"] = neutralized
    return told
