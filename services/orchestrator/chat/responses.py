"""/v1/responses in its stateless core: text in, text out. vLLM speaks it; Ada's prompt goes in front."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from services.errors import RequestRefused
from services.orchestrator.chat.chat_completions import Talk, prompt
from services.orchestrator.chat.conversation import Turn, conversation
from services.orchestrator.chat.endpoint import Endpoint
from services.orchestrator.chat.events import ResponseRelay, said_in_response
from services.orchestrator.chat.models import known_model
from services.orchestrator.chat.passing import passed
from services.orchestrator.chat.report import report
from services.orchestrator.chat.schemas import ChatMessage, ResponsesRequest
from services.orchestrator.chat.thinking import wants_thinking
from services.orchestrator.edge.keys import Caller
from services.orchestrator.engine.vllm import RESPONSES
from services.orchestrator.state import State

Json = dict[str, Any]


@dataclass
class ResponseQuestion(Talk):
    """What vLLM is asked for a response."""

    body: Json
    told: Json  # fields of the answer that are Ada's to tell
    path: str = RESPONSES

    def relay(self) -> ResponseRelay:
        """For an answer that is streamed."""
        return ResponseRelay(self.told)

    def finish(self, answer: Json) -> str:
        """Make a whole answer Ada's; returns what she said."""
        answer |= self.told
        return said_in_response(answer)


async def understand(asked: ResponsesRequest, state: State, caller: Caller) -> ResponseQuestion:
    """The question for vLLM, with what the diary recalls. Raises AdaError."""
    adapter = state.adapter()
    known_model(asked.model)
    extra = passed(asked.model_extra)
    if wants_thinking(None, asked.reasoning.effort if asked.reasoning else None):
        raise RequestRefused(
            "reasoning.effort: thinking is for /v1/chat/completions only: ask there, or send 'none'",
            "reasoning.effort",
            "unsupported_parameter",
        )
    turns = _instructions(asked.instructions) + _turns(asked.input)
    messages, diary = await prompt(asked.model, turns, asked.ada, adapter, state, caller.owner)
    body: Json = {**extra, "model": asked.model, "input": messages, "store": False}
    if asked.stream:
        body["stream"] = True
    told: Json = {
        "ada": report(asked.model, adapter, diary),
        "store": False,
        "instructions": asked.instructions,
    }
    return ResponseQuestion(turns, caller.owner, state, diary, body, told)


def _instructions(text: str | None) -> list[Turn]:
    return [{"role": "system", "content": text}] if text else []


def _turns(given: str | Sequence[Mapping[str, Any]]) -> list[Turn]:
    if isinstance(given, str):
        return [{"role": "user", "content": given}]
    return conversation([_message(item, f"input[{place}]") for place, item in enumerate(given)
                         if item.get("type") != "reasoning"], "input")  # fmt: skip


def _message(item: Mapping[str, Any], where: str) -> ChatMessage:
    kind = item.get("type", "message")
    if kind != "message":
        raise RequestRefused(f"{where}.type is {kind!r}: only messages are read here", f"{where}.type")
    try:
        return ChatMessage.model_validate(item)
    except ValidationError as error:
        first = error.errors()[0]
        raise RequestRefused(
            f"{where}.{first['loc'][0]}: {first['msg']}", f"{where}.{first['loc'][0]}"
        ) from None


endpoint = Endpoint(ResponsesRequest, understand)
