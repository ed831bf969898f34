"""Reads server-sent events as the HTML standard defines them, with a limit on the size of each.

Own code, and no library: the bytes of an event are passed on as they came, which no reader in the lock
offers.
"""

import asyncio
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Self

from services.errors import ModelFaulty

DATA, END = b"data: ", b"\n\n"
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
RawEvent = tuple[bytes, bytes]  # the event's name, empty without one, and its data


async def read_events(pieces: AsyncIterator[bytes], max_bytes: int) -> AsyncIterator[RawEvent]:
    """The events that have data. Comments, ids and unknown fields are skipped, as the standard demands.

    Raises ModelFaulty for an event of more than `max_bytes`.
    """
    line_ends, buffer, at_start = _LineEnds(), bytearray(), True
    async for piece in pieces:
        if not buffer and not line_ends.after_cr and _is_one_event(piece):
            at_start = False
            yield b"", piece[len(DATA) : -len(END)]
            continue
        searched = max(0, len(buffer) - 1)  # the end may begin with the last byte searched before
        buffer += line_ends.normalized(piece)
        if at_start and len(buffer) >= len(_BYTE_ORDER_MARK):
            at_start = False
            if buffer.startswith(_BYTE_ORDER_MARK):
                del buffer[: len(_BYTE_ORDER_MARK)]
        start = 0
        while (end := buffer.find(END, max(start, searched))) >= 0:
            block = bytes(buffer[start:end])
            start = end + len(END)
            if event := _event(block):
                yield event
        del buffer[:start]
        if len(buffer) > max_bytes:
            raise ModelFaulty(f"an event of the model server's stream is larger than {max_bytes} bytes")


def _is_one_event(piece: bytes) -> bool:
    """Whether a piece is one event with one line of data: vLLM sends nearly all of them like that."""
    return piece.startswith(DATA) and piece.endswith(END) and piece.count(b"\n") == 2 and b"\r" not in piece


def _event(block: bytes) -> RawEvent | None:
    name, data = b"", []
    for line in block.split(b"\n"):
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if field == b"data":
            data.append(value)
        elif field == b"event":
            name = value
    return (name, b"\n".join(data)) if data else None


class _LineEnds:
    """Lines may end in LF, CRLF or CR, and the network may cut a CRLF in two."""

    after_cr = False

    def normalized(self, piece: bytes) -> bytes:
        """The piece with LF alone."""
        if not piece:
            return piece
        if self.after_cr:
            piece = piece.removeprefix(b"\n")
        self.after_cr = piece.endswith(b"\r")
        return piece.replace(b"\r\n", b"\n").replace(b"\r", b"\n") if b"\r" in piece else piece


class SilenceTimer:
    """Expires a timeout when `limit_s` seconds pass between `start` and `stop`.

    One timer looks at the clock once per limit. Rescheduling the timeout twice for each event instead cost 3
    of 10 µs per event.
    """

    def __init__(self, timeout: asyncio.Timeout, limit_s: float) -> None:
        self._timeout = timeout
        self._limit_s = limit_s
        self._started_at: float | None = None
        self._loop = asyncio.get_running_loop()

    def __enter__(self) -> Self:
        self._handle = self._loop.call_later(self._limit_s, self._check)
        return self

    def __exit__(
        self,
        _type: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        self._handle.cancel()

    def start(self) -> None:
        """Begin to wait for vLLM."""
        self._started_at = self._loop.time()

    def stop(self) -> None:
        """Stop waiting: vLLM has sent something."""
        self._started_at = None

    def _check(self) -> None:
        now = self._loop.time()
        remaining = self._limit_s - (now - self._started_at if self._started_at is not None else 0.0)
        if remaining > 0:
            self._handle = self._loop.call_later(remaining, self._check)
        elif not self._timeout.expired():
            self._timeout.reschedule(now)
