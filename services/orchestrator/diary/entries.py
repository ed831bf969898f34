"""/v1/diary/entries: write, list, read, edit, remove, and their history; /v1/diary/tags; /v1/diary/delete."""

import logging
import re
from collections.abc import Callable
from functools import partial
from typing import Annotated, Any, TypeVar

from anyio import to_thread
from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from pydantic import Field, ValidationError

from services.diary.entry import Entry, EntryDraft, IndexState
from services.diary.job_ids import job_id
from services.diary.ledger.paging import EntryFilter
from services.diary.transfer.row import rejection
from services.errors import DiaryUnavailable, EntryConflict, FieldError
from services.orchestrator.dependencies import AppState, OwnerDep, StateDep, may_write
from services.orchestrator.diary.filters import EntryFilterQuery, FilterDep
from services.orchestrator.diary.schemas import (
    Deletion,
    EditedAnswer,
    EntryAccepted,
    EntryAnswer,
    EntryPage,
    Erasure,
    History,
    RemovedAnswer,
    TagCount,
    Tags,
)
from services.orchestrator.http.errors import COMMON_FAILURES, JSON_BODY_STATUSES, failure_responses
from services.orchestrator.http.json_body import Json, JsonRoute, json_body
from services.orchestrator.timezones import SCHEMA, parse_timezone

log = logging.getLogger("ada.orchestrator")
router = APIRouter(prefix="/v1/diary", tags=["diary"], responses=COMMON_FAILURES, route_class=JsonRoute)
_VERSION_SCHEMA: Json = {
    "type": "integer",
    "minimum": 1,
    "description": "the version to edit; 409 when there is a newer one",
}
_TAGGED: Json = {"headers": {"ETag": {"$ref": "#/components/headers/ETag"}}}
_ETAG = re.compile(r'(?:W/)?"?([1-9][0-9]{0,8})"?', re.ASCII)

Result = TypeVar("Result")

IDS_SHOWN = 100
TOMBSTONES_SUBMITTED = 500  # a job indexes whatever else is due, and the outbox relay finds the rest

Key = Annotated[
    str | None, Header(max_length=255, description="a repeated request with the same key writes nothing new")
]
IfMatch = Annotated[str | None, Header(description="the ETag of the version to change, as GET gave it")]


def parse_draft(fields: Json) -> EntryDraft:
    """The entry in a body's fields, checked as a row of an import is. Raises EntryRejected."""
    try:
        return EntryDraft.model_validate(fields)
    except ValidationError as error:
        raise rejection(error) from None


def draft_schema(**fields: Json) -> Json:
    """The request body of an entry for OpenAPI, with further fields."""
    schema = EntryDraft.model_json_schema()
    schema["properties"] |= fields
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


@router.post(
    "/entries",
    status_code=202,
    responses=failure_responses(*JSON_BODY_STATUSES, 409, 507),
    openapi_extra=draft_schema(timezone=SCHEMA),
    dependencies=[may_write],
)
async def add_entry(
    request: Request, state: StateDep, owner: OwnerDep, idempotency_key: Key = None
) -> EntryAccepted:
    """Accept an entry. 202 means that it is on disk; the job with the returned id indexes it."""
    fields = await json_body(request)
    local = state.local_time(owner, parse_timezone(fields.pop("timezone", None)))
    entry = await run_write(
        state, state.ledger.for_owner(owner, local).add, parse_draft(fields), idempotency_key
    )
    await run_in_threadpool(submit, state, entry)
    return EntryAccepted.of(entry)


@router.get("/entries", responses=failure_responses(422))
def list_entries(
    state: StateDep,
    owner: OwnerDep,
    entry_filter: FilterDep,
    limit: Annotated[int, Query(ge=1, le=1000)] = 50,
    cursor: Annotated[str | None, Query(max_length=1000)] = None,
) -> EntryPage:
    """The entries that match a filter, newest day first, page by page."""
    page = state.ledger.for_owner(owner).page(entry_filter, limit, cursor)
    return EntryPage(data=[EntryAnswer.of(entry) for entry in page.entries], next_cursor=page.next_cursor)


@router.get("/entries/{entry_id}", responses={200: _TAGGED, **failure_responses(404)})
def get_entry(entry_id: str, response: Response, state: StateDep, owner: OwnerDep) -> EntryAnswer:
    """One entry. Its version is the ETag."""
    entry = state.ledger.for_owner(owner).get(entry_id)
    response.headers["ETag"] = f'"{entry.version}"'
    return EntryAnswer.of(entry)


@router.put(
    "/entries/{entry_id}",
    status_code=202,
    responses=failure_responses(*JSON_BODY_STATUSES, 404, 409, 507),
    openapi_extra=draft_schema(version=_VERSION_SCHEMA, timezone=SCHEMA),
)
async def edit_entry(
    entry_id: str, request: Request, state: StateDep, owner: OwnerDep, if_match: IfMatch = None
) -> EditedAnswer:
    """Save the next version of an entry; earlier versions stay in its history.

    With `If-Match` or `version` only that version is edited: 409 when there is a newer one.
    """
    fields = await json_body(request)
    local = state.local_time(owner, parse_timezone(fields.pop("timezone", None)))
    param, version = _version(fields.pop("version", None), if_match)
    try:
        entry = await run_write(
            state, state.ledger.for_owner(owner, local).edit, entry_id, parse_draft(fields), version
        )
    except EntryConflict as error:
        raise EntryConflict(str(error), param) from None
    await run_in_threadpool(submit, state, entry)
    return EditedAnswer.of(entry, job_id=job_id(entry.owner, entry.id, entry.version))


