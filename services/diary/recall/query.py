"""What a search of one owner's diary asks for."""

from dataclasses import dataclass
from datetime import date as Date

from services.local_time import IN_UTC, LocalTime


@dataclass(frozen=True)
class RecallQuery:
    """A question to one owner's diary and the limits of its answer.

    Only entries from `first_day` to `last_day` (YYYY-MM-DD, inclusive, "" for no limit) are searched. `as_of`
    counts as today: later entries are not searched. Dates in `text` are resolved against `as_of`, else
    `last_day`, else today in `local`. `recency` is a half-life in days (0: newer entries are not preferred).
    Entries of `mood` are preferred.
    """

    text: str
    top_k: int
    first_day: str = ""
    last_day: str = ""
    as_of: Date | None = None
    recency: float = 0.0
    mood: str | None = None
    local: LocalTime = IN_UTC

    @property
    def today(self) -> Date:
        """The day against which dates in `text` are resolved."""
        return self.as_of or (Date.fromisoformat(self.last_day) if self.last_day else self.local.today())

    @property
    def last_searched_day(self) -> str:
        """The earlier of `last_day` and `as_of`; "" for no limit."""
        days = [day for day in (self.last_day, self.as_of.isoformat() if self.as_of else "") if day]
        return min(days, default="")
