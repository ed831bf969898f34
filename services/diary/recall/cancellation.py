"""Cancels work in another thread."""

import threading

from services.errors import SearchCancelled


class Cancellation:
    """A flag for work in another thread: a thread cannot be killed, so the work checks between its steps."""

    def __init__(self) -> None:
        self._cancelled = threading.Event()

    def cancel(self) -> None:
        """End the work at its next step."""
        self._cancelled.set()

    def check(self) -> None:
        """Raises SearchCancelled after `cancel`."""
        if self._cancelled.is_set():
            raise SearchCancelled("the search was cancelled: its client is gone or its deadline has passed")


class NeverCancelled(Cancellation):
    """For work that is never cancelled."""

    def check(self) -> None:
        """Never raises."""


NEVER = NeverCancelled()
