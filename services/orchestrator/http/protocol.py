"""The HTTP connection: read no faster than it is answered, and closed when its client is slow or broken.

What a client may occupy in this process is bounded before its key is known: MAX_UNREAD_BYTES and one read of
the socket wait for the parser; MAX_HEAD_BYTES of a head or of trailers are parsed, and one SLICE_BYTES of
pipelined requests. Beyond that, reading pauses, and TCP makes the client wait.

HttpToolsProtocol is private to uvicorn and may change in any release: pyproject.toml pins the version.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from services.orchestrator.http.admission import AdmissionQueue
from services.orchestrator.http.cors import Origins
from services.orchestrator.http.disclosure import served_disclosure
from services.orchestrator.http.errors import raw_error

log = logging.getLogger("ada.orchestrator")
MAX_HEAD_BYTES = 64 << 10
MAX_UNREAD_BYTES = 64 << 10  # reading pauses beyond
SLICE_BYTES = 8 << 10  # passed to the parser at a time
MAX_DISCARDED_BYTES = 4 << 20  # of a body whose request is answered already


@dataclass(frozen=True)
class ConnectionLimits:
    """Seconds that a connection may wait for its client.

    `head_s`: for the head of a request; uvicorn limits the idle time between requests. `discard_s`: for the
    rest of a body whose request is answered already. `send_timeout_s`: until it reads more of an answer.
    """

    head_s: float = 15.0
    discard_s: float = 5.0
    send_timeout_s: float = 30.0


class _Flow(FlowControl):
    """uvicorn's flow control, which here stops the parser; the protocol alone stops the transport."""

    def __init__(self, transport: asyncio.Transport, on_resume: Callable[[], None]) -> None:
        super().__init__(transport)
        self._on_resume = on_resume

    def pause_reading(self) -> None:
        self.read_paused = True

    def resume_reading(self) -> None:
        if self.read_paused:
            self.read_paused = False
            self._on_resume()


