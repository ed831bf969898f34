"""The prompt of a conversation: Ada's persona, the conversation, and the diary entries that she recalls."""

from collections.abc import Sequence
from dataclasses import dataclass

from services.errors import UpstreamError
from services.orchestrator.adapter import Adapter
from services.orchestrator.dependencies import AppState
from services.orchestrator.http.json_body import Json
from services.orchestrator.openai.diary_context import DiaryContext, recall_context
from services.orchestrator.openai.messages import Turn
from services.orchestrator.openai.models import ADA, BASE
from services.orchestrator.openai.schemas import AdaOptions
from services.orchestrator.reflection.idle_reflection import record
from services.orchestrator.vllm.context_window import TOKENS_PER_TURN
from services.orchestrator.vllm.errors import readable_error
from services.persona.prompt import build_messages, diary_block, neutral_messages


@dataclass
class Prompt:
    """The messages that the model gets, and what they are made of."""

    model: str
    turns: list[Turn]  # of the conversation, with every control mark neutralized
    neutralized: int  # control marks
    diary: DiaryContext
    adapter: Adapter

    def messages(self) -> list[Turn]:
        """All messages, with the diary's block if entries were recalled."""
        return self._messages(self.diary)

    def without_diary(self) -> list[Turn]:
        """All messages but the diary's block."""
        return self._messages(DiaryContext("off"))

    async def fit(self, body: Json, state: AppState) -> None:
        """Shrink the diary's block to the tokens that the conversation and its answer leave free."""
        if not self.diary.hits:
            return
        header = diary_block(self.adapter.persona, ())["content"]
        block_tokens = state.budget_tokens + len(header.encode()) + TOKENS_PER_TURN
        budget = await state.context_window.budget(body, self.without_diary(), min_free=block_tokens)
        if budget is not None and budget.free < block_tokens:
            await self.diary.fit(budget, header, state.token_counter)

    def _messages(self, diary: DiaryContext) -> list[Turn]:
        if self.model == ADA:
            return build_messages(self.adapter.persona, self.turns, diary.blocks())
        return list(self.turns)


async def build_prompt(
    model: str, turns: Sequence[Turn], options: AdaOptions, body: Json, state: AppState, owner: str
) -> Prompt:
    """The prompt for a conversation, within the model's context. `body` has the request's other fields."""
    neutral = neutral_messages(turns)
    # Each neutralized mark is one character longer.
    neutralized = sum(
        len(after["content"]) - len(before["content"]) for before, after in zip(turns, neutral, strict=True)
    )
    if model == BASE or not options.diary:
        diary = DiaryContext("off")
    else:
        question = next((turn["content"] for turn in reversed(turns) if turn["role"] == "user"), "")
        diary = await recall_context(question, options, state, owner)
    prompt = Prompt(model, neutral, neutralized, diary, state.adapter())
    await prompt.fit(body, state)
    return prompt


@dataclass
class ConversationRequest:
    """The request to vLLM for the next turn of a conversation, and the `ada` field of the answer.

    What /v1/chat/completions and /v1/responses share.
    """

    turns: list[Turn]
    owner: str
    state: AppState
    prompt: Prompt
    body: Json
    ada: Json
    prompt_field: str  # of the body

    async def record(self, text: str) -> None:
        """Record the conversation with the answer, so that Ada can reflect on it when it has become idle."""
        if self.prompt.diary.status != "off":
            await record(self.state, self.owner, self.turns, text)

    async def revise(self, error: UpstreamError) -> None:
        """Remove the diary from a request that vLLM rejected. Raises AdaError when it contains none.

        The prompt was built within its budget; this is for tokens that were counted wrongly, or not at all.
        """
        if error.status != 400:
            raise readable_error(error)
        if budget := await self.state.context_window.exact_budget(self.body, self.prompt.without_diary()):
            budget.check(self.prompt_field, error)
        if not self.prompt.diary.hits:
            raise readable_error(error)
        self.prompt.diary.drop("the model server rejected this conversation with diary entries in it")
        self.body[self.prompt_field] = self.prompt.messages()
        self.ada["diary"] = self.prompt.diary.report()
