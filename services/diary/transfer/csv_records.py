"""The lines of a CSV file cut into records, each line being read three times at most.

A record that is broken is refused at its first line, and reading goes on at the line behind that. Where a
quote is never closed, that record would reach to the end of the file, and so would the next, and the next.
But how a line goes on that begins within quotes does not depend on where the quotes were opened: it is found
out once, and remembered.
"""

import csv
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from services.diary.transfer.lines import Line

_LONGEST_RECORD = 128 << 10  # characters of one that has several lines; csv takes no longer value
_TOO_LONG = "it has more than 128 KiB, or a quote is not closed: an entry has at most 32 KiB of text"
_CLOSED = "closed"


@dataclass(frozen=True)
class Record:
    """A record's values; or, with a flaw, the line that begins none."""

    line: int
    values: list[str]
    flaw: str = ""


class _Open(Exception):
    """The line ends within quotes."""


class Records(Iterator[Record]):
    """The records of a file."""

    def __init__(self, given: Iterator[Line], delimiter: str) -> None:
        self._given = given
        self._delimiter = delimiter
        self._held: deque[Line] = deque()  # from the line that begins the record on
        self._size = 0  # characters held
        self._first = 0  # the first of the lines, one behind the other, that began within quotes; the last is
        self._end = ""  # the last that is held, and ends: "" within quotes, _CLOSED, or with this flaw

    def __next__(self) -> Record:
        if not self._held and not self._read():
            raise StopIteration
        first = self._held[0]
        if first.flaw:
            return self._refused(first.flaw)
        try:
            values = self._values([first.text])
        except _Open:
            return self._of_several(first)
        except csv.Error as error:
            return self._refused(_told(error, first.text))
        self._drop(1)
        return Record(first.number, values)

    def _of_several(self, first: Line) -> Record:
        """The record of which the first line ends within quotes."""
        if len(self._held) == 1 or self._first > first.number + 1:
            self._first, self._end = first.number + 1, ""
        while not self._end and self._size <= _LONGEST_RECORD:
            self._look_on()
        if self._size > _LONGEST_RECORD:
            return self._refused(_TOO_LONG)
        if self._end != _CLOSED:
            return self._refused(self._end)
        values = self._values(line.text for line in self._held)
        self._drop(len(self._held))
        return Record(first.number, values)

    def _look_on(self) -> None:
        """Look at the next line, which begins within quotes."""
        if not self._read():
            self._end = "it is not CSV: a quote is not closed"
            return
        line = self._held[-1]
        try:
            self._values(['"' + line.text])
            self._end = line.flaw or _CLOSED
        except _Open:
            self._end = line.flaw
        except csv.Error as error:
            self._end = _told(error, line.text)

    def _values(self, texts: Iterable[str]) -> list[str]:
        """The values of the one record in these lines. Raises _Open, csv.Error."""
        return next(csv.reader(_then_open(texts), delimiter=self._delimiter, strict=True))

    def _refused(self, flaw: str) -> Record:
        line = self._held[0].number
        self._drop(1)
        return Record(line, [], flaw)

    def _read(self) -> bool:
        line = next(self._given, None)
        if line is None:
            return False
        self._held.append(line)
        self._size += len(line.text)
        return True

    def _drop(self, number: int) -> None:
        for _ in range(number):
            self._size -= len(self._held.popleft().text)


def _then_open(texts: Iterable[str]) -> Iterator[str]:
    yield from texts
    raise _Open


def _told(error: csv.Error, text: str) -> str:
    if "\r" in text.rstrip("\r\n"):
        return "it is not CSV: a carriage return stands in a value without quotes"
    return f"it is not CSV: {error}"
