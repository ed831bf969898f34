"""A bounded number of requests at vLLM, a bounded queue in front of it, and 429 beyond that.

Own code: anyio.CapacityLimiter and aiolimiter bound how many run, but neither how many wait nor for how long.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from services.errors import RateLimited
from services.tracing import span

RETRY_AFTER_S = 2.0


class ConcurrencyLimiter:
    """Lets `max_running` requests through at once; at most `max_waiting` wait, each at most `timeout_s`."""

    def __init__(self, max_running: int, max_waiting: int, timeout_s: float) -> None:
        self._slots = asyncio.Semaphore(max_running)
        self._max_waiting = max_waiting
        self._timeout_s = timeout_s
        self.running = 0
        self.waiting = 0

    @asynccontextmanager
    async def slot(self) -> AsyncIterator[None]:
        """Hold a slot while the block runs. Slots are assigned in order of arrival. Raises RateLimited."""
        if self._slots.locked():
            await self._wait()
        else:
            await self._slots.acquire()
        self.running += 1
        try:
            yield
        finally:
            self.running -= 1
            self._slots.release()

    async def _wait(self) -> None:
        if self.waiting >= self._max_waiting:
            raise RateLimited(
                f"the model server is busy: {self.running} requests run and {self.waiting} wait; "
                "try again later",
                RETRY_AFTER_S,
            )
        self.waiting += 1
        try:
            with span("queue wait"):
                async with asyncio.timeout(self._timeout_s):
                    await self._slots.acquire()
        except TimeoutError:
            raise RateLimited(
                f"the model server is busy: no slot was free within {self._timeout_s:g} s; try again later",
                RETRY_AFTER_S,
            ) from None
        finally:
            self.waiting -= 1
