"""/v1/models and /v1/chat/completions: OpenAI's contract, with the diary recalled into the prompt."""

import json
import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import datetime

from fastapi import APIRouter
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse, Response, StreamingResponse

from services.diary.recall import Recalled, within_budget
from services.errors import AdaError, DiaryUnavailable, ModelUnavailable, NotFound
from services.orchestrator.adapter import Adapter
from services.orchestrator.disclosure import DISCLOSURE
from services.orchestrator.engine import Engine, Json
from services.orchestrator.errors import describe
from services.orchestrator.schemas import ChatRequest
from services.orchestrator.state import OWNER, State, StateDep
from services.persona.prompt import Recollection, build_messages, neutral_messages

log = logging.getLogger("ada.orchestrator")
router = APIRouter()

ADA, BASE = "ada", "base"
_DONE = "[DONE]"
_UNFINISHED = '"finish_reason":null'


@dataclass
class Diary:
    """What the diary gave to one answer: used, off, empty or unavailable."""

    status: str
    recalled: list[Recalled] = field(default_factory=list)

    def report(self) -> Json:
        """The `ada.diary` field of the answer, best entry first."""
        entries = [
            {"id": one.entry.id, "date": one.entry.date, "score": round(one.score, 4)}
            for one in sorted(self.recalled, key=lambda one: -one.score)
        ]
        return {"status": self.status, "entries": entries}


@router.get("/v1/models")
async def list_models(state: StateDep) -> Json:
    """`ada`, with her diary, and `base`, the researcher's control without adapter and diary."""
    return {"object": "list", "data": [_model(state, ADA), _model(state, BASE)]}


@router.get("/v1/models/{name}")
async def get_model(name: str, state: StateDep) -> Json:
    """One model."""
    return _model(state, _known(name))


@router.post("/v1/chat/completions", response_model=None)
async def chat_completions(request: ChatRequest, state: StateDep) -> Response:
    """OpenAI's chat completion, streamed or whole, with the extra field `ada` in request and answer."""
    adapter = state.adapter()
    diary = await _recall(request, state)
    body = _upstream_body(request, adapter, diary)
    about: Json = {
        "diary": diary.report(),
        "adapter": adapter.manifest.run_id if request.model == ADA else None,
        "disclosure": DISCLOSURE,
    }
    if not request.stream:
        return JSONResponse({**await state.engine.complete(body), "ada": about})
    events = _events(state.engine, body, about)
    first = await anext(events)  # an error before the first byte is still an error with its status
    return StreamingResponse(_prepend(first, events), media_type="text/event-stream")


async def _recall(request: ChatRequest, state: State) -> Diary:
    """The diary never stops an answer: when it is down she answers without it."""
    if _known(request.model) == BASE or not request.ada.diary:
        return Diary("off")
    question = next((m.content for m in reversed(request.messages) if m.role == "user"), "")
    if not question.strip():
        return Diary("empty")
    last_day = (request.ada.as_of or "")[:10]
    try:
        found = await run_in_threadpool(
            state.recall.search, OWNER, question, request.ada.top_k, last_day=last_day
        )
    except DiaryUnavailable as error:
        log.warning("answering without the diary: %s", error)
        return Diary("unavailable")
    shown = within_budget(found)
    return Diary("used" if shown else "empty", shown)


def _upstream_body(request: ChatRequest, adapter: Adapter, diary: Diary) -> Json:
    conversation = [{"role": m.role, "content": m.content} for m in request.messages]
    if request.model == BASE:
        messages = neutral_messages(conversation)
    else:
        shown = [Recollection(one.entry.day, one.shown) for one in diary.recalled]
        messages = build_messages(adapter.persona, conversation, shown)
    return {
        **(request.model_extra or {}),
        "model": request.model,
        "messages": messages,
        "stream": request.stream,
    }


async def _events(engine: Engine, body: Json, about: Json) -> AsyncIterator[str]:
    """vLLM's events as they come; the last one before [DONE] carries `ada` too.

    Only an event that may be the last is held back for a moment: one that ends a choice, or has usage.
    """
    held, begun = "", False
    try:
        async with engine.stream(body) as lines:
            async for data in _data(lines):
                if held:
                    yield _event(held)
                held = "" if _UNFINISHED in data else data
                if not held:
                    yield _event(data)
                begun = True
    except AdaError as error:
        if not begun:
            raise
        # Bytes are out already: the stream ends with an error event instead of a silent cut.
        log.warning("a stream was cut: %s", error)
        if held:
            yield _event(held)
        yield _event(json.dumps(describe(error)[1]))
        return
    last = json.loads(held) if held else {"object": "chat.completion.chunk", "choices": []}
    yield _event(json.dumps({**last, "ada": about}, ensure_ascii=False))
    yield _event(_DONE)


async def _data(lines: AsyncIterator[str]) -> AsyncIterator[str]:
    """The data of each event up to [DONE]. Raises ModelUnavailable when the stream ends without it."""
    async for line in lines:
        data = line.removeprefix("data:").strip()
        if data == _DONE:
            return
        if data and line.startswith("data:"):
            yield data
    raise ModelUnavailable("the model server ended in the middle of its answer: ask again")


async def _prepend(first: str, rest: AsyncIterator[str]) -> AsyncIterator[str]:
    yield first
    async for event in rest:
        yield event


def _event(data: str) -> str:
    return f"data: {data}\n\n"


def _known(name: str) -> str:
    if name not in (ADA, BASE):
        raise NotFound(f"there is no model {name!r}: use {ADA!r} or {BASE!r}", "model")
    return name


def _model(state: State, name: str) -> Json:
    manifest = state.adapter().manifest
    created = int(datetime.fromisoformat(manifest.created_at).timestamp())
    model: Json = {"id": name, "object": "model", "owned_by": "ada", "created": created}
    about: Json = {"base_model": manifest.base_model, "disclosure": DISCLOSURE}
    if name == ADA:
        about["adapter"] = manifest.run_id
    return {**model, "ada": about}
