"""The field `ada` of every answer."""

from collections.abc import Sequence
from typing import Any

from services.orchestrator.adapter import Adapter
from services.orchestrator.http.disclosure import disclosure_about
from services.orchestrator.openai.diary_context import Diary
from services.orchestrator.openai.models import ADA


def report(
    model: str, adapter: Adapter, diary: Diary, ignored: Sequence[str] = (), neutralized: int = 0
) -> dict[str, Any]:
    """What the diary gave, which adapter answered, the disclosure, and what of the request was changed."""
    told: dict[str, Any] = {
        "diary": diary.report(),
        "adapter": adapter.manifest.run_id if model == ADA else None,
        "disclosure": disclosure_about(adapter.persona.assistant_name).sentence,
    }
    if ignored:
        told["ignored"] = list(ignored)
    if neutralized:
        told["neutralized"] = neutralized
    return told