class HeaderTimeoutProtocol(HttpToolsProtocol):
    """uvicorn's protocol with limits: uvicorn itself queues whatever arrives, and waits forever for clients.

    What arrives is parsed when the admission queue gives it a turn.
    """

    def __init__(
        self,
        *args: Any,
        admission: AdmissionQueue,
        origins: Origins,
        limits: ConnectionLimits,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self._admission = admission
        self._origins = origins
        self._limits = limits
        self._unread: deque[bytes | memoryview] = deque()
        self._unread_bytes = 0
        self._is_queued = False  # for admission
        self._running: Any = None  # the cycle that is answered now; uvicorn keeps the newest one only
        self._in_head = self._in_body = False  # of the request that is parsed
        self._slice_bytes = 0  # that the parser has now
        self._unfinished_bytes = 0  # parsed since the parser made progress
        self._has_body = False  # some of the body has arrived
        self._discarded_bytes = 0
        self._timer: asyncio.TimerHandle | None = None
        self._send_timer: asyncio.TimerHandle | None = None
        self._refusal = b""  # once it is set, nothing more is parsed

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self.flow = _Flow(transport, self._proceed_soon)
        self._wait_for_head()

    def data_received(self, data: bytes) -> None:
        if self._refusal:
            self._discard(len(data))
            return
        self._unread.append(data)
        self._unread_bytes += len(data)
        self._proceed()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        self._stop_send_timer()
        self._unread.clear()
        for cycle in [self._running, *(waiting for waiting, _ in self.pipeline)]:
            _disconnect(cycle)
        self.pipeline.clear()
        super().connection_lost(exc)
        # No reference cycle may remain: full collections are rare here (app.py), closed connections are not.
        self.flow = FlowControl(self.transport)
        self.cycle = self._running = None  # type: ignore[assignment]

    # --- reading -----------------------------------------------------------------------------------

    def _proceed(self) -> None:
        """Queue what is unread for admission, and pause the transport when too much is."""
        if self._unread and not self._is_queued and not self._is_blocked():
            self._is_queued = True
            if self._in_body and not self._is_answering():
                self._read()  # the rest of a body that is answered already starts no work
            else:
                self._admission.submit(self.loop, self._read)
        if self._unread_bytes > MAX_UNREAD_BYTES:
            self.transport.pause_reading()
        else:
            self.transport.resume_reading()

    def _proceed_soon(self) -> None:
        self.loop.call_soon(self._proceed)

    def _is_blocked(self) -> bool:
        """Whether an answer, or the application that reads a body, has to come first."""
        return bool(self.pipeline or self.flow.read_paused or self._refusal or self.transport.is_closing())

    def _read(self) -> None:
        while self._unread and not self._is_blocked():
            data = self._next_slice()
            self._slice_bytes = len(data)
            self._unfinished_bytes += self._slice_bytes
            super().data_received(data)  # type: ignore[arg-type]  # the parser takes any buffer
            if self._unfinished_bytes > MAX_HEAD_BYTES:
                reason = f"the head of the request is larger than {MAX_HEAD_BYTES} bytes: send less"
                self._refuse("431 Request Header Fields Too Large", reason)
        self._is_queued = False
        if self._unfinished_bytes and not (
            self._in_body or self._is_answering() or self.transport.is_closing()
        ):
            self._wait_for_head()
        self._proceed()

    def _next_slice(self) -> bytes | memoryview:
        data = self._unread.popleft()
        if len(data) > SLICE_BYTES:
            view = memoryview(data)
            self._unread.appendleft(view[SLICE_BYTES:])
            data = view[:SLICE_BYTES]
        self._unread_bytes -= len(data)
        return data

    def _discard(self, size: int) -> None:
        """Read the rest, up to a limit: a client that is refused while it sends may miss the refusal."""
        self._discarded_bytes += size
        if self._discarded_bytes > MAX_DISCARDED_BYTES:
            self.transport.close()

    # --- the parser's callbacks --------------------------------------------------------------------

    def on_message_begin(self) -> None:
        self._in_head, self._unfinished_bytes = True, self._slice_bytes
        self._unset_keepalive_if_required()
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._in_head:  # after a body these are trailers, which nobody reads here
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._stop_timer()
        self._in_head, self._in_body, self._has_body = False, True, False
        self._unfinished_bytes = self._discarded_bytes = 0
        if self.transport.is_closing():
            return
        super().on_headers_complete()
        if self.parser.should_upgrade() and self._get_upgrade() == b"websocket":
            self.cycle.keep_alive = False  # it is refused, and what follows would not be HTTP
        if self.pipeline:  # the parser waits by itself; reading goes on, to notice a disconnect
            self.flow.read_paused = False

    def on_body(self, body: bytes) -> None:
        self._unfinished_bytes, self._has_body = 0, True
        super().on_body(body)
        if self.cycle.response_complete:
            self._discard(len(body))

    def on_message_complete(self) -> None:
        self._in_body, self._unfinished_bytes = False, 0
        super().on_message_complete()
        if self.cycle.response_complete and not self.transport.is_closing():
            self._stop_timer()
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )

    def _unsupported_upgrade_warning(self) -> None:
        """A request to upgrade is answered as HTTP/1.1; KeyMiddleware refuses WebSockets with an error."""

    # --- answers -----------------------------------------------------------------------------------

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:
        self._running = cycle
        super()._start_asgi_task(cycle, app)

    def _is_answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.transport.is_closing():
            return
        if not self._is_answering():
            if self._refusal:
                self._send_refusal()
            elif self._in_body:
                self._wait_for_rest()
            elif self._in_head:
                self._wait_for_head()
        if not self._refusal:
            self._proceed()

    def _wait_for_rest(self) -> None:
        """The answer was complete before the body: what is left of the body is not another request."""
        if self.expect_100_continue and not self._has_body:
            self.transport.close()  # the client need not send it, and may send anything next
        else:
            self._timer = self.loop.call_later(self._limits.discard_s, self.transport.close)

    def send_400_response(self, msg: str) -> None:
        """uvicorn's answer to bytes that are not HTTP, in the shape of every error here."""
        self._refuse("400 Bad Request", f"this is not an HTTP/1.1 request: {msg}")

    def _refuse(self, status: str, reason: str) -> None:
        """Parse nothing more, and answer in the application's stead, after all earlier requests."""
        self._stop_timer()
        if self.transport.is_closing() or self._refusal:
            return
        self._unread.clear()
        self._unread_bytes = 0
        cors = self._origins.headers(self.headers or ())
        self._refusal = raw_error(status, reason, (*served_disclosure(self.config.app).headers, *cors))
        if self._in_body and self._abandon_cycle():
            return
        if self._is_answering():
            self.transport.pause_reading()
        else:
            self._send_refusal()

    def _abandon_cycle(self) -> bool:
        """Give up the request whose body is broken; returns whether its own answer has begun."""
        cycle = self.cycle
        if cycle.response_complete:
            self.transport.close()
        elif cycle.response_started:
            cycle.keep_alive = False
        elif self.pipeline:
            self.pipeline.popleft()
            self.cycle = self.pipeline[0][0] if self.pipeline else self._running
        else:
            _disconnect(cycle)
            cycle.response_complete = True
        return bool(cycle.response_started)

    def _send_refusal(self) -> None:
        self.transport.write(self._refusal)
        self.transport.write_eof()
        self.transport.resume_reading()
        self._timer = self.loop.call_later(self._limits.discard_s, self.transport.close)

    # --- timers ------------------------------------------------------------------------------------

    def _wait_for_head(self) -> None:
        if self._timer is None:
            seconds = self._limits.head_s
            reason = f"the head of the request did not arrive within {seconds:g} s: send it again"
            self._timer = self.loop.call_later(seconds, self._refuse, "408 Request Timeout", reason)

    def _stop_timer(self) -> None:
        if self._timer:
            self._timer.cancel()
            self._timer = None

    def pause_writing(self) -> None:
        """The transport's buffer is full; the client must read within `send_timeout_s`."""
        super().pause_writing()
        self._send_timer = self.loop.call_later(self._limits.send_timeout_s, self._abort)

    def resume_writing(self) -> None:
        self._stop_send_timer()
        super().resume_writing()

    def _abort(self) -> None:
        """Free the slot at vLLM. `close` instead would wait for the client to read the buffer."""
        seconds = self._limits.send_timeout_s
        log.info("a client read nothing of its answer for %g s: its connection is closed", seconds)
        self.transport.abort()

    def _stop_send_timer(self) -> None:
        if self._send_timer:
            self._send_timer.cancel()
            self._send_timer = None


def _disconnect(cycle: Any) -> None:
    """Let the application know that nobody waits for its answer."""
    if cycle and not cycle.response_complete:
        cycle.disconnected = True
        cycle.message_event.set()
