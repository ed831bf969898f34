"""/v1/diary/reindex and /v1/diary/verify: rebuilds the index, and compares it with the ledger."""

from fastapi import APIRouter, Depends

from services.diary.index.verification import verify
from services.orchestrator.dependencies import OwnerDep, StateDep, count_request
from services.orchestrator.diary.schemas import DifferenceAnswer, QueuedJob, Verification
from services.orchestrator.http.errors import COMMON_FAILURES

router = APIRouter(prefix="/v1/diary", tags=["diary"], responses=COMMON_FAILURES)


@router.post("/reindex", status_code=202, dependencies=[Depends(count_request)])
def reindex(state: StateDep) -> QueuedJob:
    """Build a new index from the ledger and switch to it; the old one answers meanwhile.

    All owners share one index, so this is one job for all: any key may start it, a second request while it
    runs starts no other, and its report holds only how many entries there are in all.
    """
    return QueuedJob(job_id=state.jobs.submit_reindex())


@router.get("/verify")
def verify_diary(state: StateDep, owner: OwnerDep) -> Verification:
    """Whether index and ledger agree, and the ledger is undamaged; with a list of all differences."""
    differences = [
        DifferenceAnswer(entry_id=difference.entry_id, kind=difference.kind, what=difference.what)
        for difference in verify(state.ledger, state.index)
        if difference.owner in (owner, "")
    ]
    return Verification(equal=not differences, data=differences)
