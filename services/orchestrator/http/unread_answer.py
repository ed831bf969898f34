"""A client who does not take its answer is let go, so that its place at the model is free again."""

import asyncio
import logging
from typing import Any

from services.orchestrator.http.protocol import HeaderTimeoutProtocol

log = logging.getLogger("ada.orchestrator")


class UnreadAnswerProtocol(HeaderTimeoutProtocol):
    """uvicorn waits for ever until a client has room for more; here it is `send_timeout_s` each time.

    The connection is then cut and not closed: what is written already would be waited for, too.
    """

    _send_timer: asyncio.TimerHandle | None = None

    def __init__(self, *args: Any, send_timeout_s: float, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._send_timeout_s = send_timeout_s

    def pause_writing(self) -> None:
        """The transport's buffer is full."""
        super().pause_writing()
        self._send_timer = self.loop.call_later(self._send_timeout_s, self._cut)

    def resume_writing(self) -> None:
        """The client has taken what was waiting."""
        self._stop_send_timer()
        super().resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_send_timer()
        super().connection_lost(exc)

    def _cut(self) -> None:
        log.info("a client did not take its answer within %g s and is let go", self._send_timeout_s)
        self.transport.abort()

    def _stop_send_timer(self) -> None:
        if self._send_timer:
            self._send_timer.cancel()
            self._send_timer = None
