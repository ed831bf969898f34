"""/v1/diary/import and /v1/diary/imports: whole diaries in."""

import logging
from typing import Annotated

from fastapi import APIRouter, Header, Query, Request
from fastapi.concurrency import run_in_threadpool

from services.diary.importing.formats import format_of
from services.diary.importing.taking_in import Import, take_in, the_import
from services.diary.job_names import import_job_id
from services.errors import DiaryUnavailable
from services.orchestrator.diary.answers import ERRORS, ImportAnswer, failures
from services.orchestrator.diary.persona_guard import may_write
from services.orchestrator.diary.uploads import upload
from services.orchestrator.edge.owner import OwnerDep
from services.orchestrator.engine.vllm import Json
from services.orchestrator.state import State, StateDep
from services.orchestrator.timezones import Timezone

log = logging.getLogger("ada.orchestrator")
router = APIRouter(prefix="/v1/diary", tags=["diary"], responses=ERRORS)

_FILE: Json = {"schema": {"type": "string", "format": "binary"}}
_FORM: Json = {
    "schema": {"type": "object", "required": ["file"], "properties": {"file": _FILE["schema"]}},
}
_TYPES = ("application/x-ndjson", "application/json", "text/csv", "text/markdown", "application/octet-stream")
_BODY: Json = {
    "requestBody": {
        "required": True,
        "content": {"multipart/form-data": _FORM, **dict.fromkeys(_TYPES, _FILE)},
    }
}


@router.post(
    "/import",
    status_code=202,
    responses=failures(400, 409, 413, 422, 507),
    openapi_extra=_BODY,
    dependencies=[may_write],
)
async def import_diary(
    request: Request,
    state: StateDep,
    owner: OwnerDep,
    form: Annotated[
        str | None,
        Query(alias="format", max_length=20, description="jsonl, json, csv or md; else by name or type"),
    ] = None,
    name: Annotated[str, Query(max_length=255, description="of a file sent as the body itself")] = "",
    timezone: Annotated[Timezone | None, Query()] = None,
    idempotency_key: Annotated[
        str | None, Header(max_length=255, description="the same key and file are read once")
    ] = None,
) -> ImportAnswer:
    """Take in a diary: JSON Lines, JSON as the seed keeps it, CSV, or Markdown with dated headings.

    202 means that every accepted row is on disk. Rows that are no entries are told with line and reason,
    and stop no other. The same file twice adds nothing.
    """
    async with upload(request) as sent:
        called = sent.name or name
        form_of_file = format_of(form, called, sent.content_type)
        local = state.local_time(owner, timezone)
        found = await run_in_threadpool(
            take_in, state.ledger, owner, sent.file, form_of_file, called[:255], idempotency_key, local
        )
    await run_in_threadpool(_submit, state, owner, found)
    return _answer(owner, found)


@router.get("/imports/{import_id}", responses=failures(404))
def get_import(import_id: str, state: StateDep, owner: OwnerDep) -> ImportAnswer:
    """How an import stands: what was taken, what was not, and how much of it is indexed."""
    return _answer(owner, the_import(state.ledger, owner, import_id))


def _submit(state: State, owner: str, found: Import) -> None:
    if not found.report.queued:
        return
    try:
        state.jobs.submit_import(owner, found.report.id)
    except DiaryUnavailable as error:
        log.warning("import %s waits in the ledger: %s", found.report.id, error)


def _answer(owner: str, found: Import) -> ImportAnswer:
    return ImportAnswer.of(found, import_job_id(owner, found.report.id))
