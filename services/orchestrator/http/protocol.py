"""A connection: read no faster than it is answered, and let go when its client is slow, endless or broken.

What a client may have in this process is bounded before its key is known: UNREAD_BYTES and one read of the
socket wait for the parser, HEAD_BYTES of a head or of trailers are parsed, and one SLICE_BYTES of requests
that are sent behind another one. Beyond that reading pauses, and TCP makes the client wait.
"""

import asyncio
import json
import uuid
from collections import deque
from collections.abc import Callable
from typing import Any

from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from services.orchestrator.http.admission import AdmissionQueue
from services.orchestrator.http.cors import Origins
from services.orchestrator.http.disclosure import disclosure_of

HEAD_S = 15.0  # for the head of a request; idle connections between requests are uvicorn's own matter
HEAD_BYTES = 64 << 10
UNREAD_BYTES = 64 << 10  # reading pauses beyond
SLICE_BYTES = 8 << 10  # given to the parser at a time
REST_S, REST_BYTES = 5.0, 4 << 20  # of a body that is answered already, until the connection is closed


class _Flow(FlowControl):
    """uvicorn's wish to pause, which stops the parser; the protocol alone stops the transport."""

    def __init__(self, transport: asyncio.Transport, resumed: Callable[[], None]) -> None:
        super().__init__(transport)
        self._resumed = resumed

    def pause_reading(self) -> None:
        self.read_paused = True

    def resume_reading(self) -> None:
        if self.read_paused:
            self.read_paused = False
            self._resumed()


