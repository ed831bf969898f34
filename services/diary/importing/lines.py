"""A file line by line, as text, without ever holding a line that is too long to be an entry."""

import codecs
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from services.diary.importing.row import LONGEST, TOO_LONG
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
