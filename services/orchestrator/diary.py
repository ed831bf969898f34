"""/v1/diary and /v1/jobs: entries in, entries found, and how their indexing stands."""

import json
import logging
from typing import Annotated

from fastapi import APIRouter, Header, Query, Request
from fastapi.concurrency import run_in_threadpool
from pydantic import ValidationError

from services.diary.entry import Entry, EntryDraft
from services.diary.jobs import job_id
from services.errors import DiaryUnavailable, EntryRejected
from services.orchestrator.engine import Json
from services.orchestrator.schemas import SearchRequest
from services.orchestrator.state import OWNER, State, StateDep

log = logging.getLogger("ada.orchestrator")
router = APIRouter(prefix="/v1")


@router.post(
    "/diary/entries",
    status_code=202,
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": EntryDraft.model_json_schema()}},
        }
    },
)
async def add_entry(
    request: Request,
    state: StateDep,
    idempotency_key: Annotated[str | None, Header(max_length=255)] = None,
) -> Json:
    """Accept an entry. 202 means that it is on disk; the job that indexes it has the id given."""
    draft = _draft(await request.body())
    entry = await run_in_threadpool(_accept, state, draft, idempotency_key)
    return {
        "id": entry.id,
        "version": entry.version,
        "job_id": job_id(entry.owner, entry.id, entry.version),
        "status": "queued",
    }


@router.get("/diary/entries")
def list_entries(state: StateDep, limit: Annotated[int, Query(ge=1, le=1000)] = 50) -> Json:
    """The newest entries by date."""
    entries = state.ledger.newest(OWNER, limit)
    return {"object": "list", "data": [_shown(entry) for entry in entries]}


@router.get("/diary/entries/{entry_id}")
def get_entry(entry_id: str, state: StateDep) -> Json:
    """One entry."""
    return _shown(state.ledger.get(OWNER, entry_id))


@router.post("/diary/search")
def search(request: SearchRequest, state: StateDep) -> Json:
    """Entries by meaning, best first."""
    found = state.recall.search(
        OWNER, request.query, request.top_k, request.first_day or "", request.last_day or ""
    )
    data = [
        {**_shown(one.entry), "score": round(one.score, 4), "score_parts": {"dense": one.score}}
        for one in found
    ]
    return {"object": "list", "data": data}


@router.get("/jobs/{name}")
def get_job(name: str, state: StateDep) -> Json:
    """How the indexing of an entry stands: queued, started, finished, or failed with a reason."""
    report = state.jobs.report(OWNER, name)
    return {
        "id": report.id,
        "status": report.status,
        "entry_id": report.entry_id,
        "version": report.version,
        "reason": report.reason,
    }


def _draft(body: bytes) -> EntryDraft:
    """Read by hand, because the framework calls a body that is not UTF-8 a plain 400."""
    try:
        return EntryDraft.model_validate(json.loads(body.decode("utf-8")))
    except UnicodeDecodeError as error:
        raise EntryRejected(f"the body is not UTF-8 (byte {error.start}): send it as UTF-8") from None
    except json.JSONDecodeError as error:
        raise EntryRejected(f"the body is not JSON (line {error.lineno}): {error.msg}") from None
    except ValidationError as error:
        first = error.errors()[0]
        param = ".".join(map(str, first["loc"])) or None
        message = first["msg"].removeprefix("Value error, ")
        raise EntryRejected(f"{param or 'the body'}: {message}", param) from None


def _accept(state: State, draft: EntryDraft, idempotency_key: str | None) -> Entry:
    entry = state.ledger.add(OWNER, draft, idempotency_key)
    try:
        state.jobs.submit(entry)
    except DiaryUnavailable as error:
        # Accepted all the same: the row waits in the ledger, and the worker's sweep will queue it.
        log.warning("entry %s waits in the ledger: %s", entry.id, error)
    return entry


def _shown(entry: Entry) -> Json:
    return {
        "id": entry.id,
        "version": entry.version,
        "date": entry.date,
        "text": entry.text,
        "mood": entry.mood,
        "tags": list(entry.tags),
        "written_at": entry.written_at,
        "status": entry.state,
        "reason": entry.reason,
    }
