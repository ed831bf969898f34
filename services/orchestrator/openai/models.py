"""/v1/models: `ada`, with her diary, and `base`, the researcher's control without adapter and diary."""

from datetime import datetime

from fastapi import APIRouter

from services.errors import NotFound
from services.orchestrator.dependencies import AppState, StateDep
from services.orchestrator.http.disclosure import disclosure_about
from services.orchestrator.http.errors import failures
from services.orchestrator.openai.schemas import Model, Models
from services.orchestrator.vllm.client import Json

router = APIRouter(prefix="/v1/models", tags=["models"], responses=failures(401, 500, 503))
ADA, BASE = "ada", "base"


@router.get("", response_model=Models, response_model_exclude_none=True)
async def list_models(state: StateDep) -> Json:
    """Both models."""
    length = await state.context.length()
    return {"object": "list", "data": [_model(state, name, length) for name in (ADA, BASE)]}


@router.get("/{name}", response_model=Model, response_model_exclude_none=True, responses=failures(404))
async def get_model(name: str, state: StateDep) -> Json:
    """One model."""
    return _model(state, known_model(name), await state.context.length())


def known_model(name: str) -> str:
    """The name of a model that is served. Raises NotFound."""
    if name not in (ADA, BASE):
        raise NotFound(f"there is no model {name!r}: use {ADA!r} or {BASE!r}", "model", "model_not_found")
    return name


def _model(state: AppState, name: str, length: int | None) -> Json:
    adapter = state.adapter()
    manifest, persona = adapter.manifest, adapter.persona
    created = int(datetime.fromisoformat(manifest.created_at).timestamp())
    model: Json = {"id": name, "object": "model", "owned_by": "ada", "created": created}
    sentence = disclosure_about(persona.assistant_name).sentence
    about: Json = {"base_model": manifest.base_model, "disclosure": sentence}
    if name == ADA:
        about["adapter"] = manifest.run_id
        names = {"name": persona.assistant_name, "user_name": persona.user_name}
        about["persona"] = {**names, "pronouns": str(persona.pronouns)}
    if length is not None:  # not known before the model server was up
        model["max_model_len"] = length
    return {**model, "ada": about}
