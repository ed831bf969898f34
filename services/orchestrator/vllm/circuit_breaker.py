"""Circuit breakers: a service that fails again and again gets no requests for a while, then one as a trial.

A breaker counts one cause. What only one owner's requests cause must never open it for others.

Own code: pybreaker and aiobreaker wrap one call each, where a stream's outcome is known only at its end.
"""

import time
from collections.abc import Callable

MAX_FAILURES = 5  # in a row
PAUSE_S = 5.0


class CircuitBreaker:
    """Counts failures in a row. For one thread; its callers report each success and failure."""

    def __init__(self, clock: Callable[[], float] = time.monotonic, max_failures: int = MAX_FAILURES) -> None:
        self._clock = clock
        self._max_failures = max_failures
        self._failures = 0
        self._tried_at = 0.0
        self.reason = ""

    def pause_s(self) -> float:
        """Seconds until the next attempt is due; 0 means now.

        After a pause one caller gets 0, and the others wait for the outcome of that attempt.
        """
        if not self.is_open:
            return 0.0
        remaining = self._tried_at + PAUSE_S - self._clock()
        if remaining <= 0:
            self._tried_at = self._clock()
        return max(remaining, 0.0)

    @property
    def is_open(self) -> bool:
        """Whether the service gets no requests."""
        return self._failures >= self._max_failures

    def failed(self, reason: str) -> None:
        """Count a failure."""
        self._failures += 1
        self._tried_at = self._clock()
        self.reason = reason

    def succeeded(self) -> None:
        """Close the breaker."""
        self._failures = 0


class OwnerCircuitBreaker:
    """One breaker of a service for all owners, and one for each owner.

    A failure of the service (it is down, it can't read) counts for all. A missed deadline counts only for the
    owner of the request, because a long question over a large diary misses it while all others are answered.
    A service that hangs costs each owner five deadlines, and then one every five seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._service = CircuitBreaker(clock)
        self._owners: dict[str, CircuitBreaker] = {}  # of owners whose last request missed its deadline

    @property
    def is_open(self) -> bool:
        """Whether the service gets no requests of any owner."""
        return self._service.is_open

    def pause_s(self, owner: str) -> float:
        """Seconds until this owner's next attempt is due; 0 means now."""
        breaker = self._owners.get(owner)
        return (breaker.pause_s() if breaker else 0.0) or self._service.pause_s()

    def reason(self, owner: str) -> str:
        """Why this owner has to wait."""
        breaker = self._owners.get(owner)
        return breaker.reason if breaker and breaker.is_open else self._service.reason

    def failed(self, reason: str) -> None:
        """Count a failure of the service."""
        self._service.failed(reason)

    def timed_out(self, owner: str, reason: str) -> None:
        """Count a missed deadline of this owner's request."""
        self._owners.setdefault(owner, CircuitBreaker(self._clock)).failed(reason)

    def succeeded(self, owner: str) -> None:
        """Close the service's breaker and this owner's."""
        self._service.succeeded()
        self._owners.pop(owner, None)
