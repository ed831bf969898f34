"""/v1/completions: continues a text, without persona, template and diary."""

from dataclasses import dataclass

from services.errors import InvalidRequest, UpstreamError
from services.orchestrator.dependencies import AppState
from services.orchestrator.http.auth import Caller
from services.orchestrator.http.json_body import Json
from services.orchestrator.openai.diary_context import DiaryContext, ada_report
from services.orchestrator.openai.endpoint import Endpoint
from services.orchestrator.openai.models import check_model
from services.orchestrator.openai.parameters import (
    add_stream_options,
    check_choice_count,
    passthrough_parameters,
)
from services.orchestrator.openai.schemas import CompletionRequest
from services.orchestrator.openai.sse import CompletionTransformer
from services.orchestrator.vllm.client import COMPLETIONS
from services.orchestrator.vllm.context_window import TokenBudget, answer_tokens, min_prompt_tokens
from services.orchestrator.vllm.errors import readable_error
from services.persona.neutraliser import find_mark

Prompt = str | list[str] | list[int] | list[list[int]]


@dataclass
class UpstreamCompletionRequest:
    """The request to vLLM for a completion."""

    state: AppState
    body: Json
    ada: Json
    include_usage: bool
    path: str = COMPLETIONS

    def transformer(self) -> CompletionTransformer:
        """Transforms the events of a streamed answer."""
        return CompletionTransformer(self.ada, None, include_usage=self.include_usage, collect_text=False)

    def finish(self, answer: Json) -> str:
        """Add the `ada` field to a non-streamed answer. Its text is not needed: nothing is recorded."""
        answer["ada"] = self.ada
        return ""

    async def record(self, text: str) -> None:
        """Do nothing: a completion is no conversation to reflect on."""

    async def revise(self, error: UpstreamError) -> None:
        """Raises AdaError: there is nothing that could be left out of a text."""
        length = await self.state.context_window.length() if error.status == 400 else None
        if length is not None:
            for prompt in _prompts(self.body["prompt"]):
                if budget := await self._budget(prompt, length):
                    budget.check("prompt", error)
        raise readable_error(error)

    async def _budget(self, prompt: str | list[int], length: int) -> TokenBudget | None:
        answer = answer_tokens(self.body)
        if isinstance(prompt, list):
            return TokenBudget(length, len(prompt), answer)
        if bound := min_prompt_tokens(len(prompt), length):
            return TokenBudget(length, bound, answer, is_lower_bound=True)
        count = await self.state.context_window.count({"model": self.body["model"], "prompt": prompt})
        return None if count is None else TokenBudget(length, count, answer)


async def build_upstream_request(
    request: CompletionRequest, state: AppState, _caller: Caller
) -> UpstreamCompletionRequest:
    """The request to vLLM. Raises AdaError."""
    adapter = state.adapter()
    check_model(request.model)
    extra = passthrough_parameters(request.model_extra)
    prompts = _prompts(request.prompt)
    if not prompts or [] in prompts:
        raise InvalidRequest("prompt: must not be an empty list: send a text or token ids", "prompt")
    check_choice_count(len(prompts), extra.fields.get("n"), state.max_answers)
    if not request.ada.allow_control_tokens:
        _check_marks(request.prompt)
    body: Json = {**extra.fields, "model": request.model, "prompt": request.prompt}
    include_usage = add_stream_options(body, request)
    ignored = state.metrics.count_ignored(extra.ignored)
    ada = ada_report(request.model, adapter, DiaryContext("off"), ignored)
    return UpstreamCompletionRequest(state, body, ada, include_usage)


def _prompts(prompt: Prompt) -> list[str] | list[list[int]]:
    """Each text, or list of token ids, that is to be continued."""
    if isinstance(prompt, str):
        return [prompt]
    if prompt and isinstance(prompt[0], int):
        return [prompt]
    return prompt  # type: ignore[return-value]


def _check_marks(prompt: Prompt) -> None:
    """Reject text that would write a control token; it is not altered. Token ids are never rejected.

    Raises InvalidRequest, naming the first mark and its position.
    """
    for i, text in enumerate([prompt] if isinstance(prompt, str) else prompt):
        if not isinstance(text, str) or (start := find_mark(text)) < 0:
            continue
        path = "prompt" if isinstance(prompt, str) else f"prompt[{i}]"
        mark = text[start : text.find(">", start) + 1][:40]
        raise InvalidRequest(
            f"{path}: {mark!r} at character {start} is a control mark: set ada.allow_control_tokens "
            "to true to have it read as a control token, send token ids, or remove it",
            path,
            "control_token",
        )


endpoint = Endpoint(CompletionRequest, build_upstream_request)
