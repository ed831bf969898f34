"""/v1/diary/import and /v1/diary/imports: whole diaries in."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Annotated

from fastapi import APIRouter, Header, HTTPException, Query, Request
from fastapi.concurrency import run_in_threadpool

from services.diary.job_ids import import_job_id
from services.diary.ledger.imports import ImportReport
from services.diary.transfer.formats import format_of
from services.diary.transfer.importer import import_file
from services.errors import DiaryUnavailable
from services.orchestrator.dependencies import AppState, OwnerDep, StateDep, may_write
from services.orchestrator.diary.entries import written
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
            description="jsonl, json, csv, md, jrnl or zip; else by name or type",
        ),
    ] = None,
    name: Annotated[str, Query(max_length=255, description="of a file sent as the body itself")] = "",
    timezone: Annotated[Timezone | None, Query()] = None,
    idempotency_key: Annotated[
        str | None, Header(max_length=255, description="the same key and file are read once")
    ] = None,
) -> ImportAnswer:
    """Take in a diary: JSON Lines, JSON as the seed, Day One, jrnl and Logseq keep it, CSV, Markdown with
    dated headings, jrnl's text, or a zip of those.

    202 means that every accepted row is on disk. Rows that are no entries are told with line and reason,
    and stop no other. The same file twice adds nothing.
    """
    limits = state.import_limits
    with limits.slots.slot(owner):
        async with receive_upload(request, limits.upload) as sent, _watched(request, limits) as check:
            called = sent.name or name
            form_of_file = format_of(form, called, sent.content_type)
            local = state.local_time(owner, timezone)
            arguments = (owner, sent.file, form_of_file, called[:255], idempotency_key, local, check)
            try:
                report = await written(state, import_file, state.ledger, *arguments)
            except ClientGone:
                log.info("the client of an import went away: what was read of its file stays")
                raise HTTPException(408, "the client went away before its file was read") from None
    await run_in_threadpool(_submit, state, owner, report)
    return _answer(owner, report)


@router.get("/imports/{import_id}", responses=failure_responses(404))
def get_import(import_id: str, state: StateDep, owner: OwnerDep) -> ImportAnswer:
    """How an import stands: what was taken, what was not, and how much of it is indexed."""
    return _answer(owner, state.ledger.for_owner(owner).import_report(import_id))


@asynccontextmanager
async def _watched(request: Request, limits: ImportLimits) -> AsyncIterator[Callable[[], None]]:
    """A check that ends a reading, in another thread, when its client has gone or its time is over."""
    gone, ends = False, time.monotonic() + limits.upload.timeout_s

    async def listen() -> None:
        nonlocal gone
        while (await request.receive())["type"] != "http.disconnect":
            pass
        gone = True

    def check() -> None:
        if gone:
            raise ClientGone
        if time.monotonic() > ends:
            what = f"the file took longer than {limits.upload.timeout_s:g} s to read (IMPORT_TIMEOUT_S)"
            raise HTTPException(408, f"{what}: what was read is in the diary, send it again or in parts")

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
