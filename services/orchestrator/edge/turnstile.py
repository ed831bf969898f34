"""Requests that come at the same moment begin one after the other."""

import asyncio
from collections import deque

from starlette.types import ASGIApp, Receive, Scope, Send


class TurnstileMiddleware:
    """Lets one request begin in each turn of the event loop, in order of arrival.

    An event loop sends what was written at the end of its turn. Were 50 requests begun in one turn, vLLM
    would see the first of them when the last is begun, and all first tokens would come at that one's time.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._taken = False
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        loop = asyncio.get_running_loop()
        if self._taken:
            turn = loop.create_future()
            self._waiting.append(turn)
            await turn
        else:
            self._taken = True
            loop.call_soon(self._next, loop)
        await self._app(scope, receive, send)

    def _next(self, loop: asyncio.AbstractEventLoop) -> None:
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():  # else its client is gone
                turn.set_result(None)
                loop.call_soon(self._next, loop)
                return
        self._taken = False
