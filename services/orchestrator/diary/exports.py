"""/v1/diary/export: the whole diary out, so that it can be imported again."""

from typing import Annotated, Literal

from fastapi import APIRouter, Query
from fastapi.responses import StreamingResponse

from services.diary.transfer.exporting import MEDIA_TYPES, export
from services.diary.transfer.formats import Format
from services.orchestrator.dependencies import OwnerDep, StateDep
from services.orchestrator.diary.filters import PickedDep
from services.orchestrator.http.errors import COMMON_FAILURES, failure_responses
from services.orchestrator.http.json_body import Json

router = APIRouter(prefix="/v1/diary", tags=["diary"], responses=COMMON_FAILURES)
_CONTENT: dict[str, Json] = {media_type.partition(";")[0]: {} for media_type in MEDIA_TYPES.values()}


@router.get(
    "/export",
    response_class=StreamingResponse,
    responses={
        200: {"description": "the file, streamed, oldest day first", "content": _CONTENT},
        **failure_responses(422),
    },
)
def export_diary(
    state: StateDep,
    owner: OwnerDep,
    picked: PickedDep,
    form: Annotated[Literal["jsonl", "json", "md"], Query(alias="format")] = "jsonl",
) -> StreamingResponse:
    """Everything, or what a filter picks. Importing it gives the same entries, to the letter."""
    asked = Format(form)
    pieces = export(state.ledger.for_owner(owner).iter_entries(picked), asked)
    headers = {"Content-Disposition": f'attachment; filename="ada_diary.{asked}"'}
    return StreamingResponse(pieces, media_type=MEDIA_TYPES[asked], headers=headers)
