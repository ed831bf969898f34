"""A conversation that asks for its next turn: what the routes of chat have in common."""

from dataclasses import dataclass

from services.errors import UpstreamError
from services.orchestrator.dependencies import AppState
from services.orchestrator.openai.messages import Turn
from services.orchestrator.openai.prompt import Prompt
from services.orchestrator.openai.refusals import check_length, tidied
from services.orchestrator.reflection.idle_reflection import record
from services.orchestrator.vllm.client import Json


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
