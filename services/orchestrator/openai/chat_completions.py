"""/v1/chat/completions: OpenAI's contract, with diary entries recalled into the prompt."""

from dataclasses import dataclass

from services.orchestrator.dependencies import AppState
from services.orchestrator.http.auth import Caller
from services.orchestrator.http.json_body import Json
from services.orchestrator.openai.diary_context import ada_report
from services.orchestrator.openai.endpoint import Endpoint
from services.orchestrator.openai.messages import parse_conversation, report_prefill_whitespace
from services.orchestrator.openai.models import check_model
from services.orchestrator.openai.parameters import (
    add_stream_options,
    check_choice_count,
    passthrough_parameters,
)
from services.orchestrator.openai.prompt import ConversationRequest, build_prompt
from services.orchestrator.openai.reasoning import ReasoningParser, split_reasoning, wants_thinking
from services.orchestrator.openai.schemas import ChatRequest
from services.orchestrator.openai.sse import CompletionTransformer, assistant_text
from services.orchestrator.vllm.client import CHAT


@dataclass
class UpstreamChatRequest(ConversationRequest):
    """The request to vLLM for a chat completion."""

    thinking: bool
    include_usage: bool  # whether the client wants the usage in a stream
    path: str = CHAT

    def transformer(self) -> CompletionTransformer:
        """Transforms the events of a streamed answer."""
        n = self.body.get("n")
        reasoning = ReasoningParser(self.thinking, n if isinstance(n, int) else 1)
        return CompletionTransformer(
            self.ada,
            reasoning,
            include_usage=self.include_usage,
            collect_text=self.state.reflect_after_s > 0,
        )

    def finish(self, answer: Json) -> str:
        """Add the `ada` field to a non-streamed answer; return the assistant's text."""
        split_reasoning(answer, self.thinking)
        answer["ada"] = self.ada
        return assistant_text(answer, "message")


async def build_upstream_request(
    request: ChatRequest, state: AppState, caller: Caller
) -> UpstreamChatRequest:
    """The request to vLLM, with the entries that the diary recalls. Raises AdaError."""
    adapter = state.adapter()
    check_model(request.model)
    request.ada.check_no_control_tokens()
    extra = passthrough_parameters(request.model_extra)
    check_choice_count(1, extra.fields.get("n"), state.max_answers)
    conversation = parse_conversation(request.messages)
    report_prefill_whitespace(conversation, extra.fields)
    thinking = wants_thinking(request.chat_template_kwargs, request.reasoning_effort)
    body: Json = {**extra.fields, "model": request.model}
    if thinking:
        body["chat_template_kwargs"] = {"enable_thinking": True}
    prompt = await build_prompt(request.model, conversation.turns, request.ada, body, state, caller.owner)
    body["messages"] = prompt.messages()
    include_usage = add_stream_options(body, request)
    ignored = state.metrics.count_ignored([*extra.ignored, *conversation.ignored])
    return UpstreamChatRequest(
        conversation.turns,
        caller.owner,
        state,
        prompt,
        body,
        ada_report(request.model, adapter, prompt.diary, ignored, prompt.neutralized),
        "messages",
        thinking=thinking,
        include_usage=include_usage,
    )


endpoint = Endpoint(ChatRequest, build_upstream_request)