class HeaderTimeoutProtocol(HttpToolsProtocol):
    """uvicorn's protocol, which itself queues whatever comes and waits for a head for ever.

    What comes is read when it is its turn.
    """

    def __init__(self, *args: Any, turnstile: AdmissionQueue, origins: Origins, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._turnstile = turnstile
        self._origins = origins
        self._unread: deque[bytes | memoryview] = deque()
        self._unread_bytes = 0
        self._has_turn = False  # in the turnstile
        self._running: Any = None  # the request whose answer is made; uvicorn keeps the newest alone
        self._in_head = self._in_body = False  # of the request that is parsed
        self._slice = 0  # bytes that the parser has now
        self._size = 0  # bytes parsed since the parser came further: of a head, of trailers, of nothing
        self._has_body = False  # some of it has come
        self._rest = 0  # bytes that are read for nothing
        self._timer: asyncio.TimerHandle | None = None
        self._refusal = b""  # from here on nothing is read

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self.flow = _Flow(transport, self._proceed_soon)
        self._wait_for_head()

    def data_received(self, data: bytes) -> None:
        if self._refusal:
            self._throw_away(len(data))
            return
        self._unread.append(data)
        self._unread_bytes += len(data)
        self._proceed()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        self._unread.clear()
        for cycle in [self._running, *(waiting for waiting, _ in self.pipeline)]:
            _disconnect(cycle)
        self.pipeline.clear()
        super().connection_lost(exc)
        # No reference cycle may be left: full collections are rare here (app.py), closed connections are not.
        self.flow = FlowControl(self.transport)
        self.cycle = self._running = None  # type: ignore[assignment]

    # --- reading -----------------------------------------------------------------------------------

    def _proceed(self) -> None:
        """Have what waits read in its turn; meanwhile no more than so much may come."""
        if self._unread and not self._has_turn and not self._is_blocked():
            self._has_turn = True
            if self._in_body and not self._is_answering():
                self._read()  # the rest of a body that is answered already begins nothing
            else:
                self._turnstile.enter(self.loop, self._read)
        if self._unread_bytes > UNREAD_BYTES:
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
            piece = self._next_slice()
            self._slice = len(piece)
            self._size += self._slice
            super().data_received(piece)  # type: ignore[arg-type]  # the parser takes any buffer
            if self._size > HEAD_BYTES:
                what = f"the head of the request is larger than {HEAD_BYTES} bytes: send less"
                self._refuse("431 Request Header Fields Too Large", what)
        self._has_turn = False
        if self._size and not (self._in_body or self._is_answering() or self.transport.is_closing()):
            self._wait_for_head()
        self._proceed()

    def _next_slice(self) -> bytes | memoryview:
        piece = self._unread.popleft()
        if len(piece) > SLICE_BYTES:
            view = memoryview(piece)
            self._unread.appendleft(view[SLICE_BYTES:])
            piece = view[:SLICE_BYTES]
        self._unread_bytes -= len(piece)
        return piece

    def _throw_away(self, size: int) -> None:
        """Who hears a refusal while it still sends may miss it, so the rest is read, up to a limit."""
        self._rest += size
        if self._rest > REST_BYTES:
            self.transport.close()

    # --- what the parser finds ---------------------------------------------------------------------

    def on_message_begin(self) -> None:
        self._in_head, self._size = True, self._slice
        self._unset_keepalive_if_required()
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._in_head:  # what comes behind a body is a trailer, which nobody reads here
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._stop_timer()
        self._in_head, self._in_body, self._has_body = False, True, False
        self._size = self._rest = 0
        if self.transport.is_closing():
            return
        super().on_headers_complete()
        if self.parser.should_upgrade() and self._get_upgrade() == b"websocket":
            self.cycle.keep_alive = False  # it is refused, and what comes behind it would be no HTTP
        if self.pipeline:  # the parser waits by itself; reading goes on, to hear the client go away
            self.flow.read_paused = False

    def on_body(self, body: bytes) -> None:
        self._size, self._has_body = 0, True
        super().on_body(body)
        if self.cycle.response_complete:
            self._throw_away(len(body))

    def on_message_complete(self) -> None:
        self._in_body, self._size = False, 0
        super().on_message_complete()
        if self.cycle.response_complete and not self.transport.is_closing():
            self._stop_timer()
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )

    def _unsupported_upgrade_warning(self) -> None:
        """A request that would like another protocol is answered in this one; KeyMiddleware says so."""

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
                self._hang_up()
            elif self._in_body:
                self._await_rest()
            elif self._in_head:
                self._wait_for_head()
        if not self._refusal:
            self._proceed()

    def _await_rest(self) -> None:
        """An answer was given before the body was over: what is left of it is no other request."""
        if self.expect_100_continue and not self._has_body:
            self.transport.close()  # the client need not send it, and may go on with anything
        else:
            self._timer = self.loop.call_later(REST_S, self.transport.close)

    def send_400_response(self, msg: str) -> None:
        """uvicorn's answer to what is no HTTP, in the shape that all errors have here."""
        self._refuse("400 Bad Request", f"this is no HTTP/1.1 request: {msg}")

    def _refuse(self, status: str, why: str) -> None:
        """Read nothing more, and answer in the application's place, after all earlier requests."""
        self._stop_timer()
        if self.transport.is_closing() or self._refusal:
            return
        self._unread.clear()
        self._unread_bytes = 0
        self._refusal = _answer(
            status, why, *disclosure_of(self.config.app).headers, *self._origins.headers(self.headers or ())
        )
        if self._in_body and self._leave_broken():
            return
        if self._is_answering():
            self.transport.pause_reading()
        else:
            self._hang_up()

    def _leave_broken(self) -> bool:
        """Give up the request whose body is broken; returns whether an answer of its own has begun."""
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

    def _hang_up(self) -> None:
        self.transport.write(self._refusal)
        self.transport.write_eof()
        self.transport.resume_reading()
        self._timer = self.loop.call_later(REST_S, self.transport.close)

    # --- time --------------------------------------------------------------------------------------

    def _wait_for_head(self) -> None:
        if self._timer is None:
            what = f"the head of the request did not come within {HEAD_S:g} s: send it again"
            self._timer = self.loop.call_later(HEAD_S, self._refuse, "408 Request Timeout", what)

    def _stop_timer(self) -> None:
        if self._timer:
            self._timer.cancel()
            self._timer = None


def _disconnect(cycle: Any) -> None:
    """Tell an application that nobody waits for its answer."""
    if cycle and not cycle.response_complete:
        cycle.disconnected = True
        cycle.message_event.set()


def _answer(status: str, why: str, *headers: tuple[bytes, bytes]) -> bytes:
    """There is no request yet, and so no application that could answer."""
    error = {"message": why, "type": "invalid_request_error", "param": None, "code": None}
    body = json.dumps({"error": error}).encode()
    own = [
        (b"connection", b"close"),
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        (b"x-request-id", f"req-{uuid.uuid4().hex}".encode()),
    ]
    lines = [b"%b: %b" % header for header in (*own, *headers)]
    return b"\r\n".join([f"HTTP/1.1 {status}".encode(), *lines, b"", body])
