"""Which recalled entries fit a prompt: fewer of them, then a part of the best one, then none."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from services.diary.entry import Entry
from services.diary.recall.excerpt import excerpt
from services.diary.recall.recall import RecalledEntry, within_budget
from services.orchestrator.openai.context_window import TOKENS_A_TURN
from services.orchestrator.vllm.token_counter import TokenCounter
from services.persona.neutraliser import neutralise

LEAST_CHARACTERS = 60  # of a shortened entry: less tells nothing
CUTS = 4  # to find the length that fits; each cut aims at nine tenths of the room


@dataclass(frozen=True)
class Selection:
    """The entries that are shown, newest last, and how many of those found are not."""

    shown: list[RecalledEntry]
    left_out: int


async def select_entries(found: Sequence[RecalledEntry], tokens: TokenCounter, budget: int) -> Selection:
    """The best entries, best first in `found`, that take at most `budget` tokens together.

    The best one is shown in part where the whole of it does not fit.
    """
    if not found:
        return Selection([], 0)
    lines = {one.excerpt: shown_line(one) for one in found}
    numbers = dict(zip(lines, await tokens.counts(list(lines.values())), strict=True))
    candidates = list(found)
    if numbers[found[0].excerpt] > budget and (short := await _shortened(found[0], tokens, budget)):
        candidates[0] = short
        numbers[short.excerpt] = await tokens.count(shown_line(short))
    shown = within_budget(candidates, budget, numbers.__getitem__)
    return Selection(shown, len(found) - len(shown))


async def room_for_entries(room: int, header: str, tokens: TokenCounter) -> int:
    """Tokens that are left for entries when the block's own turn and first line have had theirs."""
    return room - TOKENS_A_TURN - await tokens.count(f"{header}\n")


async def _shortened(one: RecalledEntry, tokens: TokenCounter, budget: int) -> RecalledEntry | None:
    """The entry with as much of what was found in it as fits."""
    text = one.excerpt
    for _ in range(CUTS):
        number = await tokens.count(shown_line(one, text))
        if number <= budget:
            return replace(one, excerpt=text)
        characters = len(text) * max(budget, 0) * 9 // (number * 10)
        if characters < LEAST_CHARACTERS:
            return None
        text = excerpt(one.entry.text, one.chunk_ordinals, one.hidden_ordinals, characters)
    return None


def shown_line(one: RecalledEntry, text: str | None = None) -> str:
    """An entry as a line of the prompt's diary block."""
    return neutralise(f"[{shown_date(one.entry)}] {one.excerpt if text is None else text}\n")


def shown_date(entry: Entry) -> str:
    """A day as the calendar has it, anything wider as it was given; "" where it was only assumed."""
    if entry.date_assumed:
        return ""
    return entry.first_day if entry.first_day == entry.last_day else entry.date
