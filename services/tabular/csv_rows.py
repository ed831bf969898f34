"""The lines of a CSV file as rows; each line is parsed three times at most.

A broken row is rejected at its first line, and reading continues at the next line. A quote that is never
closed would make that row reach to the end of the file, and so would the next one, and the next. But how a
line that begins within quotes continues does not depend on where the quote was opened: it is found out once.
"""

import csv
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from services.tabular.lines import Limit, Line

_CLOSED = "closed"
csv.field_size_limit(1 << 24)  # the limit of a row comes first; csv's own would be 128 KiB a field


@dataclass(frozen=True)
class CsvRow:
    """A row's values; or, with a flaw, the line that begins none.

    `is_remainder`: an earlier row was broken, and a quote of this one has no partner.
    """

    line: int
    values: list[str]
    flaw: str = ""
    is_remainder: bool = False


class _Open(Exception):
    """The line ends within quotes."""


class CsvRows(Iterator[CsvRow]):
    """The rows of a table; `limit` is that of a row of several lines, in characters."""

    def __init__(self, lines: Iterator[Line], delimiter: str, limit: Limit) -> None:
        self._lines = lines
        self._delimiter = delimiter
        self._limit = limit
        self._pending: deque[Line] = deque()  # from the first line of the present row on
        self._size = 0  # characters of the pending lines
        self._first = (
            0  # the first of the adjacent lines that began within quotes; the last is the last pending
        )
        self._end = ""  # how that last line ended: "" within quotes, _CLOSED, or with this flaw
        self._is_broken = False  # whether any row was

    def __next__(self) -> CsvRow:
        if not self._pending and not self._read():
            raise StopIteration
        first = self._pending[0]
        if first.flaw:
            return self._reject(first.flaw)
        try:
            values = self._parse([first.text])
        except _Open:
            return self._several_lines(first)
        except csv.Error as error:
            self._is_broken = True
            return self._reject(_reason(error, first.text))
        self._drop(1)
        return CsvRow(first.number, values, is_remainder=self._is_broken and first.text.count('"') % 2 == 1)

    def _several_lines(self, first: Line) -> CsvRow:
        """The row of which the first line ends within quotes."""
        if len(self._pending) == 1 or self._first > first.number + 1:
            self._first, self._end = first.number + 1, ""
        while not self._end and self._size <= self._limit.size:
            self._read_on()
        if self._size > self._limit.size or self._end != _CLOSED:
            self._is_broken = True
            return self._reject(self._limit.reason if self._size > self._limit.size else self._end)
        flaw = next((line.flaw for line in self._pending if line.flaw), "")
        values = [] if flaw else self._parse(line.text for line in self._pending)
        quotes = sum(line.text.count('"') for line in self._pending)
        self._drop(len(self._pending))
        return CsvRow(first.number, values, flaw, is_remainder=self._is_broken and quotes % 2 == 1)

    def _read_on(self) -> None:
        """Parse the next line, which begins within quotes."""
        if not self._read():
            self._end = "it is not CSV: a quote is not closed"
            return
        line = self._pending[-1]
        try:
            self._parse(['"' + line.text])
            self._end = _CLOSED
        except _Open:
            self._end = "" if line.text else line.flaw
        except csv.Error as error:
            self._end = _reason(error, line.text)

    def _parse(self, texts: Iterable[str]) -> list[str]:
        """The values of the one row in these lines. Raises _Open, csv.Error."""
        return next(csv.reader(_then_open(texts), delimiter=self._delimiter, strict=True))

    def _reject(self, flaw: str) -> CsvRow:
        line = self._pending[0].number
        self._drop(1)
        return CsvRow(line, [], flaw)

    def _read(self) -> bool:
        line = next(self._lines, None)
        if line is None:
            return False
        self._pending.append(line)
        self._size += len(line.text)
        return True

    def _drop(self, count: int) -> None:
        for _ in range(count):
            self._size -= len(self._pending.popleft().text)


def _then_open(texts: Iterable[str]) -> Iterator[str]:
    yield from texts
    raise _Open


def _reason(error: csv.Error, text: str) -> str:
    if "\r" in text.rstrip("\r\n"):
        return "it is not CSV: a carriage return stands in a value without quotes"
    return f"it is not CSV: {error}"
