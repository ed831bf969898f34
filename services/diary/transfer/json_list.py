"""A JSON list of entries, as the seed keeps its diary, or an object that has one under `entries`, as
Day One's and jrnl's exports, or under `blocks`, as Logseq's.

The list is cut into its items by brackets and quotes alone, so that no more than one item is held and a
broken item spoils no other. Where a quote was never closed, reading goes on at the next line that begins
as an item does.
"""

import codecs
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import BinaryIO

from services.diary.transfer.json_marks import TORN, marks
from services.diary.transfer.jsonl import row_of_json
from services.diary.transfer.lines import not_utf8
from services.diary.transfer.row import LONGEST, TOO_LONG, Reject, Row
from services.errors import EntryRejected

PIECE = 1 << 16  # bytes read at a time
_WIDEST = 1 << 10  # characters of an indent; one that is wider is as this
_ENTRIES = re.compile(r'"(?:entries|blocks)"\s*:\s*$')
_NO_CHARACTER = re.compile("[\udc80-\udcff]")  # what surrogateescape makes of bytes that are not UTF-8
_NO_LIST = 'the file holds no list of entries: send […] or {"entries": […]}, or say ?format=jsonl'
_CUT = "the file ends before the list does: it was cut, or a bracket is missing"


def read_json(file: BinaryIO) -> Iterator[Row | Reject]:
    """A row for every item of the list. Raises EntryRejected when there is no list."""
    cutter = _Cutter()
    for text, mark in marks(_pieces(file)):
        if found := cutter.take(text, mark):
            yield found
    if found := cutter.end():
        yield found


def _pieces(file: BinaryIO) -> Iterator[str]:
    decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
    while raw := file.read(PIECE):
        yield decoder.decode(raw)
    yield decoder.decode(b"", final=True)


def _row(line: int, text: str) -> Row | Reject:
    if byte := _NO_CHARACTER.search(text):
        return Reject(line, not_utf8(len(text[: byte.start()].encode())))
    return row_of_json(line, text)


@dataclass
class _Item:
    """What has been read of an item, and where it begins; line 0 as long as nothing has."""

    line: int = 0
    indent: str = ""  # what stands before it in its line, as far as that is blank
    size: int = 0
    parts: list[str] = field(default_factory=list)

    def add(self, text: str, line: int) -> None:
        if not self.line and not text.strip():
            self.indent = (self.indent + text)[:_WIDEST]
            return
        self.line = self.line or line
        self.size += len(text)
        if self.size <= LONGEST:
            self.parts.append(text)
        else:
            self.parts.clear()


class _Cutter:
    """Takes the text mark by mark and gives the items as they end."""

    def __init__(self) -> None:
        self._line = 1
        self._depth = 0  # brackets that are open
        self._home = 0  # the depth at which the items lie; 0 until the list begins
        self._before = ""  # the last that was read before the list
        self._behind = 0  # the line in which something stands after it
        self._ended = False
        self._torn: Reject | None = None
        self._item = _Item()
        self._margin = 0  # the widest indent of an item

    def take(self, text: str, mark: str) -> Row | Reject | None:
        """The row that ends with this mark, or a torn one behind which reading goes on."""
        self._add(text)
        if mark in ("\n", TORN):
            self._end_line(mark)
        elif mark and self._torn:
            return self._resume(mark)
        elif self._home and not self._ended and self._depth == self._home and mark in (",", "]", "}"):
            return self._end_item(mark)
        elif mark:
            self._bracket(mark)
        return None

    def end(self) -> Reject | None:
        """What is to be said when the file is over. Raises EntryRejected when it held no list."""
        if not self._home:
            raise EntryRejected(_NO_LIST, "file")
        if self._torn:
            return Reject(self._torn.line, f"{self._torn.reason}; nothing behind it could be read")
        if not self._ended:
            return Reject(self._item.line or self._line, _CUT)
        if self._behind:
            return Reject(self._behind, "it stands behind the end of the list and was not read")
        return None

    def _add(self, text: str) -> None:
        if self._home and not self._ended:
            self._item.add(text, self._line)
        elif not self._home:
            self._before = (self._before + (text if text.strip() else text[:1]))[-64:].lstrip("\n")
            if self._depth == 0 and text.strip() not in ("", "[", "{"):
                raise EntryRejected(_NO_LIST, "file")
        elif self._depth == 0 and text.strip():
            self._behind = self._behind or self._line

    def _end_line(self, mark: str) -> None:
        if mark == TORN and self._home and not self._ended and not self._torn:
            self._torn = Reject(self._item.line, f"a quote is not closed in line {self._line}")
            self._margin = max(self._margin, len(self._item.indent))
        self._add("\n")
        self._line += 1
        if self._torn or not self._item.line:
            self._item = _Item()

    def _resume(self, mark: str) -> Reject | None:
        """Where a line begins as an item does, or with the end of the list, all is well again."""
        if mark not in "{]" or self._item.line or len(self._item.indent) > self._margin:
            self._add(mark)
            return None
        torn, self._torn, self._depth = self._torn, None, self._home
        assert torn is not None
        if mark == "{":
            self._bracket(mark)
        else:
            self._end_list()
        return Reject(torn.line, f"{torn.reason}; reading goes on in line {self._line}")

    def _bracket(self, mark: str) -> None:
        lists = self._depth == 0 or (self._depth == 1 and _ENTRIES.search(self._before))
        if self._ended and self._depth == 1 and mark == "}":
            self._depth = 0
            return
        self._add(mark)
        self._depth += (mark in "[{") - (mark in "]}")
        if mark == "[" and lists and not self._home:
            self._home = self._depth

    def _end_item(self, mark: str) -> Row | Reject | None:
        item, self._item = self._item, _Item()
        if mark != ",":
            self._end_list()
        if item.size > LONGEST:
            return Reject(item.line, TOO_LONG)
        if item.line:
            self._margin = max(self._margin, len(item.indent))
            return _row(item.line, "".join(item.parts))
        return Reject(self._line, "nothing stands before the comma") if mark == "," else None

    def _end_list(self) -> None:
        self._ended, self._depth = True, self._home - 1
