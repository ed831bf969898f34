"""Decides when the disclosure has to be shown to the user again."""

import time
from collections.abc import Callable

EVERY_S = 3 * 3600.0  # required of companions by several laws: at the start, then every three hours


class Reminder:
    """Tracks when the disclosure was last shown."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._shown_at: float | None = None

    def is_due(self) -> bool:
        """Whether the disclosure is due: at the start, and three hours after it was last shown."""
        return self._shown_at is None or self._clock() - self._shown_at >= EVERY_S

    def shown(self) -> None:
        """Record that the disclosure was shown in full."""
        self._shown_at = self._clock()
