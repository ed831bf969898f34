"""How large a body may be, and how long it may take to come."""

import asyncio
import time
from contextlib import suppress

from fastapi import HTTPException
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

FILES = frozenset({"/v1/diary/import"})  # read piece by piece, with a limit of their own
SILENCE_S = 30.0  # between two pieces
WHOLE_S = 120.0  # for a body that is no file
LINGER_S = 5.0  # for the rest of one that is too large


class BodyMiddleware:
    """Refuses a body of more than `most` bytes with 413, and one that does not come with 408."""

    def __init__(self, app: ASGIApp, most: int) -> None:
        self._app = app
        self._most = most

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] not in FILES:
            receive = _Body(receive, Headers(scope=scope), self._most).receive
        await self._app(scope, receive, send)


class _Body:
    """What is wrong with it is found by who reads it, inside of the routes, where errors get their shape."""

    def __init__(self, receive: Receive, headers: Headers, most: int) -> None:
        self._receive = receive
        self._told = int(headers.get("content-length", 0))  # bytes, as its head says
        self._waits = "expect" in headers  # the client sends nothing of it before it is asked for
        self._most = most
        self._end = time.monotonic() + WHOLE_S
        self._size = 0
        self._over = False

    async def receive(self) -> Message:
        if self._over:  # what comes now is that the client goes away
            return await self._receive()
        if self._told > self._most:
            raise await self._too_large()
        try:
            async with asyncio.timeout(min(SILENCE_S, self._end - time.monotonic())):
                message = await self._receive()
        except TimeoutError:
            reason = "the request's body did not come in time: send it again"
            raise HTTPException(408, reason, {"Connection": "close"}) from None
        self._over = not message.get("more_body", False)
        self._size += len(message.get("body", b""))
        if self._size > self._most:
            raise await self._too_large()
        return message

    async def _too_large(self) -> HTTPException:
        """The rest is read off first: a connection closed on what is coming takes the answer with it."""
        with suppress(TimeoutError):
            async with asyncio.timeout(LINGER_S):
                while not (self._over or self._waits):
                    self._over = not (await self._receive()).get("more_body", False)
        return HTTPException(
            413, f"the request's body is larger than {self._most} bytes (MAX_BODY_BYTES): send less"
        )
