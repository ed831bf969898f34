"""What a source holds that Ada does not learn from, counted by reason."""

from collections import Counter

from services.errors import ConfigError

BAD_ROW = "bad row"
SHOWN = 5


class Rejections:
    """Counts what is left out; a bad row ends the run, unless the run may skip them."""

    def __init__(self, *, refuse_bad_rows: bool) -> None:
        self.refuse_bad_rows = refuse_bad_rows
        self.reasons: Counter[str] = Counter()
        self.bad_rows: list[str] = []  # the first few, in words

    def drop(self, reason: str) -> None:
        """Count one more sample that is left out for `reason`, such as `too short`."""
        self.reasons[reason] += 1

    def bad(self, message: str) -> None:
        """A row that can't be read; `message` names file, line and remedy, and repeats nobody's words.

        Raises ConfigError with it, unless bad rows are to be skipped.
        """
        if self.refuse_bad_rows:
            raise ConfigError(f"{message}. Or set bad_rows=skip to count such rows and go on")
        self.drop(BAD_ROW)
        if len(self.bad_rows) < SHOWN:
            self.bad_rows.append(message)
