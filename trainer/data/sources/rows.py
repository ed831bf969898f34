"""Rows of CSV and JSONL files, one at a time, with errors that name the file, the line and the column.

A row that can't be used goes to `Drops.bad`, and where bad rows may be skipped the next one is read. At
most one row is held, of 16 MiB at most.
"""

import csv
import io
import json
import math
import re
from codecs import BOM_UTF8, BOM_UTF16_BE, BOM_UTF16_LE
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from services.errors import ConfigError
from services.persona.manifest import file_sha256
from trainer.data.sample import is_utf8
from trainer.data.source import Rejections

LONGEST = 1 << 24  # bytes of a line or row: far beyond any telling, and less than a swallowed file
PIECE = 1 << 20
AHEAD = 1 << 16
FEW_LINES = 1000
SEPARATORS = ",;"  # spreadsheets of many countries save a table again with semicolons
# csv's own limit of 128 KiB a field would refuse a long story; that of a row comes first.
csv.field_size_limit(LONGEST)
# No number means anything here, and as a float none is too long.
JSON = json.JSONDecoder(parse_int=float)
_NAME = re.compile(r"[\w.-]{1,40}( [\w.-]{1,20}){0,2}")


class BadRow(Exception):
    """A row can't be read: what is wrong, and with which line."""

    def __init__(self, line: int, what: str) -> None:
        super().__init__(what)
        self.line = line


class TornRow(BadRow):
    """It is not known where the row ends."""


def exists(path: Path) -> bool:
    """Whether anything stands at `path`; if it can't be looked at, reading it will say why."""
    try:
        return path.exists()
    except OSError:
        return True


def fingerprint(path: Path) -> dict[str, object]:
    """Which file was read, and its SHA-256."""
    return {"file": str(path), "sha256": file_sha256(path)}


def is_text(value: object) -> bool:
    """Whether `value` is text that can be written as UTF-8 and holds no NUL."""
    return isinstance(value, str) and is_utf8(value) and "\0" not in value


def is_blank(value: object) -> bool:
    """Whether a field says nothing: null, as pandas writes it too, blank text, or an empty list or object."""
    if isinstance(value, str):
        return not value.strip()
    if isinstance(value, float):
        return math.isnan(value)
    return value is None or (isinstance(value, list | tuple | dict) and not value)


def listed(names: Iterable[object]) -> str:
    """Names for a message; what doesn't look like a name may be somebody's text, and is `…`."""
    shown = [str(name) if _NAME.fullmatch(str(name)) else "…" for name in names]
    return ", ".join(shown[:40]) + (", …" if len(shown) > 40 else "")


@contextmanager
def opened(path: Path, remedy: str) -> Iterator[io.BufferedReader]:
    """A file, opened to be read in bytes. Raises ConfigError when it can't be."""
    try:
        with path.open("rb") as file:
            yield file
    except FileNotFoundError:
        raise ConfigError(f"no file {path}. {remedy}") from None
    except OSError as error:
        what = error.strerror or " ".join(str(error).split())
        raise ConfigError(f"{path} can't be read ({what}). {remedy}") from None


def text_in(file: io.BufferedReader, where: str, remedy: str) -> io.BufferedReader:
    """The same file behind its byte order mark. Raises ConfigError when it is empty or UTF-16."""
    head = file.peek(4)[:4]
    if head.startswith((BOM_UTF16_LE, BOM_UTF16_BE)) or b"\0" in head:
        raise ConfigError(f"{where} is UTF-16, or no text at all: save it again as UTF-8. {remedy}")
    if head.startswith(BOM_UTF8):
        file.read(len(BOM_UTF8))
    if not file.peek(1):
        raise ConfigError(f"{where} is empty. {remedy}")
    return file


def _ends_in_carriage_returns(file: io.BufferedReader) -> bool:
    """Whether the lines of a file end as Excel for Mac ends them."""
    head = file.peek(1)
    return b"\n" not in head and b"\r" in head[:-1]


class _AnyLineEnd:
    """A file whose lines end with a line feed, a carriage return or both."""

    def __init__(self, file: io.BufferedReader) -> None:
        self.file = file
        self.ahead: deque[bytes] = deque()  # read already: lines, the last one perhaps not to its end

    def readline(self, size: int) -> bytes:
        """The next line, or at least so many bytes of it."""
        parts, length = [], 0
        while length < size and (part := self._next()):
            parts.append(part)
            length += len(part)
            if part.endswith(b"\r") and (behind := self._next()):
                parts.append(behind) if behind == b"\n" else self.ahead.appendleft(behind)
            if part.endswith((b"\n", b"\r")):
                break
        return b"".join(parts)

    def _next(self) -> bytes:
        if not self.ahead:
            self.ahead.extend(self.file.readline(AHEAD).splitlines(keepends=True))
        return self.ahead.popleft() if self.ahead else b""


