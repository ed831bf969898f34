"""/v1/diary/reindex and /v1/diary/verify: the index made anew, and held against the ledger."""

from fastapi import APIRouter, Depends

from services.diary.index.verification import verify
from services.orchestrator.dependencies import OwnerDep, StateDep, count_request
from services.orchestrator.diary.schemas import DifferenceAnswer, QueuedJob, Verification
from services.orchestrator.http.errors import COMMON_FAILURES

router = APIRouter(prefix="/v1/diary", tags=["diary"], responses=COMMON_FAILURES)


@router.post("/reindex", status_code=202, dependencies=[Depends(count_request)])
def reindex(state: StateDep) -> QueuedJob:
    """Fill a new index from the ledger and switch to it; Ada answers from the old one meanwhile.

    There is one index for all owners, so this is one job for all: any key may ask for it, twice is once,
    and its report tells how many entries there are in all, but nothing of them.
    """
    return QueuedJob(job_id=state.jobs.submit_reindex())


@router.get("/verify")
def verify_diary(state: StateDep, owner: OwnerDep) -> Verification:
    """Whether the index has what the ledger has, and the ledger what was written; each difference by name."""
    found = [one for one in verify(state.ledger, state.index) if one.owner in (owner, "")]
    told = [DifferenceAnswer(entry_id=one.entry_id, kind=one.kind, what=one.what) for one in found]
    return Verification(equal=not told, data=told)
