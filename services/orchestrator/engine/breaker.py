"""A circuit breaker: what has failed again and again is left alone for a while, then tried by one."""

import time
from collections.abc import Callable

FAILURES = 5  # in a row
PAUSE_S = 5.0


class Breaker:
    """Counts failures in a row. One thread's; whoever asks tells how it went."""

    def __init__(self, clock: Callable[[], float] = time.monotonic, failures: int = FAILURES) -> None:
        self._clock = clock
        self._most_failures = failures
        self._failures = 0
        self._tried_at = 0.0
        self.reason = ""

    def pause_s(self) -> float:
        """Seconds until it may be tried again; 0 means: try it now.

        After a pause one caller gets 0, and the others wait for what becomes of that try.
        """
        if not self.is_open:
            return 0.0
        left = self._tried_at + PAUSE_S - self._clock()
        if left <= 0:
            self._tried_at = self._clock()
        return max(left, 0.0)

    @property
    def is_open(self) -> bool:
        """Whether it is left alone."""
        return self._failures >= self._most_failures

    def failed(self, reason: str) -> None:
        """It did not work."""
        self._failures += 1
        self._tried_at = self._clock()
        self.reason = reason

    def succeeded(self) -> None:
        """It worked."""
        self._failures = 0
