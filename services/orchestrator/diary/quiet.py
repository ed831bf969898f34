"""Chats that have gone quiet: Ada writes about them by herself, where REFLECT_AFTER_S says so."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime

from fastapi.concurrency import run_in_threadpool

from services.diary.conversations import Conversation, Conversations
from services.diary.reflections import Reflections, Turn
from services.errors import AdaError
from services.orchestrator.diary.reflection_request import reflection_request
from services.orchestrator.diary.reflections import submit_reflection
from services.orchestrator.state import State

log = logging.getLogger("ada.orchestrator")
LOOKED_EVERY_S = 10.0
AT_ONCE = 20  # talks


@asynccontextmanager
async def listening(state: State) -> AsyncIterator[None]:
    """Look after chats that have gone quiet as long as the block runs; nothing happens when that is off."""
    if not state.reflect_after_s:
        yield
        return
    task = asyncio.create_task(_look(state), name="quiet chats")
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def keep_talk(state: State, owner: str, turns: list[Turn]) -> None:
    """Keep what was said, for later. What goes wrong must not spoil an answer that is given already."""
    if not state.reflect_after_s or not turns:
        return
    try:
        if not await state.persona_guard.complaint(state.adapter().persona):
            await run_in_threadpool(Conversations(state.ledger).heard, owner, turns)
    except AdaError as error:
        log.warning("a chat was not kept: %s", error)


async def reflect_on_quiet(state: State) -> int:
    """Queue a reflection for each chat that has been quiet long enough; returns how many that were.

    Two orchestrators over one ledger queue each of them once. Raises AdaError.
    """
    if await state.persona_guard.complaint(state.adapter().persona):
        return 0  # these talks were another's; they wait
    conversations = Conversations(state.ledger)
    quiet = await run_in_threadpool(conversations.quiet, state.reflect_after_s, AT_ONCE)
    for talk in quiet:
        await _reflect(state, conversations, talk)
    await run_in_threadpool(conversations.forget_old)
    return len(quiet)


async def _look(state: State) -> None:
    while True:
        try:
            await reflect_on_quiet(state)
        except AdaError as error:  # no adapter yet, or no ledger: the talks wait
            log.warning("reflecting on quiet chats is put off: %s", error)
        except Exception:  # the boundary of the task: without it nothing would ever be reflected on
            log.exception("reflecting on quiet chats failed")
        await asyncio.sleep(min(LOOKED_EVERY_S, state.reflect_after_s))


async def _reflect(state: State, conversations: Conversations, talk: Conversation) -> None:
    known = await run_in_threadpool(Reflections(state.ledger).known, talk.owner, talk.turns)
    turns = talk.turns[max(known, talk.written) :]
    if not any(turn["role"] == "user" for turn in turns):
        await run_in_threadpool(conversations.pass_over, talk)
        return
    request = await reflection_request(state.adapter().persona, turns, state.engine, state.tokens)
    last_word = datetime.fromisoformat(talk.changed_at)
    date = state.local_time(talk.owner).day_of(last_word).isoformat()
    reflection = await run_in_threadpool(conversations.reflect, talk, request.turns, request.body, date)
    if reflection:
        await run_in_threadpool(submit_reflection, state, reflection)
