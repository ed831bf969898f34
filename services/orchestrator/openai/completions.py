"""/v1/completions: text that goes on, without persona, template and diary."""

from dataclasses import dataclass
from typing import Any

from services.errors import InvalidRequest, UpstreamError
from services.orchestrator.dependencies import AppState
from services.orchestrator.http.api_keys import Caller
from services.orchestrator.openai.diary_context import Diary, report
from services.orchestrator.openai.endpoint import Endpoint
from services.orchestrator.openai.models import known_model
from services.orchestrator.openai.parameters import check_answers, passed
from services.orchestrator.openai.refusals import check_length, tidied
from services.orchestrator.openai.schemas import CompletionRequest
from services.orchestrator.openai.sse import CompletionRelay
from services.orchestrator.vllm.client import COMPLETIONS
from services.orchestrator.vllm.context_window import Room, answer_tokens, least_tokens
from services.persona.neutraliser import find_mark

Json = dict[str, Any]
Prompt = str | list[str] | list[int] | list[list[int]]


@dataclass
class CompletionQuestion:
    """What vLLM is asked for a completion."""

    state: AppState
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

    async def revise(self, error: UpstreamError) -> None:
        """Raises AdaError: there is nothing that could be left out of a text."""
        length = await self.state.context.length() if error.status == 400 else None
        if length is not None:
            for prompt in _prompts(self.body["prompt"]):
                if room := await self._room(prompt, length):
                    check_length(room, "prompt", error)
        raise tidied(error)

    async def _room(self, prompt: str | list[int], length: int) -> Room | None:
        answer = answer_tokens(self.body)
        if isinstance(prompt, list):
            return Room(length, len(prompt), answer)
        if least := least_tokens(len(prompt), length):
            return Room(length, least, answer, at_least=True)
        counted = await self.state.context.count({"model": self.body["model"], "prompt": prompt})
        return None if counted is None else Room(length, counted, answer)


async def understand(asked: CompletionRequest, state: AppState, _caller: Caller) -> CompletionQuestion:
    """The question for vLLM. Raises AdaError."""
    adapter = state.adapter()
    known_model(asked.model)
    extra = passed(asked.model_extra)
    prompts = _prompts(asked.prompt)
    if not prompts or [] in prompts:
        raise InvalidRequest("prompt: an empty list: send a text or token ids", "prompt")
    check_answers(len(prompts), extra.fields.get("n"), state.most_answers)
    if not asked.ada.allow_control_tokens:
        _check_marks(asked.prompt)
    body: Json = {**extra.fields, "model": asked.model, "prompt": asked.prompt}
    usage = False
    if asked.stream:
        options = asked.stream_options.model_dump() if asked.stream_options else {}
        usage = bool(options.get("include_usage"))
        body |= {"stream": True, "stream_options": {**options, "include_usage": True}}
    ignored = state.metrics.count_ignored(extra.ignored)
    return CompletionQuestion(state, body, report(asked.model, adapter, Diary("off"), ignored), usage)


def _prompts(prompt: Prompt) -> list[str] | list[list[int]]:
    """Each text or row of token ids that is to be gone on from."""
    if isinstance(prompt, str):
        return [prompt]
    if prompt and isinstance(prompt[0], int):
        return [prompt]
    return prompt  # type: ignore[return-value]


def _check_marks(prompt: Prompt) -> None:
    """Text that would write a control token is refused, not altered. Token ids are meant by who sends them.

    Raises RequestRefused, naming the first mark and its place.
    """
    for place, text in enumerate([prompt] if isinstance(prompt, str) else prompt):
        if not isinstance(text, str) or (start := find_mark(text)) < 0:
            continue
        where = "prompt" if isinstance(prompt, str) else f"prompt[{place}]"
        mark = text[start : text.find(">", start) + 1][:40]
        raise InvalidRequest(
            f"{where}: {mark!r} at character {start} is a control mark: set ada.allow_control_tokens "
            "to true to have it read as a control token, send token ids, or take it out",
            where,
            "control_token",
        )


endpoint = Endpoint(CompletionRequest, understand)
