"""/metrics: everything for Prometheus. Open to all who reach the port, as no word of anybody's is in it."""

from fastapi import APIRouter, Response
from fastapi.responses import PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST

from services.orchestrator.dependencies import AppState, StateDep

router = APIRouter(tags=["operation"])


@router.get("/metrics", response_class=PlainTextResponse)
async def metrics(state: StateDep) -> Response:
    """The numbers of this moment, in Prometheus' text format."""
    told = await state.readings.text(lambda: _tell_own(state))
    return Response(told, headers={"Content-Type": CONTENT_TYPE_LATEST})


def _tell_own(state: AppState) -> None:
    told, engine = state.metrics, state.engine
    told.running.set(engine.gate.running)
    told.waiting.set(engine.gate.waiting)
    told.breaker.labels("model").set(engine.breaker.is_open)
    told.breaker.labels("diary").set(state.diary_breaker.is_open)