@router.delete("/entries/{entry_id}", status_code=202, responses=failure_responses(404, 422, 507))
async def remove_entry(
    entry_id: str,
    state: StateDep,
    owner: OwnerDep,
    purge: Annotated[bool, Query(description="erase its text and its history, too")] = False,
) -> RemovedAnswer:
    """Remove an entry. It leaves every answer at once, and the index when the job is done.

    Sent again with `purge`, it reports whether anything of the entry is left on disk.
    """
    ledger = state.ledger.for_owner(owner)
    entry = await run_write(state, ledger.remove, entry_id, purge)
    if entry.state == IndexState.QUEUED:
        await run_in_threadpool(submit, state, entry)
    erasure = _erasure(entry, await run_in_threadpool(ledger.is_erased, entry_id)) if purge else None
    return RemovedAnswer(**EntryAccepted.of(entry).model_dump(), purged=purge, erasure=erasure)


@router.get("/entries/{entry_id}/history", responses=failure_responses(404))
def get_history(entry_id: str, state: StateDep, owner: OwnerDep) -> History:
    """All versions of an entry, newest first; for a removed one the tombstone and its earlier texts."""
    versions = state.ledger.for_owner(owner).history(entry_id)
    return History(data=[EntryAnswer.of(version) for version in versions])


@router.get("/tags")
def list_tags(state: StateDep, owner: OwnerDep) -> Tags:
    """All tags, with the number of entries that carry each."""
    tags = state.ledger.for_owner(owner).tags()
    return Tags(data=[TagCount(tag=tag, count=count) for tag, count in tags.items()])


class DeletionRequest(EntryFilterQuery):
    """A filter, and the confirmation."""

    dry_run: bool = Field(
        True, strict=True, description="false removes the matching entries; true only reports which they are"
    )
    all: bool = Field(
        False, strict=True, description="required to remove the whole diary, with an empty filter"
    )


@router.post("/delete", responses=failure_responses(*JSON_BODY_STATUSES, 507))
async def delete_entries(request: DeletionRequest, state: StateDep, owner: OwnerDep) -> Deletion:
    """Remove the entries that match a filter, all or none; by default only report how many and which."""
    ledger = state.ledger.for_owner(owner)
    entry_filter = request.filter(state.local_time(owner, request.timezone))
    if entry_filter == EntryFilter() and not request.dry_run and not request.all:
        raise FieldError("this removes the whole diary: confirm it with `all: true`, or send a filter", "all")
    ids = [entry.id for entry in (await run_in_threadpool(ledger.page, entry_filter, IDS_SHOWN)).entries]
    if request.dry_run:
        return Deletion(dry_run=True, count=await run_in_threadpool(ledger.count, entry_filter), ids=ids)
    count = await run_write(state, ledger.remove_where, entry_filter)
    await run_in_threadpool(_submit_tombstones, state, owner, count)
    return Deletion(dry_run=False, count=count, ids=ids)


def _erasure(tombstone: Entry, is_erased: bool) -> Erasure:
    is_left = {"index": tombstone.state != IndexState.INDEXED, "ledger": not is_erased}
    pending: list[Any] = [store for store, is_pending in is_left.items() if is_pending]
    return Erasure(complete=not pending, pending=pending)


async def run_write(state: AppState, write: Callable[..., Result], *arguments: object) -> Result:
    """Run a write into the ledger in one of the threads for writers; returns its result."""
    return await to_thread.run_sync(partial(write, *arguments), limiter=state.write_limiter)


def submit(state: AppState, entry: Entry) -> None:
    """Queue an entry for the index. Without the queue, the row waits for the worker's outbox relay."""
    try:
        state.jobs.submit(entry)
    except DiaryUnavailable as error:
        log.warning("entry %s waits in the ledger: %s", entry.id, error)


def _submit_tombstones(state: AppState, owner: str, count: int) -> None:
    ledger = state.ledger.for_owner(owner)
    for entry in (
        ledger.with_state(IndexState.QUEUED, min(count, TOMBSTONES_SUBMITTED)).entries if count else ()
    ):
        submit(state, entry)


def _version(field: object, if_match: str | None) -> tuple[str, int | None]:
    """The name of the parameter that names a version, and the version. Raises FieldError."""
    if field is not None:
        if not isinstance(field, int) or isinstance(field, bool) or not 0 < field < 10**9:
            raise FieldError("version: send an integer above 0", "version")
        return "version", field
    if if_match in (None, "*"):
        return "If-Match", None
    etag = _ETAG.fullmatch(if_match or "")
    if etag is None:
        raise FieldError('If-Match: send the ETag that GET returned, like "3"', "If-Match")
    return "If-Match", int(etag[1])
