"""Work that begins after a while, if it is still needed then."""

import asyncio
from collections.abc import Callable, Coroutine


class Later:
    """Begins a coroutine after `delay_s`, unless it is cancelled before.

    A timer is a tenth of the cost of a task that sleeps, and of 50 streams that start together each waits for
    what the others cost.
    """

    def __init__(self, delay_s: float, work: Callable[[], Coroutine[None, None, None]]) -> None:
        self._timer = asyncio.get_running_loop().call_later(delay_s, self._begin, work)
        self._task: asyncio.Task[None] | None = None

    def cancel(self) -> None:
        """End it, or let it never begin."""
        self._timer.cancel()
        if self._task:
            self._task.cancel()

    def _begin(self, work: Callable[[], Coroutine[None, None, None]]) -> None:
        self._task = asyncio.create_task(work())
