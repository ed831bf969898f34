"""/v1/diary/search: entries by meaning and by words, and why they were found."""

from datetime import date as Date

from fastapi import APIRouter

from services.diary.recall import Recalled
from services.orchestrator.diary.answers import BODY, ERRORS, Explanation, FoundEntries, FoundEntry, failures
from services.orchestrator.diary.filters import first_day, last_day
from services.orchestrator.diary.search_request import SearchRequest
from services.orchestrator.edge.json_body import JsonRoute
from services.orchestrator.edge.owner import OwnerDep
from services.orchestrator.state import StateDep

router = APIRouter(prefix="/v1/diary", tags=["diary"], responses=ERRORS, route_class=JsonRoute)


@router.post("/search", responses=failures(*BODY))
def search(request: SearchRequest, state: StateDep, owner: OwnerDep) -> FoundEntries:
    """The best entries, best first, each with the parts that its score is the sum of."""
    found = state.recall().search(
        owner,
        request.query,
        request.top_k,
        first_day(request.first_day, "from"),
        last_day(request.last_day, "to"),
        as_of=Date.fromisoformat(request.as_of[:10]) if request.as_of else None,
        recency=request.recency,
        mood=request.mood,
    )
    return FoundEntries(data=[_found(one, request.explain) for one in found])


def _found(one: Recalled, explain: bool) -> FoundEntry:
    explanation = Explanation(shown=one.shown, why=list(one.why), duplicates=list(one.duplicates))
    return FoundEntry.of(
        one.entry,
        score=round(one.score, 4),
        score_parts={part: round(score, 4) for part, score in one.parts.items()},
        explanation=explanation if explain else None,
    )
