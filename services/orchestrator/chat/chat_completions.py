"""/v1/chat/completions: OpenAI's contract, with the diary recalled into the prompt."""

import json
import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from fastapi import APIRouter
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse, Response, StreamingResponse
from starlette.background import BackgroundTask

from services.diary.entry import Entry
from services.diary.recall import Recalled
from services.errors import AdaError, ModelUnavailable
from services.orchestrator.adapter import Adapter
from services.orchestrator.chat.models import ADA, BASE, known_model
from services.orchestrator.chat.schemas import ChatAnswer, ChatRequest
from services.orchestrator.chat.tokens import shown_within
from services.orchestrator.diary.answers import ERRORS
from services.orchestrator.diary.quiet import keep_talk
from services.orchestrator.diary.reflection_request import spoken
from services.orchestrator.edge.disclosure import DISCLOSURE
from services.orchestrator.edge.errors import describe
from services.orchestrator.edge.owner import OwnerDep
from services.orchestrator.engine.vllm import Engine, Json
from services.orchestrator.state import State, StateDep
from services.persona.prompt import Recollection, build_messages, neutral_messages

log = logging.getLogger("ada.orchestrator")
router = APIRouter(tags=["chat"], responses=ERRORS)

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


@router.post(
    "/v1/chat/completions",
    response_model=None,
    responses={200: {"model": ChatAnswer, "content": {"text/event-stream": {}}}},
)
async def chat_completions(request: ChatRequest, state: StateDep, owner: OwnerDep) -> Response:
    """OpenAI's chat completion, streamed or whole, with the extra field `ada` in request and answer."""
    adapter = state.adapter()
    diary = await _recall(request, state, owner)
    body = _upstream_body(request, adapter, diary)
    about: Json = {
        "diary": diary.report(),
        "adapter": adapter.manifest.run_id if request.model == ADA else None,
        "disclosure": DISCLOSURE,
    }
    said: list[str] = []
    kept = BackgroundTask(_keep, request, state, owner, said) if diary.status != "off" else None
    if not request.stream:
        answer = await state.engine.complete(body)
        said.append(_content(answer, "message"))
        return JSONResponse({**answer, "ada": about}, background=kept)
    events = _events(state.engine, body, about, said)
    first = await anext(events)  # an error before the first byte is still an error with its status
    stream = _prepend(first, events)
    return StreamingResponse(stream, media_type="text/event-stream", background=kept)


async def _recall(request: ChatRequest, state: State, owner: str) -> Diary:
    """The diary never stops an answer: when it is down she answers without it."""
    if known_model(request.model) == BASE or not request.ada.diary:
        return Diary("off")
    question = next((m.content for m in reversed(request.messages) if m.role == "user"), "")
    if not question.strip():
        return Diary("empty")
    last_day = (request.ada.as_of or "")[:10]
    try:
        search = state.recall().search  # dates in the question are counted from `last_day`
        found = await run_in_threadpool(search, owner, question, request.ada.top_k, last_day=last_day)
    except AdaError as error:
        log.warning("answering without the diary: %s", error)
        return Diary("unavailable")
    shown = await shown_within(found, state.tokens, state.budget_tokens)
    return Diary("used" if shown else "empty", shown)


async def _keep(request: ChatRequest, state: State, owner: str, said: list[str]) -> None:
    """Keep the talk with Ada's answer, for her to write about when it has gone quiet."""
    turns = [{"role": m.role, "content": m.content} for m in request.messages]
    await keep_talk(state, owner, spoken([*turns, {"role": "assistant", "content": "".join(said)}]))


def _upstream_body(request: ChatRequest, adapter: Adapter, diary: Diary) -> Json:
    conversation = [{"role": m.role, "content": m.content} for m in request.messages]
    if request.model == BASE:
        messages = neutral_messages(conversation)
    else:
        shown = [Recollection(_date(one.entry), one.shown) for one in diary.recalled]
        messages = build_messages(adapter.persona, conversation, shown)
    return {
        **(request.model_extra or {}),
        "model": request.model,
        "messages": messages,
        "stream": request.stream,
    }


def _date(entry: Entry) -> str:
    """A day as the calendar has it, anything wider as it was given."""
    return entry.first_day if entry.first_day == entry.last_day else entry.date


async def _events(engine: Engine, body: Json, about: Json, said: list[str]) -> AsyncIterator[str]:
    """vLLM's events as they come; the last one before [DONE] carries `ada` too. Her words go to `said`.

    Only an event that may be the last is held back for a moment: one that ends a choice, or has usage.
    """
    held, begun = "", False
    try:
        async with engine.stream(body) as lines:
            async for data in _data(lines):
                if held:
                    yield _event(held)
                said.append(_content(json.loads(data), "delta"))
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


def _content(answer: Json, part: str) -> str:
    """What the first choice of an answer, or of a piece of one, says."""
    match answer.get("choices"):
        case [{"index": 0, **choice}, *_]:
            match choice.get(part):
                case {"content": str(content)}:
                    return content
    return ""


def _event(data: str) -> str:
    return f"data: {data}\n\n"
