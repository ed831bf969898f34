"""A file line by line, as text, without ever holding a line that is longer than a limit."""

import io
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, BinaryIO, Generic, Protocol, TypeVar, cast

Value = TypeVar("Value")
_PIECE = 1 << 16  # bytes read at a time where a line may end in several ways


@dataclass(frozen=True)
class Limit:
    """The largest size of a line or row, and the reason to reject a longer one."""

    size: int
    reason: str


@dataclass(frozen=True)
class Line:
    """A line with its end, as it is in the file; `flaw` says why its text can't be read."""

    number: int
    text: str
    flaw: str = ""


@dataclass(frozen=True)
class Row(Generic[Value]):
    """A row's value and the line where it begins, counted from 1; or, with a flaw, why there is no value.

    `rest_lost`: rows after this one in its line, if there are any, could not be told from it.
    """

    line: int
    value: Value | None
    flaw: str = ""
    rest_lost: bool = False


class ByteLines(Protocol):
    """A file of which lines can be read."""

    def readline(self, size: int, /) -> bytes:
        """The next line, or at most so many bytes of it; empty at the end."""


class LineEnd(StrEnum):
    """What ends the lines of a file; old Macs, and Excel for Mac, write a carriage return alone."""

    FEED = "\n"
    RETURN = "\r"


def line_end(file: BinaryIO, limit: Limit, *, is_table: bool) -> LineEnd:
    """Find out what ends the lines of a seekable file; its position stays.

    A table may have line feeds within its cells, so the end of its head decides. Elsewhere carriage returns
    end lines where there is no line feed at all.
    """
    offset = file.tell()
    start = file.read(limit.size)
    file.seek(offset)
    if is_table:
        head = start.partition(b"\n")[0]
        return LineEnd.RETURN if b"\r" in head.removesuffix(b"\r") else LineEnd.FEED
    return LineEnd.RETURN if b"\r" in start and b"\n" not in start else LineEnd.FEED


def returns_as_feeds(file: BinaryIO) -> BinaryIO:
    """A file whose lines end with carriage returns, as one whose lines end with line feeds.

    Its line feeds become carriage returns: a cell of a table may have one.
    """
    return cast(BinaryIO, io.BufferedReader(_Swapped(file)))


class _Swapped(io.RawIOBase):
    """A file with line feeds and carriage returns exchanged."""

    _SWAP = bytes.maketrans(b"\r\n", b"\n\r")

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def readable(self) -> bool:
        """Always: as io.RawIOBase requires it."""
        return True

    def readinto(self, into: Any) -> int:
        """Read some of the file, exchanged."""
        piece = self._file.read(len(into))
        into[: len(piece)] = piece.translate(self._SWAP)
        return len(piece)


class AnyLineEnd:
    """A file whose lines end with a line feed, a carriage return or both."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._ahead: deque[bytes] = deque()  # lines already read; the last may be incomplete

    def readline(self, size: int, /) -> bytes:
        """The next line, or at least so many bytes of it."""
        parts, length = [], 0
        while length < size and (part := self._next()):
            parts.append(part)
            length += len(part)
            if part.endswith(b"\r") and (following := self._next()):
                parts.append(following) if following == b"\n" else self._ahead.appendleft(following)
            if part.endswith((b"\n", b"\r")):
                break
        return b"".join(parts)

    def _next(self) -> bytes:
        if not self._ahead:
            self._ahead.extend(self._file.readline(_PIECE).splitlines(keepends=True))
        return self._ahead.popleft() if self._ahead else b""


def read_lines(file: ByteLines, limit: Limit, *, with_flawed_text: bool = False) -> Iterator[Line]:
    """Yield every line of a file in UTF-8; a line of `limit.size` bytes or more has a flaw and no text.

    The text of a line that is not UTF-8 is empty or, with `with_flawed_text`, decoded by surrogateescape.
    """
    number = 0
    while raw := file.readline(limit.size):
        number += 1
        if len(raw) >= limit.size and not raw.endswith((b"\n", b"\r")):
            _skip_line(file, limit)
            yield Line(number, "", limit.reason)
            continue
        try:
            yield Line(number, raw.decode())
        except UnicodeDecodeError as error:
            text = raw.decode(errors="surrogateescape") if with_flawed_text else ""
            yield Line(number, text, not_utf8(error.start))


def not_utf8(offset: int) -> str:
    """The reason to reject a row of which the byte at this offset is not UTF-8."""
    return f"it is not UTF-8 (byte {offset + 1} of it): save the file as UTF-8"


def _skip_line(file: ByteLines, limit: Limit) -> None:
    while raw := file.readline(limit.size):
        if raw.endswith((b"\n", b"\r")):
            return
