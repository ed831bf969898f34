"""A file line by line, as text, without ever holding a line that is too long to be an entry."""

import codecs
import io
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, BinaryIO

from services.diary.transfer.row import LONGEST, TOO_LONG
from services.errors import EntryRejected

_OTHER_MARKS = {
    codecs.BOM_UTF32_LE: "UTF-32",
    codecs.BOM_UTF32_BE: "UTF-32",
    codecs.BOM_UTF16_LE: "UTF-16",
    codecs.BOM_UTF16_BE: "UTF-16",
}


@dataclass(frozen=True)
class Line:
    """A line with its end, as it stands in the file; `flaw` says why its text can't be read."""

    number: int
    text: str
    flaw: str = ""


def open_text(file: BinaryIO) -> None:
    """Go to where the text of a seekable file begins, behind a byte order mark.

    Raises EntryRejected when the file is empty, or marked as something else than UTF-8.
    """
    start = file.read(4)
    if not start:
        raise EntryRejected("the file is empty", "file")
    for mark, name in _OTHER_MARKS.items():
        if start.startswith(mark):
            raise EntryRejected(f"the file is {name}: save it as UTF-8", "file")
    file.seek(len(codecs.BOM_UTF8) if start.startswith(codecs.BOM_UTF8) else 0)


class LineEnd(StrEnum):
    """What ends the lines of a file; Macs of old, and Excel for them, write a carriage return alone."""

    FEED = "\n"
    RETURN = "\r"


def line_end(file: BinaryIO, is_table: bool) -> LineEnd:
    """What ends the lines of a seekable file, which is read on where it was.

    A table may have line feeds within its cells: there the end of the head decides. Elsewhere carriage
    returns end lines where there is no line feed at all.
    """
    place = file.tell()
    start = file.read(LONGEST)
    file.seek(place)
    if is_table:
        head = start.partition(b"\n")[0]
        return LineEnd.RETURN if b"\r" in head.removesuffix(b"\r") else LineEnd.FEED
    return LineEnd.RETURN if b"\r" in start and b"\n" not in start else LineEnd.FEED


class FromReturns(io.RawIOBase):
    """A file whose lines end with carriage returns, as one whose lines end with line feeds.

    What is a line feed there is a carriage return here: a cell of a table may have one.
    """

    _SWAPPED = bytes.maketrans(b"\r\n", b"\n\r")

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def readable(self) -> bool:
        """As a reader has to say."""
        return True

    def readinto(self, into: Any) -> int:
        """Some of the file, exchanged."""
        piece = self._file.read(len(into))
        into[: len(piece)] = piece.translate(self._SWAPPED)
        return len(piece)


def lines(file: BinaryIO) -> Iterator[Line]:
    """Every line; only a line feed ends one."""
    number = 0
    while piece := file.readline(LONGEST):
        number += 1
        if len(piece) == LONGEST and not piece.endswith(b"\n"):
            _pass_line(file)
            yield Line(number, "", TOO_LONG)
            continue
        try:
            yield Line(number, piece.decode("utf-8"))
        except UnicodeDecodeError as error:
            yield Line(number, "", not_utf8(error.start))


def not_utf8(byte: int) -> str:
    """The reason to refuse a row in which the byte at this place, counted from 0, is not UTF-8."""
    return f"it is not UTF-8 (byte {byte + 1} of it): save the file as UTF-8"


def _pass_line(file: BinaryIO) -> None:
    while piece := file.readline(LONGEST):
        if piece.endswith(b"\n"):
            return
