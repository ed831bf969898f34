"""/v1/completions: text that goes on, without persona, template and diary."""

from dataclasses import dataclass
from typing import Any

from services.orchestrator.chat.endpoint import Endpoint
from services.orchestrator.chat.events import CompletionRelay
from services.orchestrator.chat.models import known_model
from services.orchestrator.chat.passing import passed
from services.orchestrator.chat.recollection import Diary
from services.orchestrator.chat.report import report
from services.orchestrator.chat.schemas import CompletionRequest
from services.orchestrator.edge.keys import Caller
from services.orchestrator.engine.vllm import COMPLETIONS
from services.orchestrator.state import State
from services.persona.neutraliser import neutralise

Json = dict[str, Any]
Prompt = str | list[str] | list[int] | list[list[int]]


@dataclass
class CompletionQuestion:
    """What vLLM is asked for a completion."""

    body: Json
    ada: Json
    usage: bool
    path: str = COMPLETIONS

    def relay(self) -> CompletionRelay:
        """For an answer that is streamed."""
        return CompletionRelay(self.ada, None, usage=self.usage, listen=False)

    def finish(self, answer: Json) -> str:
        """Make a whole answer Ada's; nobody wants to know what was said."""
        answer["ada"] = self.ada
        return ""

    async def keep(self, said: str) -> None:
        """Nothing is kept: it is no talk."""


async def understand(asked: CompletionRequest, state: State, _caller: Caller) -> CompletionQuestion:
    """The question for vLLM. Raises AdaError."""
    adapter = state.adapter()
    known_model(asked.model)
    body: Json = {**passed(asked.model_extra), "model": asked.model, "prompt": _neutral(asked.prompt)}
    usage = False
    if asked.stream:
        options = asked.stream_options.model_dump() if asked.stream_options else {}
        usage = bool(options.get("include_usage"))
        body |= {"stream": True, "stream_options": {**options, "include_usage": True}}
    return CompletionQuestion(body, report(asked.model, adapter, Diary("off")), usage)


def _neutral(prompt: Prompt) -> Prompt:
    """Text can't write a control token here either. Token ids are passed on: who sends them means them."""
    if isinstance(prompt, str):
        return neutralise(prompt)
    return [neutralise(part) if isinstance(part, str) else part for part in prompt]  # type: ignore[return-value]


endpoint = Endpoint(CompletionRequest, understand)
