"""A client who sends the head of a request a byte at a time, without an end, or broken, is let go."""

import asyncio
import json
from functools import partial
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from services.orchestrator.edge.disclosure import HEADER, disclosure_of
from services.orchestrator.edge.turnstile import Turnstile

HEAD_S = 15.0  # for the head of a request; idle connections between requests are uvicorn's own matter
HEAD_BYTES = 64 << 10


class SlowClientProtocol(HttpToolsProtocol):
    """uvicorn's protocol, which itself waits for a head for ever, and keeps what has come of it.

    What comes is read when it is its turn.
    """

    _timer: asyncio.TimerHandle | None = None
    _size = 0  # bytes of the head that is on its way

    def __init__(self, *args: Any, turnstile: Turnstile, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._turnstile = turnstile

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._wait_for_head()

    def data_received(self, data: bytes) -> None:
        self._turnstile.enter(self.loop, partial(self._read, data))

    def _read(self, data: bytes) -> None:
        if self.transport.is_closing():
            return
        if self._timer is None and (self.cycle is None or self.cycle.response_complete):
            self._wait_for_head()
        super().data_received(data)
        if self._timer:
            self._size += len(data)
            if self._size > HEAD_BYTES:
                what = f"the head of the request is larger than {HEAD_BYTES} bytes: send less"
                self._let_go("431 Request Header Fields Too Large", what)

    def on_headers_complete(self) -> None:
        self._has_head()
        super().on_headers_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        self._has_head()
        super().connection_lost(exc)

    def send_400_response(self, msg: str) -> None:
        """uvicorn's answer to what is no HTTP, in the shape that all errors have here."""
        self._let_go("400 Bad Request", f"this is no HTTP/1.1 request: {msg}")

    def _wait_for_head(self) -> None:
        what = f"the head of the request did not come within {HEAD_S:g} s: send it again"
        self._timer = self.loop.call_later(HEAD_S, self._let_go, "408 Request Timeout", what)

    def _has_head(self) -> None:
        self._size = 0
        if self._timer:
            self._timer.cancel()
            self._timer = None

    def _let_go(self, status: str, why: str) -> None:
        self._has_head()
        if not self.transport.is_closing():
            self.transport.write(_answer(status, why, disclosure_of(self.config.app).header))
            self.transport.close()


def _answer(status: str, why: str, disclosure: str) -> bytes:
    """There is no request yet, and so no application that could answer."""
    error = {"message": why, "type": "invalid_request_error", "param": None, "code": None}
    body = json.dumps({"error": error}).encode()
    head = (
        f"HTTP/1.1 {status}\r\nConnection: close\r\nContent-Type: application/json\r\n"
        f"{HEADER}: {disclosure}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body