class Lines:
    """The lines of a file in UTF-8, row by row: those of a torn row can be gone back over.

    A line ends with a line feed, with both marks, or with a carriage return: the last one in any table, and
    in JSON where no other is used, because a carriage return may stand between JSON's tokens.

    A line that is not UTF-8 or holds a NUL is handed out as it is, so that its row can be told from the
    next, and noted in `flaw`. Raises BadRow for a line or row of more than 16 MiB.
    """

    def __init__(self, file: io.BufferedReader, where: str, remedy: str, *, table: bool = False) -> None:
        self.where, self.remedy = where, remedy
        file = text_in(file, where, remedy)
        any_end = table or _ends_in_carriage_returns(file)
        self.file = _AnyLineEnd(file) if any_end else file
        self.ends = (b"\n", b"\r") if any_end else b"\n"
        self.again: deque[tuple[int, bytes]] = deque()
        self.count = 0
        self.torn = False
        self.read_again = 0
        self.row_by_line = False
        self.begin_row()

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        if self.row and self.again and self.row_by_line:
            raise TornRow(self.begins, "a quote of the row is not closed")
        number, raw = self._take()
        while not self.row and not raw.strip():  # blank lines between rows mean nothing
            number, raw = self._take()
        self.row.append((number, raw))
        self.size += len(raw)
        if self.size > LONGEST:
            raise TornRow(self.begins, "the row is longer than 16 MiB: is a quote not closed?")
        return self._decoded(number, raw)

    @property
    def begins(self) -> int:
        """The line at which the row begins."""
        return self.row[0][0]

    def begin_row(self) -> None:
        """What is read from here on is a new row."""
        self.row: list[tuple[int, bytes]] = []
        self.size = 0
        self.flaw: BadRow | None = None

    def go_back(self) -> None:
        """Read the lines of the row again but for its first: behind a torn quote, they may be rows.

        Where every line begins a quote that is not closed, each would be read as often as there are lines
        before it. Beyond twice the length of the file, a line that is read again is a row of its own.
        """
        self.torn = True
        again = self.row[1:]
        self.read_again += len(again)
        self.row_by_line = self.read_again > 2 * self.count + FEW_LINES
        self.again.extendleft(reversed(again))

    def said(self, error: BadRow) -> str:
        """What is wrong, with its place and the remedy."""
        return f"{self.where}, line {error.line}: {error}. {self.remedy}"

    def _take(self) -> tuple[int, bytes]:
        if self.again:
            return self.again.popleft()
        raw = self.file.readline(LONGEST + 1)
        if not raw:
            raise StopIteration
        self.count += 1
        if len(raw) > LONGEST:
            while raw and not raw.endswith(self.ends):
                raw = self.file.readline(PIECE)
            raise TornRow(self.count, f"line {self.count} is longer than 16 MiB")
        return self.count, raw

    def _decoded(self, number: int, raw: bytes) -> str:
        if b"\0" in raw:
            self.flaw = BadRow(number, "it holds a NUL, which is no text")
        try:
            return raw.decode()
        except UnicodeDecodeError as error:
            self.flaw = BadRow(number, f"byte {error.start} is not UTF-8")
            return raw.decode(errors="surrogateescape")


def json_rows(lines: Lines, rejections: Rejections) -> Iterator[tuple[int, Any]]:
    """(line, value) of a JSONL file."""
    return _rows(lines, lambda: _parsed(next(lines).rstrip("\r\n"), lines.begins), rejections)


class Table:
    """A CSV file with a header, its fields parted by commas or semicolons.

    Raises ConfigError when there is no header that can be read.
    """

    def __init__(self, lines: Lines) -> None:
        self.lines = lines
        header = self._header()
        self.separator = max(SEPARATORS, key=header.count)
        self.columns = [name.strip() for name in next(csv.reader([header], delimiter=self.separator))]

    def need(self, column: str) -> None:
        """Raise ConfigError when there is no such column."""
        if column not in self.columns:
            there_are = f"no column {column!r}, there are: {listed(self.columns)}"
            raise ConfigError(self.lines.said(BadRow(self.lines.begins, there_are)))

    def rows(self, wanted: Iterable[str], rejections: Rejections) -> Iterator[tuple[int, dict[str, str]]]:
        """(line at which it begins, row) with the wanted columns alone, where there are such."""
        places = {name: self.columns.index(name) for name in wanted if name in self.columns}
        reader = csv.reader(self.lines, delimiter=self.separator, strict=True)
        for line, fields in _rows(self.lines, lambda: self._fields(reader), rejections):
            yield line, {name: fields[place] for name, place in places.items()}

    def _header(self) -> str:
        try:
            header = next(self.lines)
        except StopIteration:
            raise ConfigError(f"{self.lines.where} is empty. {self.lines.remedy}") from None
        except BadRow as error:
            raise ConfigError(self.lines.said(error)) from None
        if self.lines.flaw:
            raise ConfigError(self.lines.said(self.lines.flaw))
        return header

    def _fields(self, reader: Iterator[list[str]]) -> list[str]:
        try:
            return self._checked(next(reader))
        except csv.Error as error:
            self.lines.go_back()
            raise BadRow(self.lines.begins, str(error)) from None
        except TornRow:
            self.lines.go_back()
            raise

    def _checked(self, fields: list[str]) -> list[str]:
        if len(fields) != len(self.columns):
            raise BadRow(self.lines.begins, "the row has not as many fields as the header")
        # What is left of a torn row may look like a row, but for a quote that has no other.
        if self.lines.torn and sum(raw.count(b'"') for _, raw in self.lines.row) % 2:
            raise BadRow(self.lines.begins, "a quote of the row is not closed")
        return fields


def _rows(lines: Lines, take: Callable[[], Any], rejections: Rejections) -> Iterator[tuple[int, Any]]:
    """(line at which it begins, row) for every row that `take` can make of the lines."""
    while True:
        lines.begin_row()
        try:
            row = take()
        except StopIteration:
            return
        except BadRow as error:
            rejections.add_bad_row(lines.said(lines.flaw or error))
            continue
        if lines.flaw:
            rejections.add_bad_row(lines.said(lines.flaw))
        else:
            yield lines.begins, row


def _parsed(text: str, line: int) -> Any:
    try:
        return JSON.decode(text)
    except json.JSONDecodeError as error:
        raise BadRow(line, f"{error.msg} (column {error.colno})") from None
    except RecursionError:
        raise BadRow(line, "it is nested too deeply") from None
