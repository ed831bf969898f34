"""When a person who chats with Ada has to be told again what she is."""

import time
from collections.abc import Callable

EVERY_S = 3 * 3600.0  # as the laws of several places ask of companions: at the start, then every three hours


class Reminder:
    """Says when the disclosure was last shown too long ago."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._shown_at: float | None = None

    def is_due(self) -> bool:
        """Whether it has to be shown now: at first, and three hours after it was shown."""
        return self._shown_at is None or self._clock() - self._shown_at >= EVERY_S

    def shown(self) -> None:
        """It was shown in full."""
        self._shown_at = self._clock()
