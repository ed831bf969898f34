"""/v1/diary/delete: remove all entries that a filter picks, after a look at what they are."""

from fastapi import APIRouter
from fastapi.concurrency import run_in_threadpool
from pydantic import Field

from services.diary.entry import IndexState
from services.diary.ledger.paging import EntryFilter
from services.errors import FieldError
from services.orchestrator.dependencies import AppState, OwnerDep, StateDep
from services.orchestrator.diary.entries import submit, written
from services.orchestrator.diary.filters import EntryFilterQuery
from services.orchestrator.diary.schemas import Deletion
from services.orchestrator.http.errors import COMMON_FAILURES, JSON_BODY_STATUSES, failure_responses
from services.orchestrator.http.json_body import JsonRoute

router = APIRouter(prefix="/v1/diary", tags=["diary"], responses=COMMON_FAILURES, route_class=JsonRoute)
_TOLD = 100  # ids
_SUBMITTED = 500  # tombstones; a job takes along what else is due, and the worker's sweep finds the rest


class DeletionRequest(EntryFilterQuery):
    """A filter, and whether it is meant."""

    dry_run: bool = Field(
        True, strict=True, description="false removes what is picked; true only tells what that would be"
    )
    all: bool = Field(
        False, strict=True, description="needed to remove the whole diary, with a filter that picks all"
    )


@router.post("/delete", responses=failure_responses(*JSON_BODY_STATUSES, 507))
async def delete_entries(request: DeletionRequest, state: StateDep, owner: OwnerDep) -> Deletion:
    """Remove what the filter picks, all of it or nothing; by default only tell how many and which."""
    ledger, picked = state.ledger.for_owner(owner), request.filter(state.local_time(owner, request.timezone))
    if picked == EntryFilter() and not request.dry_run and not request.all:
        raise FieldError("this removes the whole diary: say so with `all: true`, or give a filter", "all")
    ids = [entry.id for entry in (await run_in_threadpool(ledger.page, picked, _TOLD)).entries]
    if request.dry_run:
        return Deletion(dry_run=True, count=await run_in_threadpool(ledger.count, picked), ids=ids)
    count = await written(state, ledger.remove_where, picked)
    await run_in_threadpool(_submit, state, owner, count)
    return Deletion(dry_run=False, count=count, ids=ids)


def _submit(state: AppState, owner: str, count: int) -> None:
    ledger = state.ledger.for_owner(owner)
    for entry in ledger.with_state(IndexState.QUEUED, min(count, _SUBMITTED)).entries if count else ():
        submit(state, entry)
