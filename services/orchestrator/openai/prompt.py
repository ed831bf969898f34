"""The messages that the model is shown: the conversation, for Ada who she is, and what her diary recalls."""

from collections.abc import Sequence
from dataclasses import dataclass

from services.orchestrator.adapter import Adapter
from services.orchestrator.dependencies import AppState
from services.orchestrator.openai.diary_context import Diary, recollect
from services.orchestrator.openai.messages import Turn
from services.orchestrator.openai.models import ADA, BASE
from services.orchestrator.openai.schemas import AdaOptions
from services.orchestrator.vllm.client import Json
from services.orchestrator.vllm.context_window import TOKENS_A_TURN
from services.persona.prompt import build_messages, diary_block, neutral_messages


@dataclass
class Prompt:
    """What the model is shown, and how it came about."""

    model: str
    turns: list[Turn]  # of the conversation, with every control mark made inert
    neutralized: int  # control marks that were made inert
    diary: Diary
    adapter: Adapter

    def messages(self) -> list[Turn]:
        """With the diary's block, if it has one."""
        return self._messages(self.diary)

    def without_diary(self) -> list[Turn]:
        """The same without it."""
        return self._messages(Diary("off"))

    async def fit(self, body: Json, state: AppState) -> None:
        """Shrink the diary's block to what the conversation and its answer leave free."""
        if not self.diary.recalled:
            return
        header = diary_block(self.adapter.persona, ())["content"]
        most = state.budget_tokens + len(header.encode()) + TOKENS_A_TURN
        room = await state.context.room(body, self.without_diary(), most)
        if room is not None and room.left < most:
            await self.diary.fit(room, header, state.tokens)

    def _messages(self, diary: Diary) -> list[Turn]:
        if self.model == ADA:
            return build_messages(self.adapter.persona, self.turns, diary.shown())
        return list(self.turns)


async def prepare_prompt(
    model: str, turns: Sequence[Turn], options: AdaOptions, body: Json, state: AppState, owner: str
) -> Prompt:
    """The prompt for a conversation, within the model's context. `body` has the request's other fields."""
    neutral = neutral_messages(turns)
    # A mark is made inert by one character more.
    added = sum(
        len(after["content"]) - len(before["content"]) for before, after in zip(turns, neutral, strict=True)
    )
    if model == BASE or not options.diary:
        diary = Diary("off")
    else:
        question = next((turn["content"] for turn in reversed(turns) if turn["role"] == "user"), "")
        diary = await recollect(question, options, state, owner)
    prompt = Prompt(model, neutral, added, diary, state.adapter())
    await prompt.fit(body, state)
    return prompt
