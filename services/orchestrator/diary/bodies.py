"""An entry as a body holds it: checked as a row of an import is, with the same words."""

from pydantic import ValidationError

from services.diary.entry import EntryDraft
from services.diary.transfer.row import rejection
from services.orchestrator.http.json_body import Json


def draft(fields: Json) -> EntryDraft:
    """The entry that a body's fields make. Raises EntryRejected."""
    try:
        return EntryDraft.model_validate(fields)
    except ValidationError as error:
        raise rejection(error) from None


def draft_schema(**more: Json) -> Json:
    """An entry's body for OpenAPI, with further fields."""
    schema = EntryDraft.model_json_schema()
    schema["properties"] |= more
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}
