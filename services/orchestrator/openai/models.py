"""/v1/models: `ada`, with adapter and diary, and `base`, the control without either."""

from datetime import datetime

from fastapi import APIRouter

from services.errors import NotFound
from services.orchestrator.dependencies import AppState, StateDep
from services.orchestrator.http.disclosure import disclosure_for
from services.orchestrator.http.errors import failure_responses
from services.orchestrator.http.json_body import Json
from services.orchestrator.openai.schemas import Model, Models

router = APIRouter(prefix="/v1/models", tags=["models"], responses=failure_responses(401, 500, 503))
ADA, BASE = "ada", "base"


@router.get("", response_model=Models, response_model_exclude_none=True)
async def list_models(state: StateDep) -> Json:
    """All models."""
    length = await state.context_window.length()
    return {"object": "list", "data": [_model(state, name, length) for name in (ADA, BASE)]}


@router.get(
    "/{name}", response_model=Model, response_model_exclude_none=True, responses=failure_responses(404)
)
async def get_model(name: str, state: StateDep) -> Json:
    """One model."""
    check_model(name)
    return _model(state, name, await state.context_window.length())


def check_model(name: str) -> None:
    """Raises NotFound when no model of this name is served."""
    if name not in (ADA, BASE):
        raise NotFound(f"there is no model {name!r}: use {ADA!r} or {BASE!r}", "model", "model_not_found")


def _model(state: AppState, name: str, length: int | None) -> Json:
    adapter = state.adapter()
    manifest, persona = adapter.manifest, adapter.persona
    created = int(datetime.fromisoformat(manifest.created_at).timestamp())
    model: Json = {"id": name, "object": "model", "owned_by": "ada", "created": created}
    disclosure = disclosure_for(persona.assistant_name).sentence
    details: Json = {"base_model": manifest.base_model, "disclosure": disclosure}
    if name == ADA:
        details["adapter"] = manifest.run_id
        details["persona"] = {
            "name": persona.assistant_name,
            "user_name": persona.user_name,
            "pronouns": str(persona.pronouns),
        }
    if length is not None:  # unknown until the model server has answered once
        model["max_model_len"] = length
    return {**model, "ada": details}
