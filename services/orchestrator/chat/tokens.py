"""How many tokens texts have for the served model, and which recalled entries fit the prompt."""

import asyncio
from collections import OrderedDict
from collections.abc import Sequence

from services.diary.recall import Recalled, within_budget
from services.errors import ModelRefused, ModelUnavailable
from services.orchestrator.engine.vllm import Engine
from services.persona.neutraliser import neutralise

KEPT = 4096  # texts whose number is remembered
BYTES_A_TOKEN = 4  # of English; the estimate while the model server can't be asked


class TokenCounter:
    """Asks the served model's own tokenizer, and remembers what it said."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._known: OrderedDict[str, int] = OrderedDict()

    async def count(self, text: str) -> int:
        """Tokens of a text, or an estimate when the model server can't be reached."""
        if text in self._known:
            self._known.move_to_end(text)
            return self._known[text]
        body = {"model": "base", "prompt": text, "add_special_tokens": False}
        try:
            number = len(await self._engine.tokenize(body))
        except (ModelUnavailable, ModelRefused):
            return len(text.encode()) // BYTES_A_TOKEN + 1
        self._known[text] = number
        if len(self._known) > KEPT:
            self._known.popitem(last=False)
        return number

    async def counts(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text."""
        return list(await asyncio.gather(*map(self.count, texts)))


async def shown_within(recalled: Sequence[Recalled], tokens: TokenCounter, budget: int) -> list[Recalled]:
    """The best entries that fit `budget` tokens together, in order of their days, newest last."""
    shown = {one.shown: neutralise(f"[{one.entry.date}] {one.shown}\n") for one in recalled}
    numbers = dict(zip(shown, await tokens.counts(list(shown.values())), strict=True))
    return within_budget(recalled, budget, numbers.__getitem__)
