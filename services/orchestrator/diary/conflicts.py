"""/v1/diary/conflicts: entries that contradict each other, for the researcher to resolve."""

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
MAX_SECONDS = 20.0  # of one request's comparisons; the next request continues where it ended
PAIRS_PER_ENTRY = 6  # the most similar ones
BATCH = 8  # entries between two looks at the clock


class Settlement(BaseModel):
    """Which side is true."""

    model_config = ConfigDict(extra="forbid")

    settled: Resolution


@router.get("", responses=failure_responses(400, 422))
async def list_conflicts(
    state: StateDep,
    owner: OwnerDep,
    limit: Annotated[int, Query(ge=1, le=100)] = 10,
    settled: Annotated[bool, Query(description="list the resolved ones instead")] = False,
) -> Conflicts:
    """Pairs of passages on the same subject, of different days, that contradict each other.

    Entries not yet compared with those most like them are compared now, newest first, for 20 seconds or
    until `limit` is reached; verdicts are saved until an entry is edited. Repeat the request to continue.
    """
    conflicts = state.conflicts(owner)
    stopped_by = None if settled else await _find_conflicts(state, conflicts, limit)
    newest = await run_in_threadpool(conflicts.newest, limit, settled)
    return Conflicts(
        data=[ConflictAnswer.of(conflict) for conflict in newest],
        unexamined=await run_in_threadpool(conflicts.count_unexamined),
        stopped_by=stopped_by,
    )


@router.put("/{conflict_id}", responses=failure_responses(*JSON_BODY_STATUSES, 404))
def settle(conflict_id: str, settlement: Settlement, state: StateDep, owner: OwnerDep) -> ConflictAnswer:
    """Record which side is true. The entries stay as they are; edit or remove them yourself."""
    return ConflictAnswer.of(state.conflicts(owner).resolve(conflict_id, settlement.settled))


async def _find_conflicts(state: AppState, conflicts: OwnerConflicts, limit: int) -> str | None:
    """Compare entries that have not been compared; returns the error that ended it early, if any.

    Raises that error when there are no conflicts to return anyway.
    """
    try:
        failure = await _compare(state, conflicts, limit)
    except AdaError as error:
        failure = error
    if failure and not await run_in_threadpool(conflicts.newest, 1):
        raise failure
    return str(failure) if failure else None


async def _compare(state: AppState, conflicts: OwnerConflicts, limit: int) -> AdaError | None:
    """Compare until time is up or `limit` conflicts are known; returns the last failure of a single entry.

    An entry that fails does not stop the others, and is skipped after three attempts. But when every entry
    fails, the model is at fault: then no attempt is counted, because that would hide every conflict.
    """
    deadline, compared, is_model_fault = time.monotonic() + MAX_SECONDS, 0, False
    failed: dict[str, tuple[Entry, NoVerdict]] = {}
    while time.monotonic() < deadline and len(await run_in_threadpool(conflicts.newest, limit)) < limit:
        entries = await run_in_threadpool(conflicts.unexamined, BATCH, list(failed))
        if not entries or (is_model_fault := not compared and len(failed) >= BATCH):
            break
        for entry in entries:
            try:
                await _examine(state, conflicts, entry)
                compared += 1
            except NoVerdict as error:
                failed[entry.id] = (entry, error)
    if not is_model_fault:
        for entry, _ in failed.values():
            await run_in_threadpool(conflicts.defer, entry)
    return list(failed.values())[-1][1] if failed else None


async def _examine(state: AppState, conflicts: OwnerConflicts, entry: Entry) -> None:
    pairs = (await run_in_threadpool(conflicts.candidates, entry))[:PAIRS_PER_ENTRY]
    await asyncio.gather(*(_judge(state, conflicts, pair) for pair in pairs))
    await run_in_threadpool(conflicts.mark_examined, entry)


async def _judge(state: AppState, conflicts: OwnerConflicts, pair: Pair) -> None:
    await run_in_threadpool(conflicts.record_verdict, pair, await classify(state.vllm, pair))
