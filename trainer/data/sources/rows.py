"""Rows of CSV and JSON files, one at a time, with errors that name the file, the line and the remedy.

A row that can't be used goes to `Rejections.add_bad_row`, and where bad rows may be skipped the next one is
read. At most one row is held, of 16 MiB at most.
"""

import csv
import io
import json
import math
import re
from codecs import BOM_UTF8, BOM_UTF16_BE, BOM_UTF16_LE
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

from services.errors import ConfigError
from services.persona.manifest import file_sha256
from services.tabular.csv_rows import CsvRow, CsvRows
from services.tabular.json_rows import NoArray, json_array, json_lines
from services.tabular.lines import AnyLineEnd, Limit, Line, read_lines, returns_as_feeds
from trainer.data.sample import is_utf8
from trainer.data.source import Provenance, Rejections

# Far beyond any story, and less than a file in which a quote is not closed.
LIMIT = Limit(1 << 24, "it is longer than 16 MiB")
ROW_LIMIT = Limit(LIMIT.size, "the row is longer than 16 MiB: is a quote not closed?")
SEPARATORS = ",;"  # spreadsheets of many countries save a table again with semicolons
# No number means anything here, and as a float none is too long.
JSON = json.JSONDecoder(parse_int=float)
_NAME = re.compile(r"[\w.-]{1,40}( [\w.-]{1,20}){0,2}")


class BadRow(Exception):
    """A row can't be read: why."""


def exists(path: Path) -> bool:
    """Whether anything stands at `path`; if it can't be looked at, reading it will say why."""
    try:
        return path.exists()
    except OSError:
        return True


def fingerprint(path: Path) -> Provenance:
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


def with_feeds(file: io.BufferedReader) -> BinaryIO:
    """The same file, with line feeds where its lines end as Excel for Mac ends them."""
    head = file.peek(1)
    return returns_as_feeds(file) if b"\n" not in head and b"\r" in head[:-1] else file


class Lines(Iterator[Line]):
    """The lines of a file in UTF-8, and the words for errors in them.

    A line ends with a line feed, with both marks, or with a carriage return: the last one in any table, and
    in JSON where no other is used, because a carriage return may stand between JSON's tokens.
    """

    def __init__(self, file: io.BufferedReader, where: str, remedy: str, *, table: bool = False) -> None:
        self.where, self.remedy = where, remedy
        file = text_in(file, where, remedy)
        source = AnyLineEnd(file) if table else with_feeds(file)
        self._lines = read_lines(source, LIMIT, with_flawed_text=True)

    def __next__(self) -> Line:
        line = next(self._lines)
        return replace(line, flaw="it holds a NUL, which is no text") if "\0" in line.text else line

    def error(self, line: int, flaw: str) -> str:
        """A flaw with its line and the remedy."""
        return f"{self.where}, line {line}: {flaw}. {self.remedy}"


def json_rows(lines: Lines, rejections: Rejections) -> Iterator[tuple[int, Any]]:
    """(line, value) of a JSONL file."""
    for row in json_lines(lines, JSON.decode):
        if row.flaw:
            rejections.add_bad_row(lines.error(row.line, row.flaw))
        else:
            yield row.line, row.value


def json_items(file: io.BufferedReader, where: str, remedy: str) -> Iterator[tuple[int, Any]]:
    """(line, item) for every item of a JSON array; an item that can't be read is a BadRow.

    Raises ConfigError when the file holds no array, or a broken item in one line with others, because its
    end can't be known.
    """
    try:
        for row in json_array(with_feeds(text_in(file, where, remedy)), LIMIT, JSON.decode):
            if row.rest_lost:
                raise ConfigError(f"{where}, line {row.line}: {row.flaw}. {remedy}")
            yield row.line, BadRow(row.flaw) if row.flaw else row.value
    except NoArray as error:
        raise ConfigError(f"{where} {'is empty' if error.is_blank else 'holds no list'}. {remedy}") from None


class Table:
    """A CSV file with a header, its fields separated by commas or semicolons.

    Raises ConfigError when there is no header that can be read.
    """

    def __init__(self, lines: Lines) -> None:
        self.lines = lines
        header = self._header()
        self.first_line = header.number
        self.separator = max(SEPARATORS, key=header.text.count)
        self.columns = [name.strip() for name in next(csv.reader([header.text], delimiter=self.separator))]

    def need(self, column: str) -> None:
        """Raise ConfigError when there is no such column."""
        if column not in self.columns:
            flaw = f"no column {column!r}, there are: {listed(self.columns)}"
            raise ConfigError(self.lines.error(self.first_line, flaw))

    def rows(self, wanted: Iterable[str], rejections: Rejections) -> Iterator[tuple[int, dict[str, str]]]:
        """(line at which it begins, row) with the wanted columns alone, as far as the table has them."""
        slots = {name: self.columns.index(name) for name in wanted if name in self.columns}
        for row in CsvRows(self.lines, self.separator, ROW_LIMIT):
            if flaw := row.flaw or self._flaw(row):
                rejections.add_bad_row(self.lines.error(row.line, flaw))
            elif not _is_blank_line(row.values):
                yield row.line, {name: row.values[slot] for name, slot in slots.items()}

    def _header(self) -> Line:
        header = next((line for line in self.lines if line.flaw or line.text.strip()), None)
        if header is None:
            raise ConfigError(f"{self.lines.where} is empty. {self.lines.remedy}")
        if header.flaw:
            raise ConfigError(self.lines.error(header.number, header.flaw))
        return header

    def _flaw(self, row: CsvRow) -> str:
        if len(row.values) != len(self.columns) and not _is_blank_line(row.values):
            return "the row has not as many fields as the header"
        return "a quote of the row is not closed" if row.is_remainder else ""


def _is_blank_line(values: list[str]) -> bool:
    """Whether a line between rows says nothing; a quoted empty value does."""
    return not values or (len(values) == 1 and values[0].isspace())
