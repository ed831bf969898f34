"""Limits of a request's body: its size, and the time that it may take to arrive."""

import asyncio
import time
from contextlib import suppress
from dataclasses import dataclass

from fastapi import HTTPException
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

UPLOAD_PATHS = frozenset({"/v1/diary/import"})  # read piece by piece, with limits of their own


@dataclass(frozen=True)
class BodyLimits:
    """Bytes of a body; seconds between two pieces, for the whole, and to drain one that is too large."""

    max_bytes: int = 4 << 20
    silence_s: float = 30.0
    total_s: float = 120.0
    drain_s: float = 5.0


DEFAULT_LIMITS = BodyLimits()


class BodyMiddleware:
    """Refuses a body that is too large with 413, and one that does not arrive with 408."""

    def __init__(self, app: ASGIApp, limits: BodyLimits) -> None:
        self._app = app
        self._limits = limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] not in UPLOAD_PATHS:
            receive = _LimitedBody(receive, Headers(scope=scope), self._limits).receive
        await self._app(scope, receive, send)


class _LimitedBody:
    """Raises where the body is read: inside the routes, where errors get their shape."""

    def __init__(self, receive: Receive, headers: Headers, limits: BodyLimits) -> None:
        self._receive = receive
        self._limits = limits
        self._content_length = int(headers.get("content-length", 0))
        self._expects_continue = "expect" in headers  # the client sends nothing before it is told to
        self._deadline = time.monotonic() + limits.total_s
        self._size = 0
        self._is_complete = False

    async def receive(self) -> Message:
        if self._is_complete:  # the next message can only be a disconnect
            return await self._receive()
        if self._content_length > self._limits.max_bytes:
            raise await self._too_large()
        try:
            async with asyncio.timeout(min(self._limits.silence_s, self._deadline - time.monotonic())):
                message = await self._receive()
        except TimeoutError:
            reason = "the request's body did not arrive in time: send it again"
            raise HTTPException(408, reason, {"Connection": "close"}) from None
        self._is_complete = not message.get("more_body", False)
        self._size += len(message.get("body", b""))
        if self._size > self._limits.max_bytes:
            raise await self._too_large()
        return message

    async def _too_large(self) -> HTTPException:
        """Reads the rest first: a connection that is closed while data arrives loses the answer with it."""
        with suppress(TimeoutError):
            async with asyncio.timeout(self._limits.drain_s):
                while not (self._is_complete or self._expects_continue):
                    self._is_complete = not (await self._receive()).get("more_body", False)
        return HTTPException(
            413,
            f"the request's body is larger than {self._limits.max_bytes} bytes (MAX_BODY_BYTES): send less",
        )
