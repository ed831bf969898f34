"""A response of events: an error before the first byte keeps its status, a later one becomes an event."""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing, suppress
from typing import Any

from starlette.types import Receive, Scope, Send

from services.errors import AdaError, ModelUnavailable
from services.orchestrator.http.errors import describe, unforeseen
from services.orchestrator.http.later import Later
from services.orchestrator.vllm.event_reader import END

_NO_MORE = {"type": "http.response.body", "body": b"", "more_body": False}
_HEADERS = (
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),  # nginx passes pieces on as they come
)
COMMENT = b": still here" + END  # for proxies, which cut what is silent


class SseResponse:
    """Sends events as they come, and a comment when there was none for `keep_alive_s`."""

    def __init__(
        self,
        events: AsyncGenerator[bytes],
        failure: Callable[[dict[str, Any]], bytes],  # the end of a stream that went wrong
        keep_alive_s: float,
        headers: Mapping[str, str],
    ) -> None:
        self._events = events
        self._failure = failure
        self._keep_alive_s = keep_alive_s
        self._headers = headers
        self._sent_at = time.monotonic()
        self.begun = False
        self.cut = False  # by an error, when it had begun
        self._sending = asyncio.Lock()

    async def __call__(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        """Send everything; AdaError is raised only when nothing has been sent."""
        pulse = Later(self._keep_alive_s, lambda: self._pulse(send))
        try:
            async with aclosing(self._events):
                async for event in self._events:
                    await self._write(send, event)
        except AdaError as error:
            if not self.begun:
                raise
            self.cut = True
            await self._write(send, self._failure(describe(error)[1]))
        except Exception as error:  # a mistake of ours must not leave the client waiting either
            if not self.begun:
                raise
            self.cut = True
            await self._write(send, self._failure(unforeseen(error)))
        except asyncio.CancelledError:  # the client is gone, or Ada is ended and has waited long enough
            if self.begun:
                with suppress(Exception):
                    await self._write(send, self._failure(describe(ended())[1]))
                    await send(_NO_MORE)
            raise
        finally:
            pulse.cancel()
        await send(_NO_MORE)

    async def _pulse(self, send: Send) -> None:
        while True:
            silent_s = time.monotonic() - self._sent_at
            if silent_s >= self._keep_alive_s:
                await self._write(send, COMMENT)
            await asyncio.sleep(max(0.01, self._keep_alive_s - silent_s))

    async def _write(self, send: Send, data: bytes) -> None:
        async with self._sending:
            if not self.begun:
                self.begun = True
                more = [(name.encode(), value.encode()) for name, value in self._headers.items()]
                await send({"type": "http.response.start", "status": 200, "headers": [*_HEADERS, *more]})
            self._sent_at = time.monotonic()
            await send({"type": "http.response.body", "body": data, "more_body": True})


def ended() -> ModelUnavailable:
    """What is told of an answer that was cut because Ada herself is shut down."""
    return ModelUnavailable("Ada was ended in the middle of this answer: ask again")
