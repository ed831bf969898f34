"""The contract between a source and the mixture: how rows are read, and how rejected rows are counted."""

from collections import Counter
from collections.abc import Iterator
from typing import Protocol

from services.errors import ConfigError
from trainer.config import TrainingConfig
from trainer.data.sample import Sample

BAD_ROW = "bad row"
BAD_ROWS_LISTED = 5

Provenance = dict[str, object]  # of a file or data set, as JSON for the manifest


class Rejections:
    """Counts the samples of a source that are left out, by reason.

    A row that can't be read ends the run, unless `refuse_bad_rows` is false.
    """

    def __init__(self, *, refuse_bad_rows: bool) -> None:
        self.refuse_bad_rows = refuse_bad_rows
        self.reasons: Counter[str] = Counter()
        self.bad_rows: list[str] = []  # messages of the first few

    def add(self, reason: str) -> None:
        """Count one more sample that is left out for `reason`, such as `too short`."""
        self.reasons[reason] += 1

    def add_bad_row(self, message: str) -> None:
        """Count a row that can't be read; `message` names file, line and remedy, and quotes no row's text.

        Raises ConfigError with that message, unless bad rows may be skipped.
        """
        if self.refuse_bad_rows:
            raise ConfigError(f"{message}. Or set bad_rows=skip to count such rows and go on")
        self.add(BAD_ROW)
        if len(self.bad_rows) < BAD_ROWS_LISTED:
            self.bad_rows.append(message)


class Source(Protocol):
    """What a source's module in `sources/` provides."""

    NAME: str
    LICENCE: str
    REMEDY: str  # how a user gets the data, or does without

    def read_samples(self, config: TrainingConfig, rejections: Rejections) -> Iterator[Sample]:
        """Yield the samples in the file's order. Raises ConfigError for data that can't be read."""

    def is_available(self, config: TrainingConfig) -> bool:
        """Whether the source's file exists."""

    def provenance(self, config: TrainingConfig) -> Provenance:
        """Which file or data set was read, for the manifest."""
