"""Requests that come at the same moment begin one after the other."""

import asyncio
from collections import deque
from collections.abc import Callable


class AdmissionQueue:
    """Does one piece of work in each turn of the event loop, in order of arrival.

    An event loop sends at the end of its turn what was written in it. Were 50 requests read and begun in one
    turn, vLLM would see the first when the last is begun, and all first tokens would come at that one's time.
    """

    def __init__(self) -> None:
        self._taken = False
        self._waiting: deque[Callable[[], None]] = deque()

    def enter(self, loop: asyncio.AbstractEventLoop, work: Callable[[], None]) -> None:
        """Do the work now, or in a turn of its own."""
        if self._taken:
            self._waiting.append(work)
        else:
            self._taken = True
            loop.call_soon(self._next, loop)
            work()

    def _next(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._waiting:
            loop.call_soon(self._next, loop)
            self._waiting.popleft()()
        else:
            self._taken = False
