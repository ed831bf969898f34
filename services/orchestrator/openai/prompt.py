"""The messages that the model is shown: the conversation, for Ada who she is, and what her diary recalls."""

from collections.abc import Sequence
from dataclasses import dataclass

from services.errors import UpstreamError
from services.orchestrator.adapter import Adapter
from services.orchestrator.dependencies import AppState
from services.orchestrator.openai.diary_context import Diary, recollect
from services.orchestrator.openai.messages import Turn
from services.orchestrator.openai.models import ADA, BASE
from services.orchestrator.openai.refusals import check_length, tidied
from services.orchestrator.openai.schemas import AdaOptions
from services.orchestrator.reflection.idle_reflection import record
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


@dataclass
class Exchange:
    """The conversation, what vLLM is asked, and the `ada` of the answer."""

    turns: list[Turn]
    owner: str
    state: AppState
    prompt: Prompt
    body: Json
    ada: Json
    field: str  # of the body, that holds the prompt

    async def keep(self, said: str) -> None:
        """Keep the talk with her answer, for her to write about when it has gone quiet."""
        if self.prompt.diary.status != "off":
            await record(self.state, self.owner, self.turns, said)

    async def revise(self, error: UpstreamError) -> None:
        """Leave the diary out of what vLLM refused: it may be the cause. Raises AdaError without one.

        The budget was kept when the prompt was made: this is for what was counted wrongly, or not at all.
        """
        if error.status != 400:
            raise tidied(error)
        if room := await self.state.context.overflow(self.body, self.prompt.without_diary()):
            check_length(room, self.field, error)
        if not self.prompt.diary.recalled:
            raise tidied(error)
        self.prompt.diary.drop("the model server refused this conversation with entries of the diary in it")
        self.body[self.field] = self.prompt.messages()
        self.ada["diary"] = self.prompt.diary.report()
