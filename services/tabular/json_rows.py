"""JSON Lines and JSON arrays, item by item, with the line where each begins.

An array is cut into its items by brackets and quotes alone, so that no more than one item is held and an item
that is not JSON costs no other. Where a quote or a bracket has no partner, the end of the item is unknown:
reading continues at the next line that begins as an item does. 20,000 conversations in 22 MiB take 1.8 s
of CPU time. Letting json's decoder find the ends took 1.0 s, but a broken item cost all that follow it in the
same line.
"""

import codecs
import json
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, BinaryIO

from services.tabular.lines import Limit, Line, Row, not_utf8

PIECE = 1 << 16  # bytes read at a time
TORN = "torn"  # the mark for a line end within a string: a quote was never closed, for JSON allows none
Decode = Callable[[str], Any]
_WIDEST = 1 << 10  # characters of an indent; a wider one counts as this
_OUTSIDE = re.compile(r'["\[\]{},\n]')
_IN_STRING = re.compile(r'\\[^\n]|["\n]')
_NO_CHARACTER = re.compile("[\udc80-\udcff]")  # what surrogateescape makes of bytes that are not UTF-8
_PAIRS = {"]": "[", "}": "{"}
_OPEN = "a bracket is not closed"
_CUT = "the file ends before the list does: it was cut, or a bracket is missing"
_BEHIND = "it stands behind the end of the list and was not read"


class NoArray(Exception):
    """The file holds no array, or nothing at all."""

    def __init__(self, *, is_blank: bool) -> None:
        super().__init__()
        self.is_blank = is_blank


def json_lines(lines: Iterable[Line], decode: Decode = json.loads) -> Iterator[Row[Any]]:
    """A row for every line that is not blank."""
    for line in lines:
        if line.flaw:
            yield Row(line.number, None, line.flaw)
        elif line.text.strip():
            yield _decoded(line.number, line.text.rstrip("\r\n"), decode)


def json_array(
    file: BinaryIO, limit: Limit, decode: Decode = json.loads, keys: tuple[str, ...] = ()
) -> Iterator[Row[Any]]:
    """A row for every item of an array, or of the array under one of `keys` in an object.

    `limit` is that of an item, in characters. Raises NoArray when there is none.
    """
    return _Array(file, limit, decode, keys).rows()


def marks(pieces: Iterable[str]) -> Iterator[tuple[str, str]]:
    """(text, mark) pairs that together are the pieces again.

    The mark is one of `[]{},`, a line end, TORN, or nothing where a piece ended. Strings hold no marks.
    """
    in_string, carry = False, ""
    for piece in pieces:
        text = carry + piece
        carry = "\\" if _ends_in_escape(text) else ""
        text = text[: len(text) - len(carry)]
        start = offset = 0
        while match := (_IN_STRING if in_string else _OUTSIDE).search(text, offset):
            mark, offset = match.group(), match.end()
            if mark == '"':
                in_string = not in_string
            elif not in_string or mark == "\n":
                yield text[start : match.start()], TORN if in_string else mark
                in_string, start = False, offset
        yield text[start:], ""
    yield carry, ""


def _ends_in_escape(text: str) -> bool:
    return (len(text) - len(text.rstrip("\\"))) % 2 == 1


def _decoded(line: int, text: str, decode: Decode) -> Row[Any]:
    if byte := _NO_CHARACTER.search(text):
        return Row(line, None, not_utf8(len(text[: byte.start()].encode())))
    try:
        return Row(line, decode(text))
    except json.JSONDecodeError as error:
        return Row(line, None, f"it is not JSON: {error.msg} (character {error.pos + 1} of it)")
    except (ValueError, RecursionError) as error:  # a number of thousands of digits; too many brackets
        return Row(line, None, f"it is not JSON that can be read: {error}")


def _pieces(file: BinaryIO) -> Iterator[str]:
    decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
    while raw := file.read(PIECE):
        yield decoder.decode(raw)
    yield decoder.decode(b"", final=True)


@dataclass
class _Item:
    """The item that is being read, and where it begins; line 0 as long as nothing of it has been read."""

    limit: int
    line: int = 0
    begins_line: bool = True
    indent: str = ""  # the blanks before it in its line
    size: int = 0
    parts: list[str] = field(default_factory=list)

    def add(self, text: str, line: int) -> None:
        if not self.line and not text.strip():
            self.indent = (self.indent + text)[:_WIDEST]
            return
        self.line = self.line or line
        self.size += len(text)
        if self.size <= self.limit:
            self.parts.append(text)
        else:
            self.parts.clear()

    @property
    def text(self) -> str:
        """All of it; empty where it is longer than the limit."""
        return "".join(self.parts)


