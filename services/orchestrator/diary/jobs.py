"""/v1/jobs: the state of indexing, imports and reflections; failed jobs can be retried."""

from typing import Annotated, Literal

from fastapi import APIRouter, Query

from services.orchestrator.dependencies import OwnerDep, StateDep
from services.orchestrator.diary.schemas import JobAnswer, JobPage
from services.orchestrator.http.errors import COMMON_FAILURES, failure_responses

router = APIRouter(prefix="/v1/jobs", tags=["jobs"], responses=COMMON_FAILURES)


@router.get("", responses=failure_responses(422))
def list_jobs(
    state: StateDep,
    owner: OwnerDep,
    status: Annotated[Literal["queued", "started", "finished", "failed"], Query()] = "failed",
    limit: Annotated[int, Query(ge=1, le=1000)] = 50,
    cursor: Annotated[str | None, Query(max_length=1000)] = None,
) -> JobPage:
    """The jobs with one status, by default the failed ones, each with its reason."""
    page = state.jobs.list(owner, "queued" if status == "started" else status, limit, cursor)
    jobs = [job for job in page.jobs if status != "started" or job.status == status]
    return JobPage(data=[JobAnswer.of(job) for job in jobs], next_cursor=page.next_cursor)


@router.get("/{name}", responses=failure_responses(404))
def get_job(name: str, state: StateDep, owner: OwnerDep) -> JobAnswer:
    """The state of a job: queued, started, finished, or failed with a reason."""
    return JobAnswer.of(state.jobs.report(owner, name))


@router.post("/{name}/retry", status_code=202, responses=failure_responses(404, 409))
def retry_job(name: str, state: StateDep, owner: OwnerDep) -> JobAnswer:
    """Queue a failed job again; 409 when it has not failed."""
    return JobAnswer.of(state.jobs.retry(owner, name))
