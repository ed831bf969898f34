"""Ends work in a thread for which nobody waits any more."""

import threading

from services.errors import SearchCancelled


class Cancellation:
    """Given to work in another thread, which calls `check` between its steps, as no thread can be ended."""

    def __init__(self) -> None:
        self._cancelled = threading.Event()

    def cancel(self) -> None:
        """Have the work end at its next step."""
        self._cancelled.set()

    def check(self) -> None:
        """Raises SearchCancelled once nobody waits any more."""
        if self._cancelled.is_set():
            raise SearchCancelled("nobody waits for this search any more")


class NeverCancelled(Cancellation):
    """For work whose caller always waits."""

    def check(self) -> None:
        """Nothing ends it."""


NEVER = NeverCancelled()
