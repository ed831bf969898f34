"""/v1/chat/completions: OpenAI's contract, with the diary recalled into the prompt."""

from dataclasses import dataclass
from typing import Any

from services.orchestrator.adapter import Adapter
from services.orchestrator.chat.conversation import Turn, conversation
from services.orchestrator.chat.endpoint import Endpoint
from services.orchestrator.chat.events import CompletionRelay, said_in
from services.orchestrator.chat.models import ADA, BASE, known_model
from services.orchestrator.chat.passing import passed
from services.orchestrator.chat.recollection import Diary, recollect
from services.orchestrator.chat.report import report
from services.orchestrator.chat.schemas import AdaOptions, ChatRequest
from services.orchestrator.chat.thinking import StreamSplitter, split_answer, wants_thinking
from services.orchestrator.diary.quiet import keep_talk
from services.orchestrator.edge.keys import Caller
from services.orchestrator.engine.vllm import CHAT
from services.orchestrator.state import State
from services.persona.prompt import build_messages, neutral_messages

Json = dict[str, Any]


@dataclass
class Talk:
    """A conversation with Ada, or with the base model, that asks for its next turn."""

    turns: list[Turn]
    owner: str
    state: State
    diary: Diary

    async def keep(self, said: str) -> None:
        """Keep the talk with her answer, for her to write about when it has gone quiet."""
        if self.diary.status != "off":
            await keep_talk(self.state, self.owner, self.turns, said)


@dataclass
class ChatQuestion(Talk):
    """What vLLM is asked for a chat completion."""

    body: Json
    ada: Json
    thinking: bool
    usage: bool  # whether the client wants it in a stream
    path: str = CHAT

    def relay(self) -> CompletionRelay:
        """For an answer that is streamed."""
        choices = self.body.get("n")
        splitter = StreamSplitter(self.thinking, choices if isinstance(choices, int) else 1)
        return CompletionRelay(self.ada, splitter, usage=self.usage, listen=self.state.reflect_after_s > 0)

    def finish(self, answer: Json) -> str:
        """Make a whole answer Ada's; returns what she said."""
        split_answer(answer, self.thinking)
        answer["ada"] = self.ada
        return said_in(answer, "message")


async def understand(asked: ChatRequest, state: State, caller: Caller) -> ChatQuestion:
    """The question for vLLM, with what the diary recalls. Raises AdaError."""
    adapter = state.adapter()
    known_model(asked.model)
    extra = passed(asked.model_extra)
    turns = conversation(asked.messages)
    thinking = wants_thinking(asked.chat_template_kwargs, asked.reasoning_effort)
    messages, diary = await prompt(asked.model, turns, asked.ada, adapter, state, caller.owner)
    body: Json = {**extra, "model": asked.model, "messages": messages}
    if thinking:
        body["chat_template_kwargs"] = {"enable_thinking": True}
    usage = False
    if asked.stream:
        options = asked.stream_options.model_dump() if asked.stream_options else {}
        usage = bool(options.get("include_usage"))
        # Always asked for: it is what a key's tokens are counted by.
        body |= {"stream": True, "stream_options": {**options, "include_usage": True}}
    ada = report(asked.model, adapter, diary)
    return ChatQuestion(turns, caller.owner, state, diary, body, ada, thinking, usage)


async def prompt(
    model: str, turns: list[Turn], options: AdaOptions, adapter: Adapter, state: State, owner: str
) -> tuple[list[Turn], Diary]:
    """The messages that the model is shown, and what of them is the diary's."""
    if model == BASE or not options.diary:
        diary = Diary("off")
    else:
        question = next((turn["content"] for turn in reversed(turns) if turn["role"] == "user"), "")
        diary = await recollect(question, options, state, owner)
    if model == ADA:
        return build_messages(adapter.persona, turns, diary.shown()), diary
    return neutral_messages(turns), diary


endpoint = Endpoint(ChatRequest, understand)
