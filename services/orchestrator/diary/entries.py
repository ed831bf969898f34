"""/v1/diary/entries: write, list, read, edit, remove, and what an entry said before; and all tags."""

import logging
import re
from collections.abc import Callable
from functools import partial
from typing import Annotated, Any, TypeVar

from anyio import to_thread
from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from pydantic import ValidationError

from services.diary.entry import Entry, EntryDraft, IndexState
from services.diary.job_ids import job_id
from services.diary.transfer.row import rejection
from services.errors import DiaryUnavailable, EntryConflict, FieldError
from services.orchestrator.dependencies import AppState, OwnerDep, StateDep, may_write
from services.orchestrator.diary.filters import PickedDep
from services.orchestrator.diary.schemas import (
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
from services.orchestrator.http.json_body import Json, json_body
from services.orchestrator.timezones import SCHEMA, parse_timezone

log = logging.getLogger("ada.orchestrator")
router = APIRouter(prefix="/v1/diary", tags=["diary"], responses=COMMON_FAILURES)
_VERSION_SCHEMA: Json = {"type": "integer", "minimum": 1, "description": "edit this version or none"}
_TAGGED: Json = {"headers": {"ETag": {"$ref": "#/components/headers/ETag"}}}
_ETAG = re.compile(r'(?:W/)?"?([1-9][0-9]{0,8})"?', re.ASCII)
Done = TypeVar("Done")

Key = Annotated[str | None, Header(max_length=255, description="the same key never writes twice")]
IfMatch = Annotated[str | None, Header(description="the ETag of the version to change, as GET gave it")]


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
    """Accept an entry. 202 means that it is on disk; the job that indexes it has the id given."""
    fields = await json_body(request)
    local = state.local_time(owner, parse_timezone(fields.pop("timezone", None)))
    entry = await written(state, state.ledger.for_owner(owner, local).add, draft(fields), idempotency_key)
    await run_in_threadpool(submit, state, entry)
    return EntryAccepted.of(entry)


@router.get("/entries", responses=failure_responses(422))
def list_entries(
    state: StateDep,
    owner: OwnerDep,
    picked: PickedDep,
    limit: Annotated[int, Query(ge=1, le=1000)] = 50,
    cursor: Annotated[str | None, Query(max_length=1000)] = None,
) -> EntryPage:
    """The entries that a filter picks, newest day first, page by page."""
    page = state.ledger.for_owner(owner).page(picked, limit, cursor)
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
    """The entry as its next version; what it said before stays in its history.

    With `If-Match` or `version` only that version is changed: 409 when somebody else was faster.
    """
    fields = await json_body(request)
    local = state.local_time(owner, parse_timezone(fields.pop("timezone", None)))
    param, version = _version(fields.pop("version", None), if_match)
    try:
        entry = await written(
            state, state.ledger.for_owner(owner, local).edit, entry_id, draft(fields), version
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
    purge: Annotated[bool, Query(description="erase its text and its history too")] = False,
) -> RemovedAnswer:
    """Remove an entry. It is out of every answer at once, and out of the index when the job is done.

    Asked again with `purge`, it tells whether anything of the entry is left on disk.
    """
    ledger = state.ledger.for_owner(owner)
    entry = await written(state, ledger.remove, entry_id, purge)
    if entry.state == IndexState.QUEUED:
        await run_in_threadpool(submit, state, entry)
    erasure = _erasure(entry, await run_in_threadpool(ledger.is_erased, entry_id)) if purge else None
    return RemovedAnswer(**EntryAccepted.of(entry).model_dump(), purged=purge, erasure=erasure)


@router.get("/entries/{entry_id}/history", responses=failure_responses(404))
def get_history(entry_id: str, state: StateDep, owner: OwnerDep) -> History:
    """All versions of an entry, newest first; of a removed one the tombstone and what it said."""
    versions = state.ledger.for_owner(owner).history(entry_id)
    return History(data=[EntryAnswer.of(version) for version in versions])


@router.get("/tags")
def list_tags(state: StateDep, owner: OwnerDep) -> Tags:
    """All tags, and how many entries carry each."""
    tags = state.ledger.for_owner(owner).tags()
    return Tags(data=[TagCount(tag=tag, count=count) for tag, count in tags.items()])


def _erasure(tombstone: Entry, is_erased: bool) -> Erasure:
    left = {"index": tombstone.state != IndexState.INDEXED, "ledger": not is_erased}
    pending: list[Any] = [place for place, is_left in left.items() if is_left]
    return Erasure(complete=not pending, pending=pending)


async def written(state: AppState, write: Callable[..., Done], *arguments: object) -> Done:
    """What a write into the ledger returns, done in one of the threads for writing."""
    return await to_thread.run_sync(partial(write, *arguments), limiter=state.write_limiter)


def submit(state: AppState, entry: Entry) -> None:
    """Queue an entry for the index. When the queue is away the row waits, and the worker's sweep finds it."""
    try:
        state.jobs.submit(entry)
    except DiaryUnavailable as error:
        log.warning("entry %s waits in the ledger: %s", entry.id, error)


def _version(field: object, if_match: str | None) -> tuple[str, int | None]:
    """Where a version was asked for, and which. Raises FieldError."""
    if field is not None:
        if not isinstance(field, int) or isinstance(field, bool) or not 0 < field < 10**9:
            raise FieldError("version: a whole number above 0 is needed", "version")
        return "version", field
    if if_match in (None, "*"):
        return "If-Match", None
    found = _ETAG.fullmatch(if_match or "")
    if found is None:
        raise FieldError('If-Match: send the ETag that GET gave, like "3"', "If-Match")
    return "If-Match", int(found[1])
