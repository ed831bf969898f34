"""Circuit breakers: what has failed again and again is left alone for a while, then tried by one.

A breaker counts one cause. What only one owner's requests cause must never open it for others.
"""

import time
from collections.abc import Callable

FAILURES = 5  # in a row
PAUSE_S = 5.0


class CircuitBreaker:
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


class OwnerCircuitBreaker:
    """A service's breaker for all, and beside it one for each owner.

    A failure of the service (it is away, it can't read) counts for all. A missed deadline counts for the
    owner who asked alone, because a long question over a large diary misses it while all others are answered.
    A service that hangs costs each owner five deadlines, and then one in five seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._service = CircuitBreaker(clock)
        self._owners: dict[str, CircuitBreaker] = {}  # of those whose last question missed its deadline

    @property
    def is_open(self) -> bool:
        """Whether the service is left alone by all."""
        return self._service.is_open

    def pause_s(self, owner: str) -> float:
        """Seconds until this owner may try it again; 0 means: try it now."""
        own = self._owners.get(owner)
        return (own.pause_s() if own else 0.0) or self._service.pause_s()

    def reason(self, owner: str) -> str:
        """Why this owner has to wait."""
        own = self._owners.get(owner)
        return own.reason if own and own.is_open else self._service.reason

    def failed(self, reason: str) -> None:
        """The service did not work."""
        self._service.failed(reason)

    def was_late(self, owner: str, reason: str) -> None:
        """This owner's question missed its deadline."""
        self._owners.setdefault(owner, CircuitBreaker(self._clock)).failed(reason)

    def succeeded(self, owner: str) -> None:
        """It worked, for this owner."""
        self._service.succeeded()
        self._owners.pop(owner, None)
