"""A bounded number of requests at vLLM, a bounded queue in front of it, and beyond that a plain refusal."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from services.errors import RateLimited
from services.tracing import span

RETRY_AFTER_S = 2.0


class ConcurrencyLimiter:
    """Lets at most `running` through at once; at most `waiting` wait, each at most `patience_s`."""

    def __init__(self, running: int, waiting: int, patience_s: float) -> None:
        self._free = asyncio.Semaphore(running)
        self._most_waiting = waiting
        self._patience_s = patience_s
        self.running = 0
        self.waiting = 0

    @asynccontextmanager
    async def place(self) -> AsyncIterator[None]:
        """A place at vLLM while the block runs, in order of arrival. Raises TooMuch."""
        if self._free.locked():
            await self._wait()
        else:
            await self._free.acquire()
        self.running += 1
        try:
            yield
        finally:
            self.running -= 1
            self._free.release()

    async def _wait(self) -> None:
        if self.waiting >= self._most_waiting:
            raise RateLimited(
                f"{self.running} requests are in work and {self.waiting} wait: ask again later", RETRY_AFTER_S
            )
        self.waiting += 1
        try:
            with span("queue wait"):
                async with asyncio.timeout(self._patience_s):
                    await self._free.acquire()
        except TimeoutError:
            raise RateLimited(
                f"no place was free within {self._patience_s:g} s: ask again later", RETRY_AFTER_S
            ) from None
        finally:
            self.waiting -= 1
