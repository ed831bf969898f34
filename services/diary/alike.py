"""Entries that say nearly the same: somebody imported twice, or kept a draft beside the final one."""

import re
from dataclasses import dataclass, field
from typing import Generic, TypeVar

ALIKE = 0.8  # of all runs of RUN words in either text, those that stand in both
RUN = 3
_WORD = re.compile(r"\w+")

Thing = TypeVar("Thing")
Runs = frozenset[tuple[str, ...]]


@dataclass
class Kept(Generic[Thing]):
    """The one of a group that was put in first, and the others."""

    one: Thing
    runs: Runs
    others: list[Thing] = field(default_factory=list)


class Collapsed(Generic[Thing]):
    """Puts what is said twice into one place, that of the first."""

    def __init__(self) -> None:
        self.kept: list[Kept[Thing]] = []

    def put(self, thing: Thing, text: str) -> None:
        """Keep `thing`, or count it to the one whose text is nearly its own."""
        runs = runs_of(text)
        for group in self.kept:
            if alike(group.runs, runs):
                group.others.append(thing)
                return
        self.kept.append(Kept(thing, runs))


def alike(a: Runs, b: Runs) -> bool:
    """Most of their runs of words are the same. Texts without words are never alike."""
    if min(len(a), len(b)) < ALIKE * max(len(a), len(b), 1):
        return False
    return len(a & b) >= ALIKE * len(a | b)


def runs_of(text: str) -> Runs:
    """The runs of RUN words in a text, whatever the case and the marks; of a shorter text, all its words."""
    words = _WORD.findall(text.casefold())
    return frozenset(zip(*(words[start:] for start in range(min(RUN, len(words)))), strict=False))
