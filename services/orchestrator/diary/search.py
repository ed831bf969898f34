"""/v1/diary/search: entries by meaning and by words, and why they were found."""

import logging
from functools import partial

import anyio.to_thread
from fastapi import APIRouter, Request, Response

from services.diary.dates import iso_day
from services.diary.recall.cancellation import Cancellation
from services.diary.recall.query import RecallQuery
from services.diary.recall.recall import RecalledEntry
from services.orchestrator.dependencies import AppState, OwnerDep, StateDep
from services.orchestrator.diary.filters import first_day, last_day
from services.orchestrator.diary.schemas import Explanation, SearchHit, SearchResults
from services.orchestrator.diary.search_request import SearchRequest
from services.orchestrator.http.disconnect import ClientGone, cancel_on_disconnect
from services.orchestrator.http.errors import COMMON_FAILURES, JSON_BODY_STATUSES, failure_responses
from services.orchestrator.http.json_body import JsonRoute

log = logging.getLogger("ada.orchestrator")
router = APIRouter(prefix="/v1/diary", tags=["diary"], responses=COMMON_FAILURES, route_class=JsonRoute)


@router.post("/search", responses=failure_responses(*JSON_BODY_STATUSES), response_model=SearchResults)
async def search(
    asked: SearchRequest, request: Request, state: StateDep, owner: OwnerDep
) -> SearchResults | Response:
    """The best entries, best first, each with the parts that its score is the sum of."""
    cancellation = Cancellation()
    try:
        async with cancel_on_disconnect(request.receive):
            find = partial(_search, asked, state, owner, cancellation)
            return await anyio.to_thread.run_sync(find, abandon_on_cancel=True)
    except ClientGone:
        log.info("the client went away before its search was done")
        return Response(status_code=499)  # nobody reads it
    finally:
        cancellation.cancel()  # a thread can't be ended: it ends at its next step


def _search(asked: SearchRequest, state: AppState, owner: str, cancellation: Cancellation) -> SearchResults:
    local = state.local_time(owner, asked.timezone)
    query = RecallQuery(
        asked.query,
        asked.top_k,
        first_day(asked.first_day, "from", local),
        last_day(asked.last_day, "to", local),
        as_of=iso_day(asked.as_of, local) if asked.as_of else None,
        recency=asked.recency,
        mood=asked.mood,
        local=local,
    )
    found = state.recall().search(owner, query, cancellation)
    return SearchResults(data=[_found(one, asked.explain) for one in found])


def _found(one: RecalledEntry, explain: bool) -> SearchHit:
    explanation = Explanation(shown=one.excerpt, why=list(one.reasons), duplicates=list(one.duplicate_ids))
    return SearchHit.of(
        one.entry,
        score=round(one.score, 4),
        score_parts={part: round(score, 4) for part, score in one.score_parts.items()},
        explanation=explanation if explain else None,
    )
