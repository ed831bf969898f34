"""/v1/diary/search: entries by meaning and by words, with an explanation of their scores."""

import logging
from functools import partial

import anyio.to_thread
from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field, field_validator

from services.diary.dates import check_iso_date, iso_day
from services.diary.recall.cancellation import Cancellation
from services.diary.recall.query import RecallQuery
from services.diary.recall.recall import RecalledEntry
from services.orchestrator.dependencies import AppState, OwnerDep, StateDep
from services.orchestrator.diary.filters import first_day, last_day
from services.orchestrator.diary.schemas import Explanation, SearchHit, SearchResults
from services.orchestrator.http.disconnect import ClientGone, cancel_on_disconnect
from services.orchestrator.http.errors import (
    CLIENT_GONE,
    COMMON_FAILURES,
    JSON_BODY_STATUSES,
    failure_responses,
)
from services.orchestrator.http.json_body import JsonRoute
from services.orchestrator.timezones import Timezone

log = logging.getLogger("ada.orchestrator")
router = APIRouter(prefix="/v1/diary", tags=["diary"], responses=COMMON_FAILURES, route_class=JsonRoute)


class SearchRequest(BaseModel):
    """A search of the diary; `from` and `to` are days, inclusive."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    query: str = Field(min_length=1, max_length=10_000)
    top_k: int = Field(6, ge=1, le=100, strict=True)
    first_day: str | None = Field(None, alias="from", max_length=40)
    last_day: str | None = Field(None, alias="to", max_length=40)
    as_of: str | None = Field(
        None,
        max_length=40,
        description="the ISO date that counts as today: later entries are not found, and "
        '"last spring" is relative to it; '
        "by default entries of every date are found",
    )
    timezone: Timezone | None = None
    recency: float = Field(
        0.0,
        ge=0,
        le=100_000,
        strict=True,
        description="half-life in days of a preference for recent entries; 0: none",
    )
    mood: str | None = Field(None, max_length=64, description="entries of this mood are preferred")
    explain: bool = Field(
        False,
        strict=True,
        description="report how dates were read, and which duplicates were left out",
    )

    @field_validator("as_of")
    @classmethod
    def _check_date(cls, value: str | None) -> str | None:
        return value if value is None else check_iso_date(value)


@router.post("/search", responses=failure_responses(*JSON_BODY_STATUSES), response_model=SearchResults)
async def search(
    query: SearchRequest, request: Request, state: StateDep, owner: OwnerDep
) -> SearchResults | Response:
    """The best entries, best first, each with the parts that add up to its score."""
    cancellation = Cancellation()
    try:
        async with cancel_on_disconnect(request.receive):
            run = partial(_search, query, state, owner, cancellation)
            return await anyio.to_thread.run_sync(run, abandon_on_cancel=True)
    except ClientGone:
        log.info("the client disconnected before its search was done")
        return Response(status_code=CLIENT_GONE)
    finally:
        cancellation.cancel()  # a thread can't be killed: it stops at its next step


def _search(body: SearchRequest, state: AppState, owner: str, cancellation: Cancellation) -> SearchResults:
    local = state.local_time(owner, body.timezone)
    query = RecallQuery(
        body.query,
        body.top_k,
        first_day(body.first_day, "from", local),
        last_day(body.last_day, "to", local),
        as_of=iso_day(body.as_of, local) if body.as_of else None,
        recency=body.recency,
        mood=body.mood,
        local=local,
    )
    hits = state.recall().search(owner, query, cancellation)
    return SearchResults(data=[_search_hit(hit, body.explain) for hit in hits])


def _search_hit(hit: RecalledEntry, explain: bool) -> SearchHit:
    explanation = Explanation(shown=hit.excerpt, why=list(hit.reasons), duplicates=list(hit.duplicate_ids))
    return SearchHit.of(
        hit.entry,
        score=round(hit.score, 4),
        score_parts={part: round(score, 4) for part, score in hit.score_parts.items()},
        explanation=explanation if explain else None,
    )
