"""/v1/diary/conflicts: entries that disagree, for the researcher to settle."""

import asyncio
import time
from typing import Annotated

from fastapi import APIRouter, Query
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel, ConfigDict

from services.diary.conflicts import OwnerConflicts, Pair, Resolution
from services.diary.entry import Entry
from services.errors import AdaError, NoVerdict
from services.orchestrator.dependencies import AppState, OwnerDep, StateDep
from services.orchestrator.diary.contradiction_classifier import classify
from services.orchestrator.diary.schemas import ConflictAnswer, Conflicts
from services.orchestrator.http.errors import COMMON_FAILURES, JSON_BODY_STATUSES, failure_responses
from services.orchestrator.http.json_body import JsonRoute

router = APIRouter(
    prefix="/v1/diary/conflicts", tags=["diary"], responses=COMMON_FAILURES, route_class=JsonRoute
)
LONGEST_S = 20.0  # one request looks for new conflicts; the next goes on where it ended
PAIRS = 6  # are judged of one entry, the likest
AT_ONCE = 8  # entries that are looked at before the clock is looked at again


class Settlement(BaseModel):
    """Which side holds."""

    model_config = ConfigDict(extra="forbid")

    settled: Resolution


@router.get("", responses=failure_responses(400, 422))
async def list_conflicts(
    state: StateDep,
    owner: OwnerDep,
    limit: Annotated[int, Query(ge=1, le=100)] = 10,
    settled: Annotated[bool, Query(description="those that were settled already")] = False,
) -> Conflicts:
    """Pairs of passages on the same subject, of different days, that contradict each other.

    Entries not yet compared with those most like them are compared now, newest first, for 20 seconds or
    until `limit` is reached; verdicts are kept until an entry is edited. Ask again to go on.
    """
    conflicts = state.conflicts(owner)
    stopped_by = None if settled else await _look(state, conflicts, limit)
    found = await run_in_threadpool(conflicts.newest, limit, settled)
    return Conflicts(
        data=[ConflictAnswer.of(conflict) for conflict in found],
        unexamined=await run_in_threadpool(conflicts.count_unexamined),
        stopped_by=stopped_by,
    )


@router.put("/{conflict_id}", responses=failure_responses(*JSON_BODY_STATUSES, 404))
def settle(conflict_id: str, settlement: Settlement, state: StateDep, owner: OwnerDep) -> ConflictAnswer:
    """Note which side holds. The entries stay as they are: edit or remove them where that is wanted."""
    return ConflictAnswer.of(state.conflicts(owner).resolve(conflict_id, settlement.settled))


async def _look(state: AppState, conflicts: OwnerConflicts, limit: int) -> str | None:
    """Compare entries that were not yet compared; why that ended early, if something was wrong.

    Raises what went wrong when there is nothing to show anyway.
    """
    try:
        failure = await _compare(state, conflicts, limit)
    except AdaError as error:
        failure = error
    if failure and not await run_in_threadpool(conflicts.newest, 1):
        raise failure
    return str(failure) if failure else None


async def _compare(state: AppState, conflicts: OwnerConflicts, limit: int) -> AdaError | None:
    """Compare until time is up or there is enough to show; the last failure of a single entry.

    An entry that fails keeps no other from it, and is left after three times. But when entry after entry
    fails it is the model's fault: then none of it counts, because that would hide every conflict.
    """
    until, compared, is_models_fault = time.monotonic() + LONGEST_S, 0, False
    failed: dict[str, tuple[Entry, NoVerdict]] = {}
    while time.monotonic() < until and len(await run_in_threadpool(conflicts.newest, limit)) < limit:
        entries = await run_in_threadpool(conflicts.unexamined, AT_ONCE, list(failed))
        if not entries or (is_models_fault := not compared and len(failed) >= AT_ONCE):
            break
        for entry in entries:
            try:
                await _examine(state, conflicts, entry)
                compared += 1
            except NoVerdict as error:
                failed[entry.id] = (entry, error)
    if not is_models_fault:
        for entry, _ in failed.values():
            await run_in_threadpool(conflicts.defer, entry)
    return list(failed.values())[-1][1] if failed else None


async def _examine(state: AppState, conflicts: OwnerConflicts, entry: Entry) -> None:
    pairs = (await run_in_threadpool(conflicts.candidates, entry))[:PAIRS]
    await asyncio.gather(*(_judge(state, conflicts, pair) for pair in pairs))
    await run_in_threadpool(conflicts.mark_examined, entry)


async def _judge(state: AppState, conflicts: OwnerConflicts, pair: Pair) -> None:
    await run_in_threadpool(conflicts.record_verdict, pair, await classify(state.vllm, pair))
