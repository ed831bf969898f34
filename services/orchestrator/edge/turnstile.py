"""Requests that come at the same moment begin a few at a time."""

import asyncio
from collections import deque

A_TURN = 2


class Turnstile:
    """Lets `a_turn` pass in each turn of the event loop, in order of arrival.

    An event loop sends what was written at the end of its turn. Were 50 requests begun in one turn, vLLM would see
    the first of them when the last is begun, and the first token would come to all at the time of the last.
    """

    def __init__(self, a_turn: int = A_TURN) -> None:
        self._a_turn = a_turn
        self._passed = 0
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def through(self) -> None:
        """Pass, or wait for a turn that has room."""
        if self._passed >= self._a_turn or self._waiting:
            turn = asyncio.get_running_loop().create_future()
            self._waiting.append(turn)
            await turn
            return
        if not self._passed:
            asyncio.get_running_loop().call_soon(self._next_turn)
        self._passed += 1

    def _next_turn(self) -> None:
        self._passed = 0
        while self._waiting and self._passed < self._a_turn:
            turn = self._waiting.popleft()
            if not turn.done():  # its client may be gone
                turn.set_result(None)
                self._passed += 1
        if self._passed:
            asyncio.get_running_loop().call_soon(self._next_turn)
