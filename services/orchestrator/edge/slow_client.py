"""A client who opens a connection and then sends its head a byte at a time, or never, is let go."""

import asyncio
import json
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from services.orchestrator.edge.disclosure import HEADER, HEADER_VALUE

HEAD_S = 15.0  # for the head of a request; idle connections between requests are uvicorn's own matter

_ERROR = json.dumps(
    {
        "error": {
            "message": f"the head of the request did not come within {HEAD_S:g} s: send it again",
            "type": "invalid_request_error",
            "param": None,
            "code": None,
        }
    }
).encode()
_ANSWER = (
    b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Type: application/json\r\n"
    + f"{HEADER}: {HEADER_VALUE}\r\nContent-Length: {len(_ERROR)}\r\n\r\n".encode()
    + _ERROR
)


class SlowClientProtocol(HttpToolsProtocol):
    """uvicorn's protocol, which itself waits for a head for ever."""

    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._wait_for_head()

    def data_received(self, data: bytes) -> None:
        if self._timer is None and (self.cycle is None or self.cycle.response_complete):
            self._wait_for_head()
        super().data_received(data)

    def on_headers_complete(self) -> None:
        self._has_head()
        super().on_headers_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        self._has_head()
        super().connection_lost(exc)

    def _wait_for_head(self) -> None:
        self._timer = self.loop.call_later(HEAD_S, self._let_go)

    def _has_head(self) -> None:
        if self._timer:
            self._timer.cancel()
            self._timer = None

    def _let_go(self) -> None:
        self._timer = None
        if not self.transport.is_closing():
            self.transport.write(_ANSWER)
            self.transport.close()
