"""Writes conversations from plans, line by line, and checks each against its plan and the backstory."""

import asyncio
import random
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from services.chat_markup import strip_reasoning
from services.persona.persona import Persona
from trainer.data.sample import Turn
from trainer.synthetic.backstory import Backstory
from trainer.synthetic.clean_line import clean_line
from trainer.synthetic.endpoint import CompletionRequest, Endpoint
from trainer.synthetic.near_duplicates import NearDuplicates
from trainer.synthetic.output_store import Item, OutputStore
from trainer.synthetic.plan import Plan
from trainer.synthetic.prompts import ada_messages, drew_messages, drew_words, judge_messages
from trainer.synthetic.rejection_reasons import BACKSTORY, JUDGED, UNDECIDED, Rejected, check_line
from trainer.synthetic.stats import Stats

DRAWS = 4  # attempts at a plan before it is given up
_WRITING, _JUDGING = 0.9, 0.0  # temperatures
_TOKENS_PER_WORD = 4  # with room for languages and names that take many
_JUDGEMENT_TOKENS = 16


@dataclass(frozen=True)
class Models:
    """The author, the judge (empty: none), and a token limit other than the plan's own (0: none)."""

    author: str
    judge: str
    max_tokens: int = 0


class Writer:
    """Writes conversations of one persona, several at once."""

    def __init__(
        self,
        persona: Persona,
        backstory: Backstory,
        endpoint: Endpoint,
        models: Models,
        seed: int,
        duplicates: NearDuplicates,
    ) -> None:
        self.persona, self.backstory, self.endpoint = persona, backstory, endpoint
        self.models, self.seed, self.duplicates = models, seed, duplicates
        self._users = (persona.user_name, "user", "human")
        self._assistants = (persona.assistant_name, "assistant", "AI")

    async def write(
        self,
        todo: Iterable[Plan],
        store: OutputStore,
        stats: Stats,
        concurrency: int,
        finished: Callable[[], None],
    ) -> None:
        """Write all plans, `concurrency` at once; calls `finished` after each. Raises the first AdaError."""
        plans = iter(todo)
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(concurrency):
                    group.create_task(self._work(plans, store, stats, finished))
        except ExceptionGroup as errors:
            raise errors.exceptions[0] from None

    async def _work(
        self, plans: Iterator[Plan], store: OutputStore, stats: Stats, finished: Callable[[], None]
    ) -> None:
        for plan in plans:
            item = await self._item(plan, stats)
            if item is None:
                store.give_up(plan.number)
                stats.given_up += 1
            else:
                store.save(plan.number, item)
                stats.completed += 1
            finished()

    async def _item(self, plan: Plan, stats: Stats) -> Item | None:
        """The conversation and its provenance, or None when every draw was rejected."""
        for draw in range(DRAWS):
            try:
                turns = await self._conversation(plan, random.Random(f"{self.seed} {plan.number} {draw}"))
                self.duplicates.add(turns)  # again: another may have been finished during the judgement
            except Rejected as rejected:
                stats.rejections[rejected.reason] += 1
                continue
            return {
                "conversations": turns,
                "persona": self.persona.assistant_name,
                "topic": plan.topic,
                "mood": plan.mood,
                "model": self.models.author,
                "seed": self.seed,
                "plan": plan.as_json(),
            }
        return None

    async def _conversation(self, plan: Plan, draw: random.Random) -> list[Turn]:
        """One draw of a plan. Raises Rejected."""
        turns: list[Turn] = []
        for _ in range(plan.exchanges):
            turns.append({"role": "user", "content": await self._drew(plan, turns, draw)})
            turns.append({"role": "assistant", "content": await self._ada(plan, turns, draw)})
        self.duplicates.check(turns)
        if self.models.judge:
            await self._judge(plan, turns, draw)
        return turns

    async def _drew(self, plan: Plan, turns: list[Turn], draw: random.Random) -> str:
        word_range = drew_words(plan, turns)
        raw = await self._line(
            drew_messages(self.persona, plan, turns), word_range, self._assistants[0], draw
        )
        words = clean_line(raw, self._users, self._assistants)
        check_line(words, word_range)
        _reject(self.backstory.misnaming(words))
        return words

    async def _ada(self, plan: Plan, turns: list[Turn], draw: random.Random) -> str:
        messages = ada_messages(self.persona, plan, self.backstory.basics, turns)
        raw = await self._line(messages, plan.answer_words, self._users[0], draw)
        words = clean_line(raw, self._assistants, self._users)
        check_line(words, plan.answer_words)
        _reject(self.backstory.contradiction(words))
        return words

    async def _line(
        self, messages: list[Turn], word_range: tuple[int, int], other: str, draw: random.Random
    ) -> str:
        limit = self.models.max_tokens or 50 + _TOKENS_PER_WORD * word_range[1]
        request = CompletionRequest(limit, _WRITING, draw.getrandbits(31), stop=(f"\n{other}:",))
        return await self.endpoint.complete(self.models.author, messages, request)

    async def _judge(self, plan: Plan, turns: list[Turn], draw: random.Random) -> None:
        messages = judge_messages(self.persona, plan, self.backstory.basics, turns)
        request = CompletionRequest(
            self.models.max_tokens or _JUDGEMENT_TOKENS, _JUDGING, draw.getrandbits(31)
        )
        raw = await self.endpoint.complete(self.models.judge, messages, request)
        verdict = re.search(r"\b(yes|no)\b", strip_reasoning(raw).lower())
        if verdict is None:
            raise Rejected(UNDECIDED)
        if verdict[0] == "yes":
            raise Rejected(JUDGED)


def _reject(contradiction: str) -> None:
    if contradiction:
        raise Rejected(f"{BACKSTORY} ({contradiction})")
