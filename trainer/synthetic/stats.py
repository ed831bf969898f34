"""Counts of a run: requested, written and rejected conversations, and the tokens they cost."""

import time
from collections import Counter
from dataclasses import dataclass, field

from tabulate import tabulate


@dataclass
class Stats:
    """Counts of one run; a conversation may be rejected several times before it is written or given up."""

    requested: int = 0
    resumed: int = 0  # written by an earlier run that was ended
    completed: int = 0
    given_up: int = 0
    rejections: Counter[str] = field(default_factory=Counter)
    prompt_tokens: int = 0
    answer_tokens: int = 0
    refusal: str = ""  # the first message with which a server refused a request
    started: float = field(default_factory=time.monotonic)

    def table(self) -> str:
        """Two columns, a line per count."""
        rows = [("asked", self.requested)]
        rows += [("written before", self.resumed)] if self.resumed else []
        rows += [("written", self.completed), ("thrown away", self.rejections.total())]
        rows += [(f"  {reason}", count) for reason, count in self.rejections.most_common()]
        rows += [("given up", self.given_up)]
        rows += [("tokens read", self.prompt_tokens), ("tokens written", self.answer_tokens)]
        rows += [("seconds", round(time.monotonic() - self.started))]
        table = tabulate(
            [(name, f"{count:,}") for name, count in rows],
            tablefmt="plain",
            disable_numparse=True,
            colalign=("left", "right"),
            preserve_whitespace=True,  # rejections are indented
        )
        return f"{table}\nthe server's refusal: {self.refusal}" if self.refusal else table
