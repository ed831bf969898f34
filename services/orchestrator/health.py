"""Operation: /healthz, and /health for load tools; /readyz, with each dependency; /metrics for Prometheus."""

from collections.abc import Awaitable
from contextlib import suppress
from typing import Literal

from fastapi import APIRouter, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse, PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import BaseModel, Field

from services.api_keys import LOCAL
from services.diary.ledger.paging import EntryFilter
from services.errors import AdaError, ConfigError, DiaryUnavailable
from services.orchestrator.dependencies import AppState, StateDep
from services.orchestrator.http.disclosure import served_disclosure
from services.orchestrator.http.json_body import Json
from services.orchestrator.openai.models import ADA, BASE
from services.persona.template import render, template_sha256

router = APIRouter(tags=["operation"])


class Health(BaseModel):
    """The process is alive."""

    status: Literal["alive"]
    disclosure: str


class Readiness(BaseModel):
    """Whether requests can be answered."""

    status: Literal["ready", "not ready"]
    checks: dict[str, str] = Field(description="by dependency: `ok`, or what is wrong")
    disclosure: str


# Every role; the last turn is the one to be answered.
_PROBE = [
    {"role": "system", "content": "probe"},
    {"role": "user", "content": "one"},
    {"role": "assistant", "content": "two"},
    {"role": "user", "content": "three"},
]


@router.get("/health", response_model=Health)
@router.get("/healthz", response_model=Health)
async def healthz(request: Request) -> Json:
    """200 as long as the process answers."""
    return {"status": "alive", "disclosure": served_disclosure(request.app).sentence}


@router.get(
    "/readyz",
    response_model=Readiness,
    responses={503: {"model": Readiness, "description": "requests can't be answered"}},
)
async def readyz(request: Request, state: StateDep) -> JSONResponse:
    """200 when requests can be answered, with or without the diary; else 503."""
    checks = await state.readiness.run(lambda: _checks(state))
    ready = checks["adapter"] == checks["model"] == checks["template"] == "ok"
    status, sentence = "ready" if ready else "not ready", served_disclosure(request.app).sentence
    body = {"status": status, "checks": checks, "disclosure": sentence}
    return JSONResponse(body, 200 if ready else 503)


async def _checks(state: AppState) -> dict[str, str]:
    """By dependency: `ok`, or what is wrong."""
    return {
        "adapter": await _outcome(_check_adapter(state)),
        "model": await _outcome(_check_model(state)),
        "template": await _outcome(_check_template(state)),
        "ledger": await _outcome(_check_ledger(state)),
        "index": await _outcome(run_in_threadpool(_check_index, state)),
        "queue": await _outcome(run_in_threadpool(state.jobs.check)),
    }


async def _outcome(check: Awaitable[None]) -> str:
    try:
        await check
    except AdaError as error:
        return str(error)
    return "ok"


async def _check_adapter(state: AppState) -> None:
    state.adapter()


async def _check_model(state: AppState) -> None:
    served = {str(model["id"]): model for model in await state.vllm.models()}
    if not {ADA, BASE} <= served.keys():
        raise ConfigError(f"vLLM serves {sorted(served)}, not {ADA!r} and {BASE!r}: restart it")
    root, run_id = str(served[ADA].get("root", "")), state.adapter().manifest.run_id
    if not root.rstrip("/").endswith(run_id):
        raise ConfigError(f"vLLM serves the adapter {root}, the manifest here is of {run_id}: restart both")


async def _check_template(state: AppState) -> None:
    """The saved template, rendered here and by vLLM, must give the same tokens."""
    adapter = state.adapter()
    trained_with = adapter.manifest.template_sha256
    if template_sha256(adapter.template) != trained_with:
        raise ConfigError("the chat template here is not the one in the manifest: restart")
    rendered = render(adapter.template, _PROBE, add_generation_prompt=True)
    plain: Json = {"model": ADA, "prompt": rendered, "add_special_tokens": False}
    ours = await state.vllm.tokenize(plain)
    theirs = await state.vllm.tokenize({"model": ADA, "messages": _PROBE})
    if ours != theirs:
        raise ConfigError(
            f"template mismatch: vLLM does not render with {trained_with[:12]}, "
            f"the template {adapter.persona.assistant_name} was trained with: "
            "start it by `python -m services.model`"
        )


async def _check_ledger(state: AppState) -> None:
    await run_in_threadpool(state.ledger.for_owner(LOCAL).page, EntryFilter(), 1)
    with suppress(ConfigError):  # no adapter yet, which `_check_adapter` reports
        if complaint := await state.persona_guard.complaint(state.adapter().persona):
            raise DiaryUnavailable(complaint)


def _check_index(state: AppState) -> None:
    state.recall().check()


@router.get("/metrics", response_class=PlainTextResponse)
async def metrics(state: StateDep) -> Response:
    """Every metric, in Prometheus' text format. Public: it holds nothing that a client sent."""
    text = await state.collectors.text(lambda: _set_gauges(state))
    return Response(text, headers={"Content-Type": CONTENT_TYPE_LATEST})


def _set_gauges(state: AppState) -> None:
    metrics, vllm = state.metrics, state.vllm
    metrics.running.set(vllm.limiter.running)
    metrics.waiting.set(vllm.limiter.waiting)
    metrics.breaker.labels("model").set(vllm.breaker.is_open)
    metrics.breaker.labels("diary").set(state.diary_breaker.is_open)
