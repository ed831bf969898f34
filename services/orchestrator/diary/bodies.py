"""Bodies that are read by hand, because the framework calls one that is not UTF-8 a plain 400."""

import json

from pydantic import ValidationError

from services.diary.entry import EntryDraft
from services.diary.importing.row import rejection
from services.errors import EntryRejected
from services.orchestrator.engine.vllm import Json


def json_object(body: bytes) -> Json:
    """The object that a body holds. Raises EntryRejected."""
    try:
        found = json.loads(body.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise EntryRejected(f"the body is not UTF-8 (byte {error.start}): send it as UTF-8") from None
    except json.JSONDecodeError as error:
        raise EntryRejected(f"the body is not JSON (line {error.lineno}): {error.msg}") from None
    except (ValueError, RecursionError) as error:  # a number of thousands of digits; too many brackets
        raise EntryRejected(f"the body is not JSON that can be read: {error}") from None
    if not isinstance(found, dict):
        raise EntryRejected('the body is no object: send {"text": …}')
    return found


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
