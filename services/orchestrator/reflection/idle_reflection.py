"""Reflection on idle chats: with REFLECT_AFTER_S, Ada writes diary entries about them without a request."""

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime

from fastapi.concurrency import run_in_threadpool

from services.diary.reflection.conversations import Conversation, Conversations
from services.diary.reflection.reflections import ACCEPTED, Attempt, Reflections, Turn
from services.errors import AdaError, DiaryUnavailable
from services.orchestrator.dependencies import AppState
from services.orchestrator.reflection.front_end_prompts import conversation_in
from services.orchestrator.reflection.request import build_reflection_request, submit_reflection
from services.persona.persona import Persona

log = logging.getLogger("ada.orchestrator")
POLL_INTERVAL_S = 10.0
BATCH_SIZE = 20  # chats or reflections


@asynccontextmanager
async def watch(state: AppState) -> AsyncIterator[None]:
    """Reflect on idle chats in a background task while the block runs.

    Without REFLECT_AFTER_S, only reflections that were accepted before are processed.
    """
    task = asyncio.create_task(_poll(state), name="idle chats")
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def record(state: AppState, owner: str, turns: Sequence[Turn], answer: str) -> None:
    """Record a chat for a later reflection. An AdaError is logged: it must not affect the answer."""
    if not state.reflect_after_s or not (chat := conversation_in(turns, answer)):
        return
    try:
        if not await state.persona_guard.complaint(state.adapter().persona):
            await run_in_threadpool(Conversations(state.ledger).record, owner, chat)
    except AdaError as error:
        log.warning("a chat was not recorded: %s", error)


async def reflect_on_idle(state: AppState) -> int:
    """Accept a reflection for each chat that has been idle long enough; return the number of idle chats.

    Two orchestrators that share a ledger accept each reflection once.

    Raises AdaError: when the ledger or the adapter is unavailable.
    """
    if await state.persona_guard.complaint(state.adapter().persona):
        return 0  # the chats belong to another persona, and wait for it
    conversations = Conversations(state.ledger)
    idle = await run_in_threadpool(conversations.idle, state.reflect_after_s, BATCH_SIZE)
    for chat in idle:
        await run_in_threadpool(_accept, state, conversations, chat)
    await run_in_threadpool(conversations.delete_old)
    await prepare_accepted(state)
    return len(idle)


async def prepare_accepted(state: AppState) -> None:
    """Build the request of each accepted reflection and queue it. A failure does not delay the others.

    Raises AdaError: when the next reflection would fail too.
    """
    reflections = Reflections(state.ledger)
    for due in await run_in_threadpool(reflections.unprepared, BATCH_SIZE):
        persona = state.adapter().persona  # a missing adapter is not counted as a failed attempt
        if attempt := await run_in_threadpool(reflections.begin, due.owner, due.id, ACCEPTED):
            await _prepare(state, persona, attempt)


async def _poll(state: AppState) -> None:
    while True:
        try:
            if state.reflect_after_s:
                await reflect_on_idle(state)
            else:
                await prepare_accepted(state)
        except AdaError as error:  # the adapter or the ledger is unavailable: the chats wait
            log.warning("reflection on idle chats is postponed: %s", error)
        except Exception:  # the boundary of the task: an exception that escaped would end all reflection
            log.exception("reflection on idle chats failed")
        await asyncio.sleep(min(POLL_INTERVAL_S, state.reflect_after_s or POLL_INTERVAL_S))


def _accept(state: AppState, conversations: Conversations, chat: Conversation) -> None:
    reflected = Reflections(state.ledger).reflected_turns(chat.owner, chat.turns)
    turns = chat.turns[max(reflected, chat.written) :]
    if chat.grown and any(turn["role"] == "user" for turn in turns):
        changed_at = datetime.fromisoformat(chat.changed_at)
        day = state.local_time(chat.owner).day_of(changed_at)
        conversations.reflect(chat, len(turns), day.isoformat())
    else:
        conversations.skip(chat)


async def _prepare(state: AppState, persona: Persona, attempt: Attempt) -> None:
    reflections = Reflections(state.ledger)
    try:
        reflection = await run_in_threadpool(reflections.get, attempt.owner, attempt.id)
        request = await build_reflection_request(
            persona, reflection.turns, state.context_window, state.token_counter
        )
        await run_in_threadpool(reflections.prepare, attempt, request.turns, request.body)
        queued = await run_in_threadpool(reflections.get, attempt.owner, attempt.id)
        await run_in_threadpool(submit_reflection, state, queued)
    except DiaryUnavailable:
        raise
    except Exception as error:  # the boundary of one reflection: its job reports the reason
        log.exception("the request of reflection %s could not be built", attempt.id)
        why = str(error) if isinstance(error, AdaError) else type(error).__name__
        await run_in_threadpool(reflections.defer, attempt, f"its request could not be built: {why}")
