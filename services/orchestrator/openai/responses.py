"""/v1/responses in its stateless core: text in, text out. vLLM speaks it; Ada's prompt goes in front."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError

from services.errors import InvalidRequest
from services.orchestrator.dependencies import AppState
from services.orchestrator.http.auth import Caller
from services.orchestrator.openai.diary_context import report
from services.orchestrator.openai.endpoint import Endpoint
from services.orchestrator.openai.messages import Conversation, conversation
from services.orchestrator.openai.models import known_model
from services.orchestrator.openai.parameters import passed
from services.orchestrator.openai.prompt import Exchange, prepare_prompt
from services.orchestrator.openai.reasoning import wants_thinking
from services.orchestrator.openai.schemas import ChatMessage, ResponsesRequest
from services.orchestrator.openai.sse import ResponseRelay, said_in_response
from services.orchestrator.vllm.client import RESPONSES

# Items of a conversation in which a model has called tools.
_TOOL_ITEMS = ("mcp_list_tools", "mcp_approval_request", "mcp_approval_response")
_TOOL_ENDS = ("_call", "_call_output")
Json = dict[str, Any]


@dataclass
class ResponseQuestion(Exchange):
    """What vLLM is asked for a response."""

    told: Json = field(default_factory=dict)  # fields of the answer that are Ada's to tell
    path: str = RESPONSES

    def relay(self) -> ResponseRelay:
        """For an answer that is streamed."""
        return ResponseRelay({"ada": self.ada, **self.told})

    def finish(self, answer: Json) -> str:
        """Make a whole answer Ada's; returns what she said."""
        answer |= {"ada": self.ada, **self.told}
        return said_in_response(answer)


async def understand(asked: ResponsesRequest, state: AppState, caller: Caller) -> ResponseQuestion:
    """The question for vLLM, with what the diary recalls. Raises AdaError."""
    adapter = state.adapter()
    known_model(asked.model)
    asked.ada.check_no_control_tokens()
    extra = passed(asked.model_extra)
    _check_no_thinking(asked)
    talk = _conversation(asked.instructions, asked.input)
    body: Json = {**extra.fields, "model": asked.model, "store": False}
    if body.get("truncation") == "auto":
        del body["truncation"]  # vLLM would cut tokens off the front, which is who she is
        await _truncate(talk, body, state)
    prompt = await prepare_prompt(asked.model, talk.turns, asked.ada, body, state, caller.owner)
    body["input"] = prompt.messages()
    if asked.stream:
        body["stream"] = True
    ignored = [*extra.ignored, *(["store"] if asked.store else []), *talk.ignored]
    ada = report(asked.model, adapter, prompt.diary, state.metrics.count_ignored(ignored), prompt.neutralized)
    told: Json = {"store": False, "instructions": asked.instructions}
    return ResponseQuestion(talk.turns, caller.owner, state, prompt, body, ada, "input", told=told)


async def _truncate(talk: Conversation, body: Json, state: AppState) -> None:
    """Leave out the oldest turns until the rest fits, as OpenAI does; system turns and the newest stay."""
    system = [{"role": "system", "content": state.adapter().persona.system_text}]
    while len(old := [turn for turn in talk.turns[:-1] if turn["role"] != "system"]):
        room = await state.context_window.room(body, system + talk.turns, wanted=0)
        if room is None or room.left >= 0:
            return
        dropped = {id(turn) for turn in old[: 1 + len(old) // 8]}
        talk.turns = [turn for turn in talk.turns if id(turn) not in dropped]
        talk.ignored["input[].oldest_turns"] = None


def _check_no_thinking(asked: ResponsesRequest) -> None:
    """Her thoughts can't be told apart here. Raises RequestRefused, naming the field."""
    wishes = {
        "reasoning.effort": wants_thinking(None, asked.reasoning.effort if asked.reasoning else None),
        "chat_template_kwargs.enable_thinking": wants_thinking(asked.chat_template_kwargs, None),
    }
    for where, wanted in wishes.items():
        if wanted:
            raise InvalidRequest(
                f"{where}: thinking is for /v1/chat/completions only: ask there, or leave it out",
                where,
                "unsupported_parameter",
            )


def _conversation(instructions: str | None, given: str | Sequence[Mapping[str, Any]]) -> Conversation:
    found = Conversation()
    if instructions:
        found.turns.append({"role": "system", "content": instructions})
    if isinstance(given, str):
        found.turns.append({"role": "user", "content": given})
        return found
    newest_user = max((place for place, item in enumerate(given) if item.get("role") == "user"), default=-1)
    for place, item in enumerate(given):
        kind = item.get("type") or "message"
        if kind == "reasoning" or (place < newest_user and _is_about_tools(kind)):
            found.ignored[f"input[].{_known_kind(kind)}"] = None
            continue
        read = conversation([_message(item, kind, f"input[{place}]")], "input", first=place)
        found.turns += read.turns
        found.ignored |= read.ignored
    return found


def _is_about_tools(kind: object) -> bool:
    return isinstance(kind, str) and (kind in _TOOL_ITEMS or kind.endswith(_TOOL_ENDS))


def _known_kind(kind: str) -> str:
    """A name that is no client's own: it becomes a label of a metric."""
    return kind if kind == "reasoning" else "tool_items"


def _message(item: Mapping[str, Any], kind: object, where: str) -> ChatMessage:
    if kind != "message":
        raise InvalidRequest(f"{where}.type is {kind!r}: only messages are read here", f"{where}.type")
    try:
        return ChatMessage.model_validate(item)
    except ValidationError as error:
        first = error.errors()[0]
        raise InvalidRequest(
            f"{where}.{first['loc'][0]}: {first['msg']}", f"{where}.{first['loc'][0]}"
        ) from None


endpoint = Endpoint(ResponsesRequest, understand)
