"""/v1/responses in its stateless core: text in, text out. vLLM implements it; Ada adds her prompt."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError

from services.errors import InvalidRequest
from services.orchestrator.dependencies import AppState
from services.orchestrator.http.auth import Caller
from services.orchestrator.http.json_body import Json
from services.orchestrator.openai.diary_context import ada_report
from services.orchestrator.openai.endpoint import Endpoint
from services.orchestrator.openai.messages import Conversation, parse_conversation
from services.orchestrator.openai.models import check_model
from services.orchestrator.openai.parameters import passthrough_parameters
from services.orchestrator.openai.prompt import ConversationRequest, build_prompt
from services.orchestrator.openai.reasoning import wants_thinking
from services.orchestrator.openai.schemas import ChatMessage, ResponsesRequest
from services.orchestrator.openai.sse import ResponseTransformer, response_text
from services.orchestrator.vllm.client import RESPONSES

# Items of a conversation in which a model has called tools.
_TOOL_ITEMS = ("mcp_list_tools", "mcp_approval_request", "mcp_approval_response")
_TOOL_SUFFIXES = ("_call", "_call_output")


@dataclass
class UpstreamResponseRequest(ConversationRequest):
    """The request to vLLM for a response."""

    own_fields: Json = field(default_factory=dict)  # of the answer, in place of vLLM's
    path: str = RESPONSES

    def transformer(self) -> ResponseTransformer:
        """Transforms the events of a streamed answer."""
        return ResponseTransformer({"ada": self.ada, **self.own_fields})

    def finish(self, answer: Json) -> str:
        """Add the `ada` field to a non-streamed answer; return the assistant's text."""
        answer |= {"ada": self.ada, **self.own_fields}
        return response_text(answer)


async def build_upstream_request(
    request: ResponsesRequest, state: AppState, caller: Caller
) -> UpstreamResponseRequest:
    """The request to vLLM, with the entries that the diary recalls. Raises AdaError."""
    adapter = state.adapter()
    check_model(request.model)
    request.ada.check_no_control_tokens()
    extra = passthrough_parameters(request.model_extra)
    _check_no_thinking(request)
    conversation = _parse_input(request.instructions, request.input)
    body: Json = {**extra.fields, "model": request.model, "store": False}
    if body.get("truncation") == "auto":
        del body["truncation"]  # vLLM would cut tokens off the front, where the persona is
        await _truncate(conversation, body, state)
    prompt = await build_prompt(request.model, conversation.turns, request.ada, body, state, caller.owner)
    body["input"] = prompt.messages()
    if request.stream:
        body["stream"] = True
    ignored = state.metrics.count_ignored(
        [*extra.ignored, *(["store"] if request.store else []), *conversation.ignored]
    )
    return UpstreamResponseRequest(
        conversation.turns,
        caller.owner,
        state,
        prompt,
        body,
        ada_report(request.model, adapter, prompt.diary, ignored, prompt.neutralized),
        "input",
        own_fields={"store": False, "instructions": request.instructions},
    )


async def _truncate(conversation: Conversation, body: Json, state: AppState) -> None:
    """Drop the oldest turns until the rest fits, as OpenAI does; system turns and the newest turn stay."""
    system = [{"role": "system", "content": state.adapter().persona.system_text}]
    while len(older := [turn for turn in conversation.turns[:-1] if turn["role"] != "system"]):
        budget = await state.context_window.budget(body, system + conversation.turns, min_free=0)
        if budget is None or budget.free >= 0:
            return
        dropped = {id(turn) for turn in older[: 1 + len(older) // 8]}
        conversation.turns = [turn for turn in conversation.turns if id(turn) not in dropped]
        conversation.ignored["input[].oldest_turns"] = None


def _check_no_thinking(request: ResponsesRequest) -> None:
    """Raises InvalidRequest for reasoning, which this route can't split off the answer."""
    fields = {
        "reasoning.effort": wants_thinking(None, request.reasoning.effort if request.reasoning else None),
        "chat_template_kwargs.enable_thinking": wants_thinking(request.chat_template_kwargs, None),
    }
    for name, is_set in fields.items():
        if is_set:
            raise InvalidRequest(
                f"{name}: only /v1/chat/completions supports reasoning: use that route, or leave it out",
                name,
                "unsupported_parameter",
            )


def _parse_input(instructions: str | None, items: str | Sequence[Mapping[str, Any]]) -> Conversation:
    conversation = Conversation()
    if instructions:
        conversation.turns.append({"role": "system", "content": instructions})
    if isinstance(items, str):
        conversation.turns.append({"role": "user", "content": items})
        return conversation
    newest_user = max((i for i, item in enumerate(items) if item.get("role") == "user"), default=-1)
    for i, item in enumerate(items):
        kind = item.get("type") or "message"
        if kind == "reasoning" or (i < newest_user and _is_about_tools(kind)):
            conversation.ignored[f"input[].{_label(kind)}"] = None
            continue
        parsed = parse_conversation([_message(item, kind, f"input[{i}]")], "input", first=i)
        conversation.turns += parsed.turns
        conversation.ignored |= parsed.ignored
    return conversation


def _is_about_tools(kind: object) -> bool:
    return isinstance(kind, str) and (kind in _TOOL_ITEMS or kind.endswith(_TOOL_SUFFIXES))


def _label(kind: str) -> str:
    """A fixed name, and never one that a client chose: it becomes a label of a metric."""
    return kind if kind == "reasoning" else "tool_items"


def _message(item: Mapping[str, Any], kind: object, path: str) -> ChatMessage:
    if kind != "message":
        raise InvalidRequest(f"{path}.type is {kind!r}: only messages are supported", f"{path}.type")
    try:
        return ChatMessage.model_validate(item)
    except ValidationError as error:
        first = error.errors()[0]
        path = f"{path}.{first['loc'][0]}"
        raise InvalidRequest(f"{path}: {first['msg']}", path) from None


endpoint = Endpoint(ResponsesRequest, build_upstream_request)
