"""The tally: what was asked for, what came of it, and what it cost."""

import time
from collections import Counter
from dataclasses import dataclass, field


@dataclass
class Stats:
    """Counts of one run; a conversation may be thrown away several times before it is written or given up."""

    asked: int = 0
    found: int = 0  # written by an earlier run that was ended
    written: int = 0
    given_up: int = 0
    thrown_away: Counter[str] = field(default_factory=Counter)
    prompt_tokens: int = 0
    answer_tokens: int = 0
    refusal: str = ""  # the first thing that a server said when it would not take a request
    started: float = field(default_factory=time.monotonic)

    def table(self) -> str:
        """Two columns, a line for each count."""
        rows = [("asked", self.asked)]
        rows += [("written before", self.found)] if self.found else []
        rows += [("written", self.written), ("thrown away", self.thrown_away.total())]
        rows += [(f"  {reason}", count) for reason, count in self.thrown_away.most_common()]
        rows += [("given up", self.given_up)]
        rows += [("tokens read", self.prompt_tokens), ("tokens written", self.answer_tokens)]
        rows += [("seconds", round(time.monotonic() - self.started))]
        width = max(len(name) for name, _ in rows)
        table = "\n".join(f"{name:{width}}  {count:>9,}" for name, count in rows)
        return f"{table}\nthe server's refusal: {self.refusal}" if self.refusal else table