class _Array:
    """Takes the text mark by mark and returns the items as they end."""

    def __init__(self, file: BinaryIO, limit: Limit, decode: Decode, keys: tuple[str, ...]) -> None:
        self._limit, self._decode = limit, decode
        self._key = re.compile(rf'"(?:{"|".join(keys)})"\s*:\s*$') if keys else None
        self._sources = [marks(self._counted(_pieces(file)))]  # the last is read first
        self._size = 0  # characters read from the file
        self._read_again = 0  # characters
        self._line = 1
        self._open: list[str] = []  # brackets
        self._home: list[str] = []  # those that are open where the items lie; empty until the list begins
        self._before = ""  # the last characters before the list
        self._ended = False  # the list
        self._torn: Row[Any] | None = None
        self._item = _Item(limit.size, begins_line=False)
        self._margin = 0  # the widest indent of an item

    def rows(self) -> Iterator[Row[Any]]:
        while (mark := self._next()) or self._tear_at_end():
            if mark and (row := self._take(*mark)):
                yield row
        if not self._home:
            raise NoArray(is_blank=not self._before.strip())
        if self._torn:
            yield self._last(self._torn)

    def _next(self) -> tuple[str, str] | None:
        while (mark := next(self._sources[-1], None)) is None and len(self._sources) > 1:
            self._sources.pop()
        return mark

    def _counted(self, pieces: Iterable[str]) -> Iterator[str]:
        for piece in pieces:
            self._size += len(piece)
            yield piece

    def _take(self, text: str, mark: str) -> Row[Any] | None:
        """The row that ends with this mark, or a broken one behind which reading continues."""
        if not self._home:
            self._take_before(text, mark)
            return None
        if self._ended and not self._open and (text.strip() or mark.strip()):
            self._ended, self._torn = False, Row(self._line, None, _BEHIND)
        self._item.add(text, self._line)
        if mark in ("\n", TORN):
            self._end_line(mark)
        elif mark and self._torn:
            return self._resume(mark)
        elif self._ended:
            self._bracket(mark)
        elif mark in (",", "]") and self._open == self._home:
            return self._end_item(mark)
        elif mark and not self._bracket(mark):
            self._tear(f"a bracket is missing in line {self._line}")
        return None

    def _take_before(self, text: str, mark: str) -> None:
        """Look for the beginning of the list. Raises NoArray where it can't begin any more."""
        if not self._open and (
            text.strip() or (mark.strip() and mark != "[" and not (mark == "{" and self._key))
        ):
            raise NoArray(is_blank=False)
        self._before = (self._before + (text if text.strip() else text[:1]))[-64:].lstrip("\n")
        begins = not self._open or (len(self._open) == 1 and self._key and self._key.search(self._before))
        self._line += mark in ("\n", TORN)
        self._before += mark if mark != TORN else "\n"
        if mark in ("[", "{"):
            self._open.append(mark)
        elif mark in ("]", "}"):
            self._open.pop()
        if mark == "[" and begins:
            self._home = self._open.copy()

    def _bracket(self, mark: str) -> bool:
        """Whether a mark within an item, or behind the list, fits to the bracket that is open."""
        self._item.add(mark, self._line)
        if mark in ("[", "{"):
            self._open.append(mark)
        elif mark in ("]", "}"):
            fits = self._open != self._home and self._open[-1] == _PAIRS[mark]
            if fits or self._ended:
                self._open.pop()
            return fits
        return True

    def _end_line(self, mark: str) -> None:
        self._item.add("\n", self._line)
        self._line += 1
        if mark == TORN and not self._torn and not self._ended:
            self._tear(f"a quote is not closed in line {self._line - 1}")
        if self._torn or self._ended or not self._item.line:
            self._item = _Item(self._limit.size)

    def _end_item(self, mark: str) -> Row[Any] | None:
        item, self._item = self._item, _Item(self._limit.size, begins_line=False)
        if mark == "]":
            self._end_list()
        if item.size > self._limit.size:
            return Row(item.line, None, self._limit.reason)
        if item.line:
            self._margin = max(self._margin, len(item.indent))
            return _decoded(item.line, item.text, self._decode)
        return Row(self._line, None, "nothing stands before the comma") if mark == "," else None

    def _end_list(self) -> None:
        self._ended, self._open = True, self._home[:-1]
        self._item = _Item(self._limit.size, self._line)  # no item begins in the rest of this line

    def _tear(self, flaw: str) -> None:
        """Reject the item, of which the end is unknown, and read again behind its first line."""
        item, self._item = self._item, _Item(self._limit.size)
        self._torn = Row(item.line or self._line, None, flaw, rest_lost=not item.begins_line)
        self._margin = max(self._margin, len(item.indent))
        _, newline, rest = item.text.partition("\n")
        # Where every line begins an item that does not end, each would be read as often as there are lines.
        if newline and self._read_again + len(rest) <= 2 * self._size:
            self._read_again += len(rest)
            self._line = item.line + 1
            self._sources.append(marks([rest]))
        else:
            self._item.line = self._line  # no item begins in the rest of this line

    def _tear_at_end(self) -> bool:
        """Whether the last item has no end, and lines of it are to be read again."""
        if self._home and not self._ended and not self._torn:
            self._tear(_OPEN)
        return len(self._sources) > 1

    def _resume(self, mark: str) -> Row[Any] | None:
        """Leave the torn item where a line begins as an item does, or with the end of the list."""
        if mark not in ("{", "]") or self._item.line or len(self._item.indent) > self._margin:
            self._item.add(mark, self._line)
            return None
        torn, self._torn, self._open = self._torn, None, self._home.copy()
        assert torn is not None
        if mark == "{":
            self._bracket(mark)
        else:
            self._end_list()
        return Row(torn.line, None, f"{torn.flaw}; reading goes on in line {self._line}")

    def _last(self, torn: Row[Any]) -> Row[Any]:
        """The row of an item behind which the file could not be read on."""
        if torn.flaw == _OPEN:
            return Row(torn.line, None, _CUT)
        behind = "" if torn.flaw == _BEHIND else "; nothing behind it could be read"
        return Row(torn.line, None, f"{torn.flaw}{behind}", torn.rest_lost)
