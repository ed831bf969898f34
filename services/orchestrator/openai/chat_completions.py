"""/v1/chat/completions: OpenAI's contract, with the diary recalled into the prompt."""

from dataclasses import dataclass
from typing import Any

from services.orchestrator.dependencies import AppState
from services.orchestrator.http.auth import Caller
from services.orchestrator.openai.diary_context import report
from services.orchestrator.openai.endpoint import Endpoint
from services.orchestrator.openai.messages import check_prefill, conversation
from services.orchestrator.openai.models import known_model
from services.orchestrator.openai.parameters import check_answers, passed
from services.orchestrator.openai.prompt import Exchange, prepare_prompt
from services.orchestrator.openai.reasoning import ReasoningParser, split_answer, wants_thinking
from services.orchestrator.openai.schemas import ChatRequest
from services.orchestrator.openai.sse import CompletionRelay, said_in
from services.orchestrator.vllm.client import CHAT

Json = dict[str, Any]


@dataclass
class UpstreamChatRequest(Exchange):
    """What vLLM is asked for a chat completion."""

    thinking: bool
    usage: bool  # whether the client wants it in a stream
    path: str = CHAT

    def relay(self) -> CompletionRelay:
        """For an answer that is streamed."""
        choices = self.body.get("n")
        splitter = ReasoningParser(self.thinking, choices if isinstance(choices, int) else 1)
        return CompletionRelay(self.ada, splitter, usage=self.usage, listen=self.state.reflect_after_s > 0)

    def finish(self, answer: Json) -> str:
        """Make a whole answer Ada's; returns what she said."""
        split_answer(answer, self.thinking)
        answer["ada"] = self.ada
        return said_in(answer, "message")


async def understand(asked: ChatRequest, state: AppState, caller: Caller) -> UpstreamChatRequest:
    """The question for vLLM, with what the diary recalls. Raises AdaError."""
    adapter = state.adapter()
    known_model(asked.model)
    asked.ada.check_no_control_tokens()
    extra = passed(asked.model_extra)
    check_answers(1, extra.fields.get("n"), state.max_answers)
    talk = conversation(asked.messages)
    check_prefill(talk.turns, extra.fields, talk.ignored)
    thinking = wants_thinking(asked.chat_template_kwargs, asked.reasoning_effort)
    body: Json = {**extra.fields, "model": asked.model}
    if thinking:
        body["chat_template_kwargs"] = {"enable_thinking": True}
    prompt = await prepare_prompt(asked.model, talk.turns, asked.ada, body, state, caller.owner)
    body["messages"] = prompt.messages()
    usage = False
    if asked.stream:
        options = asked.stream_options.model_dump() if asked.stream_options else {}
        usage = bool(options.get("include_usage"))
        # Always asked for: it is what a key's tokens are counted by.
        body |= {"stream": True, "stream_options": {**options, "include_usage": True}}
    ignored = state.metrics.count_ignored([*extra.ignored, *talk.ignored])
    ada = report(asked.model, adapter, prompt.diary, ignored, prompt.neutralized)
    return UpstreamChatRequest(
        talk.turns, caller.owner, state, prompt, body, ada, "messages", thinking=thinking, usage=usage
    )


endpoint = Endpoint(ChatRequest, understand)
