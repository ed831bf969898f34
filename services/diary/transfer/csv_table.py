"""CSV with a head line: columns in any order, divided by commas, semicolons or tabs; Daylio's as it is."""

import csv
import re
from collections.abc import Iterator
from typing import BinaryIO

from services.diary.transfer.programs import DAYLIO, daylio
from services.diary.transfer.row import LIMIT, Reject, Row, row_of
from services.errors import EntryRejected
from services.tabular.csv_rows import CsvRow, CsvRows
from services.tabular.lines import Limit, Line, LineEnd, line_end, read_lines, returns_as_feeds

_DELIMITERS = ",;\t"
_TEXT_NAMES = {"text", "content"}
_TAGS_BETWEEN = re.compile(r"[,;|]")
_LONGEST_HEAD = 200  # characters of a head that an error repeats
ROW_LIMIT = Limit(
    128 << 10, "it has more than 128 KiB, or a quote is not closed: an entry has at most 32 KiB of text"
)


def read_csv(file: BinaryIO) -> Iterator[Row | Reject]:
    """A row for every record under the head. Raises EntryRejected when no column is named `text`."""
    returns = line_end(file, LIMIT, is_table=True) is LineEnd.RETURN
    lines = read_lines(returns_as_feeds(file) if returns else file, LIMIT, with_flawed_text=True)
    names, delimiter = _head(next(lines, None))
    for row in CsvRows(lines, delimiter, ROW_LIMIT):
        if row.flaw:
            yield Reject(row.line, row.flaw)
        elif any(row.values):
            values = [value.replace("\r", "\n") for value in row.values] if returns else row.values
            yield _row(row, names, values)


def _head(line: Line | None) -> tuple[list[str], str]:
    """The columns' names and what stands between them."""
    if line is None or line.flaw:
        raise EntryRejected(f"the CSV file has no head: {line.flaw if line else 'it is empty'}", "file")
    several: list[str] = []
    for delimiter in _DELIMITERS:
        try:
            names = [name.strip().lower() for name in next(csv.reader([line.text], delimiter=delimiter), [])]
        except csv.Error as error:
            raise EntryRejected(f"the CSV file has no head: {error}", "file") from None
        if _TEXT_NAMES & set(names) or set(names) >= DAYLIO:
            return names, delimiter
        several = max(several, names, key=len)
    head = ", ".join(several)[:_LONGEST_HEAD]
    what = f"its first line must name the columns, one of them `text`, and is {head!r}"
    raise EntryRejected(f"the CSV file has no head: {what}", "file")


def _row(row: CsvRow, names: list[str], values: list[str]) -> Row | Reject:
    line = row.line
    if len(values) > len(names):
        return Reject(line, f"it has {len(values)} values and the head has {len(names)}: quote the text")
    cells = dict(zip(names, values, strict=False))
    if not _TEXT_NAMES & set(names):
        return _daylios(line, cells)
    fields: dict[str, object] = {
        name: cell if name in _TEXT_NAMES else cell.strip() for name, cell in cells.items()
    }
    fields["tags"] = [tag.strip() for tag in _TAGS_BETWEEN.split(cells.get("tags", "")) if tag.strip()]
    return row_of(line, fields)


def _daylios(line: int, cells: dict[str, str]) -> Row | Reject:
    try:
        fields = daylio(cells)
    except ValueError as error:
        return Reject(line, f"date: {error}")
    if not fields["text"]:
        return Reject(line, "it has no text: a `note` or `note_title` is needed, a mood alone is no entry")
    return row_of(line, fields)
