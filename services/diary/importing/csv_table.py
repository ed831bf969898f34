"""CSV with a head line: columns in any order, divided by commas, semicolons or tabs."""

import csv
import re
from collections import deque
from collections.abc import Iterator
from itertools import islice
from typing import BinaryIO

from services.diary.importing.lines import Line, lines
from services.diary.importing.row import LONGEST, TOO_LONG, Reject, Row, row_of
from services.errors import EntryRejected

_DELIMITERS = ",;\t"
_TEXT_NAMES = {"text", "content"}
_TAGS_BETWEEN = re.compile(r"[,;|]")


def read_csv(file: BinaryIO) -> Iterator[Row | Reject]:
    """A row for every record under the head. Raises EntryRejected when no column is named `text`.

    A record that is broken, by a quote that was never closed for example, is refused at its first line,
    and reading goes on at the line behind that.
    """
    source = _Source(lines(file))
    names, delimiter = _head(source)
    reader = csv.reader(source, delimiter=delimiter, strict=True)
    while source.begin():
        try:
            values = next(reader)
        except csv.Error as error:
            yield Reject(source.begins, source.flaw or f"it is not CSV: {error}")
            source.go_back()
            reader = csv.reader(source, delimiter=delimiter, strict=True)
        else:
            if any(values):
                yield _row(source.begins, names, values)


def _head(source: "_Source") -> tuple[list[str], str]:
    what = "its first line must name the columns, one of them `text`"
    source.begin()
    try:
        head = next(source)
        for delimiter in _DELIMITERS:
            names = [name.strip().lower() for name in next(csv.reader([head], delimiter=delimiter))]
            if _TEXT_NAMES & set(names):
                return names, delimiter
    except csv.Error as error:
        what = str(error)
    raise EntryRejected(f"the CSV file has no head: {what}", "file")


def _row(line: int, names: list[str], values: list[str]) -> Row | Reject:
    if len(values) > len(names):
        return Reject(line, f"it has {len(values)} values and the head has {len(names)}: quote the text")
    cells = dict(zip(names, values, strict=False))
    fields: dict[str, object] = {
        name: cell if name in _TEXT_NAMES else cell.strip() for name, cell in cells.items()
    }
    fields["tags"] = [tag.strip() for tag in _TAGS_BETWEEN.split(cells.get("tags", "")) if tag.strip()]
    return row_of(line, fields)


class _Source(Iterator[str]):
    """The lines of the file, of which those of the record in hand can be given once more."""

    def __init__(self, given: Iterator[Line]) -> None:
        self._given = given
        self._next: deque[Line] = deque()
        self._record: list[Line] = []
        self._size = 0
        self.flaw = ""  # why the record can't be read

    @property
    def begins(self) -> int:
        """The line of the record's beginning."""
        return self._record[0].number

    def begin(self) -> bool:
        """Stand before a record; False at the end of the file."""
        self._record, self._size, self.flaw = [], 0, ""
        if not self._next:
            self._next.extend(islice(self._given, 1))
        return bool(self._next)

    def go_back(self) -> None:
        """Give all lines of the record again but its first."""
        self._next.extendleft(reversed(self._record[1:]))

    def __next__(self) -> str:
        line = self._next.popleft() if self._next else next(self._given)
        self._record.append(line)
        self._size += len(line.text)
        self.flaw = line.flaw or (TOO_LONG if self._size > LONGEST else "")
        if self.flaw:
            raise csv.Error(self.flaw)
        return line.text
