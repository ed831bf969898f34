"""/v1/diary/import and /v1/diary/imports take in whole diaries; /v1/diary/export returns one."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Annotated, Literal

from fastapi import APIRouter, Header, HTTPException, Query, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import StreamingResponse

from services.diary.job_ids import import_job_id
from services.diary.ledger.imports import ImportReport
from services.diary.transfer.exporting import MEDIA_TYPES, export
from services.diary.transfer.formats import Format, format_of
from services.diary.transfer.importer import import_file
from services.errors import DiaryUnavailable
from services.orchestrator.dependencies import AppState, OwnerDep, StateDep, may_write
from services.orchestrator.diary.entries import run_write
from services.orchestrator.diary.filters import FilterDep
from services.orchestrator.diary.schemas import ImportAnswer
from services.orchestrator.http.disconnect import ClientGone
from services.orchestrator.http.errors import COMMON_FAILURES, failure_responses
from services.orchestrator.http.json_body import Json
from services.orchestrator.http.uploads import ImportLimits, receive_upload
from services.orchestrator.timezones import Timezone

log = logging.getLogger("ada.orchestrator")
router = APIRouter(prefix="/v1/diary", tags=["diary"], responses=COMMON_FAILURES)

_FILE: Json = {"schema": {"type": "string", "format": "binary"}}
_FORM: Json = {
    "schema": {"type": "object", "required": ["file"], "properties": {"file": _FILE["schema"]}},
}
_TYPES = (
    "application/x-ndjson",
    "application/json",
    "text/csv",
    "text/markdown",
    "application/zip",
    "application/octet-stream",
)
_BODY: Json = {
    "requestBody": {
        "required": True,
        "content": {"multipart/form-data": _FORM, **dict.fromkeys(_TYPES, _FILE)},
    }
}
_EXPORT_TYPES: dict[str, Json] = {media_type.partition(";")[0]: {} for media_type in MEDIA_TYPES.values()}


@router.post(
    "/import",
    status_code=202,
    responses=failure_responses(400, 408, 409, 413, 422, 507),
    openapi_extra=_BODY,
    dependencies=[may_write],
)
async def import_diary(
    request: Request,
    state: StateDep,
    owner: OwnerDep,
    form: Annotated[
        str | None,
        Query(
            alias="format",
            max_length=20,
            description="jsonl, json, csv, md, jrnl or zip; by default that of the file's name or type",
        ),
    ] = None,
    name: Annotated[
        str, Query(max_length=255, description="the name of a file that is sent as the body itself")
    ] = "",
    timezone: Annotated[Timezone | None, Query()] = None,
    idempotency_key: Annotated[
        str | None,
        Header(
            max_length=255, description="a repeated request with the same key and file imports nothing new"
        ),
    ] = None,
) -> ImportAnswer:
    """Import a diary: JSON Lines, a JSON array of entries, the JSON of Day One, jrnl or Logseq, CSV, Markdown
    with dated headings, jrnl's text, or a zip of those.

    202 means that every accepted row is on disk. Rows that are not entries are reported with line and reason;
    the others are imported all the same. Importing the same file twice adds nothing.
    """
    limits = state.import_limits
    with limits.slots.slot(owner):
        async with receive_upload(request, limits.upload) as upload, _watch(request, limits) as check:
            file_name = upload.name or name
            file_format = format_of(form, file_name, upload.content_type)
            local = state.local_time(owner, timezone)
            arguments = (owner, upload.file, file_format, file_name[:255], idempotency_key, local, check)
            try:
                report = await run_write(state, import_file, state.ledger, *arguments)
            except ClientGone:
                log.info("the client of an import disconnected: the rows that were read stay in the diary")
                raise HTTPException(408, "the client disconnected before its file was read") from None
    await run_in_threadpool(_submit, state, owner, report)
    return _answer(owner, report)


@router.get("/imports/{import_id}", responses=failure_responses(404))
def get_import(import_id: str, state: StateDep, owner: OwnerDep) -> ImportAnswer:
    """The state of an import: rows accepted and rejected, and how many entries are indexed."""
    return _answer(owner, state.ledger.for_owner(owner).import_report(import_id))


@router.get(
    "/export",
    response_class=StreamingResponse,
    responses={
        200: {"description": "the file, streamed, oldest day first", "content": _EXPORT_TYPES},
        **failure_responses(422),
    },
)
def export_diary(
    state: StateDep,
    owner: OwnerDep,
    entry_filter: FilterDep,
    form: Annotated[Literal["jsonl", "json", "md"], Query(alias="format")] = "jsonl",
) -> StreamingResponse:
    """Every entry, or those that match a filter. Importing the file restores the same entries exactly."""
    file_format = Format(form)
    chunks = export(state.ledger.for_owner(owner).iter_entries(entry_filter), file_format)
    headers = {"Content-Disposition": f'attachment; filename="ada_diary.{file_format}"'}
    return StreamingResponse(chunks, media_type=MEDIA_TYPES[file_format], headers=headers)


@asynccontextmanager
async def _watch(request: Request, limits: ImportLimits) -> AsyncIterator[Callable[[], None]]:
    """A function for the reading thread: it raises when the client has disconnected or the time is over."""
    is_gone, deadline = False, time.monotonic() + limits.upload.timeout_s

    async def listen() -> None:
        nonlocal is_gone
        while (await request.receive())["type"] != "http.disconnect":
            pass
        is_gone = True

    def check() -> None:
        if is_gone:
            raise ClientGone
        if time.monotonic() > deadline:
            reason = f"the file took longer than {limits.upload.timeout_s:g} s to read (IMPORT_TIMEOUT_S)"
            remedy = "the rows that were read are in the diary; send the file again, or in parts"
            raise HTTPException(408, f"{reason}: {remedy}")

    listener = asyncio.create_task(listen())
    try:
        yield check
    finally:
        listener.cancel()


def _submit(state: AppState, owner: str, report: ImportReport) -> None:
    if not report.queued:
        return
    try:
        state.jobs.submit_import(owner, report.id)
    except DiaryUnavailable as error:
        log.warning("import %s waits in the ledger: %s", report.id, error)


def _answer(owner: str, report: ImportReport) -> ImportAnswer:
    return ImportAnswer.of(report, import_job_id(owner, report.id))
