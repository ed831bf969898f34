"""Chats that have gone quiet: Ada writes about them by herself, where REFLECT_AFTER_S says so."""

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
LOOKED_EVERY_S = 10.0
AT_ONCE = 20  # chats


@asynccontextmanager
async def watch(state: AppState) -> AsyncIterator[None]:
    """Look after chats that have gone quiet as long as the block runs.

    Without REFLECT_AFTER_S no chat is looked for; reflections that were accepted before are finished.
    """
    task = asyncio.create_task(_look(state), name="quiet chats")
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def record(state: AppState, owner: str, turns: Sequence[Turn], answer: str) -> None:
    """Keep what was said, for later. What goes wrong must not spoil an answer that is given already."""
    if not state.reflect_after_s or not (chat := conversation_in(turns, answer)):
        return
    try:
        if not await state.persona_guard.complaint(state.adapter().persona):
            await run_in_threadpool(Conversations(state.ledger).record, owner, chat)
    except AdaError as error:
        log.warning("a chat was not kept: %s", error)


async def reflect_on_idle(state: AppState) -> int:
    """Accept a reflection for each chat that has been quiet long enough; returns how many were looked at.

    Two orchestrators over one ledger accept each of them once. Raises AdaError.
    """
    if await state.persona_guard.complaint(state.adapter().persona):
        return 0  # these chats were another's; they wait
    conversations = Conversations(state.ledger)
    quiet = await run_in_threadpool(conversations.idle, state.reflect_after_s, AT_ONCE)
    for chat in quiet:
        await run_in_threadpool(_accept, state, conversations, chat)
    await run_in_threadpool(conversations.delete_old)
    await prepare_accepted(state)
    return len(quiet)


async def prepare_accepted(state: AppState) -> None:
    """Build the request of each accepted reflection, and queue it. One that fails keeps no other waiting.

    Raises AdaError where the next one would fail too.
    """
    reflections = Reflections(state.ledger)
    for due in await run_in_threadpool(reflections.unprepared, AT_ONCE):
        persona = state.adapter().persona  # none yet: that is no fault of this one, and is not counted
        if attempt := await run_in_threadpool(reflections.begin, due.owner, due.id, ACCEPTED):
            await _prepare(state, persona, attempt)


async def _look(state: AppState) -> None:
    while True:
        try:
            if state.reflect_after_s:
                await reflect_on_idle(state)
            else:
                await prepare_accepted(state)
        except AdaError as error:  # no adapter yet, or no ledger: the chats wait
            log.warning("reflecting on quiet chats is put off: %s", error)
        except Exception:  # the boundary of the task: without it nothing would ever be reflected on
            log.exception("reflecting on quiet chats failed")
        await asyncio.sleep(min(LOOKED_EVERY_S, state.reflect_after_s or LOOKED_EVERY_S))


def _accept(state: AppState, conversations: Conversations, chat: Conversation) -> None:
    known = Reflections(state.ledger).reflected_turns(chat.owner, chat.turns)
    turns = chat.turns[max(known, chat.written) :]
    if chat.grown and any(turn["role"] == "user" for turn in turns):
        last_word = datetime.fromisoformat(chat.changed_at)
        day = state.local_time(chat.owner).day_of(last_word)
        conversations.reflect(chat, len(turns), day.isoformat())
    else:
        conversations.skip(chat)


async def _prepare(state: AppState, persona: Persona, attempt: Attempt) -> None:
    reflections = Reflections(state.ledger)
    try:
        reflection = await run_in_threadpool(reflections.get, attempt.owner, attempt.id)
        request = await build_reflection_request(persona, reflection.turns, state.vllm, state.token_counter)
        await run_in_threadpool(reflections.prepare, attempt, request.turns, request.body)
        queued = await run_in_threadpool(reflections.get, attempt.owner, attempt.id)
        await run_in_threadpool(submit_reflection, state, queued)
    except DiaryUnavailable:
        raise
    except Exception as error:  # the boundary of one reflection: counted, and told by its job
        log.exception("the request of reflection %s could not be built", attempt.id)
        why = str(error) if isinstance(error, AdaError) else type(error).__name__
        await run_in_threadpool(reflections.defer, attempt, f"its request could not be built: {why}")
