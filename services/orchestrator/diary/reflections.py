"""/v1/diary/reflect: the persona writes an entry of its own from a conversation."""

from datetime import UTC, datetime

from fastapi import APIRouter
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel, ConfigDict, Field, field_validator

from services.diary.dates import parse_date
from services.diary.job_ids import reflection_job_id
from services.diary.reflection.reflections import ACCEPTED, Reflection, Reflections, Turn
from services.errors import FieldError
from services.orchestrator.dependencies import AppState, OwnerDep, StateDep, may_write
from services.orchestrator.diary.schemas import ReflectionAnswer
from services.orchestrator.http.errors import COMMON_FAILURES, JSON_BODY_STATUSES, failure_responses
from services.orchestrator.http.json_body import JsonRoute
from services.orchestrator.openai.messages import parse_conversation
from services.orchestrator.openai.schemas import ChatMessage
from services.orchestrator.reflection.request import (
    build_reflection_request,
    dialogue_turns,
    submit_reflection,
)
from services.orchestrator.timezones import Timezone

router = APIRouter(prefix="/v1/diary", tags=["diary"], responses=COMMON_FAILURES, route_class=JsonRoute)


class ReflectionRequest(BaseModel):
    """A conversation as in a chat completion; system turns are ignored."""

    model_config = ConfigDict(extra="forbid")

    messages: list[ChatMessage] = Field(min_length=1, max_length=2000)
    date: str | None = Field(None, max_length=40, description="the date of the entry; by default today")
    timezone: Timezone | None = None

    @field_validator("date")
    @classmethod
    def _check_date(cls, value: str | None) -> str | None:
        if value is not None:
            parse_date(value, datetime.now(UTC).date())
        return value


@router.post(
    "/reflect",
    status_code=202,
    responses=failure_responses(*JSON_BODY_STATUSES, 409, 507),
    dependencies=[may_write],
)
async def reflect(request: ReflectionRequest, state: StateDep, owner: OwnerDep) -> ReflectionAnswer:
    """Queue a job in which the persona writes an entry from this conversation alone.

    The same conversation yields one entry; when it has grown since, another one from its new turns.
    """
    turns = dialogue_turns(parse_conversation(request.messages).turns)
    if not any(turn["role"] == "user" for turn in turns):
        raise FieldError("messages: there is no user turn, so there is nothing to write about", "messages")
    date = request.date or state.local_time(owner, request.timezone).today().isoformat()
    reflection = await _reflection(state, owner, turns, date)
    await run_in_threadpool(submit_reflection, state, reflection)
    return ReflectionAnswer(
        reflection_id=reflection.id,
        job_id=reflection_job_id(owner, reflection.id),
        status="queued" if reflection.state == ACCEPTED else reflection.state,
        entry_id=reflection.entry_id,
    )


async def _reflection(state: AppState, owner: str, turns: list[Turn], date: str) -> Reflection:
    reflections = Reflections(state.ledger)
    reflected = await run_in_threadpool(reflections.reflected_turns, owner, turns)
    if reflected == len(turns):
        return await run_in_threadpool(reflections.get_by_turns, owner, turns)
    request = await build_reflection_request(
        state.adapter().persona, turns[reflected:], state.context_window, state.token_counter
    )
    return await run_in_threadpool(reflections.add, owner, turns, request.turns, request.body, date)
