"""The field `ada` of every answer."""

from typing import Any

from services.orchestrator.adapter import Adapter
from services.orchestrator.chat.models import ADA
from services.orchestrator.chat.recollection import Diary
from services.orchestrator.edge.disclosure import disclosure_about


def report(model: str, adapter: Adapter, diary: Diary) -> dict[str, Any]:
    """What the diary gave, which adapter answered, and that it speaks for an AI persona."""
    return {
        "diary": diary.report(),
        "adapter": adapter.manifest.run_id if model == ADA else None,
        "disclosure": disclosure_about(adapter.persona.assistant_name).sentence,
    }
